"""What is put into the backup folder in place of RefNet's own files: nothing of it is followed, read or deleted."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.faults.store import NOW, publish

from refnet.actions.prune import Rules
from refnet.catalog.artifact import Made
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import RefnetError
from refnet.store.local import LocalStore

PROVEN = Evidence(NOW, Level.PROVEN, Outcome.PASSED, 1.0)


def _linked(path: Path, away: Path) -> None:
    path.rename(away / path.name)
    path.symlink_to(away / path.name)


def _one_wrong_byte(path: Path, _: Path) -> None:
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    path.write_bytes(data)


def _a_fifo(path: Path, away: Path) -> None:
    path.rename(away / path.name)
    os.mkfifo(path)


def _a_folder(path: Path, away: Path) -> None:
    path.rename(away / path.name)
    path.mkdir()


def _endless(path: Path, away: Path) -> None:
    path.rename(away / path.name)
    path.touch()
    os.truncate(path, 1 << 40)


def _everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.lstat().st_mode, path.lstat().st_ino) for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("ending", "harm"),
    [
        ("", _linked),
        ("", _a_fifo),
        ("", _a_folder),
        (".json", _linked),
        (".json", _one_wrong_byte),
        (".json", _a_fifo),
        (".json", _a_folder),
        (".json", _endless),
    ],
)
def test_prune_deletes_nothing_that_it_cannot_read(
    tmp_path: Path, ending: str, harm: Callable[[Path, Path], None]
) -> None:
    store, away = LocalStore(tmp_path / "backups"), tmp_path / "away"
    away.mkdir()
    name = publish(store, b"the only one", b"[]")
    store.record(store.entries()[0], PROVEN)
    folder = store.folder(SourceName.OBSIDIAN)
    harm(folder / f"{name}{ending}", away)
    before, elsewhere = _everything(folder), _everything(away)

    assert store.entries() == ()
    (unlisted,) = store.unlisted()
    assert (unlisted.name, unlisted.unreadable) == (name, True)
    later = NOW + timedelta(days=4000)
    done = Rules(store, Retention(days=1), later).prune(SourceName.OBSIDIAN)

    assert done.changes_nothing
    assert (_everything(folder), _everything(away)) == (before, elsewhere)


def test_an_artifact_that_becomes_a_link_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "backups")
    name = publish(store, b"ours", b"[]")
    (entry,) = store.entries()
    (tmp_path / "secret").write_bytes(b"root")
    store.path(entry).unlink()
    store.path(entry).symlink_to(tmp_path / "secret")

    with pytest.raises(RefnetError, match=f"{name} is not a regular file"), store.artifact(entry).open():
        pass
    with pytest.raises(RefnetError, match="is not a regular file"), store.draft(SourceName.OBSIDIAN) as draft:
        draft.publish(Made(NOW, {"shares_bytes_with": name}, files=b"[]"), NOW, 1.0)


@pytest.mark.parametrize("planted", ["wiki_20990101_000000.sql.gz", "wiki_20990101_000000.sql.gz.partial"])
def test_a_file_of_another_kind_does_not_hide_the_artifacts_of_a_source(tmp_path: Path, planted: str) -> None:
    store, wiki = LocalStore(tmp_path / "backups"), SourceName("wiki", Kind.FOLDER)
    with store.draft(wiki) as draft:
        draft.out.write(b"ours")
        made = draft.publish(Made(NOW, {}, files=b"[]"), NOW, 1.0)
    (store.folder(wiki) / planted).touch()

    assert [entry.name for entry in LocalStore(store.root).entries()] == [made.name]
    assert [one.kind for one in store.sources() if one == wiki] == [Kind.FOLDER]
    assert [one.name for one in store.unlisted(wiki)] == [planted]
