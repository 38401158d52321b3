"""`refnet restore main-cluster … --into DIR`: a data folder that starts, as of a moment."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clusters import Live, live
from tests.command import Command, Result, url_of

from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries


@pytest.fixture(scope="module")
def shop(wheel: Binaries, short_folder: Path) -> Iterator[Live]:
    """A server with a full, an increment, and a DELETE without WHERE."""
    with live(wheel, short_folder / "into") as found:
        found.sql("CREATE DATABASE shop")
        found.sql("CREATE TABLE orders AS SELECT g AS i FROM generate_series(1, 100) g", database="shop")
        found.base()
        found.sql("INSERT INTO orders VALUES (101)", database="shop")
        found.base(increment=True)
        found.sql("INSERT INTO orders VALUES (102)", database="shop")
        found.before = found.now().isoformat()
        found.sql("DELETE FROM orders", database="shop")
        found.arrived()
        found.names = found.publish("main-cluster")
        yield found


@pytest.fixture
def place(short_folder: Path) -> Iterator[Path]:
    """A folder that the server's user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="new-", dir=short_folder))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def refnet(place: Path, shop: Live) -> Command:
    (place / "refnet.toml").write_text(
        f'[clusters.main]\nurl = "{url_of(shop.cluster.target())}"\nwal = true\n'
        f'[postgres]\nbin_dir = "{shop.cluster.binaries.folder}"\n'
    )
    (place / "refnet.toml").chmod(0o600)
    return Command(place / "home", shop.archive.folder.parent.parent, "")


def counted(restored: Result, folder: Path) -> str:
    """Start the restored server by the command that was printed, and count the orders in it."""
    start = shlex.split(restored.json["start"].removeprefix("sudo -u postgres "))
    ask = [
        *shlex.split(restored.json["psql"].removeprefix("sudo -u postgres "))[:-1],
        "-U",
        "refnet",
        "-d",
        "shop",
    ]
    become = account(folder).become
    subprocess.run([*start, "-w", "-t", "30"], check=True, stdout=subprocess.DEVNULL, **become)
    try:
        done = subprocess.run(
            [*ask, "-Atc", "SELECT count(*) FROM orders"],
            check=False,
            capture_output=True,
            text=True,
            **become,
        )
        return done.stdout.strip() or done.stderr
    finally:
        subprocess.run(
            [*start[:3], "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **become
        )


def test_a_server_is_restored_to_the_second_before_a_delete_and_starts(
    refnet: Command, shop: Live, place: Path
) -> None:
    restored = refnet("restore", "main-cluster", "--at", shop.before, "--into", place / "data", "--json")
    assert restored.code == 0, restored.err
    assert restored.json["chain"] == shop.names
    assert counted(restored, place / "data") == "102"
    latest = refnet("restore", "main-cluster", "--latest", "--into", place / "latest", "--json")
    assert counted(latest, place / "latest") == "0"


def test_a_relative_folder_is_one_below_the_working_folder(refnet: Command, place: Path) -> None:
    restored = refnet("restore", "main-cluster", "--latest", "--into", "relative", "--json")
    assert restored.code == 0, restored.err
    assert restored.json["into"] == str(place / "relative")
    assert f" -D {place / 'relative'} " in restored.json["start"]
