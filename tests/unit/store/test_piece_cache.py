"""Pieces that a command read are there for the next one: encrypted, compared at each read, bounded."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.remote_store import Machine, artifact
from tests.shared_pieces import DATA

from refnet.catalog.remote import Copy, Piece
from refnet.store import piece_cache, remote_pieces
from refnet.store.piece_cache import PieceCache
from refnet.store.remote import RemoteStore

MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("fine_cuts")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pieces that are fetched."""
    names, fetch = list[str](), remote_pieces.fetch

    def counted(bucket: Any, piece: Piece, what: str) -> bytes:
        names.append(piece.name)
        return fetch(bucket, piece, what)

    monkeypatch.setattr(remote_pieces, "fetch", counted)
    return names


def _store(machine: Machine, most: int = 64 * MIB) -> RemoteStore:
    """The store as a new command opens it."""
    store = machine.store(key=True)
    store.cache = PieceCache(machine.home / "cache", most)
    return store


def _part(machine: Machine, copy: Copy, most: int = 64 * MIB) -> bytes:
    """What a command reads in the middle of an artifact."""
    with _store(machine, most).artifact(copy).open() as reader:
        reader.seek(len(DATA) // 2)
        return reader.read(1000)


def _files(machine: Machine) -> list[Path]:
    folder = machine.home / "cache"
    return sorted(folder.iterdir()) if folder.exists() else []


WANTED = DATA[len(DATA) // 2 :][:1000]


def test_the_next_command_fetches_nothing_again_and_nothing_readable_lies_there(
    machine: Machine, fetched: list[str]
) -> None:
    copy = machine.send(artifact(1, DATA))
    assert _part(machine, copy) == WANTED
    first = fetched.copy()
    assert 1 <= len(first) <= 2
    assert _part(machine, copy) == WANTED
    assert fetched == first
    names = {one.name: one.sha256 for one in copy.document.pieces}
    assert {one.name for one in _files(machine)} == {names[one] for one in first}
    for path in _files(machine):
        assert path.read_bytes().startswith(b"age-encryption.org/v1\n")
        assert path.stat().st_mode & 0o777 == 0o600
    assert (machine.home / "cache").stat().st_mode & 0o777 == 0o700


def test_without_a_size_nothing_is_kept_nor_read(machine: Machine, fetched: list[str]) -> None:
    copy = machine.send(artifact(1, DATA))
    _part(machine, copy)
    count = len(fetched)
    shutil.copytree(machine.home / "cache", machine.home / "kept")
    assert _part(machine, copy, 0) == WANTED
    assert len(fetched) == 2 * count
    shutil.rmtree(machine.home / "cache")
    _part(machine, copy, 0)
    assert not (machine.home / "cache").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: path.chmod(0o666),
        lambda path: shutil.rmtree(path.parent),
    ],
    ids=[
        "changed",
        "shortened",
        "longer",
        "empty",
        "gone",
        "a link",
        "a pipe",
        "a folder",
        "writable",
        "no cache",
    ],
)
def test_what_changed_in_the_cache_is_fetched_again(
    machine: Machine, fetched: list[str], change: Callable[[Path], object]
) -> None:
    copy = machine.send(artifact(1, DATA))
    _part(machine, copy)
    count = len(fetched)
    for path in _files(machine):
        if path.exists():
            change(path)
    assert _part(machine, copy) == WANTED
    assert len(fetched) == 2 * count
    assert _part(machine, copy) == WANTED


