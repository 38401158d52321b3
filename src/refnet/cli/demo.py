"""`refnet demo`: the whole story before one's eyes, by the commands that a user types, on a server of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refnet.cli.process import clock, current_settings
from refnet.errors import Exit, RefnetError

if TYPE_CHECKING:
    from psycopg import Connection

    from refnet.postgres.session import Target

_MARK = ".made-by-refnet-demo"


def demo(
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where; none: `demo` in REFNET_HOME.")
    ] = None,
    papers: Annotated[int, typer.Option(min=10, max=1_000_000, help="How many papers to make up.")] = 5_000,
) -> None:
    """Make up a network, back it up, prove it, destroy it and bring it back, in a folder of its own."""
    place = (folder or current_settings().home / "demo").expanduser().absolute()
    with _story(place) as story:
        story.title("A made-up citation network in a PostgreSQL of its own")
        story.refnet("network", "sample", "--papers", str(papers))
        story.title("A backup that proves itself: restored, and compared row by row")
        story.refnet("backup", "database")
        story.refnet("list")
        story.title("The loss")
        story.sql("DROP DATABASE refnet WITH (FORCE)")
        story.title("The database comes back: loaded beside, compared, then put in place")
        story.refnet("restore", "database", "--force")
        story.compare()
        story.end()


class _Story:
    """The demo's folder, the environment of its commands, and what each took (s)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("REFNET_", "PG"))} | {
            "REFNET_HOME": str(folder / "home"),
            "REFNET_BACKUP_DIR": str(folder / "backups"),
            "REFNET_VAULT_DIR": str(folder / "vault"),
        }
        self._times: list[tuple[str, float]] = []
        self._counts: dict[str, int] = {}

    def title(self, text: str) -> None:
        from rich.console import Console

        Console(highlight=False).print(f"\n[bold]{len(self._titles()) + 1}. {text}[/bold]")
        self._times.append((text, 0.0))

    def _titles(self) -> list[str]:
        return [text for text, _ in self._times]

    def refnet(self, *arguments: str) -> None:
        """Run one command of refnet's and show it as it is typed, with what it prints and how long it took."""
        self._show(f"refnet {' '.join(arguments)}")
        began = clock()
        ran = subprocess.run(
            [sys.executable, "-m", "refnet", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        self._took(ran.stdout, clock() - began)
        if ran.returncode:
            raise RefnetError(
                f"`refnet {' '.join(arguments)}` ended with {ran.returncode}",
                f"What it said stands above; the demo's folder is {self.folder}.",
            )

    def sql(self, statement: str) -> None:
        """Run one statement as an administrator would, beside the database it may destroy."""
        self._counts = self._counted()
        self._show(f'psql -c "{statement}"')
        began = clock()
        with self._target().database("postgres").connect() as session:
            session.execute(statement.encode())
        self._took("", clock() - began)

    def compare(self) -> None:
        """Count every table again, by a way of its own."""
        found = self._counted()
        if found != self._counts:
            raise RefnetError(
                f"The tables count {found} where they counted {self._counts}",
                "This is a fault of RefNet: report it.",
            )
        rows = sum(found.values())
        print(f"   counted again: {rows:,} rows in {len(found)} tables, as before the loss")

    def end(self) -> None:
        from refnet.cli.words import print_columns, seconds

        print("\nTimes")
        total = sum(taken for _, taken in self._times)
        rows = [(f"   {text}", seconds(taken)) for text, taken in self._times]
        print_columns([*rows, ("   in all", seconds(total))], right=(1,))
        print("\nEverything lies in", self.folder)
        for name, what in (("home", "the cluster, stopped"), ("backups", "the artifacts")):
            print(f"   {name:9} {what}")
        print(
            f"   look:     REFNET_HOME={self.folder / 'home'} REFNET_BACKUP_DIR={self.folder / 'backups'} refnet list"
        )

    def _target(self) -> Target:
        from refnet import wiring
        from refnet.settings import load

        return wiring.server(load(self.environment, self.folder, root=os.geteuid() == 0, cores=1))

    def _counted(self) -> dict[str, int]:
        query = (
            "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        with self._target().connect() as session:
            names = [row[0] for row in session.execute(query).fetchall()]
            return {name: _count(session, name) for name in names}

    def _show(self, command: str) -> None:
        print(f"   $ {command}", flush=True)

    def _took(self, said: str, taken: float) -> None:
        from refnet.cli.words import seconds

        for line in said.splitlines():
            print(f"     {line}")
        print(f"     ({seconds(taken)})", flush=True)
        text, before = self._times[-1]
        self._times[-1] = (text, before + taken)


def _count(session: Connection[tuple[int, ...]], table: str) -> int:
    from psycopg.sql import SQL, Identifier

    row = session.execute(SQL("SELECT count(*) FROM {}").format(Identifier("public", table))).fetchone()
    return row[0] if row else 0


@contextmanager
def _story(folder: Path) -> Iterator[_Story]:
    """A fresh folder for the demo; its server is stopped at the end, however that comes."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise RefnetError(
            f"{folder} is there already, and no demo made it", "Name another with --folder.", Exit.USAGE
        )
    story = _Story(folder)
    _stop(story)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()
    try:
        yield story
    finally:
        _stop(story)


def _stop(story: _Story) -> None:
    if (story.folder / "home").exists():
        command = [sys.executable, "-m", "refnet", "postgres", "stop"]
        subprocess.run(command, env=story.environment, cwd=story.folder, capture_output=True, check=False)
