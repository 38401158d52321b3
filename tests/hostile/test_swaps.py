"""Forged journals and planted folders beside what is restored: nothing is moved, nothing is taken for RefNet's own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.files.conftest import World, contents, spoil, vault, vault_in
from tests.integration.files.test_killed import kill_in_exchange

from refnet.core.errors import RefnetError
from refnet.sources.folder import swapping
from refnet.sources.folder.swap_journal import SwapJournal, SwapState
from refnet.sources.folder.target import finish_interrupted

assert vault  # the fixture

OLD = ".refnet-obsidian-20261125_020000"


@pytest.fixture
def documents(vault: World) -> Path:
    """A folder that somebody wants moved away."""
    folder = vault.folder.parent / "Documents"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    return folder


def forge_beside(vault: World, **values: Any) -> Path:
    """The work folder of an earlier RefNet, with a journal that moves `Documents` away."""
    work = vault.folder.parent / OLD
    for name in ("fresh", "kept"):
        (work / name).mkdir(parents=True)
    (work / "fresh" / "evil").write_text("evil")
    (work / "of").write_text(vault.folder.name)
    journal = {
        "source": "obsidian", "artifact": "vault_20261125.tar.gz", "at": "2026-11-25T02:00:00+00:00",
        "why": "restored", "base": ".", "took": "", "back": False,
        "units": [{"name": "Documents", "fresh": None}, {"name": "../evil", "fresh": 1}],
    }  # fmt: skip
    (work / "exchange.json").write_text(json.dumps(journal | values))
    return work


def test_a_forged_journal_beside_the_vault_moves_nothing_during_a_backup(vault, documents):
    forge_beside(vault)
    vault.backup()
    assert (documents / "precious").read_text() == "precious"
    assert (vault.folder.parent / OLD / "fresh" / "evil").exists()


def test_a_forged_journal_beside_the_vault_stops_a_restore_by_name(vault, documents):
    held = vault.backup()
    spoil(vault)
    before = contents(vault.folder)
    work = forge_beside(vault)

    with pytest.raises(RefnetError) as caught:
        vault.restore(held)

    assert str(work / "exchange.json") in caught.value.message
    assert "move" in caught.value.hint
    assert (documents / "precious").exists()
    assert contents(vault.folder) == before

    work.rename(vault.root / "away")
    vault.restore(held)
    assert contents(vault.folder) != before


def test_restore_notes_an_earlier_refnets_kept_folder_and_undo_ignores_it(vault, documents):
    held = vault.backup()
    work = forge_beside(vault)
    (work / "exchange.json").rename(work / "kept.json")
    (work / "kept" / "Documents").mkdir()

    with pytest.raises(RefnetError, match=OLD) as caught:
        vault.undo()
    assert "move it away" in caught.value.hint
    assert any(OLD in note for note in vault.plan(held).notes)

    spoil(vault)
    spoilt = contents(vault.folder)
    vault.restore(held)
    vault.undo()
    assert contents(vault.folder) == spoilt
    assert (documents / "precious").exists()
    assert work.exists()


def test_undo_offers_no_older_restore_after_another_users_later_one(vault):
    held = vault.backup()
    spoil(vault)
    vault.restore(held)
    (vault.folder / "since.md").write_text("since")
    other = World(vault.source, vault.folder, vault.root / "of another user")
    other.restore(held)
    newer = other.place.previous_versions()[-1].path
    older = vault.place.previous_versions()[-1].path
    if newer.name < older.name:  # within one second
        pytest.skip("both have the same time")
    before = contents(vault.folder)

    with pytest.raises(RefnetError, match=newer.name) as caught:
        vault.undo()

    assert "REFNET_HOME" in caught.value.hint
    assert contents(vault.folder) == before


@pytest.fixture
def killed(vault: World) -> World:
    """A vault whose restore was cut off in its swap."""
    return _killed(vault)


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One such vault for many journals, which change nothing: in the end its restore is carried out."""
    world = _killed(vault_in(tmp_path_factory.mktemp("killed")))
    yield world
    assert finish_interrupted(world.place)
    assert world.place.unfinished() == []


