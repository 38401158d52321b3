"""`refnet init` as a user runs it: its questions at a terminal, and every answer that is wrong."""

from __future__ import annotations

import os
import pty
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.command import Result, url_of

from refnet.postgres.session import Target

REFNET = str(Path(sys.executable).parent / "refnet")
#: The beginnings of the questions, in order.
ASKED = (
    "Database",
    "Folder of the configuration",
    "Folder of the Obsidian vault",
    "Backup folder",
    "Back up the",
)
CONFIRM = "Write "


@dataclass(frozen=True)
class Machine:
    """A user's machine: a current folder, a home, a vault, a database."""

    folder: Path
    url: str

    @property
    def file(self) -> Path:
        return self.here / "refnet.toml"

    @property
    def here(self) -> Path:
        return self.folder / "here"

    @property
    def vault(self) -> Path:
        return self.folder / "vault"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    @property
    def options(self) -> list[str]:
        return ["--database-url", self.url, "--vault-dir", str(self.vault), "--backup-dir", str(self.backups)]

    @property
    def environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "REFNET_", "SUDO_"))}
        return own | {
            "REFNET_HOME": str(self.folder / "home"),
            "REFNET_LOG_FOLDER": "none",
            "HOME": str(self.folder),
        }

    def run(self, *arguments: str, before: Sequence[str] = (), **environment: str) -> Result:
        """Run refnet without a terminal."""
        done = subprocess.run(
            [REFNET, *before, *arguments],
            cwd=self.here,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def unchanged(self) -> None:
        """Nothing was written."""
        assert list(self.here.iterdir()) == []
        assert not self.backups.exists()

    def talk(self, *answers: tuple[str, str | Callable[[int, int], None]], **environment: str) -> Result:
        """Run `refnet init` at a terminal; each of `answers` is (the question's beginning, the answer or an act)."""
        main, terminal = pty.openpty()
        program = subprocess.Popen(
            [REFNET, "init"],
            cwd=self.here,
            env=self.environment | environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        shown, told = b"", list(answers)
        while piece := _piece(main):
            shown += piece
            last = shown.rsplit(b"\n", 1)[-1].decode(errors="replace")
            if (
                told
                and last.startswith(told[0][0])
                and last.rstrip().endswith(":" if "?" not in last else "]")
            ):
                answer = told.pop(0)[1]
                if callable(answer):
                    answer(program.pid, main)
                else:
                    os.write(main, f"{answer}\n".encode())
        os.close(main)
        assert not told, f"never asked: {told[0][0]}\n{shown.decode()}"
        return Result(program.wait(60), shown.decode(), "")


def _piece(main: int) -> bytes:
    try:
        return os.read(main, 65536)
    except OSError:  # the terminal is gone with the program
        return b""


@pytest.fixture
def machine(folder: Path, database: Target) -> Iterator[Machine]:
    found = Machine(folder, url_of(database))
    for one in (found.here, found.vault):
        one.mkdir()
    (found.vault / "note.md").write_text("# note\n")
    with database.connect() as session:
        session.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS n")
    yield found
    shutil.rmtree(folder / "home", ignore_errors=True)


def everything(machine: Machine) -> list[tuple[str, str]]:
    answers = (machine.url, "none", str(machine.vault), str(machine.backups), "daily 03:30")
    return list(zip(ASKED, answers, strict=True))


def test_the_answers_become_settings_and_a_proven_backup_that_later_runs_find(machine: Machine) -> None:
    done = machine.talk(*everything(machine), (CONFIRM, "y"))
    assert done.code == 0, done.out
    assert "proven (1 table, 10 rows)" in done.out
    assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
    assert tomllib.loads(machine.file.read_text()) == {
        "database_url": machine.url,
        "vault_dir": str(machine.vault),
        "backup_dir": str(machine.backups),
        "schedule": {"database": "daily 03:30"},
    }
    again = machine.run("backup")
    assert again.code == 0, again.err
    listed = machine.run("list", "--json")
    assert [one["source"] for one in listed.json["artifacts"]].count("database") == 2


def test_options_answer_without_a_terminal(machine: Machine) -> None:
    done = machine.run("init", *machine.options, "--yes")
    assert done.code == 0, done.err
    assert "proven" in done.out
    assert machine.file.exists()
