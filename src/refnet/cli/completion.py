"""The values of options: `refnet completion`, what a shell completes, and options with a fixed choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from refnet.actions.context import Context, read_settings
from refnet.errors import Exit, RefnetError, nearest


class Shell(StrEnum):
    """The shells with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def choice(what: str, members: Iterable[StrEnum], code: Exit = Exit.USAGE) -> dict[str, Any]:
    """Return the parameters of Typer for a choice of `members`; any other value is not a `what`, and ends with `code`."""
    known = {one.value: one for one in members}

    def parse(text: str) -> StrEnum:
        if text in known:
            return known[text]
        near = f"Did you mean {found}? " if (found := nearest(text, known)) else ""
        raise RefnetError(f"'{text}' is not a {what}", f"{near}The {what}s are: {', '.join(known)}.", code)

    return {"parser": parse, "autocompletion": lambda: [*known]}


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.", **choice("shell", Shell))]) -> None:
    """Print the completion script of a shell; for this session: source <(refnet completion bash)."""
    print(get_completion_script(prog_name="refnet", complete_var="_REFNET_COMPLETE", shell=shell))
    if shell is Shell.ZSH:  # complete also the first time, when zsh loads the script from a folder of $fpath
        print("[[ $zsh_eval_context[-1] != loadautofunc ]] || _refnet_completion")


def artifacts(*values: str) -> Callable[[], list[str]]:
    """Return a completion with `values` and the names of all artifacts."""

    def complete() -> list[str]:
        try:  # a shell has no place for an error
            entries = Context(read_settings(lambda _: None)).store.entries()
        except RefnetError:
            return [*values]
        return [*values, *(entry.name for entry in entries)]

    return complete
