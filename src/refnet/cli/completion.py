"""`refnet completion`, and the values that a shell completes."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from refnet.errors import RefnetError


class Shell(StrEnum):
    """The shells with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.")]) -> None:
    """Print the completion script of a shell; for this session: source <(refnet completion bash)."""
    print(get_completion_script(prog_name="refnet", complete_var="_REFNET_COMPLETE", shell=shell))
    if shell is Shell.ZSH:  # complete also the first time, when zsh loads the script from a folder of $fpath
        print("[[ $zsh_eval_context[-1] != loadautofunc ]] || _refnet_completion")


def words(*values: str) -> Callable[[], list[str]]:
    """Return a completion with `values`."""
    return lambda: [*values]


def artifacts(*values: str) -> Callable[[], list[str]]:
    """Return a completion with `values` and the names of all artifacts."""

    def complete() -> list[str]:
        from refnet.actions.context import Context, read_settings

        try:  # a shell has no place for an error
            entries = Context(read_settings(lambda _: None)).store.entries()
        except RefnetError:
            return [*values]
        return [*values, *(entry.name for entry in entries)]

    return complete
