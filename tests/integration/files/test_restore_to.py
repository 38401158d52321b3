"""A restore into another folder: unpacked beside it, compared, put there; the live folder is not touched."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.files.conftest import World, contents, now, spoil
from tests.integration.files.test_killed import killed_at

from refnet.actions import check
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.sources.check_result import CheckState
from refnet.sources.folder import folder_restore, restore_files, swapping
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.sources.folder.source import Folder
from refnet.sources.folder.target import FolderTarget, finish_interrupted, half_made, target_of


def place(world: World, folder: Path) -> FolderTarget:
    return replace(target_of(world.source, folder, None, world.swaps), elsewhere=True)


def restore(world: World, held: Any, folder: Path, *, merge: bool = False) -> restore_files.RestoredFolder:
    artifact = FilesArtifact(held)
    planned = restore_files.plan(artifact, place(world, folder), merge=merge)
    return restore_files.restore(artifact, planned, Clock())


@pytest.mark.parametrize("there", ["missing", "empty"])
def test_everything_is_there_and_nothing_is_left_beside_it(world: World, tmp_path: Path, there: str) -> None:
    held = world.backup()
    wanted = {
        path: text for path, text in contents(world.folder).items() if not path.startswith(("src", ".git"))
    }
    spoil(world)
    live, folder = contents(world.folder), tmp_path / "out" / "deep"
    if there == "empty":
        folder.mkdir(parents=True)

    done = restore(world, held, folder)

    assert contents(folder) == wanted
    assert (done.previous, done.hint) == (None, "")
    assert [path.name for path in folder.parent.iterdir()] == ["deep"]
    assert contents(world.folder) == live


def test_what_somebody_puts_there_meanwhile_is_kept(vault: World, tmp_path: Path, monkeypatch) -> None:
    held, folder = vault.backup(), tmp_path / "out"
    folder.mkdir()
    real = swapping.carry_out

    def put_first(*arguments: Any) -> Any:
        (folder / "mine.md").write_text("mine")
        return real(*arguments)

    monkeypatch.setattr(swapping, "carry_out", put_first)
    done = restore(vault, held, folder)
    assert (done.previous.previous_folder / "out" / "mine.md").read_text() == "mine"


def test_a_folder_that_is_filled_while_the_files_are_unpacked_is_not_replaced(
    vault: World, tmp_path: Path, monkeypatch
) -> None:
    held, folder = vault.backup(), tmp_path / "out"
    real = restore_files._compare

    def fill_first(*arguments: Any) -> None:
        folder.mkdir()
        (folder / "mine.md").write_text("mine")
        real(*arguments)

    monkeypatch.setattr(restore_files, "_compare", fill_first)
    with pytest.raises(RefnetError, match="was filled while the restore ran"):
        restore(vault, held, folder)
    assert contents(folder) == {"mine.md": b"mine"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".refnet-")]


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(
    vault: World, tmp_path: Path, monkeypatch
) -> None:
    held, folder = vault.backup(), tmp_path / "out"
    (tmp_path / "victim").mkdir()
    real = swapping.carry_out

    def plant_first(*arguments: Any) -> Any:
        folder.symlink_to(tmp_path / "victim")
        return real(*arguments)

    monkeypatch.setattr(swapping, "carry_out", plant_first)
    restore(vault, held, folder)
    assert list((tmp_path / "victim").iterdir()) == []
    assert not folder.is_symlink()
    assert contents(folder) == contents(vault.folder)


def test_a_killed_run_leaves_nothing_or_everything_and_the_next_finishes(
    vault: World, tmp_path: Path
) -> None:
    held = vault.backup()
    for step in range(3, 60, 8):
        folder = tmp_path / f"out {step}"
        killed_at(step, lambda folder=folder: restore(vault, held, folder))  # type: ignore[misc]
        assert not folder.exists() or contents(folder) == contents(vault.folder)
        restore(vault, held, folder)
        assert contents(folder) == contents(vault.folder)
        finish_interrupted(place(vault, folder))
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".refnet-")]
    assert all(
        (path / "kept").is_dir() for path in left
    )  # the previous version, where the first run was finished


def test_a_killed_runs_leftovers_are_pruned_but_not_while_a_run_works(vault: World, tmp_path: Path) -> None:
    held, folder = vault.backup(), tmp_path / "out"
    settings = Settings(home=vault.root / "home", vault_dir=vault.folder)

    def left() -> list[Any]:
        return [
            one for listed in Folder(settings, vault.source).previous() for one in listed() if one.half_made
        ]

    for step in range(10, 60, 4):
        if killed_at(step, lambda: restore(vault, held, folder)) and left():
            break
    [one] = left()
    assert one.due(now(), timedelta(days=7))
    assert (one.blocked, one.of) == ("", str(folder))
    assert [(line.state, line.says) for line in check.half_made(settings)] == [
        (CheckState.WARNING, f"{one.what} is left of a killed restore")
    ]
    [work] = half_made(vault.swaps, vault.source)
    with swapping.reopened(work.swap):
        assert "another restore is running" in left()[0].blocked
    one.remove()
    assert left() == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".refnet-")]


def test_a_merge_elsewhere_is_undone_there_and_pruned_with_the_others(vault: World, tmp_path: Path) -> None:
    held, folder = vault.backup(), tmp_path / "out"
    folder.mkdir()
    (folder / "run.sh").write_text("older")
    os.utime(folder / "run.sh", (1, 1))
    before = contents(folder)
    restore(vault, held, folder, merge=True)
    folder_restore.undo(place(vault, folder), now())
    assert contents(folder) == before
    with pytest.raises(RefnetError, match="nothing to undo"):
        vault.undo()

    settings = Settings(home=vault.root / "home", vault_dir=vault.folder)
    [left] = [one for listed in Folder(settings, vault.source).previous() for one in listed()]
    assert str(tmp_path) in left.what
    assert left.since > now() - timedelta(minutes=5)
    left.remove()
    assert sorted(path.name for path in tmp_path.iterdir() if "refnet" in path.name) == []
