"""What a home remembers of where databases were restored from: forged or broken, it permits nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refnet.catalog.identity import Identity
from refnet.store.source_records import Lineage

OLD, NEW = Identity("shop", "1"), Identity("shop", "2")


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    made = Lineage(tmp_path / "lineage")
    made.add(NEW, OLD)
    return made


def test_a_database_remembers_the_servers_that_it_came_from(lineage: Lineage) -> None:
    lineage.add(NEW, Identity("shop", "0"))
    lineage.add(NEW, OLD)

    assert lineage.before(NEW) == ("0", "1")
    assert lineage.before(OLD) == ()
    lineage.add(Identity("shop", "3"), NEW)
    assert lineage.before(Identity("shop", "3")) == ("0", "1", "2")
    lineage.add(OLD, NEW)
    assert lineage.before(OLD) == ("0", "2")
    assert lineage.before(Identity("wiki", "2")) == ()


@pytest.mark.parametrize(
    "origin",
    [None, NEW, Identity("shop"), Identity("wiki", "1")],
    ids=["unknown", "same", "no server", "other"],
)
def test_nothing_is_remembered_where_it_is_no_move_of_the_same_database(
    tmp_path: Path, origin: Identity | None
) -> None:
    lineage = Lineage(tmp_path / "lineage")
    lineage.add(NEW, origin)

    assert not lineage.folder.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"system": "2", "before": "1"}',
        b'{"system": "2", "before": [1]}',
        b'{"system": "2", "before": ["1; DROP"]}',
        b'{"system": "9", "before": ["1"]}',
        b'{"system": "2", "before": ' + b"[" * 5000,
        b"\xff" * 100,
        b" " * (1 << 20),
    ],
)
def test_what_is_no_memory_permits_nothing_and_is_replaced(lineage: Lineage, content: bytes) -> None:
    (file,) = lineage.folder.iterdir()
    file.write_bytes(content)

    assert lineage.before(NEW) == ()
    lineage.add(NEW, OLD)
    assert lineage.before(NEW) == ("1",)


def test_a_memory_that_others_can_write_or_that_is_a_link_permits_nothing(
    lineage: Lineage, tmp_path: Path
) -> None:
    (file,) = lineage.folder.iterdir()
    file.chmod(0o666)
    assert lineage.before(NEW) == ()

    file.chmod(0o600)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert lineage.before(NEW) == ()
    file.unlink()
    os.mkfifo(file)
    assert lineage.before(NEW) == ()
