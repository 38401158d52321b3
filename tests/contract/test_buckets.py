"""What every Bucket promises; one suite for all of them."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.seaweed import LOCKED, Seaweed
from tests.ssh_server import MISSING, SshServer, ssh_server

from refnet.core.errors import Exit
from refnet.settings.urls import parse_store_url
from refnet.store.buckets import bucket as of_bucket
from refnet.store.buckets.bucket import Bucket, BucketError, BucketFailure
from refnet.store.buckets.cloud import CloudBucket
from refnet.store.buckets.folder import FolderBucket
from refnet.store.buckets.opening import Announced, Paced
from refnet.store.buckets.rclone import RcloneBucket
from refnet.store.buckets.sftp import SftpBucket

PIECE = "data/0123456789abcdef0123456789abcdef/00000-0123456789abcdef.age"
MANIFEST = "manifests/20261126T020001Z_database_0123456789abcdef0123456789abcdef.age"


def _folder(folder: Path) -> Bucket:
    (folder / "remote").mkdir()
    return FolderBucket(folder / "remote")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if MISSING:
        pytest.skip(MISSING)
    with ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def sftp(sshd: SshServer, tmp_path: Path) -> Iterator[SftpBucket]:
    (tmp_path / "My copies").mkdir()
    bucket = SftpBucket(parse_store_url(sshd.url(tmp_path / "My%20copies")), sshd.options)
    yield bucket
    bucket.close()


@pytest.fixture
def rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RcloneBucket:
    if not shutil.which("rclone"):
        pytest.skip("needs rclone")
    (tmp_path / "rclone.conf").write_text(f"[box]\ntype = alias\nremote = {tmp_path}\n")
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    return RcloneBucket(parse_store_url("rclone:box:copies/x"))


BUCKETS: dict[str, Callable[[Path], Bucket]] = {
    "announced": lambda _: Announced(MemoryBucket()),
    "folder": _folder,
    "memory": lambda _: MemoryBucket(),
    "versions": lambda _: MemoryBucket(versioned=True),
    "paced": lambda _: Paced(MemoryBucket(), 1 << 30),
}
_LOCK = timedelta(days=1)


def _without_requests(bucket: CloudBucket) -> Bucket:
    """A bucket that knows no credential, as one with the role of a machine; also Google's and Azure's are used so."""
    bucket.requests = None
    return bucket


S3: dict[str, Callable[[Seaweed], Bucket]] = {
    "s3": lambda s3: s3.bucket(f"hosts/{secrets.token_hex(8)}"),
    "s3 as a role": lambda s3: _without_requests(s3.bucket(secrets.token_hex(8))),
    "s3 with locks": lambda s3: s3.bucket(secrets.token_hex(8), bucket=LOCKED, lock=_LOCK),
}


@pytest.fixture(params=[*sorted(BUCKETS), *S3, "rclone", "sftp"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    if request.param in S3:
        return S3[request.param](request.getfixturevalue("s3"))
    if request.param in BUCKETS:
        return BUCKETS[request.param](tmp_path)
    return request.getfixturevalue(request.param)


def fails(kind: BucketFailure, call: Callable[[], object]) -> BucketError:
    with pytest.raises(BucketError) as caught:
        call()
    assert caught.value.kind is kind
    return caught.value


def test_a_new_bucket_is_empty(bucket: Bucket) -> None:
    assert list(bucket.listed("")) == []
    assert list(bucket.versions("")) == []
    assert bucket.folders() == bucket.folders(deleted=True) == []


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 8192], ids=["empty", "small", "2 MiB"])
def test_an_object_is_read_as_it_was_put(bucket: Bucket, data: bytes) -> None:
    version = bucket.put(PIECE, data)

    assert bucket.get(PIECE, len(data)) == data
    assert bucket.get(PIECE, 1 << 24, version=version) == data


def test_the_same_bytes_may_be_put_twice_and_others_are_refused(bucket: Bucket) -> None:
    first = bucket.put(PIECE, b"one")

    assert bucket.put(PIECE, b"one") == first
    for other in (b"two", b"", b"one and more"):
        error = fails(BucketFailure.EXISTS, lambda data=other: bucket.put(PIECE, data))  # type: ignore[misc]
        assert (error.code, error.transient) == (Exit.DAMAGED, False)
        assert PIECE in str(error)
    assert bucket.get(PIECE, 10) == b"one"


def test_a_missing_object_is_missing(bucket: Bucket) -> None:
    bucket.put(PIECE, b"x")
    for name in (MANIFEST, "data/0", "elsewhere"):
        fails(BucketFailure.MISSING, lambda name=name: bucket.get(name, 10))  # type: ignore[misc]


def test_an_object_larger_than_expected_is_not_returned(bucket: Bucket) -> None:
    bucket.put(PIECE, b"x" * 1001)

    assert fails(BucketFailure.DAMAGED, lambda: bucket.get(PIECE, 1000)).code is Exit.DAMAGED


def test_objects_are_listed_by_prefix_in_the_order_of_their_names(bucket: Bucket) -> None:
    start = datetime.now(UTC) - timedelta(minutes=1)
    names = [
        PIECE,
        MANIFEST,
        "data/b/1",
        "data/a/1",
        "data/a/10",
        "data/a-b/1",
        "data/a.b",
        "manifests-old/1",
    ]
    for number, name in enumerate(names):
        bucket.put(name, b"x" * number)

    assert [one.name for one in bucket.listed("")] == sorted(names)
    assert [one.name for one in bucket.listed("data/a/")] == ["data/a/1", "data/a/10"]
    assert [one.name for one in bucket.listed("data/a/1")] == ["data/a/1", "data/a/10"]
    assert [one.name for one in bucket.listed("data/a")] == [
        "data/a-b/1",
        "data/a.b",
        "data/a/1",
        "data/a/10",
    ]
    assert [one.name for one in bucket.versions("manifests/")] == [MANIFEST]
    assert list(bucket.listed("nothing/")) == []
    for one in bucket.listed(""):
        assert one.size == names.index(one.name)
        assert start < one.modified < start + timedelta(minutes=5)


def test_the_folders_at_the_top_are_named_without_what_is_in_them(bucket: Bucket) -> None:
    for name in (PIECE, MANIFEST, "a", "data-old/1", "data.x/a/b/1", "0/1", "0/2", "K_-9/x"):
        bucket.put(name, b"x")

    expected = ["0", "K_-9", "data", "data-old", "data.x", "manifests"]
    assert bucket.folders() == bucket.folders(deleted=True) == expected


def test_a_folder_with_only_deleted_objects_is_named_where_versions_are_kept(s3: Seaweed) -> None:
    for bucket in (MemoryBucket(versioned=True), S3["s3 with locks"](s3)):
        for name in (PIECE, MANIFEST):
            bucket.put(name, b"x")
        bucket.delete(PIECE)

        assert bucket.folders() == ["manifests"]
        assert bucket.folders(deleted=True) == ["data", "manifests"]


@pytest.mark.parametrize("name", sorted(BUCKETS))
def test_more_folders_than_the_limit_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_bucket, "_MOST_FOLDERS", 2)
    bucket = BUCKETS[name](tmp_path)
    for object_ in ("a/1", "a/2", "b/1", "x", "y"):
        bucket.put(object_, b"x")
    assert bucket.folders() == ["a", "b"]

    bucket.put("c/1", b"x")
    assert "more than 2 folders" in str(fails(BucketFailure.DAMAGED, bucket.folders))


def test_a_deleted_object_is_gone_and_another_deletion_changes_nothing(bucket: Bucket) -> None:
    bucket.put(PIECE, b"x")
    bucket.put(MANIFEST, b"y")

    bucket.delete(PIECE)
    bucket.delete(PIECE)

    fails(BucketFailure.MISSING, lambda: bucket.get(PIECE, 10))
    assert [one.name for one in bucket.listed("")] == [MANIFEST]
    bucket.put(PIECE, b"another")
    assert bucket.get(PIECE, 10) == b"another"


WRONG_NAMES = (
    *("", "/etc/passwd", "../x", "data/../../x", "data//x", "data/", "./x", ".hidden", "~/x", "a\\b"),
    *("a\nb", "a b", "a\0", "日本", "a?versionId=1", "a%2fb", "a/b/c/d/e/f/g/h/i", "x" * 501),
)


def test_names_that_no_object_may_have_are_refused(bucket: Bucket) -> None:
    for name in WRONG_NAMES:
        fails(BucketFailure.REFUSED, lambda name=name: bucket.put(name, b"x"))  # type: ignore[misc]
        with pytest.raises(BucketError):
            bucket.get(name, 10)
    assert list(bucket.listed("")) == []


def test_a_version_is_read_and_deleted_by_its_id() -> None:
    bucket = MemoryBucket(versioned=True, lock=timedelta(days=30))
    version = bucket.put(PIECE, b"x")
    bucket.delete(PIECE)

    fails(BucketFailure.MISSING, lambda: bucket.get(PIECE, 10))
    assert bucket.get(PIECE, 10, version=version) == b"x"
    assert [(one.latest, one.delete_marker) for one in bucket.versions("")] == [(True, True), (False, False)]
    error = fails(BucketFailure.LOCKED, lambda: bucket.delete(PIECE, version=version))
    assert (error.code, error.transient) == (Exit.FAILED, False)

    bucket.now = lambda: datetime.now(UTC) + timedelta(days=31)
    bucket.delete(PIECE, version=version)
    assert [one.delete_marker for one in bucket.versions("")] == [True]


# folders


@pytest.fixture
def folder(tmp_path: Path) -> FolderBucket:
    (tmp_path / "remote").mkdir()
    return FolderBucket(tmp_path / "remote")


def test_a_folder_is_private_and_nothing_else_is_left_in_it(folder: FolderBucket) -> None:
    folder.put(PIECE, b"x")

    found = sorted(folder.root.rglob("*"))
    assert [str(path.relative_to(folder.root)) for path in found] == ["data", PIECE.rpartition("/")[0], PIECE]
    assert [path.stat().st_mode & 0o777 for path in found] == [0o700, 0o700, 0o600]
    folder.delete(PIECE)
    assert list(folder.root.iterdir()) == []


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path / "unmounted")
    for call in (
        lambda: bucket.put(PIECE, b"x"),
        lambda: bucket.get(PIECE, 1),
        lambda: list(bucket.listed("")),
        bucket.folders,
    ):
        assert fails(BucketFailure.UNREACHABLE, call).transient
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_the_folder_of_another_user_is_read_and_never_written(folder: FolderBucket) -> None:
    folder.put(PIECE, b"x")
    os.chown(folder.root, 12345, 12345)

    assert folder.get(PIECE, 1) == b"x"
    assert "#12345" in str(fails(BucketFailure.REFUSED, lambda: folder.put(MANIFEST, b"x")))
    fails(BucketFailure.REFUSED, lambda: folder.delete(PIECE))


def test_a_folder_that_every_user_can_write_is_refused(folder: FolderBucket) -> None:
    folder.root.chmod(0o777)
    fails(BucketFailure.REFUSED, lambda: folder.put(PIECE, b"x"))


def test_no_link_and_no_fifo_in_a_folder_is_followed(folder: FolderBucket, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    (tmp_path / "outside").mkdir()
    (folder.root / "data").symlink_to(tmp_path / "outside")
    (folder.root / "manifests").mkdir()
    (folder.root / MANIFEST).symlink_to(secret)
    os.mkfifo(folder.root / "fifo")

    fails(BucketFailure.DAMAGED, lambda: folder.put(PIECE, b"x"))
    fails(BucketFailure.DAMAGED, lambda: folder.get(MANIFEST, 1))
    fails(BucketFailure.DAMAGED, lambda: folder.get("fifo", 1))
    fails(BucketFailure.EXISTS, lambda: folder.put(MANIFEST, b"x"))
    fails(BucketFailure.EXISTS, lambda: folder.put("fifo", b"x"))
    assert list(folder.listed("")) == []
    (folder.root / ".hidden").mkdir()
    (folder.root / "a b").mkdir()
    (folder.root / os.fsdecode(b"\xff")).mkdir()
    assert folder.folders() == ["manifests"]
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_killed_runs_hidden_file_is_not_listed_and_is_removed_later(folder: FolderBucket) -> None:
    old, new, other = (folder.root / name for name in (".old.part", ".new.part", ".other"))
    for path in (old, new, other):
        path.write_bytes(b"x")
        os.utime(path, (0, 0) if path is not new else None)

    assert list(folder.listed("")) == []
    folder.put(PIECE, b"x")
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


def test_a_file_system_without_hard_links_keeps_objects_too(
    folder: FolderBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links")

    monkeypatch.setattr(os, "link", no_links)
    folder.put(PIECE, b"x")
    folder.put(PIECE, b"x")
    fails(BucketFailure.EXISTS, lambda: folder.put(PIECE, b"y"))
    assert [one.name for one in folder.listed("")] == [PIECE]


def test_a_full_disk_leaves_no_object(folder: FolderBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("refnet.core.files.write_all", full)
    error = fails(BucketFailure.FULL, lambda: folder.put(PIECE, b"x"))

    assert error.transient
    assert [path for path in folder.root.rglob("*") if path.is_file()] == []