def _killed(vault: World) -> World:
    held = vault.backup()
    spoil(vault)
    kill_in_exchange(vault, held)
    return vault


def refused(world: World, *words: str) -> None:
    """A restore and an undo stop with `words`; a backup does not."""
    before = contents(world.folder)
    for act in (lambda: finish_interrupted(world.place), world.undo):
        with pytest.raises(RefnetError) as caught:
            act()
        for word in words:
            assert word in f"{caught.value.message} {caught.value.hint}"
    world.backup()
    assert contents(world.folder) == before


@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_a_folder_that_replaces_the_work_folder_is_not_mistaken_for_it(killed, documents, kind):
    work = killed.place.unfinished()[0]
    work.path.rename(work.path.with_name("moved away"))
    if kind == "folder":
        shutil.copytree(documents, work.path / "kept")
        (work.path / "fresh").mkdir()
    elif kind == "link":
        work.path.symlink_to(documents)
    else:
        work.path.write_text("x")

    refused(killed, work.path.name, "is not the folder that the restore")

    assert (documents / "precious").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_work_folder_of_another_user_is_not_taken_whatever_it_holds(killed):
    work = killed.place.unfinished()[0]
    os.chown(work.path, 65534, 65534)
    refused(killed, work.path.name, "belongs to")


def test_an_undo_takes_no_folder_that_was_planted_after_the_restore(vault, documents):
    held = vault.backup()
    spoil(vault)
    kept = vault.restore(held).previous
    kept.path.rename(kept.path.with_name("moved away"))
    (kept.path / "kept").mkdir(parents=True)
    documents.rename(kept.path / "kept" / "vault")
    (kept.path / "fresh").mkdir()
    before = contents(vault.folder)

    with pytest.raises(RefnetError, match="is not the folder that the restore"):
        vault.undo()

    assert contents(vault.folder) == before
    with pytest.raises(RefnetError, match="is not the folder that the restore"):
        swapping.remove(kept.swap)
    assert (kept.path / "kept" / "vault" / "precious").exists()


def test_a_folder_on_the_way_that_became_a_link_leads_nowhere(vault, tmp_path):
    held = vault.backup()
    (vault.folder / "papers" / "note 3.md").write_text("spoilt")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "note 3.md").write_text("precious")
    real = swapping.carry_out

    def plant_first(*arguments: Any) -> Any:
        (vault.folder / "papers").rename(vault.folder / "moved away")
        (vault.folder / "papers").symlink_to(tmp_path / "victim")
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swapping, "carry_out", plant_first)
        with pytest.raises(RefnetError):
            vault.restore(held, "papers/note 3.md")
    assert finish_interrupted(vault.place) == ()
    assert vault.leftovers() == []
    assert (vault.folder / "moved away" / "note 3.md").read_text() == "spoilt"
    assert (tmp_path / "victim" / "note 3.md").read_text() == "precious"
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["note 3.md"]


def journal_of(world: World) -> Path:
    return next(world.swaps.glob("*.swapping"))


def _set(**values: object) -> Callable[[bytes], bytes]:
    return lambda text: json.dumps(json.loads(text) | values).encode()


