"""ACLs and attributes, as the kernel and tar write them."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

import pytest
from tests.users import Ordinary

from refnet.core import attributes
from refnet.core.attributes import NONE, Attributes, acl_text, from_records, records
from refnet.core.files import OPEN_FOLDER, opened
from refnet.core.member_names import ArchiveError

_NOBODY = (1 << 32) - 1


def acl(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


USUAL = acl((1, 6, _NOBODY), (2, 4, 1000), (2, 7, 2000), (4, 0, _NOBODY), (16, 6, _NOBODY), (32, 0, _NOBODY))
TEXT = b"user::rw-\nuser:1000:r--\nuser:2000:rwx\ngroup::---\nmask::rw-\nother::---\n"


def test_an_acl_is_written_as_getfacl_shows_it_with_numbers() -> None:
    assert acl_text(USUAL).encode() == TEXT


def test_records_are_read_as_they_were_written() -> None:
    kept = Attributes(USUAL, USUAL, ((b"user.a=b%3D", b"x\0\n"), (b"user.\xff", b"")))

    assert from_records(records(kept)) == kept
    assert b"SCHILY.xattr.user.a%3Db%253D" in records(kept)


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(b"\n", b","),
        b"other::---\nmask::rw-\ngroup::---\nuser:2000:rwx\nuser:1000:r--\nuser::rw-\n",
        b"u::rw-\nu:anna:r--:1000\nuser:bob:rwx:2000\t#effective:rw-\ng::---\nm:rw-\no:---",
    ],
    ids=["commas", "another order", "names with numbers"],
)
def test_the_acls_of_other_programs_are_read(text: bytes) -> None:
    assert from_records({b"SCHILY.acl.access": text}) == Attributes(USUAL)


def test_an_entry_by_name_is_left_out_and_marked() -> None:
    kept = from_records({b"SCHILY.acl.access": TEXT.replace(b"1000", b"anna").replace(b"2000", b"bob")})

    assert acl_text(kept.access) == "user::rw-\ngroup::---\nmask::rw-\nother::---\n"
    assert kept.unnumbered


def test_an_acl_that_says_what_the_mode_says_is_none() -> None:
    assert from_records({b"SCHILY.acl.access": b"user::rw-\ngroup::r--\nother::---\n"}) is NONE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"SCHILY.acl.access", b"user::rw-\n"),
        (b"SCHILY.acl.access", TEXT.replace(b"mask::rw-\n", b"")),
        (b"SCHILY.acl.access", TEXT.replace(b"1000", b"4294967295")),
        (b"SCHILY.acl.access", TEXT.replace(b"user::rw-", b"user::rws")),
        (b"SCHILY.acl.default", b"nobody knows"),
        (b"SCHILY.acl.default", b"user::rw-\n" * 2 + b"group::---\nother::---\n"),
        (b"SCHILY.acl.access", TEXT + b"user:7:rwx\n" * 9000),
        (b"SCHILY.xattr.user.", b"x"),
        (b"SCHILY.xattr.user." + b"n" * 256, b"x"),
        (b"SCHILY.xattr.user.a\0b", b"x"),
        (b"SCHILY.xattr.user.a", bytes((1 << 16) + 1)),
    ],
)
def test_impossible_records_are_refused(key: bytes, value: bytes) -> None:
    with pytest.raises(ArchiveError):
        from_records({key: value})


def test_capabilities_and_trusted_attributes_of_an_archive_are_never_set() -> None:
    records = {
        b"SCHILY.xattr.security.capability": b"x",
        b"SCHILY.xattr.trusted.a": b"x",
        b"SCHILY.acl.ace": b"x",
    }

    assert from_records(records) is NONE


@pytest.mark.parametrize(
    ("mode", "access", "wanted"),
    [
        (0o660, USUAL, 0o600),
        (0o640, b"", 0o640),
        (0o2770, acl((1, 7, 0), (4, 5, 0), (16, 3, 0), (32, 1, 0)), 0o2711),
    ],
)
def test_with_an_acl_the_group_has_what_its_entry_and_the_mask_allow(
    mode: int, access: bytes, wanted: int
) -> None:
    assert attributes.without_mask(mode, access) == wanted


def test_more_than_an_archive_can_carry_is_named_as_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("user.a", "user.b"):
        os.setxattr(tmp_path, name, bytes(100))
    monkeypatch.setattr(attributes, "MOST_BYTES", 150)

    with opened(tmp_path, OPEN_FOLDER) as folder:
        assert attributes.read(folder) == (Attributes(user=((b"user.a", bytes(100)),)), ("user.b",))


def test_a_folder_its_owner_may_not_write_is_copied_with_attributes(
    short_folder: Path, ordinary: Ordinary
) -> None:
    folder = Path(tempfile.mkdtemp(dir=short_folder))
    for name in ("live", "fresh"):
        (folder / name).mkdir()
        os.setxattr(folder / name, "user.tag", name.encode())
        os.chown(folder / name, ordinary.uid, ordinary.gid)
    (folder / "live").chmod(0o555)
    folder.chmod(0o711)

    def copied() -> str:
        with opened(folder / "live", OPEN_FOLDER) as live, opened(folder / "fresh", OPEN_FOLDER) as fresh:
            attributes.copy(live, fresh)
        return ""

    assert ordinary.does(copied) == ""
    assert os.getxattr(folder / "fresh", "user.tag") == b"live"
    assert (folder / "fresh").stat().st_mode & 0o777 == 0o555
