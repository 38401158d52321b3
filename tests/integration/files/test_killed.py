"""A run that is killed at any step: nothing half-restored is live, nothing is lost, and the next run settles it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from tests.integration.files.conftest import World, contents, spoil

from refnet.catalog.artifact import OpenArtifact
from refnet.core.errors import RefnetError
from refnet.sources.folder.swap_journal import SwapState
from refnet.sources.folder.target import discard, finish_interrupted

#: What changes something on the disk, or calls the C library's renameat2.
_STEPS = {
    "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.chmod", "os.chown", "os.utime",
    "os.truncate", "shutil.rmtree", "ctypes.dlsym",
}  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def killed_at(step: int, function: Callable[[], object], events: Collection[str] = _STEPS) -> bool:
    """Run `function` in a child that kills itself with SIGKILL before its `step`th change; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            if event in events or (event == "open" and events is _STEPS and arguments[2] & _WRITES):  # type: ignore[operator]
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def kill_in_exchange(world: World, held: OpenArtifact) -> None:
    """A restore that is killed after its journal was written."""
    for step in range(1, 9):
        assert killed_at(step, lambda: world.restore(held), {"os.rename", "ctypes.dlsym"})
        if any(work.swap.state is SwapState.SWAPPING for work in world.place.unfinished()):
            return
        finish_interrupted(world.place)
    raise AssertionError("no swap was begun")


def every_step(world: World, function: Callable[[], object]) -> Iterator[int]:
    """For each step of `function`: the world as it is now, in which `function` was killed at that step."""
    saved = world.root / "saved"
    shutil.copytree(world.folder.parent, saved, symlinks=True)
    step = 0
    while True:
        step += 1
        shutil.rmtree(world.folder.parent)
        shutil.rmtree(world.swaps, ignore_errors=True)
        shutil.copytree(saved, world.folder.parent, symlinks=True)
        if not killed_at(step, function):
            break
        yield step
    assert step > 20


@pytest.fixture(params=["exchange", "two renames"])
def renames(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        rename_by(request.param, patch)
        yield request.param


def rename_by(way: str, patch: pytest.MonkeyPatch) -> None:
    if way == "two renames":
        patch.setattr("refnet.sources.folder.rename._renameat2", lambda *_: False)


@pytest.fixture(scope="module")
def small() -> Iterator[Callable[..., None]]:
    """Calls a function in a small process: to fork the large one of all tests a thousand times would take long."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda function, world, way: pool.submit(_renaming, function, world, way).result()


def _renaming(function: Callable[[World, str], None], world: World, way: str) -> None:
    gc.collect()
    gc.freeze()  # or each child copies what a collection of it visits
    with pytest.MonkeyPatch.context() as patch:
        rename_by(way, patch)
        function(world, way)


@pytest.fixture
def roomy(world: World) -> World:
    """The world in a parent folder that holds nothing else, so that it can be put back as a whole."""
    parent = world.root / "roomy"
    parent.mkdir()
    shutil.move(world.folder, parent / world.folder.name)
    return World(world.source, parent / world.folder.name, world.root)


def test_a_restore_that_is_killed_anywhere_is_settled_by_the_next_run(roomy, renames, small):
    small(_restore_killed_anywhere, roomy, renames)


def test_an_undo_that_is_killed_anywhere_is_settled_by_the_next_run(world, renames, small):
    small(_undo_killed_anywhere, world, renames)


def test_a_settling_that_is_killed_too_is_settled_by_the_one_after(roomy, renames, small):
    small(_settling_killed_anywhere, roomy, renames)


def _restore_killed_anywhere(roomy: World, renames: str) -> None:
    held = roomy.backup()
    spoil(roomy)
    old = contents(roomy.folder)
    new: dict[str, bytes | str | None] = {}
    seen = set()

    for step in every_step(roomy, lambda: roomy.restore(held)):
        at_kill = roomy.folder.exists() and contents(roomy.folder)
        sentences = finish_interrupted(roomy.place)
        now = contents(roomy.folder)
        if roomy.leftovers():  # finished: then the old is kept, and an undo brings it back
            new = new or now
            assert now == new, step
            roomy.undo()
            assert contents(roomy.folder) == old, step
        else:
            assert now == old, step
        if roomy.source == "obsidian" and renames == "exchange":
            assert at_kill in (old, new), step
        seen.update(sentence.split()[0] for sentence in sentences)

    assert {"removed", "finished"} <= seen
    assert new != old


def _undo_killed_anywhere(world: World, renames: str) -> None:
    held = world.backup()
    spoil(world)
    old = contents(world.folder)
    world.restore(held)
    new = contents(world.folder)

    step = 0
    while True:
        step += 1
        done = not killed_at(step, world.undo)
        finish_interrupted(world.place)
        now = contents(world.folder)
        assert now in (old, new), step
        assert len(world.leftovers()) == 1, step
        world.undo()
        assert contents(world.folder) == (new if now == old else old), step
        if contents(world.folder) == old:
            world.undo()
        if done:
            break
    assert step > 10


def _settling_killed_anywhere(roomy: World, renames: str) -> None:
    held = roomy.backup()
    spoil(roomy)
    old = contents(roomy.folder)
    within = 0
    while True:
        within += 1
        kill_in_exchange(roomy, held)
        done = not killed_at(within, lambda: finish_interrupted(roomy.place))
        finish_interrupted(roomy.place)
        assert not roomy.place.unfinished()
        assert contents(roomy.folder) != old
        roomy.undo()
        assert contents(roomy.folder) == old, within
        discard(roomy.place.previous_versions()[-1])
        if done:
            break
    assert within > 3


def test_a_backup_after_a_killed_restore_says_so_and_changes_nothing(vault):
    held = vault.backup()
    spoil(vault)
    kill_in_exchange(vault, held)
    before = contents(vault.folder)

    again = vault.backup()

    assert any("was interrupted" in sentence for sentence in again.manifest.unchecked)
    assert vault.place.unfinished()
    assert contents(vault.folder) == before


def test_a_backup_missing_files_of_a_killed_restore_says_why(config):
    held = config.backup()
    spoil(config)
    kill_in_exchange(config, held)

    with pytest.raises(RefnetError, match=r"compose\.yaml is missing") as caught:
        config.backup()

    assert "was interrupted" in caught.value.hint
    assert config.place.unfinished()


def test_a_plan_after_a_killed_restore_says_so_and_changes_nothing(config):
    held = config.backup()
    spoil(config)
    kill_in_exchange(config, held)
    before = contents(config.folder)

    plan = config.plan(held)

    assert any("a restore of config_" in note and "was interrupted" in note for note in plan.notes)
    assert contents(config.folder) == before


def test_a_rename_that_fails_takes_back_what_was_exchanged_before(config, mounted, monkeypatch, renames):
    held = config.backup()
    spoil(config)
    monkeypatch.setattr("refnet.sources.folder.rename.is_mount_point", lambda _: False)
    monkeypatch.setattr("refnet.sources.folder.rename.mounts_below", lambda _: [])
    disk = mounted(config.folder / "docs", "size=1m,mode=755")
    (disk / "on another disk.md").write_text("x")
    before = contents(config.folder)

    with pytest.raises(RefnetError, match="docs"):
        config.restore(held)

    assert contents(config.folder) == before
    assert config.leftovers() == []
