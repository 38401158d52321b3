"""Signs of life: what a health check says of a worker and of beat."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.scheduling import places


def test_a_fresh_sign_counts(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    sign.touch()
    assert places.check_alive(sign, "beat", 30) == "beat is alive: last heartbeat 0 s ago"


@pytest.mark.parametrize("seconds", [-1000, 1000], ids=["old", "from before the clock was set back"])
def test_another_does_not(tmp_path: Path, seconds: int) -> None:
    sign = tmp_path / "sign"
    sign.touch()
    os.utime(sign, (time.time() + seconds,) * 2)
    with pytest.raises(RefnetError, match="beat is not alive: last heartbeat") as raised:
        places.check_alive(sign, "beat", 30)
    assert raised.value.code is Exit.FAILED


def test_none_at_all_does_not(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="the worker is not alive: no heartbeat yet"):
        places.check_alive(tmp_path / "no" / "sign", "the worker", 30)


def test_a_link_that_is_planted_does_not(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.touch()
    (tmp_path / "sign").symlink_to(fresh)
    os.utime(tmp_path / "sign", (0, 0), follow_symlinks=False)
    with pytest.raises(RefnetError, match="not alive"):
        places.check_alive(tmp_path / "sign", "beat", 30)


def test_each_instance_and_each_machine_has_its_own(tmp_path: Path) -> None:
    signs = {
        places.worker_sign(tmp_path, host, instance) for host in ("a", "b") for instance in (None, "shop")
    }
    assert len(signs) == 4
