"""A server of object storage that is hostile: it cannot make RefNet wait, fill its memory, or speak to another server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.seaweed import PATIENT

from refnet.store.buckets import cloud, s3_requests
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.cloud import CloudBucket
from refnet.store.buckets.object_storage import BucketPlace
from refnet.store.buckets.s3_requests import Waiting

CREDENTIAL = {"access_key_id": "K", "secret_access_key": "s3cr3t", "session_token": "t0ken"}
ROW = "<Contents><Key>{}</Key><Size>1</Size><LastModified>2026-11-27T19:05:18Z</LastModified></Contents>"

FOLDER = "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>"


class Hostile(ThreadingHTTPServer):
    """Answers each GET with what `answer` returns: a status, headers and a body; `asked`: the paths and headers."""

    daemon_threads = True
    answer: Callable[[], tuple[int, dict[str, str], bytes]]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hostile

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.path} {self.headers}")
        status, headers, body = self.server.answer()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Hostile]:
    with Hostile() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def bucket(server: Hostile) -> CloudBucket:
    place = BucketPlace("s3", "bucket", "prefix", f"http://127.0.0.1:{server.server_port}", "eu", CREDENTIAL)
    return CloudBucket(place, PATIENT)


def listed(bucket: CloudBucket) -> list[str]:
    return [one.name for one in bucket.listed("")]


def fails(kind: BucketFailure, bucket: CloudBucket) -> str:
    with pytest.raises(BucketError) as caught:
        listed(bucket)
    assert caught.value.kind is kind, caught.value
    return caught.value.message


def test_a_list_that_does_not_end_is_ended(
    bucket: CloudBucket, server: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_requests, "_MOST_PAGES", 20)
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"
    server.answer = lambda: (200, {}, f"<L>{more.format(len(server.asked))}</L>".encode())
    assert "more than 20 pages" in fails(BucketFailure.DAMAGED, bucket)
    assert len(server.asked) == 20

    for same in ("same", ""):
        server.asked.clear()
        server.answer = lambda same=same: (200, {}, f"<L>{more.format(same)}</L>".encode())  # type: ignore[misc]
        assert "does not continue" in fails(BucketFailure.DAMAGED, bucket)
        assert len(server.asked) <= 2


def test_the_next_page_begins_where_the_server_says_without_the_encoding_of_its_answer(
    bucket: CloudBucket, server: Hostile
) -> None:
    marker = "<IsTruncated>true</IsTruncated><NextKeyMarker>{}</NextKeyMarker><NextVersionIdMarker>a%20b</NextVersionIdMarker>"
    pages = [f"<L><EncodingType>url</EncodingType>{marker.format('prefix/d/%C3%A9%20%25')}</L>", "<L/>"]
    server.answer = lambda: (200, {}, pages[len(server.asked) - 1].encode())
    assert [*bucket.versions("d/")] == []
    _, second = (parse_qs(urlsplit(one.split()[0]).query) for one in server.asked)
    assert (second["key-marker"], second["version-id-marker"]) == (["prefix/d/é %"], ["a%20b"])

    server.asked.clear()
    pages[0] = f"<L><EncodingType>url</EncodingType>{marker.format('%ff')}</L>"
    with pytest.raises(BucketError, match="not one of S3") as caught:
        [*bucket.versions("d/")]
    assert caught.value.kind is BucketFailure.DAMAGED


def test_a_list_of_slow_pages_is_ended(server: Hostile) -> None:
    place = BucketPlace("s3", "bucket", "", f"http://127.0.0.1:{server.server_port}", "eu", CREDENTIAL)
    slow = CloudBucket(place, replace(PATIENT, small=Waiting(pages=0.1)))
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"

    def answer() -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.04)
        return 200, {}, f"<ListBucketResult>{more.format(len(server.asked))}</ListBucketResult>".encode()

    server.answer = answer
    assert "was not complete within" in fails(BucketFailure.UNREACHABLE, slow)
    assert len(server.asked) < 10
    for requests in (slow.requests, None):
        slow.requests = requests
        with pytest.raises(BucketError, match="was not complete within") as caught:
            slow.folders()
        assert caught.value.kind is BucketFailure.UNREACHABLE
    server.answer = lambda: (200, {}, b"<ListBucketResult/>")  # ends what the library still reads


@pytest.mark.parametrize(
    ("library", "call"),
    [
        ("put", lambda bucket: bucket.put("a", b"x")),
        ("get", lambda bucket: bucket.get("a", 1)),
        ("delete", lambda bucket: bucket.delete("a")),
    ],
)
def test_a_call_that_hangs_in_the_library_is_given_up(
    server: Hostile, monkeypatch: pytest.MonkeyPatch, library: str, call: Callable[[CloudBucket], object]
) -> None:
    over = threading.Event()
    monkeypatch.setattr(cloud.obstore, library, lambda *_, **__: over.wait())
    place = BucketPlace("s3", "bucket", "", f"http://127.0.0.1:{server.server_port}", "eu", CREDENTIAL)
    hung = CloudBucket(place, replace(PATIENT, hangs=0.05, longest=0.0))
    hung.requests = None
    try:
        with pytest.raises(BucketError, match="it was not complete within 0 s") as caught:
            call(hung)
    finally:
        over.set()
    assert caught.value.kind is BucketFailure.UNREACHABLE


def test_an_object_longer_than_its_header_says_is_not_read_to_the_end(
    bucket: CloudBucket, server: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Handler, "protocol_version", "HTTP/1.1")
    headers = {"Content-Length": "10", "Transfer-Encoding": "chunked", "ETag": '"x"'}
    headers["Last-Modified"] = "Fri, 27 Nov 2026 19:05:18 GMT"
    server.answer = lambda: (200, headers, b"3E8\r\n" + bytes(1000) + b"\r\n0\r\n\r\n")

    with pytest.raises(BucketError) as caught:
        bucket.get("data/1", 100)
    assert caught.value.kind is BucketFailure.DAMAGED
    assert bucket.get("data/1", 1000) == bytes(1000)


def test_a_list_of_the_library_with_too_many_objects_is_ended(
    bucket: CloudBucket, server: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "_MOST", 2)
    bucket.requests = None
    rows = [ROW.format(f"prefix/data/{number}") for number in range(3)]
    server.answer = lambda: (200, {}, f"<ListBucketResult>{''.join(rows)}</ListBucketResult>".encode())
    assert "more than 2 objects" in fails(BucketFailure.DAMAGED, bucket)
    rows.pop()
    assert listed(bucket) == ["data/0", "data/1"]


def test_keys_outside_the_prefix_and_names_leading_outside_are_left_out(
    bucket: CloudBucket, server: Hostile
) -> None:
    keys = (
        "prefix/data/1",
        "other/data/2",
        "prefix/../x",
        "prefix//x",
        "prefix/.x",
        "prefix/",
        "/etc/passwd",
        "prefix/a b",
    )
    server.answer = lambda: (200, {}, f"<L>{''.join(map(ROW.format, keys))}</L>".encode())

    assert listed(bucket) == ["data/1"]


@pytest.mark.parametrize("deleted", [False, True])
def test_only_names_of_folders_below_the_prefix_are_folders(
    bucket: CloudBucket, server: Hostile, deleted: bool
) -> None:
    keys = (
        *(
            "prefix/good/",
            "prefix/b%2D1/",
            "prefix/good/",
            "other/x/",
            "prefixx/x/",
            "x/",
            "/",
            "",
            "prefix/",
        ),
        *("prefix//", "prefix/../", "prefix/.x/", "prefix/a/b/", "prefix/no", "prefix/a b/", "prefix/%0A/"),
    )
    body = ROW.format("prefix/file/1") + "".join(map(FOLDER.format, keys))
    server.answer = lambda: (200, {}, f"<L><EncodingType>url</EncodingType>{body}</L>".encode())

    assert bucket.folders(deleted=deleted) == ["b-1", "good"]
    assert listed(bucket) == ["file/1"], "a folder is no object, and nothing wrong"
    bucket.requests = None
    body = "".join(map(FOLDER.format, ("prefix/good/", "other/", "x/", "prefix/.x/", "prefix/a b/")))
    server.answer = lambda: (200, {}, f"<ListBucketResult>{body}</ListBucketResult>".encode())
    assert bucket.folders() == ["good"]


@pytest.mark.parametrize(
    "body",
    [
        "<CommonPrefixes><Prefix>prefix/a/</Prefix><Prefix>prefix/b/</Prefix></CommonPrefixes>",
        "<CommonPrefixes/>",
        "<CommonPrefixes><Key>prefix/a/</Key></CommonPrefixes>",
        "<EncodingType>url</EncodingType>" + FOLDER.format("prefix/%FF/"),
        FOLDER.format("prefix/a/") * 1001,
        FOLDER.format("x" * 5000),
        "<IsTruncated>true</IsTruncated>" + FOLDER.format("prefix/a/"),
    ],
    ids=["two prefixes", "no prefix", "a key", "no text", "1001 rows", "too long", "no next page"],
)
def test_a_list_of_folders_that_s3_does_not_write_is_damaged(
    bucket: CloudBucket, server: Hostile, body: str
) -> None:
    for deleted in (False, True):
        for whole in (f"<L>{body}</L>", f"<!DOCTYPE a [<!ENTITY b 'c'>]><L>{FOLDER.format('&b;')}</L>"):
            server.answer = lambda whole=whole: (200, {}, whole.encode())  # type: ignore[misc]
            with pytest.raises(BucketError) as caught:
                bucket.folders(deleted=deleted)
            assert caught.value.kind is BucketFailure.DAMAGED


def test_a_page_that_ends_with_a_folder_is_followed_without_a_version(
    bucket: CloudBucket, server: Hostile
) -> None:
    more = "<IsTruncated>true</IsTruncated><NextKeyMarker>{}</NextKeyMarker>{}"
    version = more.format("prefix/file", "<NextVersionIdMarker>v</NextVersionIdMarker>")
    pages = [version, more.format("prefix/a/", FOLDER.format("prefix/a/")), FOLDER.format("prefix/b/")]
    server.answer = lambda: (200, {}, f"<L>{pages[len(server.asked) - 1]}</L>".encode())

    assert bucket.folders(deleted=True) == ["a", "b"]
    queries = [parse_qs(urlsplit(one.split()[0]).query, keep_blank_values=True) for one in server.asked]
    markers = [{name: query[name] for name in query if "marker" in name} for query in queries]
    assert markers == [
        {},
        {"key-marker": ["prefix/file"], "version-id-marker": ["v"]},
        {"key-marker": ["prefix/a/"]},
    ]
    assert {(*query["delimiter"], *query["prefix"]) for query in queries} == {("/", "prefix/")}


def test_too_many_folders_are_refused(
    bucket: CloudBucket, server: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refnet.store.buckets.bucket._MOST_FOLDERS", 2500)
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"

    def answer() -> tuple[int, dict[str, str], bytes]:
        page = len(server.asked)
        rows = "".join(FOLDER.format(f"prefix/{page}-{number}/") for number in range(1000))
        return 200, {}, f"<ListBucketResult>{more.format(page)}{rows}</ListBucketResult>".encode()

    server.answer = answer
    with pytest.raises(BucketError, match="more than 2,500 folders") as caught:
        bucket.folders()
    assert caught.value.kind is BucketFailure.DAMAGED
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>login",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><L>&b;</L>",
        b"<L><Contents><Key>prefix/data/1</Key></Contents></L>",
        b"<L><Contents><Size>1</Size></Contents></L>",
    ],
    ids=["empty", "a page", "entities", "no size", "no key"],
)
def test_an_answer_that_is_no_list_is_not_an_empty_one(
    bucket: CloudBucket, server: Hostile, body: bytes
) -> None:
    server.answer = lambda: (200, {}, body)
    fails(BucketFailure.DAMAGED, bucket)


def test_an_answer_that_is_too_large_or_too_slow_is_given_up(
    bucket: CloudBucket, server: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = lambda: (200, {}, b"<L>" + b" " * (9 << 20))
    assert "larger than" in fails(BucketFailure.DAMAGED, bucket)

    assert bucket.requests
    monkeypatch.setattr(bucket.requests, "_waiting", Waiting(0.2, 0.1, 0.05))
    server.answer = lambda: (200, {"Content-Length": "1000"}, b"<L>")
    fails(BucketFailure.UNREACHABLE, bucket)


def test_another_server_never_gets_the_signature(bucket: CloudBucket, server: Hostile) -> None:
    with Hostile() as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        other.answer = lambda: (200, {}, b"<L/>")
        place = f"http://127.0.0.1:{other.server_port}/bucket"
        server.answer = lambda: (307, {"Location": place}, b"")

        assert "HTTP 307" in fails(BucketFailure.REFUSED, bucket)
        assert other.asked == []
        with suppress(BucketError):
            bucket.get("data/1", 10)
        assert not any("Signature=" in one for one in other.asked)  # obstore follows, without the signature
        other.shutdown()
    assert all("Signature=" in one and "s3cr3t" not in one for one in server.asked)


def test_an_object_that_is_larger_than_expected_is_not_fetched(bucket: CloudBucket, server: Hostile) -> None:
    dated = {"Last-Modified": "Fri, 27 Nov 2026 19:05:18 GMT", "ETag": '"x"'}
    server.answer = lambda: (200, {**dated, "Content-Length": str(1 << 40)}, b"x")

    with pytest.raises(BucketError) as caught:
        bucket.get("data/1", 1 << 24)
    assert caught.value.kind is BucketFailure.DAMAGED
