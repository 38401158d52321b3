"""What a hostile or broken web API answers: an error in words, in bounded time and memory, and no secret anywhere."""

from __future__ import annotations

import gzip
import logging
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from tests.scripted_server import STALL, Scripted, answer, dripping, scripted

from refnet.network import http_api
from refnet.network.crawl_work import Scholar
from refnet.network.http_api import Api, ApiServer, RefusedRequestError, UnavailableError
from refnet.network.papers import AnswerError

KEY = "hunter2hunter2hunter2"


class NoLimit:
    """A limiter that counts."""

    pushed = 0.0

    def wait(self) -> None:
        pass

    def push(self, seconds: float) -> None:
        self.pushed = seconds


def asked(
    server: Scripted | str, said: list[str] | None = None, *, key: str = KEY, silence: float = 30.0
) -> tuple[Any, list[float]]:
    """The answer of the server, or its error; and the seconds of the waits, which are not waited."""
    waits: list[float] = []
    headers, params = {"x-api-key": key}, {"api_key": key}
    url = server if isinstance(server, str) else server.url
    of = ApiServer("Fake", url, "crawl.api_key", headers, params, has_key=bool(key), silence=silence)
    with Api(of, NoLimit(), say=(said or []).append, sleep=waits.append) as api:  # type: ignore[arg-type]
        return api.get("/paper/1", {"fields": "title"}), waits


def fault(*answers: bytes, kind: type[Exception] = UnavailableError) -> str:
    with scripted(*answers) as server, pytest.raises(kind) as caught:
        asked(server)
    error: Any = caught.value
    for line in (error.message, error.hint):
        assert KEY not in line
        assert line.isprintable()
        assert len(line) < 500
    return str(re.sub(r"Fake \(127\.0\.0\.1:\d+\) ", "", error.message))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (answer("<html>x</html>", kind="text/html; charset=utf-8"), "returned text/html instead of JSON"),
        (answer('{"data": [1, '), "sent a response that is not JSON, or is truncated"),
        (answer('{"a": NaN}'), "sent a response that is not JSON, or is truncated"),
        (answer("[" * 200_000), "sent a response that is not JSON, or is truncated"),
        (answer("9" * 100_000), "sent a response that is not JSON, or is truncated"),
        (answer(b"\xff\xfe\x00"), "sent a response that is not JSON, or is truncated"),
        (answer({"a": 1}, length=500), "closed the connection in the middle of a response"),
        (answer({"a": 1}, length=-5), "closed the connection in the middle of a response"),
        (answer({"a": 1}, Content_Encoding="br"), "sends an unsupported content encoding (br)"),
        (answer({"a": 1}, Content_Encoding="gzip"), "sent a response that is not valid gzip"),
        (answer(gzip.compress(b"{}")[:-9], Content_Encoding="gzip"), "sent a truncated response"),
        (answer(gzip.compress(b"{}") + b"[]", Content_Encoding="gzip"), "sent data after its compressed response"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, "closed the connection in the middle of a response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "closed the connection in the middle of a response"),
        (b"\r\n", "closed the connection in the middle of a response"),
        (answer("{}", status="503 Busy", kind="text/html"), "returned status 503"),
        (answer("{}", status="302 Found"), "refuses the request with status 302"),
    ],
)  # fmt: skip
def test_a_broken_answer_is_named_after_some_tries(sent: bytes, said: str) -> None:
    assert fault(sent, kind=RefusedRequestError if "refuses" in said else UnavailableError) == said


@pytest.mark.parametrize("compressed", [True, False])
def test_an_answer_that_is_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch, compressed: bool) -> None:
    monkeypatch.setattr(http_api, "_TRIES", 1)
    bomb = b" " * (65 << 20)
    sent = answer(gzip.compress(bomb, 1), Content_Encoding="gzip") if compressed else answer(bomb)
    tracemalloc.start()
    with scripted(sent) as server:
        del bomb
        before = tracemalloc.get_traced_memory()[0]
        with pytest.raises(UnavailableError, match="sends more than 64 MiB"):
            asked(server)
        peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 150 << 20


def test_a_server_that_sends_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "_TRIES", 1)
    with scripted(STALL) as server, pytest.raises(UnavailableError, match="sent nothing for 0 s"):
        asked(server, silence=0.2)


def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 1000, 50))
    monkeypatch.setattr(http_api.time, "monotonic", lambda: next(times))
    with pytest.raises(http_api._RetryError, match="within 120 s"):
        http_api.read_body({}, iter([b"x"] * 10))


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nx: ", b""])
def test_a_head_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(http_api, "_TRIES", 1)
    monkeypatch.setattr(http_api, "_PATIENCE", 0.2)
    part = b"y" if head else b"HTTP/1.1 103 Early Hints\r\n\r\n"
    with (
        dripping(head, part) as url,
        pytest.raises(UnavailableError, match="did not finish its response within 0 s"),
    ):
        asked(url, silence=0.5)


