"""What RefNet removes, reads and replaces is what it looked at: no link is followed out of the place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from refnet.core.files import check_own, read_regular, remove_tree, replace_file


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    return folder


def test_a_tree_goes_and_what_its_links_lead_to_stays(tmp_path, victim):
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "er" / "file").write_text("x")
    (tree / "socket").symlink_to(victim)
    (tree / "deep" / "precious").symlink_to(victim / "precious")
    os.mkfifo(tree / "fifo")
    (tree / "deep").chmod(0o500)
    before = victim.stat().st_mode

    remove_tree(tree)

    assert not tree.exists()
    assert (victim / "precious").read_text() == "precious"
    assert victim.stat().st_mode == before


def test_a_link_in_the_place_of_a_tree_is_not_followed(tmp_path, victim):
    (tmp_path / "tree").symlink_to(victim)
    with pytest.raises(OSError, match="tree"):
        remove_tree(tmp_path / "tree")
    assert (victim / "precious").exists()


def test_a_tree_of_another_user_is_left_alone(tmp_path, victim):
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(victim, 65534, 65534)
    with pytest.raises(PermissionError, match="belongs to another user"):
        remove_tree(victim)
    assert (victim / "precious").exists()
    remove_tree(victim, {65534})
    assert not victim.exists()


def test_a_tree_that_is_not_there_is_removed_already(tmp_path):
    remove_tree(tmp_path / "nothing")


def test_a_tree_deeper_than_all_open_files_and_all_paths_is_removed(tmp_path):
    top = tmp_path / "tree"
    top.mkdir()
    handle = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 20, dir_fd=handle)
        inner = os.open("d" * 20, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)

    remove_tree(top)

    assert not top.exists()


def test_a_disk_that_is_mounted_in_a_tree_is_not_emptied(tmp_path, mounted):
    disk = mounted(tmp_path / "tree" / "disk", "size=1m,mode=700")
    (disk / "precious").write_text("precious")
    with pytest.raises(OSError, match="mounted"):
        remove_tree(tmp_path / "tree")
    assert (disk / "precious").exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "large"])
def test_only_a_regular_file_of_an_expected_size_is_read(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "link":
        (tmp_path / "other").write_text("x")
        path.symlink_to(tmp_path / "other")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"12345")
    with pytest.raises(OSError):
        read_regular(path, 4)


def test_a_file_that_others_can_write_is_not_read_as_ours(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    path.chmod(0o622)
    with pytest.raises(PermissionError, match="can write to it"):
        read_regular(path, 4, owner=os.geteuid())
    path.chmod(0o600)
    assert read_regular(path, 4, owner=os.geteuid()) == b"1234"
    with pytest.raises(PermissionError):
        read_regular(path, 4, owner=os.geteuid() + 1)


@pytest.mark.parametrize("kind", ["link", "fifo", "device"])
def test_what_is_no_regular_file_is_neither_opened_nor_replaced(tmp_path, kind):
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_text("precious")
    if kind == "link":
        path.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    before = path.lstat()

    with pytest.raises(OSError, match="not a regular file"):
        replace_file(path, b"new")

    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert other.read_text() == "precious"


def test_a_file_is_replaced_with_the_mode_that_was_asked_for(tmp_path):
    replace_file(tmp_path / "file", b"one")
    replace_file(tmp_path / "file", b"two", 0o644)
    assert (tmp_path / "file").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_this_user_or_a_missing_one_passes_the_owner_check(tmp_path):
    check_own(tmp_path, "REFNET_HOME", "set REFNET_HOME")
    check_own(tmp_path / "nothing", "REFNET_HOME", "set REFNET_HOME")
