"""Small files of a folder that change while it is read: nothing is followed, and nothing stops the backup."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from refnet.catalog.artifact import Made
from refnet.core.errors import RefnetError
from refnet.sources.folder import archive_writer
from refnet.sources.folder.listing import FileList
from refnet.sources.folder.walk import EntryRun, runs

FILES = 1500


@pytest.fixture
def many(vault: Path) -> Path:
    """The vault with many small files, among them what is not plain."""
    folder = vault / "many"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:04}.md").write_bytes(b"note %d\n" % number * (number % 50))
    (folder / "0100.md").chmod(0o4755)
    (folder / "0200.md").write_bytes(os.urandom(100_000))
    os.link(folder / "0300.md", folder / "0300 again.md")
    (folder / "0400 link.md").symlink_to("0401.md")
    os.mkfifo(folder / "0500 pipe")
    return vault


@pytest.fixture
def made(source) -> Callable[..., tuple[bytes, Made]]:
    """Dumps a folder; whether its entries are old enough is left out."""

    def dump(folder: Path) -> tuple[bytes, Made]:
        out = io.BytesIO()
        found = source(folder).dump(out)
        return out.getvalue(), replace(found, details={**found.details, "settled": None})

    return dump


def after_its_walk(monkeypatch, name: str, change: Callable[[Path], None], folder: Path) -> None:
    """Let `change` happen to the file `name` of `folder` after its name was read, and before the file is."""

    def changing(*given: object) -> Iterator[EntryRun]:
        for run in runs(*given):
            if name in run.names:
                change(folder / name)
            yield run

    monkeypatch.setattr(archive_writer, "runs", changing)


def test_a_file_that_vanishes_after_the_walk_is_noted(many, made, monkeypatch):
    after_its_walk(monkeypatch, "0700.md", Path.unlink, many / "many")

    _, found = made(many)

    assert "many/0700.md vanished while the folder was read" in found.unchecked
    assert "many/0700.md" not in FileList.from_json(found.files).by_path


def test_a_file_that_is_replaced_by_a_link_after_the_walk_is_not_followed(many, made, monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("secret")

    def replaced(path: Path) -> None:
        path.unlink()
        path.symlink_to(tmp_path / "secret")

    after_its_walk(monkeypatch, "0700.md", replaced, many / "many")

    with pytest.raises(RefnetError, match=r"0700\.md \(Too many levels of symbolic links\)"):
        made(many)


def test_a_file_that_is_replaced_by_a_pipe_after_the_walk_stops_nothing(many, made, monkeypatch):
    def replaced(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    after_its_walk(monkeypatch, "0700.md", replaced, many / "many")

    _, found = made(many)

    assert "many/0700.md" not in FileList.from_json(found.files).by_path


def test_files_that_are_read_at_once_are_in_the_list_as_others_are(many, made, monkeypatch):
    at_once = made(many)
    monkeypatch.setattr(archive_writer, "_small_file", lambda *_: None)

    one_by_one = made(many)

    assert at_once[1].files == one_by_one[1].files
    assert at_once[0] == one_by_one[0]
