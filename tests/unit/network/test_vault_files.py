"""A note that is replaced stays what it was to other users."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from refnet.core.attributes import ACCESS, DEFAULT
from refnet.core.files import OPEN_FOLDER, opened
from refnet.network import vault_files

_NOBODY = (1 << 32) - 1
#: user::rw-, user:4711:rw-, group::---, mask::rw-, other::---
_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *one)
    for one in ((1, 6, _NOBODY), (2, 6, 4711), (4, 0, _NOBODY), (16, 6, _NOBODY), (32, 0, _NOBODY))
)


def replaced(folder: Path, name: str) -> Path:
    with opened(folder, OPEN_FOLDER) as vault:
        _, state = vault_files.read(vault, name)
        assert state
        assert vault_files.replace(vault, name, "new", state)
    assert (folder / name).read_text() == "new"
    return folder / name


def test_a_replaced_note_keeps_its_acl_and_its_attributes(tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text("old")
    try:
        os.setxattr(note, ACCESS, _ACL)
        os.setxattr(note, "user.tag", b"reading")
    except OSError as error:
        pytest.skip(f"this file system cannot hold it: {error.strerror}")
    before = os.getxattr(note, ACCESS), note.stat().st_mode

    replaced(tmp_path, "note.md")

    assert (os.getxattr(note, ACCESS), note.stat().st_mode) == before
    assert os.getxattr(note, "user.tag") == b"reading"


def test_a_replaced_note_gets_no_acl_from_its_folder(tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text("old")
    note.chmod(0o640)
    try:
        os.setxattr(tmp_path, DEFAULT, _ACL)
    except OSError as error:
        pytest.skip(f"this file system cannot hold it: {error.strerror}")

    replaced(tmp_path, "note.md")

    assert ACCESS not in os.listxattr(note)
    assert note.stat().st_mode & 0o777 == 0o640
