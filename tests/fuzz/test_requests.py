"""Requests to every route of `refnet serve`: a page, JSON, or an error of two lines, whoever asks for whatever."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.dashboard import browser, csrf
from tests.fuzz.harness import fuzzed
from tests.unit.web.test_every_route import ROUTES

from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.web.children import Children

PATHS = sorted({path for _, path in ROUTES})
NAMES = re.findall(
    r"[a-z_]+",
    """source artifact month day months store page q cursor limit before failed_before at beside name next contents
    kind outcome changed state crawl year job seeds depth direction typed fingerprint action language theme token""",
)
VALUES = st.text(max_size=40) | st.sampled_from(
    [
        *(
            "..",
            "%2e%2e%2f",
            "--force",
            "-1",
            "0",
            "9" * 30,
            "0" * 5000,
            "1e999",
            "nan",
            "٣",
            "x" * 3000,
            "refnet\n",
        ),
        *(
            "database",
            "2026-11",
            "9999-12",
            "0001-01-01",
            "2026-11-25T02:00+99:00",
            "20260101T000000-aaaaaaaaaaaa",
        ),
        *("<script>x</script>", "\"'><b onclick=x>", "{{7*7}}", "{0}", "\u202e\x1b[31m\r\n", "javascript:x"),
    ]
)
FIELDS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
METHODS = st.sampled_from(["GET"] * 4 + ["POST"] * 3 + ["PUT", "HEAD", "OPTIONS", "DELETE"])
ACCEPTED = st.sampled_from(["text/html", "application/json", "text/event-stream", ""])


class _Tags(HTMLParser):
    """Fails for what no page of RefNet has: a handler, a style, a script of its own, a tag that text could bring."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert tag != "b"
        assert not [name for name in values if name.startswith("on") or name == "style"]
        assert tag != "script" or str(values.get("src")).startswith("/static/")
        assert not str(values.get("href", "")).lower().startswith("javascript:")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home: Path = tmp_path_factory.mktemp("home")
    with browser(Settings(home=home, backup_dir=home / "backups", log_folder=None)) as found:
        found.headers["X-CSRF-Token"] = csrf(found, "/settings")
        found.headers["Cookie"] = f"refnet_session={found.cookies['refnet_session']}"
        yield found


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_started() -> Iterator[None]:
    def refused(*_: object, **__: object) -> NoReturn:
        raise RefnetError("nothing is started here", "Go on.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Children, "start", refused)
        patch.setattr(Children, "output", refused)
        yield


@given(METHODS, st.sampled_from(PATHS), st.lists(VALUES, min_size=2, max_size=2), FIELDS, FIELDS, ACCEPTED)
@example("GET", "/artifacts/{source}/{name}", ["x", "\u202e"], {}, {}, "text/html")
@fuzzed
def test_requests(
    client: TestClient,
    method: str,
    path: str,
    parts: list[str],
    query: dict[str, str],
    sent: dict[str, str],
    kind: str,
) -> None:
    filled = iter(quote(one.encode(errors="replace"), safe="") or "x" for one in parts)
    asked = re.sub(r"\{[^}]+\}", lambda _: next(filled), path)
    body = {"data": sent} if method in {"POST", "PUT"} else {}
    client.cookies.clear()  # what an earlier example was given
    said = client.request(method, asked, params=query, headers={"Accept": kind}, **body)
    assert said.status_code != 500
    assert "content-security-policy" in said.headers
    if said.headers.get("content-type", "").startswith("text/html"):
        _Tags().feed(said.text)
        assert not set(said.text) & {"\u202e", "\x1b"}
    elif said.status_code >= 400 and method != "HEAD" and path != "/health":  # which names what fails
        assert said.json().keys() == {"error", "hint"}
    assert said.headers.get("location", "/").startswith("/")
    assert not said.headers.get("location", "/").startswith("//")
