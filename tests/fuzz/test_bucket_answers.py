"""Answers of servers of object storage, and names of objects."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import bounded, fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.store.buckets import object_storage
from refnet.store.buckets.bucket import is_name
from refnet.store.buckets.object_storage import BucketPlace, StorageServer
from refnet.store.buckets.s3_requests import S3Requests, Waiting

_TAGS = st.sampled_from(
    [
        *(
            "ListBucketResult",
            "Contents",
            "Version",
            "DeleteMarker",
            "CommonPrefixes",
            "Prefix",
            "Key",
            "Size",
            "LastModified",
            "VersionId",
        ),
        *(
            "ETag",
            "IsTruncated",
            "NextContinuationToken",
            "EncodingType",
            "Error",
            "Code",
            "Message",
            "Owner",
        ),
    ]
)
_VALUES = st.one_of(
    texts,
    st.sampled_from(["data/1", "%2e%2e", "%FF", "url", "true", "1", "-1", "9" * 40, "2026-11-27T19:05:18Z", "0001-01-01T00:00:00Z"]),
)  # fmt: skip
_PIECES = st.one_of(
    _TAGS.map(lambda tag: f"<{tag}>"),
    _TAGS.map(lambda tag: f"</{tag}>"),
    st.builds("<{0}>{1}</{0}>".format, _TAGS, _VALUES),
    st.sampled_from(["<!DOCTYPE a [<!ENTITY b 'c'>]>", "&b;", "&#0;", "&lt;", "<![CDATA[", "]]>", "<!--", "<?xml version='1.0'?>"]),
    texts,
)  # fmt: skip
_DOCUMENTS = st.one_of(
    st.binary(max_size=200),
    st.lists(_PIECES, max_size=12).map("".join),
    st.lists(_PIECES, max_size=12).map(lambda parts: f"<L><Contents>{''.join(parts)}</Contents></L>"),
    st.lists(_PIECES, max_size=12).map(
        lambda parts: f"<L><CommonPrefixes>{''.join(parts)}</CommonPrefixes></L>"
    ),
).map(lambda text: text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
_REQUESTS = S3Requests(
    StorageServer("s3://bucket"),
    BucketPlace("s3", "bucket", credential={"access_key_id": "K", "secret_access_key": "s3cr3t"}),
    Waiting(0.0, first=0.0),
)


@fuzzed
@given(_DOCUMENTS, st.booleans())
def test_the_folders_of_a_list_are_names_or_refused(answer: bytes, deleted: bool) -> None:
    _REQUESTS._send = lambda *_: answer  # type: ignore[method-assign]
    for name in outcome(lambda: _REQUESTS.folders(deleted=deleted)) or []:
        assert is_name(name)
        assert "/" not in name


@fuzzed
@given(_DOCUMENTS)
@example(b"<a>" * 100_000)
@example(b"<L>" + b"<Contents/>" * 100_000 + b"</L>")
@example(b"<L>" + b"<CommonPrefixes/>" * 100_000 + b"</L>")
@example(b"<L><Contents>" + b"".join(b"<a%d/>" % number for number in range(100_000)))
@example(b"<L a='" + b"x" * (1 << 20) + b"'/>")
def test_a_list_is_read_or_refused(answer: bytes) -> None:
    page = outcome(lambda: object_storage.read_page(answer), ValueError)
    if not page:
        return
    for kind, row in page.rows:
        name = outcome(lambda kind=kind, row=row: page.key(kind, row), ValueError, KeyError)  # type: ignore[misc]
        if name and is_name(name):
            found = outcome(lambda: page.stored(row, name), ValueError, KeyError)  # noqa: B023  # called at once
            assert found is None or found.size >= 0
            outcome(lambda: page.version(kind, row, name), ValueError, KeyError)  # noqa: B023


@fuzzed
@given(st.one_of(texts, _DOCUMENTS.map(lambda answer: f"HTTP 403 {answer.decode(errors='replace')}")))
@example("<Code>" * 100_000)
@example('message: "' * 500_000)
@example("HTTP 403 <Message>" + "x" * 500_000)
def test_a_refusal_is_one_plain_line(said: str) -> None:
    with bounded():
        error = StorageServer("s3://bucket", ("s3cr3t",)).refused("read", "data/1", f"{said} s3cr3t")
    assert error.message.isprintable()
    assert len(error.message) <= 300
    assert "s3cr3t" not in error.message


@fuzzed
@given(
    st.one_of(
        texts,
        st.lists(st.sampled_from(["a", "..", ".", "/", "//", "-", "%2e", "\n", "é"]), max_size=30).map(
            "".join
        ),
    )
)
@example("a/" * 1_000_000)
@example("a" * 1_000_000)
def test_a_name_of_an_object_leads_nowhere_else(name: str) -> None:
    if is_name(name):
        assert re.fullmatch(r"[A-Za-z0-9._/-]{1,500}", name)
        assert not {"", ".", ".."} & {*name.split("/")}
