"""Every route of the application, also one that is added later: who is answered, by which method, and from which form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.dashboard import HTML, TOKEN, browser, csrf, signed_in

from refnet.settings import Settings
from refnet.web.app import create
from refnet.web.children import Children
from refnet.web.guard import BODY, is_page

#: What answers everybody; each is listed by name here too.
OPEN = {
    ("GET", "/health"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("POST", "/preferences"),
    ("GET", "/static/{name}"),
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_SENT = {"Content-Type": "application/x-www-form-urlencoded"}


def _routes(routes: Any) -> Iterator[tuple[str, str]]:
    """Yield the method and the path of each route, those of included routers too."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from _routes(inner.routes)
        else:
            yield from ((method, route.path) for method in route.methods)


ROUTES = sorted({*_routes(create(Settings(home=Path("/nonexistent"), web_token=TOKEN)).routes)})
CHANGES = [(method, path) for method, path in ROUTES if method not in {"GET", "HEAD"}]


def filled(path: str) -> str:
    """Return `path` with a value for each parameter."""
    return re.sub(r"\{[^}]+\}", "1", path)


def test_the_routes_are_found() -> None:
    assert {("POST", "/restore"), ("POST", "/restore/undo"), ("POST", "/runs"), ("POST", "/api/crawls")} <= {
        *CHANGES
    }
    assert len(ROUTES) > 40
    assert {*ROUTES} >= OPEN


@pytest.mark.parametrize("accept", ["text/html", "application/json", "text/event-stream"])
def test_without_a_session_no_route_answers_but_the_open_ones(guarded: TestClient, accept: str) -> None:
    for method, path in {*ROUTES} - OPEN:
        for headers in (
            {},
            {"HX-Request": "true"},
            {"Authorization": "Bearer x"},
            {"X-Forwarded-For": "127.0.0.1"},
        ):
            said = guarded.request(method, filled(path), headers={"Accept": accept, **headers}, data={})
            sent_away = said.status_code == 303 and said.headers["location"].startswith("/sign-in")
            assert sent_away or (said.status_code == 401 and len(said.content) < 200), (method, path)


def test_every_change_needs_the_token_of_a_form_of_its_own_session(guarded: TestClient) -> None:
    with TestClient(
        guarded.app, base_url="http://127.0.0.1:8000", headers=HTML, follow_redirects=False
    ) as other:
        foreign = csrf(signed_in(other), "/settings")
    signed_in(guarded)
    for method, path in CHANGES:
        for given in ("", "0" * 64, foreign, foreign.upper(), "é"):
            headers = _SENT | ({"X-CSRF-Token": given} if given.isascii() else {})
            for sent in ({"csrf": given}, {}):
                said = guarded.request(method, filled(path), headers=headers, data=sent)
                assert said.status_code == 403, (method, path, given)


def test_a_form_of_an_earlier_server_is_answered_with_a_page_that_leads_back(local: TestClient) -> None:
    page = {"Referer": "http://127.0.0.1:8000/runs?page=2"} | _SENT
    for data in ({"csrf": "0" * 64}, {"csrf": "0" * 64, "a": "x" * 70_000}):
        said = local.post("/preferences", data=data, headers=page)
        assert said.status_code in {403, 413}
        assert said.headers["content-type"].startswith("text/html")
        assert 'href="/runs?page=2"' in said.text
    said = local.post("/preferences", data={"csrf": "0" * 64}, headers=_SENT | {"Accept": "*/*"})
    assert said.json()["error"] == "the form has expired or belongs to another page"


def test_every_change_from_a_page_of_another_site_is_refused(local: TestClient) -> None:
    good = csrf(local, "/settings")
    for method, path in CHANGES:
        for origin in (
            "null",
            "http://evil.example",
            "http://127.0.0.1:8001",
            "http://127.0.0.1:8000@evil",
            "",
        ):
            said = local.request(method, filled(path), headers={"Origin": origin}, data={"csrf": good})
            assert said.status_code == 403, (method, path, origin)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_reads_nothing_and_starts_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    started = []
    monkeypatch.setattr(Children, "output", lambda *found, **_: started.append(found))
    monkeypatch.setattr(Children, "start", lambda *found, **_: started.append(found))
    with browser(Settings(home=tmp_path, backup_dir=tmp_path / "backups")) as local:
        for method, path in ROUTES:
            asked = f"{filled(path)}?source=database&artifact=a&contents=yes"
            for mode, kind in (
                ("no-cors", "image"),
                ("cors", "empty"),
                ("navigate", "iframe"),
                ("navigate", "document"),
            ):
                sent = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}
                said = local.request(method, asked, headers=sent)
                if method != "GET" or kind != "document" or not is_page(path):
                    assert said.status_code == 403, (method, path, kind)
        assert local.get("/", headers=sent).status_code == 200, "a link leads to the dashboard"
        assert local.get("/restore/plan?source=database&artifact=a", headers=sent).status_code == 400
    assert started == []


def test_a_program_with_the_token_needs_no_token_of_a_form(guarded: TestClient) -> None:
    for method, path in CHANGES:
        said = guarded.request(
            method, filled(path), headers={"Authorization": f"Bearer {TOKEN}"}, data={"x": "1"}
        )
        assert said.status_code not in {403, 500}, (method, path)


def test_a_method_without_a_route_is_two_lines_and_changes_nothing(local: TestClient) -> None:
    headers = {"X-CSRF-Token": csrf(local, "/settings"), "Accept": "application/json"} | _SENT
    for path in {path for _, path in ROUTES}:
        for method in {*METHODS} - {one for one, same in ROUTES if same == path}:
            said = local.request(method, filled(path), headers=headers)
            assert said.status_code in {404, 405}, (method, path)
            assert method == "HEAD" or said.json().keys() == {"error", "hint"}, (method, path)


def test_another_user_of_the_machine_gets_no_page_and_no_change_of_one(tmp_path: Path) -> None:
    app = create(Settings(home=tmp_path), lambda _client, _server: 4242)
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 1)) as other:
        for method, path in ROUTES:
            if is_page(path):
                assert other.request(method, filled(path)).status_code == 403, (method, path)


@pytest.mark.parametrize("is_named", [True, False], ids=["its length named", "in chunks"])
def test_a_body_that_is_too_long_is_two_lines_everywhere(local: TestClient, is_named: bool) -> None:
    headers = {"Accept": "application/json", "X-CSRF-Token": csrf(local, "/settings")}
    for method, path in CHANGES:
        kind = "application/json" if path.startswith("/api/") else "application/x-www-form-urlencoded"
        body = b"x" * (BODY + 1)
        sent = body if is_named else iter((body[:-1], body[-1:]))
        said = local.request(method, filled(path), headers=headers | {"Content-Type": kind}, content=sent)
        assert (said.status_code, said.json()["error"]) == (413, f"the body has more than {BODY:,} bytes"), (
            path
        )
