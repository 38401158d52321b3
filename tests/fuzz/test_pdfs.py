"""Links to PDFs, and what their servers answer."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import bounded, fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.network.pdfs import NoPdfError, PdfClient, PdfLimits

URL, LIMITS = "http://127.0.0.1:9/a.pdf", PdfLimits(1, 200, frozenset({"127.0.0.1:9"}), gap=0.0)
_LINKS = st.one_of(
    texts,
    texts.map(lambda text: f"https://{text}/"),
    st.sampled_from(
        [
            "https://[",
            "https://:443/",
            "https://a:99999/",
            "//",
            "https://%00/",
            "https://xn--/",
            "https://1.2.3/",
        ]
    ),
)
_HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "content-length", "content-encoding", "retry-after"]),
    st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
        st.sampled_from(["application/pdf", "identity", "gzip", "9" * 5000, "-1", "²", "text/html"]),
    ),
)


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is looked up."""

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        if host != "127.0.0.1":
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def fetched(link: str, answer: httpx.Response) -> bytes:
    """Fetch `link` from a server that answers the same each time."""
    parts: list[bytes] = []
    with PdfClient(LIMITS, lambda _: None) as client:
        client._client = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
        client.fetch(link, parts.append)
    return b"".join(parts)


@fuzzed
@given(_LINKS)
@example("https://a\0b/")
def test_a_link_is_asked_or_a_reason(link: str) -> None:
    with bounded():
        outcome(lambda: fetched(link, httpx.Response(404)), NoPdfError)


@fuzzed
@given(st.sampled_from([200, 301, 302, 404, 429, 503, 999]), _HEADERS, st.binary(max_size=300), _LINKS)
def test_an_answer_is_a_pdf_or_a_reason(
    status: int, headers: dict[str, str], body: bytes, place: str
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    raw += [(b"location", place.encode("latin-1", "replace"))] if status in {301, 302} else []
    answer = httpx.Response(status, headers=raw, stream=httpx.ByteStream(body))
    with bounded():
        found = outcome(lambda: fetched(URL, answer), NoPdfError)
    if isinstance(found, bytes):
        assert found == body
        assert found.startswith(b"%PDF-")
        assert len(found) <= LIMITS.size
