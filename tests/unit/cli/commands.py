"""All commands of the command line, from its own tree, and a run of one in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from refnet.cli import main
from refnet.cli.main import GROUPS, app, run
from refnet.cli.output import output


def tree() -> dict[str, Any]:
    """Each command by its words, such as `restore database`; no groups."""
    root: Any = typer.main.get_command(app)
    top = typer.Context(root, info_name="refnet")
    found: dict[str, Any] = {}
    for name in (name for names in GROUPS.values() for name in names):
        found |= dict(_leaves(root.resolve_command(top, [name])[1], name))
    return found


def _leaves(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield words, command
    for name, child in (children or {}).items():
        yield from _leaves(child, f"{words} {name}")


COMMANDS = tree()
#: Each command builds its declarations once, as in a process that runs one command.
_BUILT, _IMPORTED = cache(typer.main.get_command), cache(main._imported)


def ran(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[int, str, str]:
    """Run `refnet ARGUMENTS` as the program does; its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["refnet", *arguments])
    monkeypatch.setattr(typer.main, "get_command", _BUILT)
    monkeypatch.setattr(main, "_imported", _IMPORTED)
    monkeypatch.setattr(output, "variables", {})  # --config sets it: it is as before afterwards
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def files(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below `folder`: its mode, its time of change, its content."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }
