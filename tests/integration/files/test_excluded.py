"""What exclude leaves out of a live folder stays there in a restore, and is no difference."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from tests.integration.files.conftest import World, contents, spoil

from refnet.core.errors import RefnetError
from refnet.sources.folder import files_artifact
from refnet.sources.folder.scope import Scope

RULES = Scope(exclude=("**/.trash/**", "*.tmp"))


@pytest.fixture
def excluding(vault: World) -> World:
    world = replace(vault, scope=RULES)
    (world.folder / ".trash" / "deep").mkdir(parents=True)
    (world.folder / ".trash" / "deep" / "old.md").write_text("thrown away")
    (world.folder / "papers" / "x.tmp").write_text("half written")
    return world


def test_excluded_files_are_not_backed_up_and_survive_restore_and_undo(excluding):
    chosen = excluding.backup()
    assert b"old.md" not in chosen.files()
    spoil(excluding)
    (excluding.folder / "new" / "sub").mkdir(parents=True)
    (excluding.folder / "new" / "sub" / "y.tmp").write_text("beside nothing else")
    spoilt = contents(excluding.folder)

    planned = excluding.plan(chosen)
    assert any("not changed by the restore: .trash, new/sub/y.tmp" in note for note in planned.notes)
    assert not any(path.endswith(".tmp") or path.startswith("new/") for path in planned.changes.removed)
    done = excluding.restore(chosen)

    live = contents(excluding.folder)
    assert live[".trash/deep/old.md"] == b"thrown away"
    assert live["papers/x.tmp"] == b"half written"
    assert live["new/sub/y.tmp"] == b"beside nothing else"
    kept = done.previous.previous_folder / excluding.folder.name
    assert contents(kept) == spoilt
    assert not excluding.plan(chosen).changes
    assert files_artifact.live_differences(chosen, excluding.place).equal

    excluding.undo()
    assert contents(excluding.folder) == spoilt


def test_an_artifact_of_before_the_rule_fills_only_what_is_gone(excluding):
    chosen = replace(excluding, scope=Scope()).backup()
    (excluding.folder / "papers" / "x.tmp").write_text("newer")
    (excluding.folder / ".trash" / "deep" / "old.md").unlink()
    (excluding.folder / ".trash" / "deep").rmdir()
    (excluding.folder / ".trash").rmdir()
    spoil(excluding)

    excluding.restore(chosen)

    live = contents(excluding.folder)
    assert live["papers/x.tmp"] == b"newer"
    assert live[".trash/deep/old.md"] == b"thrown away"


def test_what_only_names_is_restored_although_a_rule_excludes_it(excluding):
    chosen = replace(excluding, scope=Scope()).backup()
    (excluding.folder / "papers" / "x.tmp").write_text("newer")

    excluding.restore(chosen, "papers/x.tmp")

    assert (excluding.folder / "papers" / "x.tmp").read_text() == "half written"


def test_what_is_excluded_in_an_entry_of_the_configuration_stays(config):
    world = replace(config, scope=Scope(exclude=("*.tmp",)))
    chosen = world.backup()
    (world.folder / "docs" / "sub").mkdir(parents=True, exist_ok=True)
    (world.folder / "docs" / "sub" / "z.tmp").write_text("z")
    (world.folder / ".env").write_text("lost")

    world.restore(chosen)

    assert (world.folder / "docs" / "sub" / "z.tmp").read_text() == "z"
    assert (world.folder / ".env").read_text() != "lost"


def test_entries_that_are_swapped_one_by_one_keep_what_is_excluded(excluding, mounted):
    chosen = excluding.backup()
    mounted(excluding.folder, "size=4m,mode=755")
    (excluding.folder / "top.tmp").write_text("top")
    (excluding.folder / "other").mkdir()
    (excluding.folder / "other" / "in.tmp").write_text("in")
    (excluding.folder / "other" / "gone.md").write_text("gone")

    excluding.restore(chosen)

    live = contents(excluding.folder)
    assert live["top.tmp"] == b"top"
    assert live["other/in.tmp"] == b"in"
    assert "other/gone.md" not in live
    assert not excluding.plan(chosen).changes


def test_what_cannot_be_carried_over_stops_the_restore_before_any_change(excluding, monkeypatch):
    chosen = excluding.backup()
    spoil(excluding)
    spoilt = contents(excluding.folder)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted", "x.tmp")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(RefnetError, match=r"x\.tmp, which exclude leaves out, cannot be carried"):
        excluding.restore(chosen)

    assert contents(excluding.folder) == spoilt
    assert not excluding.leftovers()


def test_a_mount_is_skipped_and_said_where_one_file_system_is_set(vault, mounted):
    world = replace(vault, scope=Scope(one_file_system=True))
    (world.folder / "disk").mkdir()
    mounted(world.folder / "disk", "size=1m,mode=755")
    (world.folder / "disk" / "other.md").write_text("x")

    chosen = world.backup()

    assert b"other.md" not in chosen.files()
    assert chosen.manifest.details["one_file_system"] is True
    assert "disk is on another file system: its content is not in the archive" in chosen.manifest.unchecked
