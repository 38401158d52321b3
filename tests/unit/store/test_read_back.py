"""What a drill reads back of a remote store: the copies whose last check is the oldest, within a limit."""

from __future__ import annotations

from pathlib import Path

from tests.remote_store import Machine, artifact

from refnet.actions.copy import read_back_older
from refnet.catalog.artifact import silent
from refnet.context import Context
from refnet.settings import Settings, StoreSettings
from refnet.store.buckets.folder import FolderBucket
from refnet.store.copy_checks import read_oldest_back


def _checks(machine: Machine) -> list[int]:
    """How often each copy was checked."""
    return [len(one.evidence) for one in machine.store().entries()]


def test_the_least_recently_checked_copies_are_read_back_within_a_limit(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    copies = [machine.send(artifact(n, bytes([n]) * 1000)) for n in range(3)]
    large = machine.send(artifact(3, b"x" * 100_000))
    most = 2 * max(one.document.pieces[0].size for one in copies)  # age adds a random number of bytes

    def read() -> list[str]:
        return [one.id for one in read_oldest_back(machine.store(), machine.now, silent, most)]

    machine.fetch_back(copies[0])
    assert read() == []
    assert _checks(machine) == [1, 1, 1, 0]
    assert read() == []
    assert _checks(machine) == [2, 2, 1, 0]
    machine.bucket.delete(copies[2].document.pieces[0].name)
    assert read() == [copies[2].id]
    assert [one.state for one in machine.store().entries()] == ["fetched", "fetched", "sent", "damaged"]
    assert large.id == machine.store().entries()[2].id
    assert read() == []


def test_each_store_is_read_back_and_a_problem_is_a_sentence(tmp_path: Path) -> None:
    stores = {}
    for name in ("away", "nas"):
        (tmp_path / name).mkdir(mode=0o700)
        stores[name] = StoreSettings.from_url(f"file://{tmp_path}/{name}")
    context = Context(Settings(home=tmp_path / "home", stores=stores))
    machine = Machine(tmp_path / "home", FolderBucket(tmp_path / "nas"), name=stores["nas"].name)
    copy = machine.send(artifact(1, b"x"))
    machine.bucket.delete(copy.document.pieces[0].name)
    (tmp_path / "away").rmdir()

    away, lost = read_back_older(context)

    assert away.startswith("older copies in away could not be read back: ")
    assert f"{copy.name} in {machine.name} is damaged" in lost
    assert "refnet copy --all" in lost
