"""Restores across mount points, on full disks, and as a user who may not."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.files.conftest import World, contents, now, spoil

from refnet.actions import prune
from refnet.actions.list import previous
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.schedule import Retention
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.sources.folder import files_artifact, rename, restore_files, swapping
from refnet.sources.folder.source import Folder
from refnet.sources.folder.target import discard


def test_a_vault_that_is_a_mount_point_has_its_entries_exchanged(vault, mounted):
    held = vault.backup()
    before = contents(vault.folder)
    mounted(vault.folder, "size=4m,mode=755")
    (vault.folder / "old.md").write_text("old")
    (vault.folder / "papers").mkdir()
    (vault.folder / "papers" / "mine.md").write_text("mine")
    spoilt = contents(vault.folder)

    done = vault.restore(held)
    assert contents(vault.folder) == before
    assert done.previous.path.parent == vault.folder

    vault.undo()
    assert contents(vault.folder) == spoilt
    assert os.path.ismount(vault.folder)


def test_what_a_restore_keeps_in_the_vault_is_not_backed_up(vault, mounted):
    mounted(vault.folder, "size=4m,mode=755")
    (vault.folder / "a.md").write_text("a")
    held = vault.backup()
    (vault.folder / "a.md").write_text("b")
    vault.restore(held)
    assert vault.leftovers()

    again = vault.backup()

    assert b".refnet-" not in again.files()


@pytest.mark.parametrize("where", ["papers", "papers/deep"])
def test_what_is_mounted_within_the_vault_is_refused_by_name(vault, mounted, where):
    held = vault.backup()
    spoil(vault)
    mounted(vault.folder / where, "size=1m")
    (vault.folder / where / "on another disk.md").write_text("x")
    before = contents(vault.folder)

    with pytest.raises(RefnetError, match=f"something is mounted at .*vault/{where}, so it cannot"):
        vault.restore(held)
    assert contents(vault.folder) == before
    assert vault.leftovers() == []


def test_a_kept_folder_with_something_mounted_in_it_is_never_emptied(vault, mounted):
    held = vault.backup()
    spoil(vault)
    done = vault.restore(held)
    disk = mounted(done.previous.previous_folder / "vault" / "papers" / "deep", "size=1m")
    (disk / "precious.md").write_text("x")

    with pytest.raises(RefnetError, match="something is mounted"):
        discard(done.previous)
    assert (disk / "precious.md").exists()


def test_too_little_room_is_said_before_anything_is_written(vault, mounted):
    held = vault.backup()
    small = World(vault.source, mounted(vault.root / "small", "size=1m,mode=755") / "vault", vault.root)

    plan = small.plan(held)

    assert "MiB are free" in plan.problems[0].message
    with pytest.raises(RefnetError, match="MiB are free"):
        small.restore(held)
    assert small.leftovers() == []


def fill(folder: Path) -> None:
    """Fill the disk of `folder` to its last byte."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.parametrize("stage", ["_unpack", "carry_out"])
def test_a_full_disk_at_any_stage_leaves_what_is_live_as_it_was(vault, mounted, monkeypatch, stage):
    held = vault.backup()
    disk = mounted(vault.root / "disk", "size=3m,mode=755")
    on_disk = World(vault.source, disk / "vault", vault.root)
    if stage == "carry_out":
        disk = mounted(vault.swaps, "size=1m,mode=700")
    shutil.copytree(vault.folder, on_disk.folder, symlinks=True)
    spoil(on_disk)
    before = contents(on_disk.folder)
    module: Any = swapping if stage == "carry_out" else restore_files
    real: Callable[..., object] = getattr(module, stage)

    def fill_first(*arguments: object) -> object:
        fill(disk)
        return real(*arguments)

    monkeypatch.setattr(module, stage, fill_first)
    with pytest.raises(RefnetError, match=r"No space left on device|does not fit") as caught:
        on_disk.restore(held)

    (disk / "filler").unlink()
    assert "Free some space" in caught.value.hint
    assert contents(on_disk.folder) == before
    assert on_disk.leftovers() == []


def test_a_disk_that_fills_after_unpacking_does_not_stop_the_restore(vault, mounted, monkeypatch):
    held = vault.backup()
    disk = mounted(vault.root / "disk", "size=3m,mode=755")
    on_disk = World(vault.source, disk / "vault", vault.root)
    shutil.copytree(vault.folder, on_disk.folder, symlinks=True)
    spoil(on_disk)
    real = restore_files._compare

    def fill_first(*arguments: Any) -> None:
        fill(disk)
        real(*arguments)

    monkeypatch.setattr(restore_files, "_compare", fill_first)
    on_disk.restore(held)

    assert contents(on_disk.folder) == contents(vault.folder)


