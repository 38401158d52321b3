"""`refnet wal run` of several clusters."""

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
