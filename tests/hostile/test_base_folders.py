"""Forged and damaged base backups: what does not belong into a data folder is refused, and nothing leaves that folder."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import os
import random
import shutil
import struct
import tarfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from refnet.catalog.cluster_base import BaseFacts, BaseKind
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FOLDER, opened
from refnet.postgres.account import Account
from refnet.sources.cluster.data_files import flush
from refnet.sources.cluster.data_folder import CONFIGURATION, FROM_BACKUP, Piece, unpack, unpack_as_it_is

US = Account("", 0, 0, other=False)
SYSTEM = 7713912749545699872
FULL = BaseFacts(str(SYSTEM), "17.1", BaseKind.FULL, "", 0x2000028, 0x2000120, 1, 1 << 20, 0)
LABEL = b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTART TIMELINE: 1\n"
BLOCK = 8192
#: What a base has at least, and what it would run.
FILES: dict[str, bytes | None] = {
    "backup_label": LABEL,
    "PG_VERSION": b"17\n",
    "pg_wal": None,
    "base": None,
    "base/5": None,
    "base/5/1259": b"a" * BLOCK * 3,
    "global": None,
    "global/pg_control": struct.pack("=Q", SYSTEM) + bytes(100),
    "postgresql.conf": b"shared_preload_libraries = 'evil'\n",
    "pg_hba.conf": b"local all all trust\n",
    "recovery.signal": b"",
    "postmaster.pid": b"1\n",
    "backup_manifest": b"{}",
}


def base(
    files: dict[str, bytes | None], facts: BaseFacts = FULL, *members: tarfile.TarInfo, name: str = "full"
) -> Piece:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.type, info.size = (
                (tarfile.DIRTYPE, 0) if content is None else (tarfile.REGTYPE, len(content))
            )
            tar.addfile(info, io.BytesIO(content or b""))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return packed(made.getvalue(), facts, name)


def packed(tar: bytes, facts: BaseFacts = FULL, name: str = "full") -> Piece:
    data = gzip.compress(tar, 1)
    return Piece(name, lambda: io.BytesIO(data), hashlib.sha256(data).hexdigest(), facts)


def link(path: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = kind, target
    return info


def incremental(*numbers: int, truncation: int = 3, blocks: bytes = b"", magic: int = 0xD3AE1F0D) -> bytes:
    head = struct.pack(f"=III{len(numbers)}I", magic, len(numbers), truncation, *numbers)
    return head + bytes(-len(head) % BLOCK if numbers else 0) + (blocks or b"b" * BLOCK * len(numbers))


INCREMENT = replace(FULL, kind=BaseKind.INCREMENT, parent="full", start_lsn=0x3000028, end_lsn=0x3000120)
NEXT_LABEL = (
    b"START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\nSTART TIMELINE: 1\n"
    b"INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n"
)


def increment(content: bytes, label: bytes = NEXT_LABEL, facts: BaseFacts = INCREMENT) -> Piece:
    files = {one: data for one, data in FILES.items() if one != "base/5/1259"}
    return base(files | {"backup_label": label, "base/5/INCREMENTAL.1259": content}, facts, name="increment")


@pytest.fixture
def into(tmp_path: Path) -> Callable[..., Path]:
    """Unpacks base backups into a folder in another one."""

    def unpacked(*chain: Piece) -> Path:
        folder = tmp_path / "inside" / "data"
        folder.mkdir(parents=True)
        unpack(chain, folder, US)
        return folder

    return unpacked


def test_configuration_lies_aside_and_signals_are_gone(into: Callable[..., Path]) -> None:
    folder = into(base(FILES | {"tablespace_map": b"16400 /srv/live\n"}))
    assert (folder / FROM_BACKUP / "tablespace_map").exists()
    assert not (folder / "tablespace_map").exists()
    assert (folder / "postgresql.conf").read_bytes() == b"# Written by RefNet.\n"
    assert (folder / "pg_hba.conf").read_bytes() == b"# Written by RefNet.\n"
    assert (folder / FROM_BACKUP / "pg_hba.conf").read_bytes() == FILES["pg_hba.conf"]
    assert not {"recovery.signal", "postmaster.pid", "backup_manifest"} & {
        one.name for one in folder.iterdir()
    }
    assert all(one.stat().st_mode & 0o077 == 0 for one in folder.rglob("*"))


def test_a_folder_that_is_kept_starts_no_server_before_anything_of_the_base_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flushes are recorded: what was in the folder then is on the disk after a power failure, whatever else is not."""
    flushed = list[tuple[int, set[str]]]()

    def fsync(handle: int) -> None:
        flushed.append((os.fstat(handle).st_ino, {one.name for one in tmp_path.iterdir()}))

    monkeypatch.setattr("os.fsync", fsync)
    unpack([base(FILES), increment(incremental(1))], tmp_path, US, durable=True)
    file = tmp_path / "postgresql.conf"
    assert b"restore_is_unfinished = on" in file.read_bytes()
    assert {inode for inode, _ in flushed} == {file.stat().st_ino, tmp_path.stat().st_ino}
    assert all(there == CONFIGURATION for _, there in flushed)


