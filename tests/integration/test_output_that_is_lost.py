"""A run whose output nobody can read does its work: stdout or stderr closed, a pipe without a reader, another encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from tests import forked
from tests.command import Command

NOTE = "日本語 📚.md"


@pytest.fixture
def refnet(tmp_path: Path) -> Command:
    """The command, with a vault that has a Japanese name in it."""
    (tmp_path / "保管庫").mkdir()
    (tmp_path / "保管庫" / NOTE).write_text("本文")
    environment = {"REFNET_VAULT_DIR": str(tmp_path / "保管庫")}
    return Command(tmp_path / "home", tmp_path / "backups", "", environment)


def ended(
    refnet: Command, *arguments: str, redirected: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run it by a shell, whose redirections are `redirected`."""
    program = str(Path(sys.executable).parent / "refnet")
    line = f'"$@" {redirected}'
    return subprocess.run(
        ["/bin/sh", "-c", line, "sh", program, *arguments],
        env=refnet._environment(environment), cwd=refnet.home.parent, capture_output=True, check=False,
    )  # fmt: skip


def forked_with(
    refnet: Command,
    *arguments: str,
    closed: Sequence[int] = (),
    out: int | None = None,
    err: int | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run it forked, without the streams that are `closed`, its stdout and stderr `out` and `err`."""
    with Path(os.devnull).open("rb") as nothing, TemporaryFile() as said, TemporaryFile() as wrong:
        streams = (
            nothing.fileno(),
            said.fileno() if out is None else out,
            wrong.fileno() if err is None else err,
        )
        run = forked.start(
            arguments, refnet._environment(environment), refnet.home.parent, streams, closed=closed
        )
        code = run.wait(300)
        said.seek(0)
        wrong.seek(0)
        return subprocess.CompletedProcess(arguments, code, said.read(), wrong.read())


def artifacts(refnet: Command) -> list[dict[str, Any]]:
    listed = refnet("list", "--json", "obsidian")
    listed.succeeds()
    found: list[dict[str, Any]] = listed.json["artifacts"]
    return found


#: What is closed → its numbers.
CLOSED = {">&-": [1], "2>&-": [2], ">&- 2>&-": [1, 2], "<&- >&- 2>&-": [0, 1, 2]}


@pytest.mark.parametrize("shell", CLOSED)
@pytest.mark.parametrize("options", [(), ("--json",), ("--verbose",)])
def test_a_backup_is_made_whatever_is_closed(refnet: Command, shell: str, options: tuple[str, ...]) -> None:
    if options:
        done = forked_with(refnet, "backup", "obsidian", *options, closed=CLOSED[shell])
    else:
        done = ended(refnet, "backup", "obsidian", redirected=shell)

    assert b"Traceback" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    (made,) = artifacts(refnet)
    assert "proven" in json.dumps(made)


@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_programs_that_are_started_have_what_was_closed_too(tmp_path: Path, shell: str) -> None:
    started = (
        "import os, pathlib; there = [n for n in range(3) if os.path.lexists(f'/proc/self/fd/{n}')];"
        f"pathlib.Path('{tmp_path}/there').write_text(str(there))"
    )
    program = (
        "import subprocess, sys; from refnet.cli.streams import prepare; prepare([]);"
        f"subprocess.run([sys.executable, '-c', {started!r}], check=True)"
    )
    subprocess.run(["/bin/sh", "-c", f'"$@" {shell}', "sh", sys.executable, "-c", program], check=True)

    assert (tmp_path / "there").read_text() == "[0, 1, 2]"


@pytest.mark.parametrize("end", ["out", "err"])
def test_a_backup_is_made_where_the_reader_has_left(refnet: Command, end: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = forked_with(refnet, "backup", "obsidian", "--no-prove", "--verbose", **{end: writing})
    os.close(writing)

    assert b"Traceback" not in done.stdout + done.stderr
    assert done.returncode == 0
    assert len(artifacts(refnet)) == 1


def test_a_backup_is_made_where_the_output_does_not_fit_on_its_disk(refnet: Command) -> None:
    done = ended(refnet, "backup", "obsidian", redirected="> /dev/full")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-2] == b"refnet: the output cannot be written: No space left on device"
    assert len(artifacts(refnet)) == 1


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1"])
def test_names_that_the_output_cannot_encode_are_written_as_escapes(refnet: Command, encoding: str) -> None:
    done = forked_with(refnet, "backup", "obsidian", "--no-prove", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")

    name = artifacts(refnet)[0]["name"]
    shown = ended(refnet, "show", name, "--files", PYTHONIOENCODING=encoding)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert rb"\u65e5\u672c\u8a9e" in shown.stdout
    for arguments in (
        ("show", name, "--files", "--json"),
        ("settings", "--json"),
        ("backup", "obsidian", "--no-prove", "--json"),
    ):
        found = forked_with(refnet, *arguments, PYTHONIOENCODING=encoding)
        assert (found.returncode, found.stderr) == (0, b"")
        assert json.loads(found.stdout)
        if "show" in arguments:
            assert NOTE in json.dumps(json.loads(found.stdout), ensure_ascii=False)
    missing = forked_with(refnet, "restore", "ノート", PYTHONIOENCODING=encoding)
    assert missing.returncode == 2
    assert b"Traceback" not in missing.stderr


def test_a_command_that_only_prints_ends_when_its_reader_leaves(refnet: Command) -> None:
    refnet("backup", "obsidian", "--no-prove").succeeds()
    reading, writing = os.pipe()
    os.close(reading)
    program = str(Path(sys.executable).parent / "refnet")
    done = subprocess.run(
        [program, "list"], env=refnet._environment({}), cwd=refnet.home.parent,
        stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)

    assert (done.returncode, done.stderr) == (1, b"")
