"""Pins, tags and the lineage of databases come back with a recovery from a store, also those of artifacts that stay there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.command import Command

from refnet.catalog.identity import Identity
from refnet.store.source_records import Lineage

OLD, NEW = Identity("shop", "1"), Identity("shop", "2")


class _Lost:
    """A machine with two artifacts of notes: the older one is pinned, the newer one tagged. Then it is lost."""

    def __init__(self, folder: Path, *, local: bool = False) -> None:
        self.folder = folder
        for name in ("home", "notes", "nas"):
            (folder / name).mkdir(mode=0o700)
        refnet = self.refnet = Command(folder / "home", folder / "backups", "", {"REFNET_DATABASE_URL": ""})
        made = refnet("key", "new", "--json").json
        self.signer = made["signer"]
        (folder / "key").write_text(made["recovery_key"])
        (folder / "key").chmod(0o600)
        (folder / "refnet.toml").write_text(
            f'[folders.notes]\npath = "{folder}/notes"\n[encryption]\nlocal = {str(local).lower()}\n'
            f'recipients = {json.dumps([made["recipient"]])}\n[stores.nas]\nurl = "file://{folder}/nas"\n'
            'retention = "keep-last=1"\n'
        )
        (folder / "refnet.toml").chmod(0o600)
        self.names = [self._backup(number) for number in range(3)]
        refnet("pin", self.names[0]).succeeds()
        refnet("tag", self.names[2], "good").succeeds()
        Lineage.at(folder / "home").add(NEW, OLD)
        refnet("copy").succeeds()
        for name in ("home", "backups", "notes"):
            shutil.rmtree(folder / name)
        (folder / "home").mkdir(mode=0o700)
        shutil.move(folder / "refnet.toml", folder / "was.toml")

    def _backup(self, number: int) -> str:
        (self.folder / "notes" / "a.md").write_text(f"# note {number}\n")
        made = self.refnet("backup", "notes", "--no-prove", "--json")
        made.succeeds()
        found: list[dict[str, str]] = self.refnet("list", "--json").json["artifacts"]
        return max(one["name"] for one in found)

    @property
    def page(self) -> tuple[str, ...]:
        return "--signer", self.signer, "--identity-file", str(self.folder / "key")

    def marks(self, *place: str) -> dict[str, tuple[bool, list[str]]]:
        found = self.refnet("list", *place, "--json").json["artifacts"]
        return {one["name"]: (one["marks"]["pinned"], one["marks"]["tags"]) for one in found}


@pytest.mark.parametrize("local", [False, True], ids=["plain", "encrypted backup folder"])
def test_marks_and_lineage_come_back_with_the_set(tmp_path: Path, local: bool) -> None:
    lost = _Lost(tmp_path, local=local)
    first, second, last = lost.names
    url = f"file://{tmp_path}/nas"
    done = lost.refnet("recover", "--store", url, *lost.page, "--force")
    assert done.code == 0, done.out + done.err
    assert (tmp_path / "notes" / "a.md").read_text() == "# note 2\n"

    assert Lineage.at(tmp_path / "home").before(NEW) == ("1",)
    there = lost.marks("--store", url, "--signer", lost.signer, "--identity-file", str(tmp_path / "key"))
    assert there == {first: (True, []), second: (False, []), last: (False, ["good"])}
    if not local:
        assert lost.marks() == {last: (False, ["good"])}
        assert Lineage.in_store(tmp_path / "backups").before(NEW) == ("1",)


def test_unpinning_what_is_in_the_store_alone_takes_a_fetch(tmp_path: Path) -> None:
    lost = _Lost(tmp_path)
    first, *_ = lost.names
    given = ("--store", f"file://{tmp_path}/nas", *lost.page)
    lost.refnet("recover", *given, "--force").succeeds()
    shutil.move(tmp_path / "was.toml", tmp_path / "refnet.toml")

    lost.refnet("fetch", first, *given).succeeds()
    assert lost.marks()[first] == (True, [])
    lost.refnet("unpin", first).succeeds()
    assert lost.marks(*given)[first] == (False, [])
