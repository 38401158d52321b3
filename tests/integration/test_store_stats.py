"""`refnet store stats` over a folder with real copies: two nights of a folder of which one file changed."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from tests.command import Command


@pytest.fixture(scope="module")
def refnet(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A machine after two nights: the stores `near` and `far` have the copies; `away` is not mounted."""
    folder = tmp_path_factory.mktemp("stats")
    for name in ("home", "notes", "near", "far"):
        (folder / name).mkdir(mode=0o700)
    source = random.Random(1)
    for number in range(20):
        (folder / "notes" / f"{number:02}.jpg").write_bytes(source.randbytes(200_000))
    (folder / "notes" / "new.md").write_text("# one\n")
    command = Command(folder / "home", folder / "backups", "", {"REFNET_DATABASE_URL": ""})
    recipient = command("key", "new", "--json").json["recipient"]
    (folder / "refnet.toml").write_text(
        f'[folders.notes]\npath = "{folder}/notes"\n[encryption]\nrecipients = ["{recipient}"]\n'
        f'[stores.near]\nurl = "file://{folder}/near"\n[stores.far]\nurl = "file://{folder}/far"\nsources = ["database"]\n'
    )
    (folder / "refnet.toml").chmod(0o600)
    command("backup", "notes", "--no-prove").succeeds()
    (folder / "notes" / "new.md").write_text("# two\n")
    command("backup", "notes", "--no-prove").succeeds()
    return command


def _stored(folder: Path) -> dict[str, int]:
    """The objects of copies in a store, and their sizes."""
    found = (*folder.rglob("pieces/*"), *folder.rglob("manifests/*"))
    return {str(one.relative_to(folder)): one.stat().st_size for one in found}


def test_the_second_night_costs_what_changed(refnet: Command) -> None:
    folder = refnet.home.parent
    said = refnet("store", "stats", "near", "--json")
    said.succeeds()
    [found] = said.json["stores"]
    [notes] = found["sources"]
    artifacts = [one.stat().st_size for one in (refnet.backups / "notes").glob("*.tar.gz")]
    assert (notes["source"], notes["copies"], notes["plain_bytes"]) == ("notes", 2, sum(artifacts))
    assert notes["stored_bytes"] == sum(_stored(folder / "near").values())
    assert notes["newest_bytes"] < notes["plain_bytes"] / 4
    assert 0 < notes["plain_bytes"] - notes["stored_bytes"] < notes["shared_bytes"] + 10_000
    assert found["all"] == {key: value for key, value in notes.items() if key != "source"}
    assert (notes["bytes_freed"], found["leftover_bytes"], found["frees_nothing"]) == (0, 0, None)


def test_it_is_a_table_of_every_store_and_needs_no_recovery_key(refnet: Command) -> None:
    said = refnet("store", "stats")
    said.succeeds()
    head, near, far = said.out.splitlines()
    assert head.split() == [
        "store", "source", "copies", "plain", "stored", "shared", "newest", "prune", "frees"
    ]  # fmt: skip
    assert near.split()[:3] == ["near", "notes", "2"]
    assert near.endswith("  0 B")
    assert far.split()[:3] == ["far", "all", "0"]


def test_a_store_that_is_down_hides_no_other(refnet: Command) -> None:
    folder = refnet.home.parent
    (folder / "far").rename(folder / "disk")
    try:
        said = refnet("store", "stats", "--json")
    finally:
        (folder / "disk").rename(folder / "far")
    said.fails(1, f"{folder}/far does not exist")
    assert [one["store"] for one in said.json["stores"]] == ["near"]
    refnet("store", "stats", "fra").fails(2, "'fra' is not configured", "Did you mean far?")


def test_leftovers_and_what_cannot_be_read_are_said(refnet: Command) -> None:
    folder = refnet.home.parent
    key = next(one.name for one in (folder / "near").iterdir() if (one / "manifests").is_dir())
    piece = folder / "near" / key / "pieces" / f"{'0' * 32}-{'0' * 16}.age"
    piece.write_bytes(b"x" * 100)
    os.utime(piece, (0, 0))
    bogus = folder / "near" / "manifests" / "x.age"
    bogus.parent.mkdir(mode=0o700)
    bogus.write_bytes(b"x" * 100)
    try:
        said = refnet("store", "stats", "near")
    finally:
        bogus.unlink()
        bogus.parent.rmdir()
    said.succeeds()
    _, notes, everything, *more = said.out.splitlines()
    assert (notes.split()[1], notes.endswith("  0 B")) == ("notes", True)
    assert (everything.split()[1], everything.endswith("  100 B")) == ("all", True)
    assert more == [
        "near: prune also removes leftovers: 100 B",
        "near: not counted: 1 manifest that cannot be read or trusted",
    ]
    piece.unlink()


def test_the_folder_of_other_keys_is_named_and_stays(refnet: Command) -> None:
    folder = refnet.home.parent
    own = next(one.name for one in (folder / "near").iterdir() if (one / "manifests").is_dir())
    other = folder / "near" / ("0" * 32 if own != "0" * 32 else "1" * 32)
    (other / "manifests").mkdir(parents=True, mode=0o700)
    sealed = other / "manifests" / f"20260101T000000Z_notes_{'2' * 32}.age"
    sealed.touch(0o600)
    try:
        said = refnet("store", "stats", "near")
        found = refnet("store", "stats", "near", "--json").json["stores"]
    finally:
        sealed.unlink()
        (other / "manifests").rmdir()
        other.rmdir()
    said.succeeds()
    last = said.out.splitlines()[-1]
    assert last == f"near: copies of other machines: 1, never pruned here: in {other.name}"
    assert found[0]["folders_of_other_keys"] == [other.name]
    assert found[0]["copies_of_other_keys"] == 1


def test_the_encrypted_backup_folder_is_a_store_too(refnet: Command) -> None:
    folder = refnet.home.parent
    settings = folder / "refnet.toml"
    before = settings.read_text()
    settings.write_text(before.replace("[encryption]\n", "[encryption]\nlocal = true\n"))
    try:
        assert refnet("store", "stats", "local", "--json").json["stores"][0]["sources"] == []
        assert refnet("copy", "--store", "local").code == 0
        [found] = refnet("store", "stats", "local", "--json").json["stores"]
    finally:
        settings.write_text(before)
    assert json.dumps(found["sources"][0]).startswith('{"source": "notes", "copies": 2')
    assert found["all"]["stored_bytes"] == sum(_stored(folder / "backups" / "encrypted").values())
    assert found["all"]["shared_bytes"] > 0