def _piece(number: int, size: int = MIB) -> tuple[Piece, bytes]:
    data = number.to_bytes(4, "big") * (size // 4)
    name = f"{'a' * 32}/pieces/{number:032x}-{0:016x}.age"
    return Piece(name, len(data), hashlib.sha256(data).hexdigest(), plain=1), data


def test_what_was_used_the_longest_ago_makes_room(tmp_path: Path) -> None:
    def command() -> PieceCache:
        return PieceCache(tmp_path, 8 * MIB)

    ones = [_piece(number) for number in range(12)]
    for at, (piece, data) in enumerate(ones[:8]):
        assert command().add(piece, data)
        os.utime(tmp_path / piece.sha256, (at, at))
    assert command().get(ones[0][0]) == ones[0][1]  # it is used again
    assert command().add(*ones[8])
    there = [number for number, (piece, data) in enumerate(ones) if command().get(piece) == data]
    assert there == [0, 3, 4, 5, 6, 7, 8], "a tenth is free"
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) <= 8 * MIB


def test_a_command_fills_no_more_than_half(tmp_path: Path) -> None:
    one, other = PieceCache(tmp_path, 8 * MIB), PieceCache(tmp_path, 8 * MIB)
    added = [one.add(*_piece(number)) for number in range(9)]
    assert added == [True] * 4 + [False] * 5
    assert other.add(*_piece(9))


def test_many_small_pieces_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece_cache, "_MOST_FILES", 50)
    for number in range(120):
        assert PieceCache(tmp_path, MIB).add(*_piece(number, 64))
    assert 40 <= len(list(tmp_path.iterdir())) <= 50


def test_nothing_is_kept_where_little_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=15 * MIB))
    assert not PieceCache(tmp_path, 8 * MIB).add(*_piece(1))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_after_a_day(tmp_path: Path) -> None:
    for name, at in ((".old", 0), (".new", None)):
        (tmp_path / name).write_bytes(b"x")
        if at is not None:
            os.utime(tmp_path / name, (at, at))
    (tmp_path / "mine.txt").write_text("not of the cache")
    assert PieceCache(tmp_path, 8 * MIB).add(*_piece(1))
    assert {one.name for one in tmp_path.iterdir()} == {".new", "mine.txt", _piece(1)[0].sha256}


_PROCESS = """
import sys
from pathlib import Path
from tests.unit.store.test_piece_cache import MIB, _piece
from refnet.store.piece_cache import PieceCache
for turn in range(40):
    cache = PieceCache(Path(sys.argv[1]), 4 * MIB)
    piece, data = _piece((turn * int(sys.argv[2])) % 23, MIB // 4)
    found = cache.get(piece)
    assert found in (b"", data), turn
    found or cache.add(piece, data)
"""


def test_several_processes_share_it(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    runs = [
        subprocess.Popen([sys.executable, "-c", _PROCESS, str(tmp_path), str(step)], cwd=root)
        for step in (1, 3, 5, 7)
    ]
    assert [one.wait(60) for one in runs] == [0] * 4
    assert all(not one.name.startswith(".") for one in tmp_path.iterdir())
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) <= 4 * MIB + 4 * MIB // 4


def test_a_piece_that_another_copy_shares_is_read_from_the_cache(
    machine: Machine, fetched: list[str]
) -> None:
    first = machine.send(artifact(1, DATA))
    _part(machine, first)
    count = len(fetched)
    assert _part(machine, machine.send(artifact(2, DATA))) == WANTED
    assert len(fetched) == count


def test_what_reads_all_in_order_fills_no_cache_but_uses_it(machine: Machine, fetched: list[str]) -> None:
    copy = machine.send(artifact(1, DATA))
    _part(machine, copy)
    before = [one.name for one in _files(machine)]
    fetched.clear()
    with _store(machine).artifact(copy, in_order=True).open() as reader:
        assert reader.read() == DATA
    assert [one.name for one in _files(machine)] == before
    assert len(fetched) == len(copy.document.pieces) - len(before)


def test_a_piece_of_another_sha256_is_never_taken_for_one(machine: Machine) -> None:
    piece, data = _piece(1)
    cache = PieceCache(machine.home / "cache", 8 * MIB)
    cache.add(piece, data)
    assert cache.get(replace(piece, size=piece.size - 1)) == b""
    assert cache.get(replace(piece, sha256="0" * 64)) == b""
