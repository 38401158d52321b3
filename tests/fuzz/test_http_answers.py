"""Answers of web APIs: their headers and bodies."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import bounded, fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.network import http_api

_BODIES = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=300).map(gzip.compress),
    st.sampled_from([b"[" * 100_000, b'{"a": 1e999}', b"9" * 5000, gzip.compress(b" " * (1 << 20))]),
)
_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "content-encoding": st.one_of(texts, st.sampled_from(["gzip", "x-gzip", "GZIP ", "identity", "br", ""])),
        "content-type": st.one_of(texts, st.sampled_from(["application/json", "text/html", "application/x+json; a=b"])),
    },
)  # fmt: skip


@fuzzed
@given(_HEADERS, _BODIES, st.integers(1, 64))
def test_a_body_is_bytes_or_a_reason(headers: dict[str, str], body: bytes, size: int) -> None:
    def read() -> object:
        chunks = (body[at : at + size] for at in range(0, len(body), size))
        return http_api._parsed(headers, http_api.read_body(headers, chunks, 1 << 16))

    with bounded():
        outcome(read, http_api._RetryError)


@fuzzed
@given(st.one_of(texts, st.none(), st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT"))))
@example("Fri, 31 Dec 9999 23:59:59 -9999")
@example("9" * 5000)
def test_retry_after_is_a_bounded_number_of_seconds(value: str | None) -> None:
    with bounded():
        assert 0 <= http_api.retry_after(value, datetime(2026, 11, 27, tzinfo=UTC)) <= http_api.LONGEST
