"""Copies of the settings beside the artifacts: one for each change, readable for their owner alone."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet.core.errors import RefnetError
from refnet.settings import LARGEST
from refnet.store.settings_copies import FOLDER, MOST, keep, newest

AT = datetime(2026, 11, 25, 2, tzinfo=UTC)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / FOLDER).iterdir())


def test_a_copy_is_stored_when_the_settings_change_and_only_then(tmp_path):
    for hour, content in enumerate([b"jobs = 1\n", b"jobs = 1\n", b"jobs = 2\n"]):
        keep(tmp_path, content, AT + timedelta(hours=hour))

    assert names(tmp_path) == ["refnet_20261125_020000.toml", "refnet_20261125_040000.toml"]
    assert newest(tmp_path, None)[1] == b"jobs = 2\n"
    assert newest(tmp_path, AT + timedelta(hours=1))[1] == b"jobs = 1\n"
    assert newest(tmp_path, AT - timedelta(days=1))[1] == b"jobs = 1\n"
    for path in (tmp_path / FOLDER, *(tmp_path / FOLDER).iterdir()):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077


def test_the_oldest_copies_are_removed(tmp_path):
    for number in range(MOST + 3):
        keep(tmp_path, b"jobs = %d" % number, AT + timedelta(days=number))

    assert len(names(tmp_path)) == MOST
    assert newest(tmp_path, None)[1] == b"jobs = %d" % (MOST + 2)


def test_a_store_without_copies_has_none(tmp_path):
    assert newest(tmp_path, None) is None


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.write_bytes(bytes(LARGEST + 1)),
    ],
    ids=["a link", "a folder", "a pipe", "too large"],
)
def test_what_is_not_a_copy_is_named_and_another_one_is_stored_beside_it(tmp_path, put):
    (tmp_path / FOLDER).mkdir(mode=0o700)
    put(tmp_path / FOLDER / "refnet_20261124_000000.toml")
    (tmp_path / FOLDER / "refnet_x\n.toml").touch()
    with pytest.raises(RefnetError, match=r"refnet_20261124_000000\.toml is not a copy of the settings"):
        newest(tmp_path, None)

    keep(tmp_path, b"jobs = 1\n", AT)

    assert newest(tmp_path, None)[1] == b"jobs = 1\n"
