"""Hostile archives are refused by name with nothing outside written; harmless ones come back whole."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.sources.files.corpus import HARMLESS, HOSTILE, archive, folder, member
from tests.users import Ordinary

from refnet.catalog.artifact import silent
from refnet.core.member_names import ArchiveError
from refnet.sources.folder import archive_reader
from refnet.sources.folder.archive_reader import (
    ArchiveLimits,
    NoSpaceError,
    NullSink,
    extract,
    limits,
    read_archive,
)
from refnet.sources.folder.listing import FileList
from refnet.sources.folder.scope import Unheld
from refnet.sources.folder.tree import differences
from refnet.sources.folder.unpack import FreshFolder, NamesMergeError, scratch_folder, unpack


@contextmanager
def fresh(path: Path) -> Iterator[int]:
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def contents(path: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    for one in path.rglob("*"):
        name = str(one.relative_to(path))
        found[name] = str(one.readlink()) if one.is_symlink() else one.read_bytes() if one.is_file() else None
    return found


@pytest.mark.parametrize(("make", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written_outside(tmp_path, make, told):
    data = make()
    before = sorted(tmp_path.parent.iterdir())
    with fresh(tmp_path / "fresh") as root, pytest.raises(ArchiveError, match=told):
        unpack(io.BytesIO(data), root, None)

    assert list(tmp_path.iterdir()) == [tmp_path / "fresh"]
    assert sorted(tmp_path.parent.iterdir()) == before
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(("make", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_by_a_mere_reading_too(make, told):
    with pytest.raises(ArchiveError, match=told):
        read_archive(io.BytesIO(make()), NullSink())


@pytest.mark.parametrize(("make", "wanted"), HARMLESS.values(), ids=HARMLESS)
def test_a_harmless_archive_comes_back_whole(tmp_path, make, wanted):
    with fresh(tmp_path / "fresh") as root:
        files = unpack(io.BytesIO(make()), root, None)

    assert contents(tmp_path / "fresh") == wanted
    assert {listed.path for listed in files.files} - {"."} == wanted.keys()


def test_an_archive_that_does_not_fit_is_refused_before_it_fills_the_disk(small_disk):
    big = archive(member("small", bytes(1 << 20)), member("zeros", bytes(3 << 20)))

    with fresh(small_disk / "fresh") as root, pytest.raises(NoSpaceError, match="zeros does not fit"):
        unpack(io.BytesIO(big), root, None)
    assert contents(small_disk / "fresh").keys() == {"small"}


def test_unreadable_files_are_compared_and_unset_modes_are_named(
    short_folder: Path, ordinary: Ordinary
) -> None:
    pax = {"SCHILY.acl.access": "user::-w-,user:4711:rw-,group::---,mask::rw-,other::---"}
    data = archive(
        member("closed", type=tarfile.DIRTYPE, mode=0),
        member("closed/a.md", b"text", mode=0),
        member("b.md", b"text", mode=0o260, pax_headers=pax),
        member("c.md", b"text", mode=0o640),
        pax=True,
    )
    top = Path(tempfile.mkdtemp(dir=short_folder))
    os.chown(top, ordinary.uid, ordinary.gid)

    def compared() -> str:
        unheld, root = Unheld(), os.open(top, os.O_RDONLY)
        files = unpack(io.BytesIO(data), root, None, unheld=unheld)
        return "\n".join([*differences(files, root, unheld), *unheld.told()])

    assert ordinary.does(compared).splitlines() == [
        "this user or file system could not set: the mode of closed/a.md, b.md, closed",
        "this user or file system could not set: the ACL of b.md",
    ]


def test_attributes_that_do_not_fit_are_refused_before_they_are_set():
    pax = {f"SCHILY.xattr.user.{number}": "x" * 60_000 for number in range(8)}
    data = archive(*(member(f"{number}.md", pax_headers=pax) for number in range(20)), pax=True)

    with pytest.raises(NoSpaceError, match=r"2\.md does not fit"):
        read_archive(io.BytesIO(data), NullSink(), limits=ArchiveLimits(space=1_000_000))


def test_an_archive_with_too_many_members_is_refused_at_the_limit():
    swarm = archive(*(member(f"{number}.md") for number in range(102)))

    with pytest.raises(ArchiveError, match="more than 100 members"):
        read_archive(io.BytesIO(swarm), NullSink(), limits=ArchiveLimits(members=100))
    assert limits(None).members < 1_000_000


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_a_name_that_the_file_system_takes_for_another_is_refused_by_name(tmp_path, kind):
    data = archive(member("note.md", type=kind, linkname="a" if kind == tarfile.SYMTYPE else ""))

    with fresh(tmp_path / "fresh") as root:
        (tmp_path / "fresh" / "note.md").touch()  # as if Note.md had been unpacked, and were the same name
        with pytest.raises(NamesMergeError, match=r"note\.md has the same name as another member"):
            unpack(io.BytesIO(data), root, None)


def test_modes_times_and_owners_come_back(tmp_path):
    if os.geteuid():
        pytest.skip("only root gives files away")
    data = archive(
        member("d", type=b"5", mode=0o2750, mtime=1_000_000_000, uid=7, gid=8),
        member("d/a", b"x", mode=0o640, mtime=1_100_000_000, uid=9, gid=10),
    )
    with fresh(tmp_path / "fresh") as root:
        sink = FreshFolder(root, owners=True)
        read_archive(io.BytesIO(data), sink)
        sink.finish()

    def seen(path: Path) -> tuple[int, int, int, int]:
        status = path.stat()
        return stat.S_IMODE(status.st_mode), int(status.st_mtime), status.st_uid, status.st_gid

    assert seen(tmp_path / "fresh" / "d") == (0o2750, 1_000_000_000, 7, 8)
    assert seen(tmp_path / "fresh" / "d" / "a") == (0o640, 1_100_000_000, 9, 10)


def test_power_bits_of_an_archive_are_dropped(tmp_path):
    data = archive(member("d", type=b"5", mode=0o7755), member("d/a", b"x", mode=0o6755))
    with fresh(tmp_path / "fresh") as root:
        unpack(io.BytesIO(data), root, None)

    assert stat.S_IMODE((tmp_path / "fresh" / "d" / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "fresh" / "d").stat().st_mode) == 0o3755


def test_a_scratch_folder_is_private_and_removed_whatever_its_modes(tmp_path, short_folder):
    data = archive(folder("d"), member("d/locked", type=b"5", mode=0), member("d/locked/a", b"x", mode=0))
    with scratch_folder(tmp_path / "scratch") as root:
        (made,) = (tmp_path / "scratch").iterdir()
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        unpack(io.BytesIO(data), root, None)

    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_next_proof_removes_a_killed_ones_folder_but_no_live_one(tmp_path):
    with scratch_folder(tmp_path):
        (living,) = tmp_path.iterdir()
        (tmp_path / ".refnet-files-killed" / "d").mkdir(parents=True)
        (tmp_path / ".refnet-files-killed" / "d").chmod(0)
        with scratch_folder(tmp_path):
            assert living.exists()
            assert not (tmp_path / ".refnet-files-killed").exists()


def test_most_of_an_archive_of_small_files_is_decompressed_ahead(tmp_path, dumped, monkeypatch):
    (tmp_path / "notes").mkdir()
    for number in range(2_200):  # their headers take more than two gzip members, their contents nothing
        (tmp_path / "notes" / f"{number}.md").write_bytes(b"x")
    artifact = dumped(tmp_path / "notes")
    files = FileList.from_json(artifact.made.files)
    assert len(files.members) > 2
    monkeypatch.setattr(archive_reader, "inflated_from", lambda *_: pytest.fail("decompressed on demand"))
    members = [(one.path, one) for one in files.files]

    with fresh(tmp_path / "out") as root:
        extract(io.BytesIO(artifact.data), files, members, FreshFolder(root), silent)

    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        f"{number}.md": b"x" for number in range(2_200)
    }
