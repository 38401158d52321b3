"""`refnet store installer`, and the lines of a recovery page that fetch it, compare it and only then run it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import ssh_server
from tests.command import Command
from tests.installers import builder, commands
from tests.seaweed import BUCKET, credentials_file, seaweed

from refnet import __version__
from refnet.actions.recovery_page import _fetch_file
from refnet.core.errors import RefnetError
from refnet.settings.stores import StoreSettings
from refnet.settings.urls import parse_store_url
from refnet.store import installers
from refnet.store.installers import Installer


def _file(path: Path, version: str = __version__) -> str:
    """Write something like an installer, which says that it runs; return its SHA-256."""
    own = f"wheels/refnet-{version}-py3-none-any.whl"
    builder().write(path, {"__main__.py": b"print('installs')\n", own: b""})
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def refnet(tmp_path: Path) -> Command:
    return Command(tmp_path / "home", tmp_path / "backups", "none")


def _with(refnet: Command, tmp_path: Path, *stores: str) -> None:
    """Settings with the stores, and a key."""
    (tmp_path / "home").mkdir(mode=0o700, exist_ok=True)
    made = refnet("key", "new", "--page", tmp_path / "first.txt", "--json")
    assert made.code == 0, made.err
    text = f"[encryption]\nrecipients = {made.json['recipients']!r}\n" + "".join(stores)
    (tmp_path / "home" / "refnet.toml").write_text(text.replace("'", '"'))


def _page(refnet: Command, tmp_path: Path, name: str = "page.txt") -> str:
    first = (tmp_path / "first.txt").read_text()
    key = tmp_path / "key"
    (found,) = re.findall(r"^recovery key +(\S.*)$", first, re.MULTILINE)
    key.write_text(found.replace(" ", ""))
    key.chmod(0o600)
    done = refnet("key", "page", "--identity-file", key, "--page", tmp_path / name)
    assert done.code == 0, done.err
    return (tmp_path / name).read_text()


def _run(lines: str, folder: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        ["sh", "-c", lines], cwd=folder, check=False, capture_output=True, text=True, timeout=60, input=typed
    )


def test_a_folder_gets_it_once_and_the_page_runs_it_only_if_it_is_the_same(
    refnet: Command, tmp_path: Path
) -> None:
    copies, file = tmp_path / "my copies", tmp_path / "refnet.pyz"
    copies.mkdir(mode=0o700)
    _with(refnet, tmp_path, f"[stores.nas]\nurl = 'file://{copies}'\n")
    before = _page(refnet, tmp_path, "before.txt")
    assert commands(before) == ""
    assert "Put it there: `refnet store installer FILE --sha256 HEX`." in " ".join(before.split())
    digest = _file(file)
    name = f"installers/refnet-{__version__}-{digest}.pyz"
    planned = refnet("store", "installer", file, "--sha256", digest, "--plan")
    assert planned.code == 0
    assert f"send {name} to nas" in planned.out + planned.err
    assert not (copies / "installers").exists()
    sent = refnet("store", "installer", file, "--sha256", digest)
    assert (sent.code, f"{name} sent" in sent.out + sent.err) == (0, True), sent.err
    assert (copies / name).read_bytes() == file.read_bytes()
    again = refnet("store", "installer", file, "--sha256", digest, "--json")
    assert again.json["stores"] == [{"store": "nas", "object": name, "sent": False}]
    assert [one.name for one in (copies / "installers").iterdir()] == [Path(name).name]
    lines = commands(_page(refnet, tmp_path))
    done = _run(lines, tmp_path / "new")
    assert done.stdout == "refnet.pyz: OK\ninstalls\n"
    (copies / name).chmod(0o600)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # as large as before
    (copies / name).write_bytes(data)
    done = _run(lines, tmp_path / "newer")
    assert done.returncode != 0
    assert done.stdout == "refnet.pyz: FAILED\n"
    refused = refnet("store", "installer", file, "--sha256", digest)
    assert refused.code == 4
    assert "with different content" in refused.err


def test_a_store_cannot_name_another_installer_for_the_page(refnet: Command, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    (copies / "installers").mkdir(mode=0o700, parents=True)
    copies.chmod(0o700)
    _with(refnet, tmp_path, f"[stores.nas]\nurl = 'file://{copies}'\n")
    digest = _file(tmp_path / "evil.pyz")
    (tmp_path / "evil.pyz").rename(copies / "installers" / f"refnet-{__version__}-{digest}.pyz")
    page = _page(refnet, tmp_path)
    assert commands(page) == ""
    assert digest not in page


def test_an_installer_of_another_version_is_not_on_the_page(refnet: Command, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir(mode=0o700)
    _with(refnet, tmp_path, f"[stores.nas]\nurl = 'file://{tmp_path}/copies'\n")
    digest = _file(tmp_path / "old.pyz", "0.0.1")
    assert refnet("store", "installer", tmp_path / "old.pyz", "--sha256", digest).code == 0
    assert commands(_page(refnet, tmp_path)) == ""


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing", "digest", "zip", "text"])
def test_only_a_regular_file_with_that_digest_is_sent(refnet: Command, tmp_path: Path, kind: str) -> None:
    (tmp_path / "copies").mkdir(mode=0o700)
    _with(refnet, tmp_path, f"[stores.nas]\nurl = 'file://{tmp_path}/copies'\n")
    good, file = tmp_path / "good.pyz", tmp_path / "file"
    digest = _file(good)
    match kind:
        case "link":
            file.symlink_to(good)
        case "fifo":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "digest":
            file.write_bytes(good.read_bytes() + b"\n")
        case "zip":
            builder().write(file, {"__main__.py": b""})
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
        case "text":
            file.write_text("no zip")
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
    done = refnet("store", "installer", file, "--sha256", digest)
    assert done.code in {1, 2, 4}, done.err
    assert len(done.err.splitlines()) == 2
    assert not (tmp_path / "copies" / "installers").exists()


@pytest.mark.skipif(bool(ssh_server.MISSING), reason=ssh_server.MISSING)
def test_the_line_for_sftp_fetches_it(refnet: Command, tmp_path: Path) -> None:
    copies, folder = tmp_path / "my copies", tmp_path / "sshd"
    copies.mkdir(mode=0o700)
    folder.mkdir()
    with ssh_server.ssh_server(folder) as server:
        url = server.url(copies).replace(" ", "%20")
        _with(refnet, tmp_path, f"[stores.nas]\nurl = '{url}'\n")
        digest = _file(tmp_path / "refnet.pyz")
        (copies / "installers").mkdir()
        name = f"refnet-{__version__}-{digest}.pyz"
        (copies / "installers" / name).write_bytes((tmp_path / "refnet.pyz").read_bytes())
        record = Installer(__version__, digest, 1, url)
        assert record.object == f"installers/{name}"
        (line,) = _fetch_file(StoreSettings("nas").with_values({"url": parse_store_url(url)}), record.object)
        line = line.replace("sftp ", f"sftp {' '.join(server.options)} ", 1)
        done = _run(f"{line}; echo '{digest}  refnet.pyz' | sha256sum -c", tmp_path / "new")
        assert done.stdout.endswith("refnet.pyz: OK\n"), done.stderr


def test_the_lines_for_s3_fetch_it_without_a_secret_among_their_words(
    refnet: Command, tmp_path: Path
) -> None:
    with seaweed(tmp_path / "seaweed") as server:
        writer = credentials_file(tmp_path / "writer", server.writer)
        url = f"s3://{BUCKET}/pre/fix?endpoint={server.endpoint}&region=us-east-1&credentials_file={writer}"
        _with(refnet, tmp_path, f"[stores.cloud]\nurl = '{url}'\n")
        digest = _file(tmp_path / "refnet.pyz")
        sent = refnet("store", "installer", tmp_path / "refnet.pyz", "--sha256", digest)
        assert sent.code == 0, sent.err
        lines = commands(_page(refnet, tmp_path))
        assert server.writer["secret_access_key"] not in lines
        reader = server.reader
        typed = f'user = "{reader["access_key_id"]}:{reader["secret_access_key"]}"\n'
        lines = lines.replace("/dev/shm/s3", str(tmp_path / "s3"))
        done = _run(lines, tmp_path / "new", typed)
        assert done.stdout == "refnet.pyz: OK\ninstalls\n", done.stderr
        assert not (tmp_path / "s3").exists()


@given(st.binary(max_size=300))
def test_any_record_is_refused_or_read(data: bytes) -> None:
    try:
        found = Installer.from_json(data)
    except ValueError:
        return
    assert Installer.from_json(found.to_json()) == found


def test_a_damaged_zip_with_the_right_digest_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "refnet.pyz"
    _file(file)
    whole, said = file.read_bytes(), set()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            installers.read(file, hashlib.sha256(file.read_bytes()).hexdigest())
        except RefnetError as error:
            said.add(error.message)
    assert said == {f"{file} is not an installer of RefNet"}
