"""A recovery that is killed and started again restores nothing twice, and leaves nothing half."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.command import Command, Run
from tests.integration.cluster.test_recover_to_the_last_commit import Shop, orders
from tests.killed_recovery import previous_versions, run_through_kills
from tests.wal_server import WalServer, wal_server

from refnet.postgres.binaries import Binaries


class Everything(Shop):
    """The shop, and a folder and a database of SQLite beside it."""

    def __init__(self, server: WalServer, folder: Path) -> None:
        self.data = folder.with_name("data")
        (self.data / "notes" / "deep").mkdir(parents=True)
        for number in range(200):
            (self.data / "notes" / "deep" / f"{number}.md").write_text(f"note {number}\n" * number)
        with closing(sqlite3.connect(self.data / "app.sqlite")) as session, session:
            session.execute("CREATE TABLE t AS SELECT 'kept' AS word")
        super().__init__(server, folder)
        file = folder / "home" / "refnet.toml"
        file.write_text(
            f'{file.read_text()}[folders.notes]\npath = "{self.data}/notes"\n'
            f'[databases.app]\npath = "{self.data}/app.sqlite"\n'
        )
        for source in ("notes", "app"):
            self.protected.refnet("backup", source, "--no-prove").succeeds()
        self.saved = folder.with_name("saved")
        shutil.copytree(self.data, self.saved, symlinks=True)

    def lose(self) -> Command:
        shutil.rmtree(self.data)
        self.data.mkdir()
        return super().lose()

    @property
    def command(self) -> tuple[str | Path, ...]:
        return ("recover", *map(str, self.given[:-1]), "--role-powers")

    def left(self) -> list[str]:
        return previous_versions(self.server.conninfo(), self.data)

    def check(self, refnet: Command) -> None:
        """Stock tools find what was there, once."""
        assert self.dump("shop") == self.dumped
        assert orders(self) == [1, 2, 3]
        assert self.sql("later", "SELECT t FROM notes") == [("new",)]
        changed = subprocess.run(
            ["rsync", "-n", "-rlpgo", "-c", "--delete", "-i", f"{self.saved}/notes/", f"{self.data}/notes/"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert changed.stdout == ""
        with closing(sqlite3.connect(self.data / "app.sqlite")) as session:
            assert session.execute("SELECT word FROM t").fetchall() == [("kept",)]
        # A new server has a database postgres, which the first restore of it replaces.
        assert [one.rsplit("_", 2)[0] for one in self.left()] == ["postgres_before"]
        names = refnet.names()
        assert len([one for one in names if one.startswith("main-shop_")]) == 2, names
        assert len([one for one in names if one.startswith("main-later_")]) == 1, names


@pytest.fixture
def shop(wheel: Binaries, short_folder: Path) -> Iterator[Everything]:
    try:
        with wal_server(wheel, short_folder / "store") as server:
            yield Everything(server, short_folder / "lost")
    finally:
        for name in ("lost", "data", "saved"):
            shutil.rmtree(short_folder / name, ignore_errors=True)


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.thorough)])
def test_killed_at_random_moments_it_restores_everything_once(shop: Everything, kills: int) -> None:
    refnet = shop.lose()
    seed = random.randrange(1 << 32)
    moments = [random.Random(seed + number).uniform(0.3, 2.0) for number in range(kills)]
    done = run_through_kills(refnet, shop.command, moments)
    assert done.last.code == 0, f"{moments}: {done.last.out}{done.last.err}"
    assert done.kills > 0, moments
    shop.check(refnet)
    again = refnet(*shop.command)
    assert again.code == 6, again.out + again.err
    assert "note: a recovery was complete here at " in again.out
    shop.check(refnet)


def _stopped_in_a_hook(shop: Everything, refnet: Command, source: str) -> Run:
    """A recovery in the hook after `source` was restored."""
    file = refnet.home / "refnet.toml"
    before = file.read_text()
    stopped = shop.folder / "stopped"
    script = shop.folder / "hook"
    script.write_text(
        f"#!/bin/sh\n[ $REFNET_SOURCE = {source} ] || exit 0\necho > {stopped}\nexec sleep 60\n"
    )
    script.chmod(0o755)
    file.write_text(f'{before}[hooks]\nafter_restore = ["{script}"]\n')
    run = refnet.start_alone(*shop.command)
    run.until(stopped.exists, "the hook")
    script.write_text(f"#!/bin/sh\necho $REFNET_SOURCE >> {shop.folder}/hooked\n")
    return run


@pytest.mark.parametrize("source", ["main-shop", "notes", "app"])
def test_killed_between_a_swap_and_its_record_it_swaps_once(shop: Everything, source: str) -> None:
    refnet = shop.lose()
    run = _stopped_in_a_hook(shop, refnet, source)
    run.send(signal.SIGKILL)
    run.end()
    token = ""
    if source == "main-shop":
        oid = shop.server.sql("SELECT oid::int8 FROM pg_database WHERE datname = 'shop'")[0][0]
        token = f"{shop.server.sql('SELECT system_identifier::int8 FROM pg_control_system()')[0][0]}/{oid}"
    path = refnet.home / "recovery.json"
    journal = json.loads(path.read_text())
    assert source in journal["restored"]
    # As it was before the record of the restore.
    for key in ("restored", "hooks"):
        journal[key] = [one for one in journal[key] if one != source]
    path.write_text(json.dumps({**journal, "swaps": {source: token}}))
    done = refnet(*shop.command)
    assert done.code == 0, done.out + done.err
    assert re.search(rf"{source}_\S+ was put in place by the run that was interrupted", done.out)
    assert source in (shop.folder / "hooked").read_text().split()
    shop.check(refnet)


def test_a_database_without_tables_is_restored_once(shop: Everything) -> None:
    refnet = shop.lose()
    run = _stopped_in_a_hook(shop, refnet, "main-postgres")
    run.send(signal.SIGKILL)
    run.end()
    done = refnet(*shop.command)
    assert done.code == 0, done.out + done.err
    assert re.search(r"main-postgres_\S+ was restored before; main-postgres stays unchanged", done.out)
    shop.check(refnet)


@pytest.mark.parametrize("source", ["notes", "app"])
def test_killed_before_an_announced_swap_it_restores_what_is_not_there(shop: Everything, source: str) -> None:
    refnet = shop.lose()
    run = _stopped_in_a_hook(shop, refnet, "main-shop")
    run.send(signal.SIGKILL)
    run.end()
    path = refnet.home / "recovery.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "swaps": {source: ""}}))
    done = refnet(*shop.command)
    assert done.code == 0, done.out + done.err
    shop.check(refnet)


def test_a_copy_that_was_not_swapped_in_is_restored_again(shop: Everything) -> None:
    refnet = shop.lose()
    run = _stopped_in_a_hook(shop, refnet, "main-shop")
    run.send(signal.SIGKILL)
    run.end()
    path = refnet.home / "recovery.json"
    journal = json.loads(path.read_text())
    path.write_text(json.dumps({**journal, "restored": [], "hooks": [], "swaps": {"main-shop": "1/2"}}))
    assert refnet(*shop.command).code == 6  # the database there is not known to be of this recovery
    done = refnet(*shop.command, "--force")
    assert done.code == 0, done.out + done.err
    assert orders(shop) == [1, 2, 3]


def test_the_time_of_a_continued_recovery_is_that_of_all_runs(shop: Everything) -> None:
    refnet = shop.lose()
    run = refnet.start_alone(*shop.command)
    journal = refnet.home / "recovery.json"
    run.until(journal.exists, "the journal")
    run.send(signal.SIGKILL)
    run.end()
    written = json.loads(journal.read_text())
    hour = re.sub(r"T(\d\d)", lambda found: f"T{(int(found[1]) - 1) % 24:02}", written["began"])
    journal.write_text(json.dumps({**written, "began": hour}))
    done = refnet(*shop.command, "--json")
    assert done.code == 0, done.out + done.err
    assert done.json["began_before"] is not None
    if hour < written["began"]:  # not in the first hour of a day
        assert done.json["seconds"] > 3600
