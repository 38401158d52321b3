"""`refnet metrics`: printed, as a file for node_exporter, and over HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.integration.telemetry.conftest import refnet, serving
from tests.unit.telemetry.conftest import World


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_are_printed(home: World) -> None:
    said = refnet(home.home, "metrics")
    assert said.returncode == 0
    assert 'refnet_backup_size_bytes{source="database"} 1024.0' in said.stdout


def test_a_textfile_is_readable_under_any_umask_and_leaves_nothing_else(home: World) -> None:
    folder = home.home / "textfile"
    folder.mkdir()
    before = os.umask(0o077)
    try:
        said = refnet(home.home, "metrics", "--textfile", str(folder / "refnet.prom"))
    finally:
        os.umask(before)
    assert (said.returncode, said.stderr) == (0, "")
    assert [file.name for file in folder.iterdir()] == ["refnet.prom"]
    assert (folder / "refnet.prom").stat().st_mode & 0o777 == 0o644
    assert "refnet_backup_success_timestamp" in (folder / "refnet.prom").read_text()


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_an_unwritable_textfile_folder_is_an_error_of_two_lines(home: World, folder: str) -> None:
    (home.home / "file").write_text("")
    said = refnet(home.home, "metrics", "--textfile", str(home.home / folder / "refnet.prom"))
    assert said.returncode == 1
    assert len(said.stderr.splitlines()) == 2
    assert folder in said.stderr


@pytest.mark.parametrize("kind", ["device", "link", "fifo"])
def test_a_textfile_that_is_no_regular_file_is_refused_and_left_as_it_is(home: World, kind: str) -> None:
    path, victim = home.home / "refnet.prom", home.home / "victim"
    victim.write_text("precious")
    if kind == "device":
        path = Path("/dev/null")
    elif kind == "link":
        path.symlink_to(victim)
    else:
        os.mkfifo(path)
    before = path.lstat()
    said = refnet(home.home, "metrics", "--textfile", str(path))
    assert said.returncode == 1
    assert f"{path} is not a regular file" in said.stderr
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert victim.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_textfile_folder_of_somebody_else_is_an_error_that_says_so(short_folder: Path) -> None:
    folder = short_folder / "textfile"
    folder.mkdir(mode=0o755)
    target = folder / "refnet.prom"
    target.write_text("what stood there\n")
    script = (
        "import os, sys; from pathlib import Path\n"
        "from refnet.cli.monitor import _write_metrics; from refnet.core.errors import RefnetError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: _write_metrics(Path(sys.argv[1]), lambda accept: (b'new', ''))\n"
        "except RefnetError as error: print(error.message)\n"
    )
    command = [sys.executable, "-c", script, str(target)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("this user cannot access ")
    assert target.read_text() == "what stood there\n"


def test_metrics_and_health_are_served_and_what_changes_shows_at_once(home: World) -> None:
    with serving(home.home) as url:
        status, text = _get(f"{url}/metrics")
        assert status == 200
        assert 'refnet_artifacts{source="database",state="proven"} 1.0' in text
        home.damage(home.store.entries()[0].manifest)
        assert 'refnet_artifacts{source="database",state="damaged"} 1.0' in _get(f"{url}/metrics")[1]
        status, text = _get(f"{url}/health")
        assert (status, json.loads(text)) == (200, {"status": "ok"})
        assert _get(f"{url}/else")[0] == 404


def test_an_unreadable_catalog_is_503_not_success_without_artifacts(home: World) -> None:
    with serving(home.home) as url:
        (home.home / "backups").rename(home.home / "away")
        (home.home / "backups").write_text("a file where the folder was")
        for path in ("metrics", "health"):
            status, text = _get(f"{url}/{path}")
            assert status == 503
            assert "backups" in text


@pytest.mark.parametrize(
    ("address", "code", "says"),
    [
        ("nonsense", 2, "HOST:PORT"),
        ("127.0.0.1:99999", 2, "HOST:PORT"),
        ("::1:80", 2, "HOST:PORT"),
        ("192.0.2.1:9817", 1, "address of this machine"),
    ],
)
def test_an_address_that_cannot_be_served_is_an_error(
    home: World, address: str, code: int, says: str
) -> None:
    said = refnet(home.home, "metrics", "--serve", address)
    assert said.returncode == code
    assert says in said.stderr
    assert len(said.stderr.splitlines()) == 2


def test_a_port_in_use_is_an_error(home: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refnet(home.home, "metrics", "--serve", f"127.0.0.1:{taken.getsockname()[1]}")
    assert said.returncode == 1
    assert "in use" in said.stderr


def test_a_client_that_says_nothing_holds_up_nobody(home: World) -> None:
    with serving(home.home) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))):
            assert _get(f"{url}/health")[0] == 200
