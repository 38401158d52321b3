"""The state of remote stores: read in bounded time, seldom, and one that is down hides no other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import NOW, Machine, artifact

from refnet.actions.store import accept, plan_acceptance
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.store import remote_states
from refnet.store.buckets.bucket import Stored
from refnet.store.remote import RemoteStore
from refnet.store.remote_states import StoreStates, Watched


class _Hangs(MemoryBucket):
    def listed(self, prefix: str) -> Iterator[Stored]:
        threading.Event().wait(60)
        return super().listed(prefix)


def test_states_are_read_in_bounded_time_and_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_states, "_SECONDS", 0.5)
    machine, now = Machine(tmp_path / "near"), [NOW]
    copy = machine.send(artifact(1, b"x"))
    hangs = Machine(tmp_path / "far", _Hangs(), name="far")

    def fails() -> RemoteStore:
        raise RefnetError("the credential cannot be read", "chmod 600")

    sources = frozenset([SourceName.DATABASE])
    watched = [
        Watched("cloud", sources, machine.store().home, machine.store),
        Watched("far", sources, hangs.store().home, hangs.store),
        Watched("wrong", sources, tmp_path / "none", fails),
    ]
    states = StoreStates(watched, lambda: now[0])
    near, far, wrong = states.read()
    assert (near.copies, near.trouble) == ((copy,), None)
    assert far.trouble
    assert "did not answer" in far.trouble.message
    assert wrong.trouble
    assert "credential" in wrong.trouble.message
    assert (far.listed, wrong.listed) == (None, None)

    assert isinstance(machine.bucket, MemoryBucket)
    before = machine.bucket.requests["list"]
    now[0] += timedelta(minutes=4)
    states.read()
    assert machine.bucket.requests["list"] == before
    now[0] += timedelta(minutes=2)
    states.read()
    assert machine.bucket.requests["list"] > before
    machine.bucket = _Hangs()  # a new reading knows only when it was listed last
    assert (
        StoreStates([Watched("cloud", sources, machine.store().home, machine.store)], lambda: NOW)
        .read()[0]
        .listed
    )


def test_manifests_that_were_accepted_are_no_warning_any_more(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    copy = machine.send(artifact(1, b"x"))
    for folder in (f"{copy.document.key}/manifests", "manifests"):
        machine.bucket.put(f"{folder}/20261125T170000Z_database_{'ab' * 16}.age", b"junk")
    watched = [Watched("cloud", frozenset([SourceName.DATABASE]), machine.store().home, machine.store)]

    [before] = StoreStates(watched, lambda: NOW).read()
    assert len(before.unlisted) == 2
    accept(plan_acceptance(machine.store()))

    [state] = StoreStates(watched, lambda: NOW).read()
    assert (state.copies, state.unlisted) == ((copy,), ())
    assert len(machine.store().contents().unlisted) == 2, "a list still names them"
    machine.bucket.put(f"manifests/20261125T170000Z_database_{'cd' * 16}.age", b"junk")
    [state] = StoreStates(watched, lambda: NOW).read()
    assert len(state.unlisted) == 1


class _Waits(MemoryBucket):
    """Answers once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def listed(self, prefix: str) -> Iterator[Stored]:
        assert self.may.wait(60)
        return super().listed(prefix)


def test_the_last_state_is_returned_while_a_store_takes_long_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_states, "_PATIENCE", 0.01)
    bucket, now = _Waits(), [NOW]
    bucket.may.set()
    machine = Machine(tmp_path, bucket)
    watched = Watched("cloud", frozenset([SourceName.DATABASE]), machine.store().home, machine.store)
    states = StoreStates([watched], lambda: now[0])
    assert states.read()[0].copies == ()

    copy = machine.send(artifact(1, b"x"))
    bucket.may.clear()
    now[0] += timedelta(minutes=6)
    assert [(one.copies, one.listed) for _ in range(3) for one in states.read()] == [((), NOW)] * 3
    bucket.may.set()
    monkeypatch.setattr(remote_states, "_PATIENCE", 60.0)
    [state] = states.read()
    assert (state.copies, state.listed) == ((copy,), NOW + timedelta(minutes=6))
