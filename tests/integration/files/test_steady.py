"""What moves while a folder is read, and a reader with a fault: nothing is lost in silence."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.integration.files.conftest import World

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Compared, Level
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FOLDER, opened
from refnet.proof_run import ProofOptions
from refnet.settings import Settings
from refnet.sources.folder import archive_writer, files_maker, tree, walk
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.sources.folder.listing import FileList
from refnet.sources.folder.walk import EntryRun


def listed(held: OpenArtifact) -> FileList:
    text = held.files()
    assert text is not None
    return FileList.from_json(text)


def is_proven(held: OpenArtifact, scratch: Path) -> bool:
    options = ProofOptions(scratch, lambda *_: pytest.fail("asked for programs"), jobs=1)
    return FilesArtifact(held).prove(Level.PROVEN, options).reasons == ()


Runs = Callable[..., Iterator[EntryRun]]


def walks(monkeypatch: pytest.MonkeyPatch, by: Runs) -> None:
    """Let an archive be written of what `by` yields instead of `runs`."""
    monkeypatch.setattr(archive_writer, "runs", by)
    monkeypatch.setattr(walk, "runs", by)


def during(monkeypatch: pytest.MonkeyPatch, path: str, act: Callable[[], object], times: int = 1) -> None:
    """Call `act` each time after the walk yielded `path`, `times` at most."""
    real, left = walk.runs, [times]

    def walked(*arguments: object) -> Iterator[EntryRun]:
        for found in real(*arguments):  # type: ignore[arg-type]
            yield found
            if path in {found.prefix + name for name in found.names} and left[0]:
                left[0] -= 1
                act()

    walks(monkeypatch, walked)


MOVES: dict[str, tuple[Callable[[Path], object], str, bytes]] = {
    "a file": (lambda v: (v / "z" / "last.md").rename(v / "a" / "last.md"), "a/last.md", b"last"),
    "a file of the top": (lambda v: (v / "z" / "last.md").rename(v / "0.md"), "0.md", b"last"),
    "a folder": (lambda v: (v / "z").rename(v / "a" / "z"), "a/z/last.md", b"last"),
    "a file over another": (
        lambda v: (v / "z" / "last.md").replace(v / "a" / "first.md"),
        "a/first.md",
        b"last",
    ),
    "another name": (lambda v: (v / "m" / "n.md").rename(v / "m" / "0.md"), "m/0.md", b"n"),
}


@pytest.fixture
def ordered(vault: World) -> World:
    """A vault whose folders are read in the order a, m, z."""
    for name, text in (("a/first.md", "first"), ("m/n.md", "n"), ("z/last.md", "last")):
        path = vault.folder / name
        path.parent.mkdir()
        path.write_text(text)
    return vault


@pytest.mark.parametrize(("move", "path", "content"), MOVES.values(), ids=MOVES)
def test_what_moves_into_a_folder_that_was_read_is_in_the_backup(
    ordered: World, monkeypatch: pytest.MonkeyPatch, move: Callable[[Path], object], path: str, content: bytes
) -> None:
    during(monkeypatch, "m", lambda: move(ordered.folder))

    held = ordered.backup()

    assert held.manifest
    assert held.manifest.details["settled"] is False
    assert is_proven(held, ordered.root / "scratch")
    (ordered.folder / path).unlink()
    ordered.restore(held, path)
    assert (ordered.folder / path).read_bytes() == content


def test_a_folder_that_never_holds_still_is_named(ordered: World, monkeypatch: pytest.MonkeyPatch) -> None:
    count = iter(range(100))
    real = walk.changed_folders

    def busy(*arguments: object) -> tuple[list[str], list[str]]:
        (ordered.folder / "a" / f"{next(count)}.md").touch()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archive_writer, "changed_folders", busy)

    held = ordered.backup()

    assert held.manifest
    assert (
        "a changed each of the 3 times that it was read: what was moved there meanwhile may be missing"
        in (held.manifest.unchecked)
    )
    assert "a/2.md was created while the folder was being read: not in the archive" in held.manifest.unchecked


def test_a_file_replaced_on_every_read_still_gives_a_readable_artifact(
    vault: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = vault.root / "small"
    folder.mkdir()
    (folder / "note.md").write_text("0")
    small, real, count = replace(vault, folder=folder), os.read, itertools.count(1)

    def read(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        if str(folder / "note.md") in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            (folder / "new").write_text(str(next(count)))
            (folder / "new").replace(folder / "note.md")
        return data

    monkeypatch.setattr(archive_writer.os, "read", read)
    held = small.backup()
    monkeypatch.undo()

    assert next(count) > 6
    assert is_proven(held, small.root / "scratch")


def test_a_file_that_becomes_a_folder_meanwhile_restarts_the_backup(
    ordered: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def become() -> None:
        (ordered.folder / "a" / "first.md").unlink()
        (ordered.folder / "a" / "first.md").mkdir()

    during(monkeypatch, "m", become)

    assert listed(ordered.backup()).by_path["a/first.md"].kind == "folder"


Skips = Callable[[str], bool]


def faulty(skips: Skips) -> Runs:
    """The walk without the names that it `skips`."""
    real = walk.runs

    def walked(*arguments: object) -> Iterator[EntryRun]:
        for found in real(*arguments):  # type: ignore[arg-type]
            yield found._replace(names=[name for name in found.names if not skips(name)])

    return walked


FAULTS: dict[str, Skips] = {
    "a file": lambda name: name == "note 1.md",
    "a link": lambda name: name == "link.md",
    "a folder": lambda name: name in {".obsidian", "app.json"},
    "the files of a folder": lambda name: name.startswith("note"),
}


@pytest.mark.parametrize("skips", FAULTS.values(), ids=FAULTS)
def test_a_reader_that_skips_something_fails_the_backup_after_two_tries(
    vault: World, monkeypatch: pytest.MonkeyPatch, skips: Skips
) -> None:
    tries = []
    real = files_maker.dump
    walks(monkeypatch, faulty(skips))
    monkeypatch.setattr(files_maker, "dump", lambda *given: (tries.append(1), real(*given))[1])

    with pytest.raises(RefnetError, match=r"differs from the folder: .* is not in the list") as caught:
        vault.backup()

    assert caught.value.code is Exit.DAMAGED
    assert len(tries) == 2
    assert vault.store.entries(vault.source) == ()


def test_a_fault_that_does_not_come_again_leaves_a_complete_backup(
    vault: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [1]

    def skips(name: str) -> bool:
        return name == "run.sh" and bool(left) and bool(left.pop())

    walks(monkeypatch, faulty(skips))

    held = vault.backup()

    assert held.manifest
    assert "run.sh" in listed(held).by_path
    assert held.manifest.compared is Compared.COUNTED


def test_a_bit_flipped_on_the_way_into_the_archive_is_found_by_a_digest(
    vault: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.read

    def flip(handle: int, size: int) -> bytes:
        return real(handle, size).replace(b"# Note 3", b"# Note 2")

    monkeypatch.setattr("tests.integration.files.conftest.Settings", partial(Settings, prove_source="digest"))
    held = vault.backup()
    assert held.manifest
    assert held.manifest.compared is Compared.DIGESTED

    monkeypatch.setattr(archive_writer.os, "read", flip)
    with pytest.raises(RefnetError, match=r"papers/note 3\.md has different content in the list"):
        vault.backup()


def test_a_walk_that_misses_a_change_does_not_take_over_the_last_artifact(
    vault: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fingerprint of a folder is made by the same reader as the archive."""
    made = files_maker.FilesMaker
    last: list[OpenArtifact] = []

    def source(*given: object, **named: object) -> files_maker.FilesMaker:
        return replace(made(*given, **named), last=lambda: last[-1] if last else None)

    monkeypatch.setattr("tests.integration.files.conftest.FilesMaker", source)
    last.append(vault.backup())
    deadline = time.monotonic() + 10
    while not last[-1].manifest.details["settled"] and time.monotonic() < deadline:  # type: ignore[union-attr]
        last.append(vault.backup())
    with opened(vault.folder, OPEN_FOLDER) as root:
        before = tree.fingerprint_of(root)
    (vault.folder / "papers" / "new.md").touch()
    monkeypatch.setattr(files_maker, "fingerprint_of", lambda *_: before)

    assert "papers/new.md" in listed(vault.backup()).by_path
