"""Notes that root writes into the vault of a user who swaps its folders and files with links meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.network import crawling
from tests.users import Ordinary, run

from refnet.core.errors import RefnetError
from refnet.demo.sample import Shape, make
from refnet.network.vault import write_vault
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

#: Swaps the folders of the vault with links to the folder of root, as fast as it can.
SWAPPER = """
import ctypes, os, sys
vault, outside, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
swap = ctypes.CDLL(None, use_errno=True).renameat2
links = {}
for name in ("papers", "index", "canvas", ".obsidian"):
    links[name] = f"{vault}/.link-{name}"
    os.symlink(outside, links[name])
print("ready", flush=True)
while True:
    for name, link in links.items():
        swap(-100, f"{vault}/{name}".encode(), -100, link.encode(), 2)
"""


@pytest.fixture(scope="module")
def network(server: Cluster) -> Iterator[Target]:
    with crawling.network(server) as target:
        make(target, Shape(200, abstract=200))
        yield target


@pytest.fixture
def home(short_folder: Path, ordinary: Ordinary) -> Path:
    """The home of another user, with a vault."""
    top = Path(tempfile.mkdtemp(dir=short_folder))
    top.chmod(0o711)
    for name in ("home", "home/vault"):
        (top / name).mkdir()
        os.chown(top / name, ordinary.uid, ordinary.gid)
    return top / "home"


def test_nothing_is_written_where_swapped_links_lead(network: Target, home: Path, ordinary: Ordinary) -> None:
    outside = home.parent / "outside"
    outside.mkdir(mode=0o755)
    vault = home / "vault"
    write_vault(network, vault)
    swapper = run(SWAPPER, vault, outside, ordinary.uid)
    try:
        assert swapper.stdout
        assert swapper.stdout.readline() == "ready\n"
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            for name in ("papers", "index", "canvas"):
                with suppress(OSError):
                    shutil.rmtree(vault / name)
            with suppress(RefnetError):
                write_vault(network, vault)
    finally:
        os.kill(swapper.pid, signal.SIGKILL)
        swapper.communicate()

    assert list(outside.iterdir()) == []


def test_a_link_of_that_user_to_a_folder_of_root_is_refused(
    network: Target, home: Path, ordinary: Ordinary
) -> None:
    outside = home.parent / "outside"
    outside.mkdir()
    (home / "vault").rmdir()
    (home / "vault").symlink_to(outside)
    os.chown(home / "vault", ordinary.uid, ordinary.gid, follow_symlinks=False)

    for vault in (home / "vault", home / "vault" / "new"):
        with pytest.raises(RefnetError, match="follows a symbolic link of"):
            write_vault(network, vault)
    assert list(outside.iterdir()) == []


def test_a_link_of_that_user_to_a_folder_of_that_user_is_followed(
    network: Target, home: Path, ordinary: Ordinary
) -> None:
    (home / "vault").rename(home / "notes")
    (home / "vault").symlink_to(home / "notes")
    os.chown(home / "vault", ordinary.uid, ordinary.gid, follow_symlinks=False)

    assert write_vault(network, home / "vault").new == 200
    assert len([*(home / "notes" / "papers").iterdir()]) == 200


def test_what_root_writes_belongs_to_the_user_of_the_vault(
    network: Target, home: Path, ordinary: Ordinary
) -> None:
    write_vault(network, home / "vault" / "inner")
    edited = next((home / "vault/inner/papers").iterdir())
    edited.write_text(edited.read_text().replace("# ", "# old ", 1))
    assert write_vault(network, home / "vault" / "inner").changed == 1

    assert {path.stat().st_uid for path in (home / "vault").rglob("*")} == {ordinary.uid}