def _unit(**values: object) -> Callable[[bytes], bytes]:
    def edit(text: bytes) -> bytes:
        found = json.loads(text)
        found["units"][0] |= values
        return json.dumps(found).encode()

    return edit


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "no JSON": lambda _: b"\xff\xfe",
    "cut short": lambda text: text[: len(text) // 2],
    "a list": lambda _: b"[]",
    "a number": lambda _: b"7",
    "nested": lambda _: b"[" * 200_000,
    "nested objects": lambda _: b'{"a":' * 200_000,
    "another format": _set(format=2),
    "a key too many": _set(more=1),
    "a key too few": lambda _: json.dumps({"format": 1, "source": "obsidian"}).encode(),
    "an unknown source": _set(source="elsewhere"),
    "the database": _set(source="database"),
    "a time without a zone": _set(at="2026-11-25T02:00:00"),
    "a time that is none": _set(at="yesterday"),
    "a time of a year that is none": _set(at="99999-11-25T02:00:00+00:00"),
    "an unknown deed": _set(why="deleted"),
    "a work folder above": _set(work=".."),
    "a work folder elsewhere": _set(work="../Documents"),
    "an absolute work folder": _set(work="/etc"),
    "a base that leads out": _set(base=[".."]),
    "a base that leads far": _set(base=["a/../../.."]),
    "a base that is a text": _set(base="Documents"),
    "a base of numbers": _set(base=[1]),
    "a unit above": _unit(name=".."),
    "a unit elsewhere": _unit(name="../Documents"),
    "a unit without a name": _unit(name=""),
    "a unit with a zero byte": _unit(name="a\0b"),
    "a unit with a long name": _unit(name="a" * 256),
    "a unit of half a character": _unit(name="\ud800"),
    "an inode below zero": _unit(fresh=-1),
    "an inode that is a text": _unit(fresh="1"),
    "an inode that is a truth": _unit(fresh=True),
    "an inode of a fraction": _unit(fresh=1.5),
    "a unit with more": _unit(more=1),
    "a unit in a folder above": _unit(folder=[".."]),
    "a unit in a folder elsewhere": _unit(folder=["a/../../Documents"]),
    "a unit in a folder that is a text": _unit(folder="Documents"),
    "units that are none": _set(units=7),
    "a unit twice": _set(units=[{"name": "a", "fresh": 1}, {"name": "a", "fresh": 2}]),
    "an undo of a path": _set(took="../../Documents"),
    "an undo of a number": _set(took=0),
    "a truth that is a number": _set(back=0),
    "a place that is a number": _set(beside=1),
    "an owner that is a text": _set(owner="root"),
    "a short token": _set(token="00"),
    "another token": _set(token="0" * 32),
    "a live folder that is a list": _set(live=["/etc"]),
    "an artifact that is an object": _set(artifact={}),
}


@pytest.mark.parametrize("edit", WRONG.values(), ids=WRONG)
def test_a_malformed_journal_stops_restores_by_name_but_no_backups(killed_once, edit):
    path = journal_of(killed_once)
    text = path.read_bytes()
    path.write_bytes(edit(text))
    try:
        refused(killed_once, str(path), "retry")
    finally:
        path.write_bytes(text)


@pytest.mark.parametrize("kind", ["of others", "writable", "link", "fifo", "folder", "large"])
def test_a_journal_others_can_have_written_stops_restores_but_no_backups(killed, kind):
    path = journal_of(killed)
    if kind == "of others":
        if os.geteuid():
            pytest.skip("only root gives files away")
        os.chown(path, 65534, 65534)
    elif kind == "writable":
        path.chmod(0o622)
    elif kind == "large":
        os.truncate(path, 1 << 40)
    else:
        path.rename(killed.root / "elsewhere")
        if kind == "link":
            path.symlink_to(killed.root / "elsewhere")
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
    refused(killed, str(path), "retry")


@pytest.mark.parametrize("kind", ["of others", "writable", "link"])
def test_a_journal_folder_others_can_write_stops_restores_but_no_backups(killed, kind):
    if kind == "of others":
        if os.geteuid():
            pytest.skip("only root gives folders away")
        os.chown(killed.swaps, 65534, 65534)
    elif kind == "writable":
        killed.swaps.chmod(0o722)
    else:
        killed.swaps.rename(killed.root / "elsewhere")
        killed.swaps.symlink_to(killed.root / "elsewhere")
    refused(killed, str(killed.swaps))


def test_a_swap_without_its_work_folder_is_named_until_it_is_removed(killed):
    work = killed.place.unfinished()[0]
    shutil.rmtree(work.path)
    with pytest.raises(RefnetError, match=f"{work.path.name}.* is gone") as caught:
        finish_interrupted(killed.place)
    assert str(work.swap.path) in caught.value.hint
    work.swap.path.unlink()
    finish_interrupted(killed.place)


def test_a_journal_comes_back_as_it_was_written(killed):
    text = journal_of(killed).read_bytes()
    read = SwapJournal.read(text, journal_of(killed).stem)
    assert read.to_json().encode() == text
    assert killed.place.unfinished()[0].swap.state is SwapState.SWAPPING
