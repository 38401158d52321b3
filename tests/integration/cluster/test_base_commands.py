"""Base backups through the command: what a user sees of the source main-cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.command import Command, url_of

from refnet.core.processes import until
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster

SETTINGS = {"wal_level": "replica", "max_wal_senders": "10", "summarize_wal": "on"}


@pytest.fixture(scope="module")
def source(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    with throwaway(wheel, base=short_folder / "commands", settings=SETTINGS) as cluster:
        with cluster.target().connect() as session:
            session.execute("CREATE DATABASE shop")
            session.execute("CREATE DATABASE cluster")
        yield cluster


@pytest.fixture
def refnet(folder: Path, source: Cluster) -> Command:
    return settings_of(folder, source, "wal = true")


def settings_of(folder: Path, source: Cluster, *lines: str) -> Command:
    text = [
        "[clusters.main]",
        f'url = "{url_of(source.target())}"',
        'exclude = ["postgres", "refnet"]',
        *lines,
    ]
    (folder / "refnet.toml").write_text("\n".join((*text, "")))
    (folder / "refnet.toml").chmod(0o600)
    return Command(folder / "home", folder / "backups", "")


def test_a_cluster_has_one_more_source_where_wal_is_set(folder: Path, source: Cluster) -> None:
    names = {True: set[str](), False: set[str]()}
    for wal, found in names.items():
        refnet = settings_of(folder, source, *(["wal = true"] if wal else []))
        planned = refnet("backup", "--plan", "--json").json["sources"]
        found |= {one["source"] for one in planned}
    assert names[True] - names[False] == {"main-cluster"}
    assert len(names[False]) == 3
    settings_of(folder, source)("backup", "main-cluster").fails(2, "main-cluster")


def test_a_full_then_increments_are_made_and_listed(refnet: Command) -> None:
    kinds = []
    for more in ([], [], ["--full"]):
        made = refnet("backup", "main-cluster", "--no-prove", "--json", *more)
        made.succeeds()
        kinds.append(made.json["results"][0]["manifest"]["details"]["base"])
    assert kinds == ["full", "increment", "full"]
    listed = refnet("list", "main-cluster", "--json").json["artifacts"]
    assert len(listed) == 3
    assert (
        refnet("verify", "main-cluster", "--level", "intact", "--json").json["results"][0]["level"]
        == "intact"
    )


def test_full_is_for_base_backups(refnet: Command) -> None:
    refnet("backup", "main-globals", "--full").fails(2, "--full", "main-cluster")


def test_two_sources_of_one_name_are_refused(folder: Path, source: Cluster) -> None:
    refnet = settings_of(folder, source, "wal = true", "[folders.main-cluster]", f'path = "{folder}/notes"')
    refnet("backup", "--plan").fails(2, "clusters.main.wal", "main-cluster")


def test_a_full_is_not_forgotten_before_its_increments(refnet: Command) -> None:
    names = []
    for _ in range(2):
        made = refnet("backup", "main-cluster", "--no-prove", "--json")
        names.append(made.json["results"][0]["manifest"]["name"])
    full, increment = names
    refnet("forget", full, "--yes", "--force-last").fails(2, full, increment, "was made from it")
    refnet("forget", full, increment, "--yes", "--force-last").succeeds()
    assert refnet("list", "main-cluster", "--json").json["artifacts"] == []


def test_a_prune_keeps_what_the_newest_base_was_made_from(refnet: Command) -> None:
    for _ in range(2):
        refnet("backup", "main-cluster", "--no-prove").succeeds()
    (planned,) = refnet("prune", "main-cluster", "--plan", "--json").json["sources"]
    assert [one["keep"] for one in planned["artifacts"]] == [True, True]
    refnet("prune", "main-cluster").succeeds()
    (again,) = refnet("prune", "main-cluster", "--plan", "--json").json["sources"]
    assert again["outlived"] == []
    assert refnet("verify", "main-cluster", "--level", "intact").code == 0


def test_a_copy_of_an_increment_has_what_it_was_made_from(folder: Path, refnet: Command) -> None:
    names = []
    for _ in range(2):
        made = refnet("backup", "main-cluster", "--no-prove", "--json").json["results"][0]
        names.append(made["manifest"]["name"])
    key = refnet("key", "new", "--json").json
    (folder / "key").write_text(key["recovery_key"])
    (folder / "key").chmod(0o600)
    (folder / "nas").mkdir()
    with (folder / "refnet.toml").open("a") as file:
        file.write(
            f'[encryption]\nrecipients = ["{key["recipient"]}"]\n[stores.nas]\nurl = "file://{folder}/nas"\n'
        )
    refnet("copy", names[1]).succeeds()
    copies = refnet("list", "main-cluster", "--store", "nas", "--json").json["artifacts"]
    assert {one["name"] for one in copies} == {*names}
    where = ("--store", "nas", "--identity-file", folder / "key")
    refnet("verify", names[0], "--level", "intact", *where).succeeds()

    (folder / "backups" / "main-cluster" / f"{names[0]}.json").unlink()
    (folder / "other").mkdir()
    refused = refnet("copy", names[1], "--store", f"file://{folder}/other")
    assert refused.code == 1
    assert f"{names[0]} is missing" in refused.out + refused.err


def test_an_encrypted_increment_says_why_it_was_not_restored(folder: Path, refnet: Command) -> None:
    key = refnet("key", "new", "--json").json
    with (folder / "refnet.toml").open("a") as file:
        file.write(f'[encryption]\nrecipients = ["{key["recipient"]}"]\nlocal = true\n')
    for _ in range(2):
        assert refnet("backup", "main-cluster").code == 0
    full, increment = refnet("list", "main-cluster", "--json").json["artifacts"]
    assert full["notes"] == ["full"]
    why = "an earlier backup that it depends on is encrypted: run `refnet drill` at a terminal, with the recovery key"
    assert f"not restored: recovery in an empty folder: {why}" in increment["notes"]
    assert why in refnet("show", increment["name"]).out


def _programs(home: Path) -> list[str]:
    """The command lines of pg_receivewal that write below `home`."""
    found = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK))
    lines = [one.replace(b"\0", b" ").decode(errors="replace") for one in found]
    return [one for one in lines if "pg_receivewal" in one and str(home) in one]


def test_a_killed_backup_leaves_no_program_and_the_next_one_is_whole(refnet: Command) -> None:
    run = refnet.start("backup", "main-cluster", "--no-prove")
    run.until(lambda: _programs(refnet.home), "pg_receivewal")
    run.send(signal.SIGKILL)
    run.end()
    assert until(lambda: not _programs(refnet.home), 20)
    assert refnet("list", "main-cluster", "--json").json["artifacts"] == []
    refnet("backup", "main-cluster", "--no-prove").succeeds()
    assert refnet("verify", "main-cluster", "--level", "intact").code == 0