def test_a_flush_reaches_every_file_and_folder_and_follows_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, data = tmp_path / "outside", tmp_path / "data"
    for folder in (outside, data / "base" / "5"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
    wanted = {path.stat().st_ino for path in (data, *data.rglob("*"))}
    (data / "link").symlink_to(outside)
    (data / "base" / "link").symlink_to(outside / "file")
    os.mkfifo(data / "fifo")
    flushed = list[int]()
    monkeypatch.setattr("os.fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    with opened(data, OPEN_FOLDER) as folder_handle:
        flush(folder_handle)
    assert sorted(flushed) == sorted(wanted)


#: Longer than what is written at once, and not of whole pages.
LONG = random.Random(1).randbytes((5 << 20) + 5)


def long_chain() -> list[Piece]:
    """A full with long files, and an increment that has one of them whole, longer or shorter."""
    facts, files = replace(FULL, raw_bytes=1 << 25), FILES | {"base/5/2000": LONG, "base/5/2001": LONG[:-9]}
    next_ = {one: data for one, data in FILES.items() if one != "base/5/1259"}
    next_ |= {"backup_label": NEXT_LABEL, "base/5/INCREMENTAL.1259": incremental(0)}
    next_ |= {"base/5/2000": LONG[1 : 3 << 20], "base/5/2001": LONG[7:]}
    return [base(files, facts), base(next_, replace(INCREMENT, raw_bytes=1 << 25), name="increment")]


def as_it_is(_monkeypatch: pytest.MonkeyPatch) -> None:
    """No file system is simulated."""


def no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system refuses to go past the cache at once."""
    real = fcntl.fcntl

    def refused(file: int, command: int, flags: int = 0) -> int:
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(file, command, flags)

    monkeypatch.setattr(fcntl, "fcntl", refused)


def no_direct_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system takes the flag, and then demands larger blocks."""
    real = os.pwrite

    def refused(file: int, data: bytes, at: int) -> int:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(file, data, at)

    monkeypatch.setattr(os, "pwrite", refused)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("file_system", [as_it_is, no_flag, no_direct_write])
def test_long_files_are_written_whole_past_the_cache_and_through_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file_system: Callable[[pytest.MonkeyPatch], None],
    durable: bool,
) -> None:
    file_system(monkeypatch)
    unpack(long_chain()[:1], tmp_path, US, durable=durable)
    assert (tmp_path / "base/5/2000").read_bytes() == LONG
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    unpack(long_chain(), tmp_path, US, durable=durable)
    assert (tmp_path / "base/5/2000").read_bytes() == LONG[1 : 3 << 20]
    assert (tmp_path / "base/5/2001").read_bytes() == LONG[7:]


def test_a_full_disk_ends_all_writing_before_the_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handle that is closed too early could be that of another file when a thread writes to it."""
    wrote, real = list[str](), os.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        wrote.append(Path(f"/proc/self/fd/{file}").readlink().name)
        if at == 1 << 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        threading.Event().wait(0.01)
        return real(file, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RefnetError, match="no space left"):
        unpack(long_chain(), tmp_path, US, durable=True)
    assert set(wrote) == {"2000"}
    assert "write" not in {one.name[:5] for one in threading.enumerate()}


def test_a_flush_passes_over_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def fails(name: str, flags: int, *mode: int, dir_fd: int | None = None) -> int:
        if name == "5":
            raise OSError(errno.EIO, "Input/output error", name)
        return real(name, flags, *mode, dir_fd=dir_fd)

    (tmp_path / "base" / "5").mkdir(parents=True)
    with opened(tmp_path, OPEN_FOLDER) as folder:
        monkeypatch.setattr(os, "open", fails)
        with pytest.raises(OSError, match="Input/output error"):
            flush(folder)


@pytest.mark.parametrize(
    ("files", "members", "why"),
    [
        ({"../out": b"x"}, (), r"leads out of its folder"),
        ({"/tmp/out": b"x"}, (), "absolute name"),
        ({"base/5/1259/x": b"x"}, (), "in a folder that the archive does not have"),
        ({"nowhere/x": b"x"}, (), "in a folder that the archive does not have"),
        ({"pg_wal/000000010000000000000002": b"x"}, (), "WAL, which belongs in the archive"),
        ({"pg_wal": b"x"}, (), "WAL, which belongs in the archive"),
        ({f"{FROM_BACKUP}/x": b"x"}, (), "a name that is reserved"),
        ({"postgresql.auto.conf/x": b"x"}, (), "in a folder that the archive does not have"),
        ({"base/5/INCREMENTAL.1260": incremental(0)}, (), "is incremental, in a full"),
        ({"backup_label": b"START TIMELINE: 1\n"}, (), "backup_label is damaged"),
        ({"backup_label": LABEL.replace(b"28 ", b"29 ")}, (), "backup_label is of another base backup"),
        ({"backup_label": LABEL + NEXT_LABEL[-60:]}, (), "was made from|is damaged"),
        ({"global/pg_control": struct.pack("=Q", SYSTEM + 1)}, (), "of another cluster"),
        ({"global/pg_control": b""}, (), "of another cluster"),
        ({"large": bytes(2 << 20)}, (), "more bytes than its manifest says"),
        ({}, (link("pg_tblspc", "/"),), "is a link"),
        ({}, (link("pg_tblspc/16400", "/srv/live"),), "is a link"),
        ({}, (link("base/6", "../../.."),), "is a link"),
        ({}, (link("again", "PG_VERSION", tarfile.LNKTYPE),), "is a link"),
        ({}, (link("fifo", "", tarfile.FIFOTYPE),), "is a FIFO"),
        ({}, (tarfile.TarInfo("PG_VERSION"),), "in the archive twice"),
    ],
)
def test_what_does_not_belong_into_a_data_folder_is_refused(
    into: Callable[..., Path],
    tmp_path: Path,
    files: dict[str, bytes],
    members: tuple[tarfile.TarInfo, ...],
    why: str,
) -> None:
    with pytest.raises(RefnetError, match=why) as error:
        into(base(FILES | files, FULL, *members))
    assert error.value.code is Exit.DAMAGED
    assert error.value.message.startswith("full is damaged: ")
    assert [one.name for one in tmp_path.iterdir()] == ["inside"]
    assert [one.name for one in (tmp_path / "inside").iterdir()] == ["data"]


def test_a_base_without_its_control_file_is_damage(into: Callable[..., Path], tmp_path: Path) -> None:
    lacking = {one: data for one, data in FILES.items() if one != "global/pg_control"}
    with pytest.raises(RefnetError, match="full is damaged: it has no file global/pg_control"):
        into(base(lacking))
    (tmp_path / "next").mkdir()
    with pytest.raises(RefnetError, match="full is damaged: it has no file global/pg_control"):
        unpack([base(FILES | {"global/pg_control": None})], tmp_path / "next", US)


def test_a_flipped_byte_anywhere_in_a_full_is_damage(tmp_path: Path) -> None:
    whole = base(FILES)
    data = whole.open().read()
    for at in range(0, len(data), 37):
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        folder = tmp_path / str(at)
        folder.mkdir()
        with pytest.raises(RefnetError, match="full is damaged") as error:
            unpack([whole._replace(open=lambda found=flipped: io.BytesIO(found))], folder, US)
        assert error.value.code is Exit.DAMAGED


def test_a_base_that_is_cut_short_is_damage(into: Callable[..., Path]) -> None:
    data = base(FILES).open().read()
    with pytest.raises(RefnetError, match="is damaged"):
        into(Piece("full", lambda: io.BytesIO(data[:-40]), hashlib.sha256(data[:-40]).hexdigest(), FULL))


def test_an_increment_is_applied_in_place_and_what_it_lacks_is_removed(into: Callable[..., Path]) -> None:
    full = base(FILES | {"base/5/2000": b"dropped", "base/6": None, "base/6/1": b"dropped"})
    folder = into(full, increment(incremental(1, 4, truncation=2)))
    assert (folder / "base/5/1259").read_bytes() == b"a" * BLOCK + b"b" * BLOCK + bytes(
        2 * BLOCK
    ) + b"b" * BLOCK
    assert [one.name for one in (folder / "base").iterdir()] == ["5"]
    assert [one.name for one in (folder / "base/5").iterdir()] == ["1259"]
    assert b"INCREMENTAL" not in (folder / "backup_label").read_bytes()


def test_a_file_in_a_tablespace_is_applied_in_place_too(into: Callable[..., Path]) -> None:
    place = "pg_tblspc/16400/PG_17_202406281/5"
    folders = {place.rsplit("/", at)[0]: None for at in (3, 2, 1)} | {place: None}
    next_files = FILES | {"backup_label": NEXT_LABEL} | folders
    next_ = base(
        next_files | {f"{place}/INCREMENTAL.7": incremental(1, truncation=2)}, INCREMENT, name="increment"
    )
    folder = into(base(FILES | folders | {f"{place}/7": b"a" * BLOCK * 3}), next_)
    assert (folder / place / "7").read_bytes() == b"a" * BLOCK + b"b" * BLOCK


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cut short"),
        (incremental(0)[:-1], "of 1 blocks has 16383 bytes"),
        (incremental(0, magic=1), "another magic number"),
        (incremental(2, 1), "not in order"),
        (incremental(1, 1), "not in order"),
        (incremental(1 << 31), "not in order"),
        (incremental(truncation=1 << 31), "more blocks than a file"),
        (struct.pack("=III", 0xD3AE1F0D, 1 << 31, 0), "more blocks than a file"),
        (incremental(0) + b"x", "has 16385 bytes"),
    ],
)
def test_a_malformed_incremental_file_is_damage(into: Callable[..., Path], content: bytes, why: str) -> None:
    with pytest.raises(RefnetError, match=why) as error:
        into(base(FILES), increment(content))
    assert error.value.message.startswith("increment is damaged: ")


def test_an_increment_of_another_parent_or_of_a_missing_file_is_refused(
    into: Callable[..., Path], tmp_path: Path
) -> None:
    other = NEXT_LABEL.replace(b"LSN: 0/2000028", b"LSN: 0/1000028")
    with pytest.raises(RefnetError, match="starts at 0/1000028, and not from the one before"):
        into(base(FILES), increment(incremental(0), other))
    (tmp_path / "next").mkdir()
    lacking = {one: data for one, data in FILES.items() if one != "base/5/1259"}
    with pytest.raises(RefnetError, match="continues a file that its parent does not have"):
        unpack([base(lacking), increment(incremental(0))], tmp_path / "next", US)


def test_a_file_of_an_increment_is_written_over_its_parents_one_and_through_no_other_name(
    tmp_path: Path,
) -> None:
    """A server's user who owns the folder could put a name of another file there meanwhile."""
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(b"not of the server")
    full, next_ = base(FILES | {"PG_VERSION": b"a longer version\n"}), increment(incremental(0))

    def open_later() -> io.BytesIO:
        (folder / "backup_label").unlink()
        (folder / "backup_label").hardlink_to(outside)
        return io.BytesIO(next_.open().read())

    unpack([full, next_._replace(open=open_later)], folder, US)
    assert outside.read_bytes() == b"not of the server"
    assert (folder / "PG_VERSION").read_bytes() == b"17\n"
    assert b"0/3000028" in (folder / "backup_label").read_bytes()


def indexed(files: dict[str, bytes | None] = FILES) -> Piece:
    """A full of several gzip members, with its index."""
    tar = gzip.decompress(base(files).open().read())
    packed_, members = b"", list[tuple[int, int]]()
    for at in range(0, len(tar), 4096):
        members.append((at, len(packed_)))
        packed_ += gzip.compress(tar[at : at + 4096])
    return Piece(
        "full",
        lambda: io.BytesIO(packed_),
        hashlib.sha256(packed_).hexdigest(),
        replace(FULL, raw_bytes=len(tar)),
        tuple(members),
    )


def test_a_base_with_an_index_is_what_it_is_without(into: Callable[..., Path], tmp_path: Path) -> None:
    piece = indexed()
    assert len(piece.members) > 5
    folder, other = into(piece), tmp_path / "other"
    other.mkdir()
    unpack([piece._replace(members=())], other, US)
    assert {one.relative_to(folder): one.is_file() and one.read_bytes() for one in folder.rglob("*")} == {
        one.relative_to(other): one.is_file() and one.read_bytes() for one in other.rglob("*")
    }


@pytest.mark.parametrize(
    "forge",
    [
        lambda members: [(raw + 512 * (raw > 0), at) for raw, at in members],
        lambda members: [(raw, at + (raw > 0)) for raw, at in members],
        lambda members: members[:-1],
        lambda members: [*members, (members[-1][0] + 1, members[-1][1] + 1)],
    ],
)
def test_an_index_that_is_not_of_its_base_is_damage(
    into: Callable[..., Path], forge: Callable[[Sequence[tuple[int, int]]], list[tuple[int, int]]]
) -> None:
    piece = indexed()
    with pytest.raises(RefnetError, match="full is damaged: ") as error:
        into(piece._replace(members=forge(piece.members)))
    assert error.value.code is Exit.DAMAGED


@pytest.mark.parametrize(
    "members", [((0, 0), (1 << 40, 40)), ((0, 0), (512, 1 << 40)), ((0, 0),), ((0, 0), (1 << 19, 20))]
)
def test_an_index_whose_members_are_too_long_is_not_used(
    into: Callable[..., Path], members: tuple[tuple[int, int], ...]
) -> None:
    piece = indexed(FILES | {"base/5/2000": bytes(5 << 20)})
    assert (into(piece._replace(members=members)) / "base/5/2000").stat().st_size == 5 << 20


def test_a_flipped_byte_is_damage_with_an_index_too(tmp_path: Path) -> None:
    whole = indexed()
    data = whole.open().read()
    for at in range(0, len(data), 37):
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        folder = tmp_path / str(at)
        folder.mkdir()
        with pytest.raises(RefnetError, match="full is damaged") as error:
            unpack([whole._replace(open=lambda found=flipped: io.BytesIO(found))], folder, US)
        assert error.value.code is Exit.DAMAGED


@pytest.fixture
def as_it_is_into(tmp_path: Path) -> Callable[[Piece], Path]:
    """Unpacks a base backup as it is into a folder in another one."""

    def unpacked(piece: Piece) -> Path:
        folder = tmp_path / "inside" / "data"
        folder.mkdir(parents=True)
        unpack_as_it_is(piece, folder, US)
        return folder

    return unpacked


def test_a_base_is_unpacked_as_it_is_with_its_configuration(as_it_is_into: Callable[[Piece], Path]) -> None:
    folder = as_it_is_into(increment(incremental(1)))
    assert (folder / "postgresql.conf").read_bytes() == FILES["postgresql.conf"]
    assert (folder / "base/5/INCREMENTAL.1259").read_bytes() == incremental(1)
    assert (folder / "backup_label").read_bytes() == NEXT_LABEL


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_base_with_a_link_is_not_unpacked_as_it_is(
    as_it_is_into: Callable[[Piece], Path], tmp_path: Path, kind: bytes
) -> None:
    with pytest.raises(RefnetError, match="link"):
        as_it_is_into(base(FILES, FULL, link("base/5/out", str(tmp_path / "victim"), kind)))


def test_a_base_that_was_replaced_since_its_first_read_is_damage(
    as_it_is_into: Callable[[Piece], Path],
) -> None:
    replaced = base(FILES | {"base/5/1259": b"x" * BLOCK})
    with pytest.raises(RefnetError, match="SHA-256 differs"):
        as_it_is_into(base(FILES)._replace(open=replaced.open))


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_a_base_with_a_path_outside_is_not_unpacked_as_it_is(
    as_it_is_into: Callable[[Piece], Path], tmp_path: Path, name: str
) -> None:
    with pytest.raises(RefnetError):
        as_it_is_into(base(FILES | {name: b"x"}))
    assert not (tmp_path / "inside" / "outside").exists()
