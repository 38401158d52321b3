"""A lock tells whether its owner lives, and asking for it disturbs no owner."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refnet.core.errors import RefnetError
from refnet.core.locks import PROBE_SECONDS, is_locked, locked

_OWNER = """
import sys
from pathlib import Path
from refnet.core.locks import locked
with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared") as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


@contextmanager
def owner(path: Path, *, shared: bool) -> Iterator[subprocess.Popen[str]]:
    kind = "shared" if shared else "alone"
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, path, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.mark.parametrize("shared", [False, True])
def test_a_living_owner_is_seen_and_a_killed_one_is_not(path: Path, shared: bool):
    assert not is_locked(path, shared=shared)
    with owner(path, shared=shared) as process:
        assert is_locked(path, shared=shared)
        process.kill()
        process.wait()
        assert not is_locked(path, shared=shared)


@pytest.mark.parametrize("shared", [False, True])
def test_an_owner_does_not_give_up_because_somebody_probes(path: Path, shared: bool):
    path.touch()
    done = threading.Event()

    def probe() -> None:
        while not done.is_set():
            is_locked(path, shared=shared)

    probes = [threading.Thread(target=probe) for _ in range(2)]
    for each in probes:
        each.start()
    try:
        for _ in range(200):
            with locked(path, shared=shared, seconds=PROBE_SECONDS) as ours:
                assert ours
    finally:
        done.set()
        for each in probes:
            each.join()


def test_two_owners_share_a_lock_and_one_alone_does_not(path: Path):
    with owner(path, shared=True):
        with locked(path, shared=True, seconds=0.0) as ours:
            assert ours
        with locked(path, seconds=0.0) as ours:
            assert not ours


def test_a_lock_is_taken_through_no_link(path: Path, tmp_path: Path):
    (tmp_path / "victim").write_text("precious")
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(RefnetError, match="is not a regular file"), locked(path):
        pass
    with pytest.raises(RefnetError, match="is not a regular file"):
        is_locked(path)
