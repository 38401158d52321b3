"""A file is read back while it is written: all of it, from the disk, and no error is lost."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.store import disk
from refnet.store.disk import CHUNK, HiddenFile

DATA = os.urandom(5 * CHUNK + 12_345)


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "STEP", CHUNK)


def written(file: HiddenFile, *, wait: bool) -> None:
    """Write DATA; `wait`: until each part has been read back."""
    for at in range(0, len(DATA), CHUNK):
        file.write(DATA[at : at + CHUNK])
        if wait and file._read_back._last:
            file._read_back._last.exception()


@pytest.mark.parametrize("wait", [True, False], ids=["in step", "behind"])
def test_what_is_read_back_in_parts_is_the_whole_file(tmp_path: Path, wait: bool) -> None:
    with HiddenFile(tmp_path, ".part") as file:
        written(file, wait=wait)
        assert file.sync() == (hashlib.sha256(DATA).hexdigest(), len(DATA))


def test_most_of_a_large_file_is_read_back_before_its_end(tmp_path: Path) -> None:
    with HiddenFile(tmp_path, ".part") as file:
        written(file, wait=True)
        assert file._read_back._read == 5 * CHUNK


def test_a_bit_that_flips_in_a_part_read_back_early_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.pread

    def flipping(handle: int, count: int, at: int) -> bytes:
        data = read(handle, count, at)
        return bytes([data[0] ^ 1]) + data[1:] if at == CHUNK else data

    monkeypatch.setattr(os, "pread", flipping)
    with HiddenFile(tmp_path, ".part") as file:
        written(file, wait=True)
        with pytest.raises(RefnetError, match="data read back differ") as refused:
            file.sync()
    assert refused.value.code is Exit.DAMAGED
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_meanwhile_fails_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def failing(handle: int) -> None:
        if threading.current_thread() is threading.main_thread():
            sync(handle)
        else:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with HiddenFile(tmp_path, ".part") as file:
        written(file, wait=True)
        with pytest.raises(RefnetError, match="Input/output error"):
            file.sync()


def test_a_digest_before_the_end_is_of_what_the_disk_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HiddenFile(tmp_path, ".part") as file:
        written(file, wait=False)
        assert file.digest_so_far() == hashlib.sha256(DATA).digest()
        file.write(b"footer")
        assert file.sync() == (hashlib.sha256(DATA + b"footer").hexdigest(), len(DATA) + 6)
    with HiddenFile(tmp_path, ".part") as file:
        written(file, wait=False)
        monkeypatch.setattr(os, "pread", lambda _handle, count, _at: bytes(count))
        with pytest.raises(RefnetError, match="data read back differ"):
            file.digest_so_far()
