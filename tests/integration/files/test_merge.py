"""A merge adds what is missing and replaces what is older; nothing newer is touched, nothing is deleted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.files.conftest import World, contents
from tests.integration.files.test_disks import fill
from tests.integration.files.test_killed import every_step

from refnet.catalog.artifact import OpenArtifact
from refnet.core.errors import RefnetError
from refnet.sources.folder import restore_files, swapping
from refnet.sources.folder.merging import MergeAction
from refnet.sources.folder.target import finish_interrupted

PAST, LONG_AGO = 1_700_000_000, 1_600_000_000


@pytest.fixture
def merged(vault: World) -> tuple[World, OpenArtifact]:
    """A vault in which something differs in each way from its artifact."""
    for path in vault.folder.rglob("*"):
        os.utime(path, (PAST, PAST), follow_symlinks=False)
    held = vault.backup()
    papers = vault.folder / "papers"
    (papers / "note 0.md").unlink()
    (papers / "note 1.md").write_text("newer")
    (papers / "note 2.md").write_text("older")
    os.utime(papers / "note 2.md", (LONG_AGO, LONG_AGO))
    (papers / "note 3.md").write_text("of the same time")
    os.utime(papers / "note 3.md", (PAST, PAST))
    (papers / "note 4.md").unlink()
    (papers / "note 4.md").mkdir()
    (papers / "note 4.md" / "mine").write_text("mine")
    shutil.rmtree(vault.folder / ".obsidian")
    (vault.folder / "run.sh").chmod(0o700)
    (papers / "mine.md").write_text("mine")
    return vault, held


def test_the_run_does_what_the_plan_shows_per_path_and_undo_reverts_it(merged) -> None:
    vault, held = merged
    before = contents(vault.folder)

    plan = vault.plan(held, merge=True)
    assert plan.merge.actions == {
        ".obsidian": MergeAction.ADD,
        ".obsidian/app.json": MergeAction.ADD,
        "papers/note 0.md": MergeAction.ADD,
        "papers/note 1.md": MergeAction.NEWER,
        "papers/note 2.md": MergeAction.REPLACE,
        "papers/note 3.md": MergeAction.NEWER,
        "papers/note 4.md": MergeAction.OTHER,
    }
    assert (plan.changes.added, plan.changes.changed, plan.changes.removed) == (
        (".obsidian/app.json", "papers/note 0.md"),
        ("papers/note 2.md",),
        (),
    )
    assert contents(vault.folder) == before

    vault.restore(held, merge=True)
    assert contents(vault.folder) == before | {
        ".obsidian": None,
        ".obsidian/app.json": b"{}",
        "papers/note 0.md": b"# Note 0\n" * 30,
        "papers/note 2.md": b"# Note 2\n" * 30,
    }
    assert not vault.plan(held, merge=True).changes
    vault.undo()
    assert contents(vault.folder) == before
    vault.undo()
    assert (vault.folder / "papers" / "note 0.md").exists()


def test_a_merge_into_an_empty_or_missing_folder_brings_everything(vault) -> None:
    held, before = vault.backup(), contents(vault.folder)
    for make in (lambda: None, vault.folder.mkdir):
        shutil.rmtree(vault.folder)
        make()
        assert not vault.plan(held, merge=True).replaces
        vault.restore(held, merge=True)
        assert contents(vault.folder) == before


def test_only_and_merge_together_leave_the_rest_alone(merged) -> None:
    vault, held = merged
    before = contents(vault.folder)
    vault.restore(held, "note ?.md", ".obsidian", merge=True)
    assert (vault.folder / ".obsidian" / "app.json").exists()
    vault.undo()
    assert contents(vault.folder) == before
    assert vault.plan(held, "papers/*0.md", merge=True).changes.added == ("papers/note 0.md",)


def test_a_merge_that_is_killed_anywhere_is_settled_by_the_next_run(merged) -> None:
    vault, held = merged
    roomy = vault.root / "roomy"
    roomy.mkdir()
    shutil.move(vault.folder, roomy / "vault")
    vault = World(vault.source, roomy / "vault", vault.root)
    old = contents(vault.folder)
    seen = set()
    for step in every_step(vault, lambda: vault.restore(held, merge=True)):
        at_kill = contents(vault.folder)
        assert {at_kill.get(f"papers/note {n}.md") for n in (1, 3)} == {b"newer", b"of the same time"}, step
        finish_interrupted(vault.place)
        finished = bool(vault.leftovers())
        seen.add(finished)
        assert (contents(vault.folder) != old) == finished, step
        if finished:
            vault.undo()
            assert contents(vault.folder) == old, step
    assert seen == {False, True}


@pytest.mark.parametrize("path", ["papers/note 0.md", "papers/note 2.md", ".obsidian"])
def test_what_is_written_during_a_merge_is_not_replaced(merged, monkeypatch, path) -> None:
    vault, held = merged
    real: Callable[..., None] = restore_files._compare

    def write_first(*arguments: Any) -> None:
        (vault.folder / path).write_text("written meanwhile")
        real(*arguments)

    monkeypatch.setattr(restore_files, "_compare", write_first)
    with pytest.raises(RefnetError, match="was changed during the merge"):
        vault.restore(held, merge=True)
    assert (vault.folder / path).read_text() == "written meanwhile"
    assert not (vault.folder / "papers" / "note 4.md").is_file()
    assert vault.leftovers() == []


def test_a_folder_that_becomes_a_link_during_a_merge_leads_nowhere(merged, monkeypatch, tmp_path) -> None:
    vault, held = merged
    before = contents(vault.folder)
    (tmp_path / "victim").mkdir()
    real = swapping.carry_out

    def plant_first(*arguments: Any) -> Any:
        (vault.folder / "papers").rename(tmp_path / "away")
        (vault.folder / "papers").symlink_to(tmp_path / "victim")
        return real(*arguments)

    monkeypatch.setattr(swapping, "carry_out", plant_first)
    with pytest.raises(RefnetError):
        vault.restore(held, merge=True)
    assert list((tmp_path / "victim").iterdir()) == []
    (vault.folder / "papers").unlink()
    (tmp_path / "away").rename(vault.folder / "papers")
    assert contents(vault.folder) == before
    assert vault.leftovers() == []


def test_a_link_on_the_way_is_kept_and_nothing_goes_through_it(merged, tmp_path) -> None:
    vault, held = merged
    shutil.rmtree(vault.folder / "papers")
    (tmp_path / "elsewhere").mkdir()
    (vault.folder / "papers").symlink_to(tmp_path / "elsewhere")

    done = vault.restore(held, merge=True)

    assert done.plan.merge.actions["papers"] is MergeAction.OTHER
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (vault.folder / ".obsidian").is_dir()


def test_what_another_file_system_holds_is_refused_by_name(merged, mounted) -> None:
    vault, held = merged
    shutil.rmtree(vault.folder / "papers" / "deep")
    disk: Path = mounted(vault.folder / "papers" / "deep", "size=1m")
    with pytest.raises(RefnetError, match="deep is on another file system"):
        vault.restore(held, merge=True)
    assert list(disk.iterdir()) == []


def test_a_full_disk_during_a_merge_leaves_everything_as_it_was(merged, mounted, monkeypatch) -> None:
    vault, held = merged
    disk: Path = mounted(vault.root / "disk", "size=3m,mode=755")
    on_disk = World(vault.source, disk / "vault", vault.root)
    shutil.copytree(vault.folder, on_disk.folder, symlinks=True)
    before = contents(on_disk.folder)
    real: Callable[..., None] = restore_files._unpack

    def fill_first(*arguments: Any) -> None:
        fill(disk)
        real(*arguments)

    monkeypatch.setattr(restore_files, "_unpack", fill_first)
    with pytest.raises(RefnetError, match="No space left"):
        on_disk.restore(held, merge=True)
    assert contents(on_disk.folder) == before
    assert on_disk.leftovers() == []


def test_another_spelling_of_a_live_name_is_kept_where_case_is_ignored(vault, merging_disk) -> None:
    (vault.folder / "Note.md").write_text("of the artifact")
    held = vault.backup()
    (merging_disk / "vault").mkdir()
    there = World(vault.source, merging_disk / "vault", vault.root)
    (there.folder / "note.md").write_text("mine")

    done = there.restore(held, merge=True)

    assert done.plan.merge.actions["Note.md"] is MergeAction.OTHER
    assert (there.folder / "note.md").read_text() == "mine"
    assert (there.folder / "run.sh").exists()