def test_an_answer_of_many_values_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "_TRIES", 1)
    sent = answer(gzip.compress(b"[" + b"{}," * 3_000_000 + b"{}]", 1), Content_Encoding="gzip")
    tracemalloc.start()
    with scripted(sent) as server, pytest.raises(UnavailableError, match="sends more than 2,000,000 values"):
        asked(server)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20


def test_a_server_that_is_not_there_is_named() -> None:
    with scripted(b"x") as server:
        pass
    with pytest.raises(UnavailableError, match=r"^Fake \(127.0.0.1:\d+\) cannot be reached: "):
        asked(server)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    "place", ["http://127.0.0.2:1/x", "//evil.example/x", "file:///etc/passwd", "http://[", "https://127.0.0.1/", "http://127.0.0.1:9/"]
)  # fmt: skip
def test_a_redirect_to_another_server_is_not_followed(status: str, place: str) -> None:
    said = fault(answer("", status=status, Location=place), kind=RefusedRequestError)
    assert said.startswith("redirects to another server: ")


def test_a_redirect_to_a_name_that_is_none_is_an_error_in_words() -> None:
    said = fault(answer("", status="302 Found", Location="//xn--/"), kind=RefusedRequestError)
    assert said.startswith("cannot be requested: ")


def test_a_redirect_on_the_same_server_is_followed_some_times() -> None:
    moved = answer("", status="301 Moved", Location="/works/W2?select=id")
    with scripted(moved, answer({"id": "W2"})) as server:
        assert asked(server)[0] == {"id": "W2"}
        assert "GET /works/W2?select=id&api_key=" in server.heads[1]
    assert fault(moved) == "redirects more than 3 times"


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("0", 0), ("99999999999", 3600), ("-5", 0), ("soon", 0), ("٣", 0)]
)
def test_retry_after_is_obeyed_within_bounds(value: str, seconds: int) -> None:
    said: list[str] = []
    with scripted(answer("", status="429 Slow", Retry_After=value), answer([1])) as server:
        found, (wait,) = asked(server, said)
    assert found == [1]
    assert seconds <= wait < seconds + 6.5
    assert [KEY in one for one in said] == [False] * len(said)


def test_an_hour_of_429_ends_with_the_advice_to_set_a_key() -> None:
    with scripted(answer("", status="429 Slow", Retry_After="3600")) as server:
        with pytest.raises(UnavailableError) as caught:
            asked(server, key="")
        assert (len(server.heads), caught.value.limited) == (2, True)
    assert "set crawl.api_key" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("400 Bad", '{"error": "Unrecognized\\u001b[2J fields"}', "refuses the request with status 400: Unrecognized [2J fields"),
        ("400 Bad", '{"error": ["x"]}', "refuses the request with status 400"),
        ("400 Bad", '{"error": "' + "x" * 70_000, "refuses the request with status 400"),
        ("403 No", '{"message": "Forbidden"}', "refuses the key: Forbidden"),
        ("418 Tea", "<html>", "refuses the request with status 418"),
    ],
)  # fmt: skip
def test_a_refusal_is_shown_in_printable_words(status: str, body: str, said: str) -> None:
    assert fault(answer(body, status=status), kind=RefusedRequestError) == said


def test_404_is_no_answer_and_a_compressed_one_is_read() -> None:
    with scripted(answer("<html>", status="404 No", kind="text/html")) as server:
        assert asked(server)[0] is None
    with scripted(answer(gzip.compress(b'{"a": "\xc3\xa9"}'), Content_Encoding="gzip")) as server:
        assert asked(server)[0] == {"a": "é"}
        assert f"x-api-key: {KEY}" in server.heads[0]


def test_no_log_contains_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted(answer("", status="500 No"), answer([])) as server:
        asked(server)
    assert KEY not in caplog.text


def test_the_waits_between_tries_grow() -> None:
    with scripted(answer("", status="500 No")) as server:
        waits: list[float] = []
        of = ApiServer("Fake", server.url, "crawl.api_key")
        with Api(of, NoLimit(), sleep=waits.append) as api, pytest.raises(UnavailableError):  # type: ignore[arg-type]
            api.post("/paper/batch", {}, {"ids": []})
    bounds: list[Callable[[float], bool]] = [
        lambda wait, n=n: 0.5 * 2**n <= wait < 1.5 * 2**n for n in range(4)
    ]  # type: ignore[misc]
    assert [is_right(wait) for is_right, wait in zip(bounds, waits, strict=True)] == [True] * 4


def test_a_list_that_begins_again_is_refused() -> None:
    page = answer({"offset": 0, "next": 1000, "data": []})
    with scripted(page) as server, Api(ApiServer("Fake", server.url, "key"), NoLimit()) as api:  # type: ignore[arg-type]
        assert Scholar(api).edges("x", "references", 0) is not None
        with pytest.raises(AnswerError, match="not an offset after the page that was asked for"):
            Scholar(api).edges("x", "references", 1000)
