"""`refnet` at a terminal; a user's machine on which `refnet init` is run, at a terminal or without one."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import forked
from tests.command import Command, Result

#: The beginnings of the questions, in order.
ASKED = (
    "Database",
    "A server",
    "Another database",
    "Folder of the configuration",
    "Folder of the Obsidian vault",
    "Another folder",
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
        given = {"environment": self.environment | environment, "folder": self.here, "seconds": 300}
        done = forked.text(*before, *arguments, **given)
        return Result(done.returncode, done.stdout, done.stderr)

    def unchanged(self) -> None:
        """Nothing was written."""
        assert list(self.here.iterdir()) == []
        assert not self.backups.exists()

    def talk(self, *answers: tuple[str, str | Callable[[int, int], None]], **environment: str) -> Result:
        """Run `refnet init` at a terminal; each of `answers` is (the question's beginning, the answer or an act)."""
        main, terminal = pty.openpty()
        program = forked.start(["init"], self.environment | environment, self.here, [terminal] * 3)
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


def answered(refnet: Command, *arguments: str, answer: str, **environment: str) -> Result:
    """Run `refnet` with stdin and stderr at a terminal, and type `answer`."""
    main, terminal = pty.openpty()
    printed, out = os.pipe()
    program = forked.start(
        arguments, refnet._environment(environment), refnet.home.parent, [terminal, out, terminal]
    )
    os.close(terminal)
    os.close(out)
    os.write(main, f"{answer}\n".encode())
    with os.fdopen(printed, "rb") as pipe:
        said, shown = pipe.read(), b""
    while piece := _piece(main):
        shown += piece
    os.close(main)
    return Result(program.wait(60), said.decode(), shown.decode())


def on_a_terminal(refnet: Command, *arguments: str) -> str:
    """What `refnet` writes to a terminal on stderr, where every step is shown at once."""
    main, terminal = pty.openpty()
    with Path(os.devnull).open("r+b") as nothing:
        program = forked.start(
            arguments, refnet._environment({"TERM": "xterm"}), refnet.home.parent,
            (nothing.fileno(), nothing.fileno(), terminal), "tests.integration.shown_at_once",
        )  # fmt: skip
    os.close(terminal)
    shown = b""
    while piece := _piece(main):
        shown += piece
    os.close(main)
    program.wait(60)
    return shown.decode()
