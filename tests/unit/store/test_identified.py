"""A store that says who it is, a home that remembers it, and disks that are not mounted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from refnet.core.errors import RefnetError
from refnet.store.backup_folder import MARKER, Remembered, accept, id_in, mark, trouble, unmounted

NO_TABLE = Path("/nonexistent")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def remembered(tmp_path: Path) -> Remembered:
    return Remembered(tmp_path / "home" / "stores")


def why(root: Path, remembered: Remembered) -> str | None:
    found = trouble(root, remembered, NO_TABLE)
    return found.message if found else None


def test_a_marker_is_made_once_for_this_user_alone(root: Path) -> None:
    made = mark(root)

    assert mark(root) == made == id_in(root)
    assert (root / MARKER).stat().st_mode & 0o777 == 0o600
    assert mark(root.with_name("other")) != made


def test_an_unknown_folder_may_become_a_store_and_a_known_one_must_match(
    root: Path, remembered: Remembered
) -> None:
    assert why(root, remembered) is None
    remembered.remember(root, mark(root))
    assert why(root, remembered) is None

    (root / MARKER).unlink()
    assert why(root, remembered) == f"{root} is not the store of earlier runs: is the disk mounted?"
    mark(root)
    assert why(root, remembered) == f"{root} is a different store than earlier runs: is the disk mounted?"
    assert why(root.with_name("other"), remembered) is None


def test_a_store_that_is_accepted_is_the_one_from_then_on(root: Path, remembered: Remembered) -> None:
    remembered.remember(root, "0" * 32)

    accepted = accept(root, remembered)

    assert id_in(root) == remembered.id_of(root) == accepted
    assert why(root, remembered) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"id": "../../etc/passwd"}',
        b'{"id": ["0"]}',
        b'{"id": "' + b"0" * 33 + b'"}',
        b"[" * 10_000,
        b"\xff\xfe",
        b'{"id": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_marker_that_is_none_stops_a_backup_and_can_be_replaced(
    root: Path, remembered: Remembered, content: bytes
) -> None:
    root.mkdir()
    (root / MARKER).write_bytes(content)

    with pytest.raises(RefnetError, match="is not the marker of a store"):
        trouble(root, remembered, NO_TABLE)
    accept(root, remembered)
    assert why(root, remembered) is None


def test_a_marker_is_read_through_no_link_or_fifo_and_only_briefly(
    root: Path, remembered: Remembered, tmp_path: Path
) -> None:
    root.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps({"id": "0" * 32}))
    (root / MARKER).symlink_to(elsewhere)
    with pytest.raises(RefnetError, match="is not a regular file"):
        accept(root, remembered)
    assert elsewhere.read_text() == json.dumps({"id": "0" * 32})

    (root / MARKER).unlink()
    os.mkfifo(root / MARKER)
    with pytest.raises(RefnetError, match="is not the marker"):
        id_in(root)
    (root / MARKER).unlink()
    (root / MARKER).touch()
    os.truncate(root / MARKER, 1 << 40)
    with pytest.raises(RefnetError):
        id_in(root)


def test_an_unreadable_record_of_a_store_stops_a_backup_until_accepted(
    root: Path, remembered: Remembered
) -> None:
    remembered.remember(root, mark(root))
    (file,) = remembered.folder.iterdir()
    file.write_text("{")

    with pytest.raises(RefnetError, match="is not the record of a store"):
        trouble(root, remembered, NO_TABLE)
    accept(root, remembered)
    assert why(root, remembered) is None


def test_a_folder_on_a_disk_of_fstab_that_is_not_mounted_is_no_store(
    tmp_path: Path, remembered: Remembered
) -> None:
    disk = tmp_path / "my disk"
    fstab = tmp_path / "fstab"
    lines = [
        "# /dev/sdz /proc ext4",
        "UUID=1 / ext4 defaults 0 1",
        "proc /proc proc defaults 0 0",
        f"UUID=2 {str(disk).replace(' ', chr(92) + '040')} ext4 noauto 0 2",
        f"UUID=3 {disk.with_name('disk')} ext4",
        "UUID=4 /dev ext4",
        "none none swap sw",
        "/dev/sdx relative ext4",
        "x /bad\\000name ext4",
        "short",
    ]
    fstab.write_text("\n".join(lines))

    for folder in (disk, disk / "backups" / "deeper"):
        assert unmounted(folder, fstab) == disk
        found = trouble(folder, remembered, fstab)
        assert found
        assert f"{folder} is on {disk}" in found.message
    for folder in (tmp_path / "backups", Path("/proc/self"), Path("/dev/shm/x"), tmp_path / "my disk 2"):
        assert unmounted(folder, fstab) is None
    mark(disk)
    assert trouble(disk, remembered, fstab) is None
