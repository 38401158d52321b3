"""The folder of a source that another user swaps with a link: root neither backs up nor restores where it leads."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.users import Ordinary

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings
from refnet.sources.folder.source import Folder
from refnet.sources.restoring import RestoreRequest

NOTES = SourceName("notes", Kind.FOLDER)


@dataclass(frozen=True)
class Place:
    """A folder of an ordinary user, which is a source of root."""

    folder: Path
    #: A folder of root.
    outside: Path
    source: Folder

    def link(self, target: Path, owner: int) -> None:
        """Put a link of `owner` in the place of the folder."""
        self.folder.rename(self.folder.with_name("before"))
        self.folder.symlink_to(target)
        os.chown(self.folder, owner, owner, follow_symlinks=False)

    def backup(self) -> bytes:
        out = io.BytesIO()
        self.source.maker().dump(out)
        return out.getvalue()


@pytest.fixture
def place(tmp_path: Path, ordinary: Ordinary) -> Place:
    home, outside = tmp_path / "home", tmp_path / "outside"
    for folder in (home, home / "notes", outside):
        folder.mkdir()
        (folder / "a.md").write_text("a")
    for path in (home, home / "notes"):
        os.chown(path, ordinary.uid, ordinary.gid)
    settings = Settings(
        home=tmp_path / "refnet",
        backup_dir=tmp_path / "backups",
        sources={NOTES: SourceSettings(NOTES, "folders", path=home / "notes")},
    )
    return Place(home / "notes", outside, Folder(settings, NOTES))


def test_a_link_of_that_user_to_a_folder_of_root_is_neither_backed_up_nor_restored_into(
    place: Place, ordinary: Ordinary
) -> None:
    artifact = OpenArtifact(NOTES, "notes_20261125_020000.tar.gz", lambda: io.BytesIO(b""), None)
    place.backup()
    place.link(place.outside, ordinary.uid)
    for act in (
        place.backup,
        lambda: list(place.source.checks()),
        lambda: place.source.restoring(Context(place.source.settings), artifact, RestoreRequest()),
        lambda: place.source.undoing(Context(place.source.settings), RestoreRequest()),
    ):
        with pytest.raises(RefnetError, match="follows a symbolic link of"):
            act()
    assert [one.name for one in place.outside.iterdir()] == ["a.md"]


@pytest.mark.parametrize("whose", ["its own", "root"])
def test_a_link_of_that_user_to_a_folder_of_that_user_and_a_link_of_root_are_followed(
    place: Place, ordinary: Ordinary, whose: str
) -> None:
    owner, target = (
        (ordinary.uid, place.folder.with_name("before")) if whose == "its own" else (0, place.outside)
    )
    place.link(target, owner)
    assert place.backup()
