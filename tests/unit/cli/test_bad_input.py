"""Every option and argument of every command, given what it cannot use: two lines, a documented code, nothing written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.commands import COMMANDS, files, ran

from refnet.core.errors import Exit

_NEVER = {
    "empty": "",
    "spaces": "  ",
    "endless": "a" * 100_000,
    "control": "\x1b[2Jx\r\n\x07",
}
_VALUES = {
    **_NEVER,
    "long": "b" * 4_000,
    "deep": "c/" * 2_000 + "c",
    "emoji": "\U0001f600",
    "not UTF-8": "\udcff\udcfe",
}
#: What is bad here; any other text may be the name of a table, or of a folder or file to write.
_BAD = {
    ("backup", "table"): _NEVER,
    ("backup", "to"): _NEVER,
    ("metrics", "textfile"): [*_NEVER, "deep"],
    ("key new", "page"): [*_NEVER, "long", "deep"],
    ("demo", "folder"): [*_NEVER, "long", "deep"],
}
#: What the commands that would work for long, or write, get besides.
_BESIDES = {"init": ["--yes"]}


def _cases() -> Iterator[Any]:
    for words, command in COMMANDS.items():
        needed = [one for one in command.params if one.required]
        start = [*words.split(), *_BESIDES.get(words, [])]
        yield pytest.param([*start, "--no-such-option"], id=f"{words} unknown option")
        if not any(one.nargs == -1 for one in command.params):
            yield pytest.param([*start, *["x"] * 5], id=f"{words} extra arguments")
        for param in command.params:
            others = ["x" for one in needed if one is not param]
            option = [max(param.opts, key=len)] if param.param_type_name == "option" else []
            if option and param.is_flag:
                yield pytest.param([*start, f"{option[0]}=x"], id=f"{words} {option[0]}=x")
                continue
            if option:
                yield pytest.param([*start, *others, *option], id=f"{words} {option[0]} nothing")
                if not param.multiple:
                    yield pytest.param(
                        [*start, *others, *option, "1", *option, "1"], id=f"{words} {option[0]} twice"
                    )
            values = {name: _VALUES[name] for name in _BAD.get((words, param.name), _VALUES)}
            for name, value in values.items():
                yield pytest.param([*start, *others, *option, value], id=f"{words} {param.name} {name}")


@pytest.mark.parametrize("arguments", [*_cases()])
def test_what_a_command_cannot_use_is_answered_in_two_lines_and_nothing_is_written(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(("REFNET_", "PG"))]:
        monkeypatch.delenv(name)
    for name in ("config", "vault", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("REFNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REFNET_BACKUP_DIR", str(tmp_path / "backups"))
    monkeypatch.setenv("REFNET_DATABASE_URL", "postgresql://refnet@127.0.0.1:1/none")
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    before = files(tmp_path)

    code, _, err = ran(arguments, monkeypatch, capsys)

    assert code in {*Exit} - {Exit.DONE}, err
    lines = [line for line in err.splitlines() if not line.startswith("refnet: note: ")]
    assert len(lines) == 2, err
    assert lines[0].startswith("refnet: ")
    assert lines[1].startswith("        ")
    assert all(line.isprintable() for line in lines)
    assert len(err) < 10_000
    assert files(tmp_path) == before
