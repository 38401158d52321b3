"""Records that root writes into the backup folder of another user, who has put links there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.users import Ordinary

from refnet.catalog.identity import Identity, SourceId
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.store.source_records import Identities, Lineage


def hand_over(home: Path, store: Path) -> None:
    Identities.at(home, store).take_over(SourceName.CONFIG, SourceId("a" * 32))


def continue_another(_home: Path, store: Path) -> None:
    Lineage.in_store(store).add(Identity("shop", "2"), Identity("shop", "1"))


@pytest.fixture
def store(short_folder: Path, ordinary: Ordinary) -> Path:
    """The backup folder of another user."""
    top = Path(tempfile.mkdtemp(dir=short_folder))
    top.chmod(0o711)
    (top / "store").mkdir()
    os.chown(top / "store", ordinary.uid, ordinary.gid)
    return top / "store"


@pytest.mark.parametrize(
    ("write", "folder"),
    [(hand_over, ".refnet-handovers"), (continue_another, ".refnet-lineage")],
    ids=["handover", "lineage"],
)
def test_nothing_is_written_where_a_link_in_a_store_leads(
    store: Path, ordinary: Ordinary, write: Callable[[Path, Path], None], folder: str
) -> None:
    outside = store.parent / "outside"
    outside.mkdir()
    (outside / "config.json").write_text("precious")
    (store / folder).symlink_to(outside)
    os.chown(store / folder, ordinary.uid, ordinary.gid, follow_symlinks=False)

    with pytest.raises(RefnetError, match=f"{folder} is a link or a file"):
        write(store.parent / "home", store)
    assert [one.name for one in outside.iterdir()] == ["config.json"]
    assert (outside / "config.json").read_text() == "precious"

    (store / folder).unlink()
    write(store.parent / "home2", store)
    assert len([*(store / folder).iterdir()]) == 1
