"""kill -9 before and after every object that a copy sends: the next run continues, and nothing is there twice."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from tests.remote_store import Machine, artifact

from refnet.catalog import remote
from refnet.store import remote_pieces, sending
from refnet.store.buckets.folder import FolderBucket

PIECE = 64 << 10
DATA = random.Random(1).randbytes(3 * PIECE + 7)
#: Four pieces and the manifest.
OBJECTS = 5


class _Killing(FolderBucket):
    """Kills its process at the put number `at`, before or after it."""

    at, after, puts = 0, False, 0

    def put(self, name: str, data: bytes) -> str:
        number, self.puts = self.puts, self.puts + 1
        if number == self.at and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        version = super().put(name, data)
        if number == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return version


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(OBJECTS))
def test_a_killed_copy_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    for module in (remote, remote_pieces, sending):
        monkeypatch.setattr(module, "PIECE_BYTES", PIECE)
    (tmp_path / "bucket").mkdir(mode=0o700)
    machine = Machine(tmp_path / "home", FolderBucket(tmp_path / "bucket"))
    earlier = machine.send(artifact(0, b"an earlier one"))
    killing = _Killing(tmp_path / "bucket")
    killing.at, killing.after, machine.bucket = at, after, killing
    if (child := os.fork()) == 0:
        machine.send(artifact(1, DATA))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    machine.bucket = FolderBucket(tmp_path / "bucket")
    seen = [one.name for one in machine.store().entries()]
    assert seen in ([earlier.name], [earlier.name, artifact(1, DATA).name])
    assert machine.store().contents().gaps == () or at == OBJECTS - 1
    copy = machine.fetch_back(machine.send(artifact(1, DATA)))
    assert copy.state == "fetched"
    assert machine.store().entries() == (earlier, copy)
    names = [one.name for one in machine.bucket.listed("")]
    assert len(names) - 2 - OBJECTS in (0, 1, 2)  # a piece that was on its way beside the one that killed
    assert {one.name for one in machine.store().leftovers()} == set(names) - {
        earlier.object, copy.object, *(one.name for one in (*earlier.document.pieces, *copy.document.pieces)),
    }  # fmt: skip
    assert machine.store().contents().gaps == ()
    assert list((machine.store().home / "sending").iterdir()) == []
    with machine.store(key=True).artifact(copy).open() as reader:
        assert reader.read() == DATA
