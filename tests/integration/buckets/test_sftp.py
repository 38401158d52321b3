"""The bucket of an SFTP server: a real sshd, with failures of every part."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.ssh_server import MISSING, SshServer, ssh_server

from refnet.core.processes import until
from refnet.settings.urls import parse_store_url
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.sftp import Patience, SftpBucket

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture
def bucket(server: SshServer, tmp_path: Path) -> Iterator[SftpBucket]:
    found = SftpBucket(parse_store_url(server.url(tmp_path)), server.options, Patience(5, 5, 0.5, 3))
    yield found
    found.close()


def _failed(kind: BucketFailure, call: Callable[[], object]) -> str:
    with pytest.raises(BucketError) as error:
        call()
    assert error.value.kind is kind, error.value.message
    return f"{error.value.message} | {error.value.hint}"


def test_a_piece_is_whole_and_private_and_nothing_else_is_left(bucket: SftpBucket, tmp_path: Path) -> None:
    piece = os.urandom((2 << 20) + 17)
    bucket.put("data/id/00000", piece)
    assert bucket.get("data/id/00000", len(piece)) == piece
    found = sorted(tmp_path.rglob("*"))
    assert [(path.name, path.stat().st_mode & 0o777) for path in found] == [
        ("data", 0o700), ("id", 0o700), ("00000", 0o600)
    ]  # fmt: skip
    bucket.delete("data/id/00000")
    assert list(tmp_path.iterdir()) == []


def test_many_threads_use_one_connection(bucket: SftpBucket) -> None:
    pieces = {f"data/{number}": os.urandom(100_000) for number in range(8)}
    threads = [threading.Thread(target=bucket.put, args=one) for one in pieces.items()]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert {one.name: bucket.get(one.name, one.size) for one in bucket.listed("data/")} == pieces


def test_a_connection_that_is_lost_is_opened_again(bucket: SftpBucket) -> None:
    bucket.put("a", b"x")
    assert bucket._connection
    first = bucket._connection._process
    first.send_signal(signal.SIGSTOP)
    threading.Timer(0.2, first.kill).start()
    piece = os.urandom(5_000_000)
    bucket.put("b", piece)
    assert bucket._connection._process is not first
    bucket._connection._process.kill()
    assert until(lambda: bool(bucket._connection and not bucket._connection.usable), 5)
    assert bucket.get("b", len(piece)) == piece


def test_a_server_that_is_back_in_time_loses_no_object(
    bucket: SftpBucket, server: SshServer, tmp_path: Path
) -> None:
    right = bucket._command
    bucket._command = ["sh", "-c", "echo connection timed out >&2"]
    threading.Timer(0.3, lambda: setattr(bucket, "_command", right)).start()
    bucket.put("a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    bucket._command = ["sh", "-c", "echo connection timed out >&2"]
    bucket.close()
    assert "connection timed out" in _failed(BucketFailure.UNREACHABLE, lambda: bucket.delete("a"))


def test_a_killed_runs_hidden_file_is_not_listed_and_is_removed_later(
    bucket: SftpBucket, tmp_path: Path
) -> None:
    old, new, other = (tmp_path / name for name in (".old.part", ".new.part", ".other"))
    for path in (old, new, other):
        path.write_bytes(b"x")
        os.utime(path, (0, 0) if path is not new else None)
    assert list(bucket.listed("")) == []
    bucket.put("a", b"x")
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


def test_links_and_strange_names_are_not_listed(bucket: SftpBucket, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "folder").symlink_to("/etc")
    (tmp_path / "a\nb").write_bytes(b"x")
    (tmp_path / "é").write_bytes(b"x")
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"x")
    os.mkfifo(tmp_path / "fifo")
    for name in ("data", ".hidden", "a b", "ü"):
        (tmp_path / name).mkdir()
    assert [one.name for one in bucket.listed("")] == ["a"]
    assert bucket.folders() == ["data"]
    assert "fifo" not in _failed(BucketFailure.MISSING, lambda: bucket.get("folder", 10))


def test_a_folder_that_is_not_there_is_not_made(bucket: SftpBucket, tmp_path: Path) -> None:
    bucket._root += "/unmounted"
    for call in (
        lambda: bucket.put("a", b"x"),
        lambda: bucket.get("a", 1),
        lambda: list(bucket.listed("")),
        bucket.folders,
    ):
        assert "does not exist" in _failed(BucketFailure.UNREACHABLE, call)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(bucket: SftpBucket, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        _failed(BucketFailure.REFUSED, lambda: bucket.put("a", b"x"))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("url", "root"), [("sftp://h/srv/x/", "/srv/x"), ("sftp://h/~/x", "./x"), ("sftp://h/~", ".")]
)
def test_a_folder_is_absolute_or_below_the_home_of_the_user(url: str, root: str) -> None:
    assert SftpBucket(parse_store_url(url))._root == root


def test_what_ssh_refuses_is_told_in_one_line(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, options = parse_store_url(server.url(tmp_path)), list(server.options)

    def said(kind: BucketFailure, url_=url, options_=options) -> str:
        return _failed(kind, lambda: SftpBucket(url_, options_, Patience(5, 0, 0)).put("a", b"x"))

    unknown = [*options[:-1], f"UserKnownHostsFile={tmp_path}/none"]
    assert f"Host key verification failed. | Try `ssh -p {server.port} " in said(
        BucketFailure.REFUSED, options_=unknown
    )
    assert "Permission denied (publickey)" in said(
        BucketFailure.REFUSED,
        options_=[*options[:2], *options[4:], "-o", "IdentitiesOnly=yes", "-i", "/none"],
    )
    assert "Connection refused" in said(BucketFailure.UNREACHABLE, replace(url, port=1))
    monkeypatch.setenv("PATH", "/none")
    assert "openssh-client" in said(BucketFailure.UNREACHABLE)
    monkeypatch.undo()
    assert "ssh:" in said(BucketFailure.UNREACHABLE, replace(url, place="host.invalid"))
