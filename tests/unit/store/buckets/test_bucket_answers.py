"""What servers of object storage say, and what becomes of it; the pace of a bucket with a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import cast
from unittest.mock import Mock

import pytest
from tests.memory_bucket import MemoryBucket
from tests.scripted_server import answer, scripted

from refnet.store.buckets import object_storage, s3_requests
from refnet.store.buckets.bucket import BucketError, BucketFailure, Stored, in_background
from refnet.store.buckets.cloud import CloudBucket
from refnet.store.buckets.object_storage import BucketPlace, StorageServer
from refnet.store.buckets.opening import Paced
from refnet.store.buckets.s3_requests import S3Requests

NOW = datetime(2026, 11, 27, 19, 0, tzinfo=UTC)
ROW = "<Contents><Key>a</Key><Size>1</Size><LastModified>2026-11-27T19:05:18.000Z</LastModified></Contents>"

FOLDER = "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"


def xml(code: str, text: str = "") -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{text}</Message></Error>"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (f"HTTP 403 {xml('AccessDenied', 'Access Denied')}", BucketFailure.REFUSED),
        (f"HTTP 403 {xml('AccessDenied', 'Access Denied because object protected by object lock.')}", BucketFailure.LOCKED),
        (f"HTTP 403 {xml('RequestTimeTooSkewed', 'The difference is too large')}", BucketFailure.REFUSED),
        (f"HTTP 404 {xml('NoSuchKey')}", BucketFailure.MISSING),
        (f"HTTP 404 {xml('NoSuchBucket')}", BucketFailure.REFUSED),
        (f"HTTP 400 {xml('BadDigest')}", BucketFailure.UNREACHABLE),
        (f"HTTP 400 {xml('InvalidBucketName')}", BucketFailure.REFUSED),
        (f"HTTP 501 {xml('NotImplemented', 'A header you provided')}", BucketFailure.REFUSED),
        (f"HTTP 503 {xml('SlowDown')}", BucketFailure.UNREACHABLE),
        (f"HTTP 507 {xml('XMinioStorageFull')}", BucketFailure.FULL),
        (f"HTTP 200 {xml('InternalError')}", BucketFailure.UNREACHABLE),
        ("HTTP 409 The blob is immutable: <Code>BlobImmutableDueToPolicy</Code><Message>immutable</Message>", BucketFailure.LOCKED),
        ('Generic S3 error: error sending request\n\nDebug source: Os { message: "Connection refused" }', BucketFailure.UNREACHABLE),
        ("", BucketFailure.UNREACHABLE),
    ],
)  # fmt: skip
def test_each_answer_has_a_kind(said: str, kind: BucketFailure) -> None:
    error = StorageServer("s3://bucket").refused("read", "data/1", said)

    assert error.kind is kind
    assert "data/1" in error.message
    assert error.hint


def test_an_object_that_cannot_be_created_is_not_called_locked() -> None:
    said = f"HTTP 400 {xml('InvalidRequest', 'Content-MD5 is required for Put Object requests with Object Lock parameters')}"
    error = StorageServer("s3://bucket").refused("create", "data/1", said)
    assert error.kind is BucketFailure.REFUSED
    assert "credential" in error.hint


def test_what_asks_for_a_lock_is_signed_and_named_as_s3_wants_it() -> None:
    credential = {"access_key_id": "a", "secret_access_key": "b"}
    with scripted(answer(b"", kind="application/xml", ETag='"x"')) as server:
        place = BucketPlace("s3", "bucket", "p", server.url, "eu", credential, lock=timedelta(days=1))
        bucket = CloudBucket(place)
        bucket.put("data/1", b"one")
        assert bucket.requests
        bucket.requests.lock("data/1", "v1", NOW)
    created, locked = (head.lower() for head in server.heads)
    for name in (
        "checksum-sha256",
        "sdk-checksum-algorithm",
        "object-lock-mode",
        "object-lock-retain-until-date",
    ):
        assert f"x-amz-{name}: " in created
        assert f"x-amz-{name}" in created.partition("signedheaders=")[2].partition(",")[0]
    assert "content-type: application/xml" in locked
    assert {"content-md5", "content-type"} <= {
        *locked.partition("signedheaders=")[2].partition(",")[0].split(";")
    }


def test_a_server_without_versions_is_listed_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    cloud = CloudBucket(
        BucketPlace("s3", "bucket", credential={"access_key_id": "a", "secret_access_key": "b"})
    )
    answer = StorageServer("s3://bucket").refused("list", "", f"HTTP 501 {xml('NotImplemented')}")
    found = [Stored("data/1", 3, NOW), Stored("data/2", 4, NOW)]
    monkeypatch.setattr(cloud.requests, "versions", Mock(side_effect=answer))
    monkeypatch.setattr(cloud.requests, "listed", lambda _: iter(found))
    rows = Mock(side_effect=[answer, iter([(None, "CommonPrefixes", {}, "data")]), answer])
    monkeypatch.setattr(cloud.requests, "_rows", rows)

    assert [(one.name, one.id, one.latest) for one in cloud.versions("data/")] == [
        ("data/1", "", True),
        ("data/2", "", True),
    ]
    assert "rclone" in answer.hint
    assert cloud.folders(deleted=True) == ["data"]
    with pytest.raises(BucketError, match="NotImplemented"):
        cloud.folders()


@pytest.mark.parametrize(
    ("verb", "said", "hint"),
    [
        ("list", f"HTTP 404 {xml('ContainerNotFound')}", "Create the bucket"),
        ("create", "HTTP 404 <html>", "Create the bucket"),
        ("list", f"HTTP 400 {xml('AuthorizationHeaderMalformed')}", "Set the region"),
    ],
)
def test_a_place_that_is_wrong_is_not_an_object_that_is_missing(verb: str, said: str, hint: str) -> None:
    error = StorageServer("az://container").refused(verb, "data/1", said)

    assert error.kind is BucketFailure.REFUSED
    assert error.hint.startswith(hint)


def test_a_clock_that_is_wrong_is_named() -> None:
    error = StorageServer("s3://bucket").refused("list", "", f"HTTP 403 {xml('RequestTimeTooSkewed')}")
    assert error.hint.startswith("Set the clock of this machine")


def test_an_answer_becomes_one_plain_line_without_a_secret() -> None:
    server = StorageServer("s3://bucket", ("KEYID", "s3cr3t"))
    said = "HTTP 400 " + xml("X", "KEYID s3cr3t \x1b[31m\n" + "x" * 900)

    error = server.refused("create", "data/1", said)
    assert error.message.startswith("s3://bucket: cannot create data/1: X 400, … … \\x1b[31m x")
    assert len(error.message) == 300
    assert "s3cr3t" not in repr(server)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<a>",
        b"plain text",
        b"<?xml version='1.0' encoding='ebcdic-x'?><a/>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".encode("utf-16"),
        b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
        b"<a>&b;</a>",
        b"<a>" * 7 + b"</a>" * 7,
        b"<a><b>" + b"x" * 5000 + b"</b></a>",
        f"<L>{ROW * 1001}</L>".encode(),
        f"<L>{FOLDER * 1001}</L>".encode(),
        f"<L>{FOLDER * 500}{ROW * 501}</L>".encode(),
        b"<L><Contents><Key>a</Key><Key>b</Key></Contents></L>",
        b"<L><CommonPrefixes><Prefix>a/</Prefix><Prefix>b/</Prefix></CommonPrefixes></L>",
    ],
    ids=lambda answer: repr(answer[:30]),
)
def test_a_document_that_s3_does_not_write_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError):
        object_storage.read_page(answer)


def test_the_content_of_a_list_is_read() -> None:
    page = object_storage.read_page(
        f"<L><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>{ROW}</L>".encode()
    )
    ((kind, row),) = page.rows

    assert (page.root, page.top["IsTruncated"], kind) == ("L", "false", "Contents")
    assert page.stored(row, "a").size == 1
    assert page.key("Contents", {"Key": "a%2Fb"}) == "a/b"
    assert page.key("CommonPrefixes", {"Prefix": "a%2Fb/", "Key": "c"}) == "a/b/"
    for kind, wrong in (("Contents", {"Key": "%FF"}), ("CommonPrefixes", {"Prefix": "%FF"})):
        with pytest.raises(ValueError):
            page.key(kind, wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"Size": "-1"},
        {"Size": "9" * 5000},
        {"Size": "1e3"},
        {"Size": str(1 << 60)},
        {"LastModified": "yesterday"},
        {"LastModified": "2026-11-27T19:05:18"},
        {"ETag": "\x1b[31m"},
        {"VersionId": "a b"},
        {"VersionId": "x" * 1025},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_wrong_value_in_a_list_is_refused(wrong: dict[str, str]) -> None:
    row = {"Size": "1", "LastModified": "2026-11-27T19:05:18Z", "ETag": '"x"', "VersionId": "v", **wrong}
    page = object_storage.Page()
    with pytest.raises(ValueError):
        (page.stored(row, "a"), page.version("Version", row, "a"))


def test_a_bucket_with_a_limit_waits_for_the_bytes_before() -> None:
    now, waited = 100.0, []

    def wait(seconds: float) -> None:
        nonlocal now
        waited.append(seconds)
        now += seconds

    bucket = Paced(MemoryBucket(), 1000, lambda: now, wait)
    bucket.put("a", b"x" * 3000)
    bucket.put("b", b"x" * 500)
    now += 0.25
    assert bucket.get("a", 3000) == b"x" * 3000
    bucket.put("c", b"x")
    now += 60
    bucket.put("d", b"x")

    assert waited == [3.0, 0.25, 3.0]


class _Kept(BaseHTTPRequestHandler):
    """A server that keeps connections, or closes each after an answer without saying so."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    closes = False

    def do_GET(self) -> None:
        self._answered(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

    def do_DELETE(self) -> None:
        self._answered(204, b"")

    def _answered(self, status: int, body: bytes) -> None:
        cast(_Server, self.server).clients.append(self.client_address[1])
        self.send_response(status)
        if body:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.closes

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type[_Kept]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        #: The client's port in each request: one for each connection.
        self.clients = list[int]()


@contextmanager
def _serving(*, closes: bool = False) -> Iterator[tuple[_Server, S3Requests]]:
    server = _Server(type("Handler", (_Kept,), {"closes": closes}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    credential = {"access_key_id": "a", "secret_access_key": "b"}
    place = BucketPlace("s3", "bucket", "p", f"http://127.0.0.1:{server.server_port}", "eu", credential)
    try:
        yield server, S3Requests(StorageServer("s3://bucket"), place)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _ask(requests: S3Requests) -> None:
    assert list(requests.listed("data/")) == []
    requests.delete("data/1")
    assert list(requests.versions("")) == []


def test_requests_one_after_another_have_one_connection() -> None:
    with _serving() as (server, requests):
        _ask(requests)
        _ask(requests)
    assert len(server.clients) == 6
    assert len({*server.clients}) == 1


def test_requests_at_once_have_a_connection_each() -> None:
    with _serving() as (server, requests):
        begun = [in_background(_ask, requests) for _ in range(20)]
        for one in begun:
            one.result()
    assert len(server.clients) == 60
    assert 1 <= len({*server.clients}) <= 20


def test_a_connection_that_the_server_closed_meanwhile_costs_nothing() -> None:
    with _serving(closes=True) as (server, requests):
        _ask(requests)
        _ask(requests)
    assert len(server.clients) == 6, "no request was repeated that the server has seen"


def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_requests, "_IDLE_SECONDS", 0.0)
    with _serving() as (server, requests):
        _ask(requests)
    assert len({*server.clients}) == 3


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with _serving() as (server, _):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        credential = {"access_key_id": "a", "secret_access_key": "b"}
        place = BucketPlace("s3", "bucket", "p", "http://s3.example.invalid", "eu", credential)
        _ask(S3Requests(StorageServer("s3://bucket"), place))
    assert len(server.clients) == 3
