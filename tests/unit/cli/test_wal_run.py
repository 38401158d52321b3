"""`refnet wal run` of several clusters, and its end."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from refnet.cli import wal
from refnet.core.errors import Exit, RefnetError

TOLD = list[str]()


@dataclass
class FakeReceiver:
    """One is refused; the other one receives until that was told."""

    settings: object
    cluster: str
    note: object
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        if self.cluster == "refused":
            raise RefnetError("another run has it", "Wait for it.", Exit.LOCKED)
        while not TOLD:
            if self.stop.wait(0.01):
                raise AssertionError("stopped by the other cluster")
        assert not self.stop.is_set()


def test_a_cluster_that_is_refused_stops_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    TOLD.clear()
    monkeypatch.setattr(wal, "current_settings", lambda: None)
    monkeypatch.setattr(wal, "_streamed", lambda *_: ["refused", "received"])
    monkeypatch.setattr(wal, "stores_of", lambda *_: ())
    monkeypatch.setattr(wal, "Receiver", FakeReceiver)
    monkeypatch.setattr(wal, "_tell", TOLD.append)
    with pytest.raises(RefnetError) as raised:
        wal.run()
    assert raised.value.code is Exit.LOCKED
    assert TOLD == ["refused: not received any more: another run has it; Wait for it."]


@dataclass
class PatientReceiver(FakeReceiver):
    """Receives until it is stopped."""

    def run(self) -> None:
        assert self.stop.wait(20)


@pytest.mark.parametrize("begun", [1, 2])
def test_an_interrupt_while_a_receiver_begins_stops_all_of_them(
    monkeypatch: pytest.MonkeyPatch, begun: int
) -> None:
    made, started, real = list[FakeReceiver](), list[threading.Thread](), threading.Thread.start

    def receiver(settings: object, cluster: str, note: object) -> FakeReceiver:
        made.append(PatientReceiver(settings, cluster, note))
        return made[-1]

    def start(thread: threading.Thread) -> None:
        real(thread)
        started.append(thread)
        if len(started) == begun:
            raise KeyboardInterrupt

    monkeypatch.setattr(wal, "current_settings", lambda: None)
    monkeypatch.setattr(wal, "_streamed", lambda *_: ["main", "other"])
    monkeypatch.setattr(wal, "stores_of", lambda *_: ())
    monkeypatch.setattr(wal, "Receiver", receiver)
    monkeypatch.setattr(threading.Thread, "start", start)
    wal.run()
    for thread in started:
        thread.join(20)
    assert [one.stop.is_set() for one in made] == [True, True]
    assert not any(thread.is_alive() for thread in started)
