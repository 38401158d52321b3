"""The command `refnet` as a user runs it: a process of its own, a home and a backup folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests import forked

from refnet.postgres.session import Target

SECONDS = 600.0
_POLL = 0.002


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def fails(self, code: int, *words: str) -> None:
        """It ended with `code` and said why in two lines, what is wrong and what to do, with all `words`."""
        assert self.code == code, f"ended with {self.code}, not {code}:\n{self.out}\n{self.err}"
        assert "Traceback" not in self.out + self.err, self.err
        lines = self.err.splitlines()
        assert len(lines) == 2, f"not two lines:\n{self.err}"
        assert lines[0].startswith("refnet: ")
        assert lines[1].startswith("        ")
        for word in words:
            assert word.lower() in self.err.lower(), f"{word!r} is not in:\n{self.err}"

    def succeeds(self) -> None:
        assert self.code == 0, f"ended with {self.code}:\n{self.out}\n{self.err}"
        assert self.err == ""


@dataclass(frozen=True)
class Command:
    """`refnet` with `home` and `backups`, on the database at `url`."""

    home: Path
    backups: Path
    url: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str | Path, stdin: str = "", **environment: str) -> Result:
        """Run it to its end, which must come within SECONDS. `stdin`: what it reads there."""
        done = forked.run(
            [*map(str, arguments)], self._environment(environment), self.home.parent, stdin.encode(), SECONDS
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str | Path, **environment: str) -> Run:
        """Start it, in a session of its own."""
        variables = self._environment(environment)
        return Run(forked.Heard([*map(str, arguments)], variables, self.home.parent))

    def start_alone(self, *arguments: str | Path, **environment: str) -> Run:
        """Start it, in a session of its own, and with no memory that it shares with another process."""
        process = subprocess.Popen(
            self._line(arguments),
            env=self._environment(environment),
            cwd=self.home.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return Run(process)

    def names(self) -> list[str]:
        """The artifacts in the catalog."""
        listed = self("list", "--json")
        listed.succeeds()
        return [one["name"] for one in listed.json["artifacts"]]

    def files(self) -> list[str]:
        """Every file in the backup folder but the locks and the store's marker."""
        own = {".refnet-lock", ".refnet-store.json"}
        found = (path for path in self.backups.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.backups)) for path in found if path.name not in own)

    def artifact(self) -> Path:
        """The newest artifact of the database."""
        return max((self.backups / "database").glob("refnet_*.sql.gz"))

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its runs."""
        return self._environment({})

    @staticmethod
    def _line(arguments: tuple[str | Path, ...]) -> list[str]:
        return [str(Path(sys.executable).parent / "refnet"), *map(str, arguments)]

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "REFNET_"))}
        own = {
            "REFNET_HOME": str(self.home),
            "REFNET_BACKUP_DIR": str(self.backups),
            "REFNET_DATABASE_URL": self.url,
            "REFNET_JOBS": "2",
            "REFNET_LOG_FOLDER": "none",
            "REFNET_LEFT_OUT_DATABASES": "*",  # other tests share the server
            "COLUMNS": "200",
        }
        return {**inherited, **own, **self.environment, **more}


@dataclass(frozen=True)
class Run:
    """A run of `refnet` that goes on."""

    process: subprocess.Popen[bytes] | forked.Heard

    def until(self, condition: Callable[[], Any], what: str = "the moment") -> None:
        """Wait until `condition` holds; it is a failure if the run ends before."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert self.process.poll() is None, f"it ended before {what}: {self.end().err}"
            assert time.monotonic() < end, f"{what} never came"
            time.sleep(_POLL)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Result:
        out, err = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode is not None
        return Result(self.process.returncode, out.decode(), err.decode())


def url_of(target: Target, **changed: str) -> str:
    """`target` as the URI that a user would write."""
    parts = {**target.parts, **changed}
    login = quote(str(parts["user"]), safe="")
    if "password" in changed:
        login += ":" + quote(changed["password"], safe="")
    query = urlencode({"host": parts["host"], "port": parts["port"]}, quote_via=quote)
    return f"postgresql://{login}@/{quote(str(parts['dbname']), safe='')}?{query}"
