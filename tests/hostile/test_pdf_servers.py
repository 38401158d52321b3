"""What a hostile server answers where a PDF should be: a reason in words, in bounded time and disk, and no request inside."""

from __future__ import annotations

import gzip
from urllib.parse import urlsplit

import httpx
import pytest
from tests.scripted_server import STALL, answer, dripping, scripted

from refnet.network.pdfs import NoPdfError, PdfClient, PdfLimits, is_public

PDF = b"%PDF-1.7\n" + b"x" * 3000 + b"\n%%EOF\n"


def pdf(body: bytes = PDF, kind: str = "application/pdf", **more: str) -> bytes:
    return answer(body, kind=kind, **more)


def limits(*urls: str, **more: float) -> PdfLimits:
    named = frozenset(urlsplit(url).netloc for url in urls)
    return PdfLimits(1, 1 << 16, named, **{"gap": 0.0, "time": 20.0, **more})


def fetched(url: str, allowed: PdfLimits, waits: list[float] | None = None) -> bytes:
    parts: list[bytes] = []
    with PdfClient(allowed, (waits if waits is not None else []).append) as client:
        client.fetch(url, parts.append)
    return b"".join(parts)


def reason(*answers: bytes, **more: float) -> str:
    with scripted(*answers) as server, pytest.raises(NoPdfError) as caught:
        fetched(f"{server.url}/a.pdf", limits(server.url, **more))
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix("127.0.0.1 ")


@pytest.mark.parametrize(
    "kind", ["application/pdf; charset=binary", "Application/PDF", "application/octet-stream", ""]
)
def test_a_pdf_arrives_as_it_is(kind: str) -> None:
    with scripted(pdf(kind=kind)) as server:
        assert fetched(f"{server.url}/a.pdf#page=2", limits(server.url)) == PDF
        head = server.heads[0].lower()
    assert head.startswith("get /a.pdf http")
    assert "user-agent: refnet/" in head
    assert "accept-encoding: identity" in head


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (pdf(b"<html>Sign in</html>", kind="text/html; charset=utf-8"), "sent text/html instead of a PDF"),
        (pdf(kind="x\x1b[2J/y"), "sent x [2j/y instead of a PDF"),
        (pdf(b"<html>Sign in</html>"), "sent something that is not a PDF"),
        (pdf(b"MZ" + PDF), "sent something that is not a PDF"),
        (pdf(b"%P"), "sent a truncated PDF"),
        (pdf(b""), "sent a truncated PDF"),
        (pdf(PDF[:2000]), "sent a truncated PDF"),
        (answer(PDF, kind="application/pdf", length=len(PDF) + 9), "closed the connection in the middle of a response"),
        (answer(PDF, kind="application/pdf", length=10**15), "sent more than 65,536 bytes (crawl.pdf_bytes)"),
        (pdf(PDF + b"y" * (1 << 17)), "sent more than 65,536 bytes (crawl.pdf_bytes)"),
        (pdf(gzip.compress(PDF), Content_Encoding="gzip"), "sent a compressed response, which nobody asked for"),
        (answer("no", status="403 Forbidden"), "answered with status 403"),
        (answer("no", status="206 Partial"), "answered with status 206"),
        (answer("", status="302 Found"), "answered with status 302"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, "closed the connection in the middle of a response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "closed the connection in the middle of a response"),
    ],
)  # fmt: skip
def test_what_is_no_pdf_is_named(sent: bytes, said: str) -> None:
    assert reason(sent) == said


def test_an_endless_body_ends_at_the_limit() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n%PDF-1.7\n"
    with dripping(head, b"y" * 30_000) as url, pytest.raises(NoPdfError, match="sent more than 65,536 bytes"):
        fetched(url, limits(url))


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n%PDF-"]
)
def test_a_slow_drip_ends_at_the_time_limit(head: bytes) -> None:
    with (
        dripping(head, b"y") as url,
        pytest.raises(NoPdfError, match="did not finish its response within 0 s"),
    ):
        fetched(url, limits(url, time=0.4))


def test_a_server_that_sends_nothing_is_given_up() -> None:
    assert reason(STALL, silence=0.2) == "sent nothing for 0 s"


