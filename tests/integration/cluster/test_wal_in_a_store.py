"""The machine with the backups is lost: base backups and WAL come from the store, up to the last commit that arrived there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from tests.clusters import answer
from tests.command import Command
from tests.wal_server import Receiving, WalServer, wal_server

from refnet.postgres.binaries import Binaries
from refnet.settings import Settings, load
from refnet.sources.cluster import wal_offsite


@pytest.fixture(scope="module")
def server(wheel: Binaries, short_folder: Path) -> Iterator[WalServer]:
    with wal_server(wheel, short_folder / "store") as found:
        yield found


def settings_of(refnet: Command) -> Settings:
    environment = {"REFNET_HOME": str(refnet.home), "REFNET_BACKUP_DIR": str(refnet.backups)}
    return load(environment, refnet.home.parent, root=True, cores=2)


class Protected:
    """A machine that receives the WAL of a server, and sends it to a store in a folder."""

    def __init__(self, server: WalServer, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o711)
        for name in ("home", "backups", "store"):
            (folder / name).mkdir()
        self.receiving = Receiving.of(server, folder / "home", folder / "backups")
        self.refnet = self.receiving.refnet
        made = self.refnet("key", "new", "--json").json
        self.signer = made["signer"]
        (folder / "key").write_text(made["recovery_key"])
        (folder / "key").chmod(0o600)
        with (folder / "home" / "refnet.toml").open("a") as file:
            file.write(
                f"[encryption]\nrecipients = [{json.dumps(made['recipient'])}]\n"
                f'[stores.nas]\nurl = "file://{folder}/store"\n[postgres]\nbin_dir = "{server.binaries.folder}"\n'
            )

    def lose(self) -> Command:
        """Lose this machine; an empty one, with the settings and the key."""
        settings = (self.folder / "home" / "refnet.toml").read_text()
        for name in ("home", "backups"):
            shutil.rmtree(self.folder / name)
            (self.folder / name).mkdir()
        file = self.folder / "home" / "refnet.toml"
        file.write_text(settings)
        file.chmod(0o600)
        return self.refnet


def test_a_lost_machine_restores_a_server_up_to_the_last_commit_in_the_store(
    server: WalServer, short_folder: Path
) -> None:
    folder = short_folder / "lost"
    protected = Protected(server, folder)
    receiving, refnet = protected.receiving, protected.refnet
    with receiving.running() as run:
        refnet("backup", "main-cluster", "--no-prove").succeeds()
        server.write(2)
        receiving.catch_up(run)
        receiving.until(run, lambda: wal_offsite.new_in(receiving.archive).live != "", "the live segment")
        refnet("copy", "main-cluster").succeeds()
        count = server.sql("SELECT count(*) FROM t")[0][0]
        (store,) = receiving.status()["stores"]
        assert store["store"] == "nas"
        assert store["covered_until"]
        listed = refnet("list", "main-cluster", "--store", "nas")
        assert re.search(r"^main-cluster: commits up to .* ago are in nas$", listed.out, re.MULTILINE), (
            listed.out
        )
        server.sql("INSERT INTO t VALUES (1, 'not sent')")
        receiving.catch_up(run)
    found = protected.lose()
    key = ("--identity-file", folder / "key", "--signer", protected.signer)
    fetched = found("fetch", "main-cluster", "--store", "nas", *key)
    fetched.succeeds()
    assert "of WAL fetched, up to the commit of" in fetched.out
    restored = found("restore", "main-cluster", "--latest", "--into", folder / "data", "--json")
    assert restored.code == 0, restored.err
    assert answer(restored.json, folder / "data", "SELECT count(*) FROM t", "postgres") == str(count)


def test_a_store_that_is_away_stops_no_receiver_and_is_said_once(
    server: WalServer, short_folder: Path
) -> None:
    folder = short_folder / "away"
    protected = Protected(server, folder)
    (folder / "store").rename(folder / "unmounted")
    notes = list[str]()
    with protected.receiving.running() as run:
        server.write()
        protected.receiving.catch_up(run)
        settings = settings_of(protected.refnet)
        sender = wal_offsite.StreamSender(settings, "main", notes.append)
        sender.send()
        sender.send()
        assert len(notes) == 1
        (folder / "unmounted").rename(folder / "store")
        sender.send()
    assert "again" in notes[1]


def test_a_flipped_bit_in_the_archive_is_an_alarm_until_the_segment_comes_back_from_the_store(
    server: WalServer, short_folder: Path
) -> None:
    folder = short_folder / "flipped"
    protected = Protected(server, folder)
    receiving, refnet = protected.receiving, protected.refnet
    with receiving.running() as run:
        refnet("backup", "main-cluster", "--no-prove").succeeds()
        server.write(4)
        receiving.catch_up(run)
        refnet("copy", "main-cluster").succeeds()
    archive = receiving.archive
    damaged = archive.segments(archive.timeline)[-2]
    path = archive.folder_of(archive.timeline) / f"{damaged.file}.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    found = refnet("verify", "main-cluster", "--level", "intact")
    assert found.code == 4, found.out
    assert re.search(rf"failed: WAL: damaged, 1 of [0-9]+ segments: {damaged.name}; moments after", found.out)
    assert "`refnet backup main-cluster` makes later ones reachable" in found.out
    (shown,) = refnet("list", "main-cluster", "--json").json["artifacts"]
    assert shown["state"] == "intact"  # the base backup is as it was
    gaps = next(one for one in refnet("monitor", "--json").json["checks"] if one["check"] == "gaps")
    assert (gaps["status"], gaps["says"].split(";")[0]) == ("critical", f"WAL is damaged: {damaged.name}")
    assert receiving.status()["damaged"] == [damaged.name]
    assert 'refnet_wal_damaged_segments{cluster="main"} 1.0' in refnet("metrics").out
    status = receiving.status()
    assert status["restorable_until"], status
    until = datetime.fromisoformat(status["restorable_until"])
    assert (
        datetime.fromisoformat(status["restorable_from"])
        <= until
        < datetime.fromisoformat(status["last_commit"])
    )
    planned = refnet(
        "restore", "main-cluster", "--at", until.isoformat(" "), "--into", folder / "data", "--plan"
    )
    planned.succeeds()
    refused = refnet("restore", "main-cluster", "--latest", "--into", folder / "data")
    assert refused.code == 1
    assert damaged.name in refused.err

    key = ("--identity-file", folder / "key", "--signer", protected.signer)
    fetch = re.search(r"`refnet (fetch main-cluster_\S+ --store nas)` brings back", found.out)
    assert fetch, found.out
    refnet(*fetch[1].split(), *key).succeeds()
    assert receiving.status()["damaged"] == []
    again = refnet("verify", "main-cluster", "--level", "intact")
    assert (again.code, "all match" in again.out) == (0, True), again.out