def test_where_the_file_system_cannot_exchange_two_renames_do(world, monkeypatch):
    held = world.backup()
    before = contents(world.folder)
    spoil(world)
    spoilt = contents(world.folder)
    monkeypatch.setattr(rename, "_renameat2", lambda *_: False)

    world.restore(held)
    assert contents(world.folder) == before | (
        {"src/main.py": b"print(1)\n"} if world.source == "config" else {}
    )
    world.undo()
    assert contents(world.folder) == spoilt


def test_a_vault_whose_parent_is_not_writable_is_swapped_by_its_entries(vault, short_folder, as_nobody):
    if os.geteuid():
        pytest.skip("needs a folder of somebody else's")
    held = vault.backup()
    artifact, files = (vault.store.root / "obsidian" / held.name).read_bytes(), held.files()
    held = OpenArtifact(held.source, held.name, lambda: io.BytesIO(artifact), held.manifest, lambda: files)
    root = short_folder / "theirs own"
    root.mkdir()
    os.chown(root, 65534, 65534)
    theirs = World(vault.source, short_folder / "theirs" / "vault", root)
    theirs.folder.mkdir(parents=True)
    (theirs.folder / "old.md").write_text("old")
    os.chown(theirs.folder, 65534, 65534)

    assert as_nobody(lambda: theirs.restore(held)) == "no error"

    assert contents(theirs.folder) == contents(vault.folder)
    assert (theirs.folder / "run.sh").stat().st_uid == 65534


def test_prune_removes_what_a_restore_kept_when_its_time_is_over(vault):
    settings = Settings(home=vault.root / "home", backup_dir=vault.root / "backups", vault_dir=vault.folder)
    held = vault.backup()
    spoil(vault)
    vault.restore(held)

    stray = vault.folder.parent / f".refnet-{vault.source}-20260101_000000"
    stray.mkdir()
    (stray / "kept").write_text("a restore of another user")
    kept, unknown = sorted(
        previous(Context(settings), [vault.source]).versions, key=lambda one: -one.since.timestamp()
    )
    assert (kept.of, kept.blocked, unknown.what) == (str(vault.folder), "", f"folder {stray}")
    assert unknown.blocked.startswith("unknown: ")
    assert len(Folder(settings, vault.source).recorded()) == 1
    shutil.rmtree(stray)

    def pruned(after: timedelta) -> list[str]:
        listings = Folder(settings, vault.source).previous()
        rules = prune.Rules(vault.store, Retention(days=30), now() + after, previous_versions=listings)
        done = rules.prune(vault.source)
        return [aside.what for aside in done.previous_versions]

    assert pruned(timedelta(days=6)) == []
    assert len(vault.leftovers()) == 1
    assert len(pruned(timedelta(days=8))) == 1
    assert vault.leftovers() == []


def test_a_user_s_own_entries_called_like_refnet_s_are_content(vault, config):
    (vault.folder / ".refnet-notes").mkdir()
    (vault.folder / ".refnet-notes" / "a.md").write_text("a")
    (vault.folder / ".refnet-plan.md").write_text("plan")
    forged = vault.folder / f".refnet-obsidian-20261125_020000-{vault.place.site().mark}"
    forged.mkdir()
    (forged / "token").write_text("0" * 32)
    held = vault.backup()
    assert files_artifact.live_differences(held, vault.place).equal

    (vault.folder / ".refnet-plan.md").write_text("spoilt")
    vault.restore(held)

    assert (vault.folder / ".refnet-plan.md").read_text() == "plan"
    assert (vault.folder / ".refnet-notes" / "a.md").read_text() == "a"
    assert (forged / "token").read_text() == "0" * 32


def test_entries_named_like_refnets_are_restored_and_work_folders_stay(vault, mounted):
    mounted(vault.folder, "size=4m,mode=755")
    (vault.folder / ".refnet-plan.md").write_text("plan")
    held = vault.backup()
    (vault.folder / ".refnet-plan.md").write_text("spoilt")
    (vault.folder / ".refnet-more.md").write_text("more")
    vault.restore(held)
    work = [name for name in vault.leftovers() if name.startswith(".refnet-obsidian-")]

    assert (vault.folder / ".refnet-plan.md").read_text() == "plan"
    assert not (vault.folder / ".refnet-more.md").exists()
    assert len(work) == 1
    assert files_artifact.live_differences(held, vault.place).equal
    vault.undo()
    assert (vault.folder / ".refnet-more.md").read_text() == "more"
