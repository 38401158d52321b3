"""Every option and argument of every command, given what it cannot use: two lines, a documented code, nothing written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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
    ("find-papers", "words"): [*_NEVER, "not UTF-8"],  # any other text asks a server
}
#: What the commands that would work for long, or write, get besides.
_BESIDES = {"init": ["--yes"]}


def _cases(words: str) -> Iterator[tuple[str, list[str]]]:
    command = COMMANDS[words]
    needed = [one for one in command.params if one.required]
    start = [*words.split(), *_BESIDES.get(words, [])]
    yield "unknown option", [*start, "--no-such-option"]
    if not any(one.nargs == -1 for one in command.params):
        yield "extra arguments", [*start, *["x"] * 5]
    for param in command.params:
        others = ["x" for one in needed if one is not param]
        option = [max(param.opts, key=len)] if param.param_type_name == "option" else []
        if option and param.is_flag:
            yield f"{option[0]}=x", [*start, f"{option[0]}=x"]
            continue
        if option:
            yield f"{option[0]} nothing", [*start, *others, *option]
            if not param.multiple:
                yield f"{option[0]} twice", [*start, *others, *option, "1", *option, "1"]
        values = {name: _VALUES[name] for name in _BAD.get((words, param.name), _VALUES)}
        for name, value in values.items():
            yield f"{param.name} {name}", [*start, *others, *option, value]


@pytest.mark.parametrize("words", COMMANDS)
def test_invalid_input_is_answered_in_two_lines_and_writes_nothing(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
    before, found = files(tmp_path), dict[str, str]()

    for case, arguments in _cases(words):
        with monkeypatch.context() as of_case:
            code, _, err = ran(arguments, of_case, capsys)
        if wrong := _wrong(code, err):
            found[case] = f"{wrong}: {err[:500]}"
        if files(tmp_path) != before:
            found[case] = "something is written"
            break

    assert found == {}


def _wrong(code: int, err: str) -> str:
    """What is wrong with an answer; "" if nothing is."""
    lines = [line for line in err.splitlines() if not line.startswith("refnet: note: ")]
    if code not in {*Exit} - {Exit.DONE}:
        return f"it ends with {code}"
    if len(lines) != 2 or not lines[0].startswith("refnet: ") or not lines[1].startswith("        "):
        return "not what is wrong and what to do"
    return (
        ""
        if all(line.isprintable() for line in lines) and len(err) < 10_000
        else "too long, or not printable"
    )
