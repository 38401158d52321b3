"""Values of options and arguments: fixed choices, names of sources, shell completion."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from refnet import wiring
from refnet.catalog.source_name import STANDARD, SourceName, likely_kind
from refnet.cli.output import output
from refnet.context import Context, read_settings
from refnet.core.errors import Exit, RefnetError, did_you_mean

#: Other names of sources on the command line.
ALIASES = {"vault": SourceName.OBSIDIAN}


class Shell(StrEnum):
    """The shells with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def choice(what: str, members: Iterable[str], code: Exit = Exit.USAGE) -> dict[str, Any]:
    """Typer's parameters for a choice of `members`, called `what` in errors; other values end with `code`."""
    known = {str(one): one for one in members}

    def parse(text: str) -> str:
        if text in known:
            return known[text]
        near = did_you_mean(text, known)
        raise RefnetError(f"'{text}' is not a {what}", f"{near}The {what}s are: {', '.join(known)}.", code)

    return {"parser": parse, "autocompletion": lambda: [*known]}


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.", **choice("shell", Shell))]) -> None:
    """Print the completion script of bash, zsh or fish.

    For this session alone: source <(refnet completion bash).
    """
    print(get_completion_script(prog_name="refnet", complete_var="_REFNET_COMPLETE", shell=shell))
    if shell is Shell.ZSH:  # complete also the first time, when zsh loads the script from a folder of $fpath
        print("[[ $zsh_eval_context[-1] != loadautofunc ]] || _refnet_completion")


def _known(here: Context) -> tuple[SourceName, ...]:
    """The sources of the settings, and others with artifacts; a standard source that is left out only if it has some."""
    named = wiring.known(here.settings)
    there = [one for one in here.store.sources() if one not in STANDARD or here.store.entries(one)]
    standard = [one for one in STANDARD if one in (*named, *there)]
    return tuple(dict.fromkeys((*standard, *there, *named)))


def source_name(code: Exit = Exit.USAGE, *, clusters: bool = False, members: bool = False) -> dict[str, Any]:
    """Typer's parameters for the name of a source; other values end with `code`.

    Args:
        clusters: accept the name of a cluster, for all its sources.
        members: accept names that look like a database of a cluster, even if unknown here.
    """

    def parse(text: str) -> str:
        if found := next(
            (one for one in (*ALIASES.values(), *STANDARD) if one == ALIASES.get(text, text)), None
        ):
            return found
        here = Context(read_settings(lambda _: None, output.variables))
        known: dict[str, str] = {str(one): one for one in _known(here)}
        if clusters:
            known |= {name: name for name in here.settings.clusters}
        elif text in here.settings.clusters and text not in known:
            raise wiring.is_cluster(here.settings, text, code)
        if text not in known and (entry := next((e for e in here.store.entries() if e.name == text), None)):
            hint = f"Give its source before it: {entry.source} {text}."
            raise RefnetError(f"'{text}' is an artifact, not a source", hint, code)
        if members and text not in known and any(text.startswith(f"{c}-") for c in here.settings.clusters):
            with suppress(ValueError):
                return SourceName(text, likely_kind(text))
        parsed: str = choice("source", known.values(), code)["parser"](text)
        return parsed

    return {"parser": parse, "autocompletion": sources}


def sources() -> list[str]:
    """Names of the configured sources."""
    try:  # a shell has no place for an error
        settings = read_settings(lambda _: None, output.variables)
        configured = wiring.configured(settings)
        return [one for one in wiring.known(settings) if one in configured]
    except RefnetError:
        return []


def stores() -> list[str]:
    """Names of the configured remote stores."""
    try:
        return [*read_settings(lambda _: None, output.variables).every_store]
    except RefnetError:
        return []


def artifacts(ctx: typer.Context) -> list[str]:
    """Names of all artifacts, or only those of --source or of the source argument."""
    given = (ctx.params.get("named"), ctx.params.get("source"))
    named = [str(ALIASES.get(one, one)) for one in given if isinstance(one, str)]
    try:
        entries = Context(read_settings(lambda _: None, output.variables)).store.entries()
    except RefnetError:
        return []
    return [entry.name for entry in entries if entry.source in named[:1] or not named]


def source_or_artifact(*values: str) -> dict[str, Any]:
    """Typer's parameters for a source, a listed name, a path, or one of `values`."""
    return {
        "parser": lambda text: str(ALIASES.get(text, text)),
        "autocompletion": lambda ctx: [*values, *sources(), *artifacts(ctx)],
    }
