"""A home or a backup folder of another user is refused by name, root's by a user and a user's by root."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command import Command
from tests.faults.store import publish

from refnet.broker import server
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.store.local import LocalStore

NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def refnet(tmp_path: Path) -> Command:
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "a.md").write_text("a")
    (tmp_path / "home").mkdir(mode=0o700)
    environment = {"REFNET_VAULT_DIR": str(vault)}
    return Command(
        tmp_path / "home", tmp_path / "backups", "postgresql://nobody@localhost/nothing", environment
    )


@pytest.fixture
def open_place(short_folder: Path) -> Path:
    """A folder that every user can pass through."""
    folder = short_folder / "other users"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    return folder


@only_root
@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "obsidian"), ("restore", "obsidian", "--force"), ("undo", "obsidian", "--force"), ("prune",),
        ("verify",), ("drill",), ("list",), ("recover", "--force"), ("postgres", "start"), ("network", "vault"),
        ("metrics",), ("adopt", "x"), ("notify",), ("diff", "obsidian"), ("demo",), ("broker", "start"), ("worker",),
        ("beat",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_home_of_another_user_is_refused_and_left_as_it_is(refnet, arguments):
    os.chown(refnet.home, NOBODY, NOBODY)
    refnet(*arguments).fails(
        Exit.USAGE, f"REFNET_HOME {refnet.home}", "nobody", "sudo -u nobody refnet", "set REFNET_HOME"
    )
    assert list(refnet.home.iterdir()) == []
    assert not refnet.backups.exists()


@only_root
def test_a_monitor_of_another_users_home_knows_nothing(refnet):
    os.chown(refnet.home, NOBODY, NOBODY)
    refnet("monitor").fails(3, f"REFNET_HOME {refnet.home}")


@only_root
def test_the_settings_of_another_users_home_can_still_be_looked_at(refnet):
    os.chown(refnet.home, NOBODY, NOBODY)
    refnet("settings").succeeds()


@pytest.mark.parametrize("arguments", [("backup", "obsidian"), ("list",)], ids=" ".join)
def test_a_home_that_every_user_can_write_in_is_refused(refnet, arguments):
    refnet.home.chmod(0o777)
    refnet(*arguments).fails(Exit.USAGE, f"REFNET_HOME {refnet.home} is writable by every user", "chmod o-w")


@only_root
def test_a_home_of_roots_is_refused_to_a_user(open_place, as_nobody):
    from refnet.context import own_home
    from refnet.settings import Settings

    home = open_place / "home of root"
    home.mkdir(mode=0o755)
    assert "belongs to root, and this user is nobody" in as_nobody(lambda: own_home(Settings(home=home)))


@only_root
@pytest.mark.parametrize("which", ["the store", "one source of it"])
def test_root_writes_nothing_into_the_backup_folder_of_a_user(refnet, which):
    folder = refnet.backups if which == "the store" else refnet.backups / "obsidian"
    folder.mkdir(parents=True)
    os.chown(folder, NOBODY, NOBODY)

    for arguments in (("backup", "obsidian"), ("prune", "obsidian")):
        ran = refnet(*arguments)
        if arguments[0] == "backup":
            ran.fails(
                Exit.USAGE,
                f"the backup folder {folder}",
                "nobody",
                "sudo -u nobody refnet",
                "REFNET_BACKUP_DIR",
            )
    assert [path for path in refnet.backups.rglob("*") if path.is_file()] == []


@only_root
def test_root_verifies_and_restores_a_users_backups_without_writing_there(refnet):
    refnet("backup", "obsidian").succeeds()
    for path in (refnet.backups, *refnet.backups.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    before = {path: path.lstat().st_mtime_ns for path in refnet.backups.rglob("*")}
    note = refnet.home.parent / "vault" / "a.md"
    note.unlink()

    assert "belongs to nobody" in refnet("verify").out
    refnet("restore", "obsidian", "--force").succeeds()

    assert note.read_text() == "a"
    assert {path: path.lstat().st_mtime_ns for path in refnet.backups.rglob("*")} == before


@only_root
def test_a_user_writes_nothing_into_a_backup_folder_of_roots(open_place, as_nobody):
    store = open_place / "store of root"
    store.mkdir()
    store.chmod(0o777)
    assert f"{store}: it belongs to root" in as_nobody(lambda: publish(LocalStore(store), b"x"))
    assert list(store.iterdir()) == []


@only_root
def test_a_user_may_use_a_folder_in_roots_store_and_a_store_on_roots_disk(open_place, as_nobody):
    disk = open_place / "disk of root"
    for folder in (disk / SourceName.OBSIDIAN, disk / "store"):
        folder.mkdir(parents=True)
        os.chown(folder, NOBODY, NOBODY)
    for store in (disk, disk / "store"):
        assert as_nobody(lambda store=store: publish(LocalStore(store), b"x")) == "no error"


@only_root
def test_root_restores_the_vault_of_a_user_and_its_files_stay_that_users(refnet):
    vault = refnet.home.parent / "vault"
    for path in (vault, vault / "a.md"):
        os.chown(path, NOBODY, NOBODY)
    refnet("backup", "obsidian").succeeds()
    (vault / "a.md").unlink()

    refnet("restore", "obsidian", "--force").succeeds()

    assert {path.stat().st_uid for path in (vault, vault / "a.md")} == {NOBODY}


def test_what_is_refused_is_a_matter_of_the_owner_alone(tmp_path: Path) -> None:
    made: Callable[[], object] = lambda: publish(LocalStore(tmp_path / "backups"), b"x")  # noqa: E731
    made()
    (tmp_path / "backups").chmod(0o755)
    made()
    with pytest.raises(RefnetError):
        publish(LocalStore(Path("/proc")), b"x")


@only_root
@pytest.mark.parametrize("act", [server.start, server.status, server.stop, server.url])
def test_another_users_broker_in_the_shared_temporary_folder_is_refused(
    open_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]
) -> None:
    """The socket of a long REFNET_HOME is there, under a name that everybody can compute."""
    shared, home = open_place / "tmp", tmp_path / ("long" * 30)
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    folder = Path(server.url(home).removeprefix("redis+socket://")).parent
    assert folder.parent == shared
    folder.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "valkey.sock"))
        listener.listen()
        listener.settimeout(0)
        os.chown(folder, NOBODY, NOBODY)
        with pytest.raises(RefnetError, match="is not a private folder of this user"):
            act(home)
        with pytest.raises(BlockingIOError):
            listener.accept()
    shared.chmod(0o777)
    os.chown(folder, 0, 0)
    folder.chmod(0o700)
    with pytest.raises(RefnetError, match="can be written by others"):
        act(home)
    shutil.rmtree(shared)