@pytest.mark.parametrize(
    "place",
    [
        "https://127.0.0.1/x", "https://localhost/x", "https://[::1]/x", "https://[::ffff:127.0.0.1]/x", "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/", "https://0.0.0.0/", "https://2130706433/", "https://0x7f.1/", "http://192.168.1.1/",
        "https://[fd00::1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://224.0.0.1/",
    ],
)  # fmt: skip
def test_no_link_and_no_redirect_reaches_an_address_inside(place: str) -> None:
    said = f"{httpx.URL(place).host} is not on the public internet"
    with pytest.raises(NoPdfError) as caught:
        fetched(place, limits())
    assert str(caught.value) == said
    assert reason(answer("", status="302 Found", Location=place), pdf()) == said.removeprefix("127.0.0.1 ")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file:///etc/passwd", "has a link that is not https, or with a password"),
        ("ftp://example.org/a.pdf", "has a link that is not https, or with a password"),
        ("https://u:p@example.org/a.pdf", "has a link that is not https, or with a password"),
        ("http://example.org:8080/a.pdf", "has a link that is not https, or with a password"),
        ("https://[", "cannot be resolved"),
        ("https://example.org:99999/", "has a link that is not https"),
        ("https://a\0b/", "the link has an invalid link: https://a b/"),
        ("https://\u202e.example/", "has an invalid link"),
        ("https://" + "a" * 70 + ".invalid/", "cannot be resolved"),
        ("https://nowhere.invalid/a.pdf", "cannot be resolved"),
        ("", "the link cannot be resolved"),
        ("/a.pdf", "the link cannot be resolved"),
    ],
)
def test_a_link_that_is_not_for_the_web_is_named_and_not_asked(place: str, said: str) -> None:
    with pytest.raises(NoPdfError) as caught:
        fetched(place, limits())
    assert said in str(caught.value)


def test_a_redirect_on_an_allowed_server_is_followed_some_times() -> None:
    moved = answer("", status="303 See Other", Location="../b.pdf?x=1")
    with scripted(moved, pdf()) as server:
        assert fetched(f"{server.url}/a/a.pdf", limits(server.url)) == PDF
        assert server.heads[1].startswith("GET /b.pdf?x=1 HTTP")
    assert reason(moved) == "redirects more than 5 times"


def test_http_becomes_https_on_a_public_server(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, object]] = []

    def send(_client: object, request: httpx.Request, **_: object) -> httpx.Response:
        asked.append((str(request.url), request.headers["host"], request.extensions["sni_hostname"]))
        return httpx.Response(404)

    monkeypatch.setattr(httpx.Client, "send", send)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("93.184.215.14", 443))])
    with pytest.raises(NoPdfError, match=r"example\.org answered with status 404"):
        fetched("http://example.org/a.pdf", limits())
    assert asked == [("https://93.184.215.14/a.pdf", "example.org", "example.org")]


def test_a_name_with_one_address_inside_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(2, 1, 6, "", ("93.184.215.14", 443)), (2, 1, 6, "", ("127.0.0.1", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: both)
    with pytest.raises(NoPdfError, match=r"example\.org is not on the public internet"):
        fetched("https://example.org/a.pdf", limits())


def test_a_busy_server_is_asked_once_more_after_the_wait_that_it_names() -> None:
    busy, waits = answer("", status="429 Slow", Retry_After="7"), []
    with scripted(busy, pdf()) as server:
        assert fetched(f"{server.url}/a.pdf", limits(server.url), waits) == PDF
    assert [round(wait) for wait in waits] == [7]


@pytest.mark.parametrize(("after", "requests"), [("3600", 1), ("2", 2)])
def test_a_server_that_stays_busy_is_left_alone_for_the_rest_of_the_run(after: str, requests: int) -> None:
    waits: list[float] = []
    with scripted(answer("", status="503 Busy", Retry_After=after)) as server:
        with PdfClient(limits(server.url), waits.append) as client:
            for name in ("a", "b"):
                with pytest.raises(NoPdfError, match="is busy; a later run fetches it"):
                    client.fetch(f"{server.url}/{name}.pdf", lambda _: None)
        assert len(server.heads) == requests
    assert all(wait <= 60 for wait in waits)


def test_one_server_is_asked_with_pauses() -> None:
    waits: list[float] = []
    with scripted(pdf()) as server, PdfClient(limits(server.url, gap=1.0), waits.append) as client:
        for _ in range(2):
            client.fetch(f"{server.url}/a.pdf", lambda _: None)
    assert [round(wait) for wait in waits] == [1]


def test_no_cookie_goes_back() -> None:
    moved = answer("", status="302 Found", Location="/b.pdf", Set_Cookie="a=b")
    with scripted(moved, pdf()) as server:
        fetched(f"{server.url}/a.pdf", limits(server.url))
        assert "cookie" not in server.heads[1].lower()


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)
