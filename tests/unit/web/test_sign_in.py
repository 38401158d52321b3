"""Who signs in, which form is accepted, and what a page says without a session."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient
from tests.dashboard import TOKEN, browser, csrf, signed_in

from refnet.settings import Settings
from refnet.web.guard import ATTEMPTS, LASTS, MOST, SignInSessions, TooManyAttemptsError, address_of, new_id
from refnet.web.pages.base import inside, preferred


def test_a_browser_without_a_session_is_sent_to_sign_in_and_back(guarded: TestClient) -> None:
    said = guarded.get("/runs?kind=backup")
    assert (said.status_code, said.headers["location"]) == (303, "/sign-in?next=/runs%3Fkind%3Dbackup")
    said = guarded.post("/sign-in", data={"csrf": csrf(guarded), "token": TOKEN, "next": "/runs?kind=backup"})
    assert (said.status_code, said.headers["location"]) == (303, "/runs?kind=backup")
    assert guarded.get("/nothing").status_code == 404


def test_a_form_sent_after_the_session_ended_is_said_to_have_no_effect(
    guarded: TestClient,
) -> None:
    said = guarded.post(
        "/runs", data={"action": "backup"}, headers={"Referer": "http://127.0.0.1:8000/runs?kind=drill"}
    )
    assert (said.status_code, said.headers["location"]) == (
        303,
        "/sign-in?ended=yes&next=/runs%3Fkind%3Ddrill",
    )
    assert "nothing was changed or started" in guarded.get(said.headers["location"]).text
    assert "nothing was changed or started" not in guarded.get("/sign-in").text
    said = guarded.post("/runs", headers={"Referer": "http://["})
    assert said.headers["location"] == "/sign-in?ended=yes&next=/"


def test_a_live_part_without_a_session_leaves_the_page_as_it_is(guarded: TestClient) -> None:
    said = guarded.get("/overview/part", headers={"HX-Request": "true"})
    assert (said.status_code, said.text, "HX-Redirect" in said.headers) == (401, "", False)


def test_the_cookie_is_for_this_site_alone_and_no_script_reads_it(guarded: TestClient) -> None:
    token = csrf(guarded)
    before = guarded.cookies["refnet_session"]
    said = guarded.post(
        "/sign-in", data={"csrf": token, "token": TOKEN}, headers={"X-Forwarded-Proto": "https"}
    )
    words = said.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Secure", f"Max-Age={LASTS}"} <= {*words}
    assert before not in words[0]


def test_the_page_for_signing_in_names_no_machine_and_no_file(guarded: TestClient) -> None:
    said = guarded.get("/sign-in").text
    assert "settings file" not in said
    assert "RefNet 0" not in said


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", "文字", "é"])
def test_a_wrong_token_gives_no_session(guarded: TestClient, token: str) -> None:
    said = guarded.post("/sign-in", data={"csrf": csrf(guarded), "token": token})
    assert said.status_code == 401
    assert "the token is wrong" in said.text
    assert guarded.get("/nothing").status_code == 303


def test_ten_wrong_tokens_delay_an_address_but_not_the_right_token(guarded: TestClient) -> None:
    token = csrf(guarded)
    for _ in range(ATTEMPTS):
        assert guarded.post("/sign-in", data={"csrf": token, "token": "x"}).status_code == 401
    said = guarded.post("/sign-in", data={"csrf": token, "token": "x"})
    assert said.status_code == 429
    assert 0 < int(said.headers["retry-after"]) <= 60
    assert guarded.post("/sign-in", data={"csrf": token, "token": TOKEN}).status_code == 303


@pytest.mark.parametrize(
    ("proxies", "counted_apart"), [((), False), (("127.0.0.0/8",), True), (("10.0.0.0/8",), False)]
)
def test_wrong_tokens_are_counted_by_the_address_a_trusted_proxy_names(
    tmp_path: Path, proxies: tuple[str, ...], counted_apart: bool
) -> None:
    with browser(Settings(home=tmp_path, web_token=TOKEN, web_proxies=proxies)) as found:
        wrong = {"csrf": csrf(found), "token": "x"}
        for n in range(ATTEMPTS):
            found.post("/sign-in", data=wrong, headers={"X-Forwarded-For": f"198.51.100.{n}, 192.0.2.1"})
        for address, status in (("192.0.2.1", 429), ("192.0.2.2", 401 if counted_apart else 429)):
            said = found.post("/sign-in", data=wrong, headers={"X-Forwarded-For": address})
            assert said.status_code == status, address


@pytest.mark.parametrize("named", ["", "x", "192.0.2.1:80", "1" * 9000, "::ffff:1.2.3.4.5"])
def test_an_address_that_is_none_is_the_one_of_the_proxy(named: str) -> None:
    scope = {"client": ("127.0.0.1", 1)}
    assert address_of(scope, Headers({"X-Forwarded-For": named}), ("127.0.0.1",)) == "127.0.0.1"


def test_only_the_header_that_the_proxy_added_is_trusted() -> None:
    headers = Headers(raw=[(b"x-forwarded-for", b"198.51.100.7"), (b"x-forwarded-for", b"192.0.2.1")])
    assert address_of({"client": ("127.0.0.1", 1)}, headers, ("127.0.0.1",)) == "192.0.2.1"


def test_the_token_for_metrics_opens_nothing_else(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, web_token=TOKEN, web_metrics_token="another-token-of-the-tests")
    with browser(settings, Authorization="Bearer another-token-of-the-tests") as found:
        assert found.get("/metrics").status_code == 200
        assert found.post("/metrics", data={}).status_code == 401
        for path in ("/", "/api/backups", "/metrics/", "/runs", "/restore/plan"):
            assert found.get(path).status_code in {303, 401}, path
        assert found.post("/runs", data={"action": "backup"}).status_code == 303
        form = {"csrf": csrf(found), "token": "another-token-of-the-tests"}
        assert found.post("/sign-in", data=form).status_code == 401


@pytest.mark.parametrize("cookie", ["x", "A" * 43, "a" * 100_000, "\x00", "../../etc", '"'])
def test_a_forged_cookie_sees_nothing(guarded: TestClient, cookie: str) -> None:
    said = guarded.get("/nothing", headers={"Cookie": f"refnet_session={cookie}"})
    assert said.status_code == 303


def test_a_session_reads_the_api_and_changes_it_only_with_a_forms_token(guarded: TestClient) -> None:
    signed_in(guarded)
    assert guarded.get("/api/backups").status_code == 200
    assert guarded.post("/api/crawls", json={}).status_code == 403
    assert (
        guarded.post("/api/crawls", json={}, headers={"X-CSRF-Token": csrf(guarded, "/nothing")}).status_code
        == 400
    )


@pytest.mark.parametrize("given", [{}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "文"}])
def test_a_form_of_another_page_changes_nothing(local: TestClient, given: dict[str, str]) -> None:
    said = local.post("/preferences", data={"language": "ja", **given})
    assert said.status_code == 403
    assert "refnet_language" not in said.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"csrf",
        b"a=1&a=2",
        b"&".join(b"a%d=1" % n for n in range(200)),
        b"a=" + b"x" * (65 << 10),
        b"a=%ff",
    ],
)
def test_a_malformed_form_is_refused(local: TestClient, body: bytes) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert local.post("/preferences", content=body, headers=kind).status_code in {400, 413}
    assert local.post("/preferences", json={}).status_code == 400


def test_signing_out_ends_the_session_for_every_copy_of_the_cookie(guarded: TestClient) -> None:
    signed_in(guarded)
    kept = guarded.cookies["refnet_session"]
    assert guarded.post("/sign-out", data={"csrf": csrf(guarded, "/nothing")}).status_code == 303
    assert guarded.get("/nothing", headers={"Cookie": f"refnet_session={kept}"}).status_code == 303


def test_a_session_ends_after_twelve_hours_and_the_oldest_of_too_many(tmp_path: Path) -> None:
    now = [0.0]
    sessions = SignInSessions(TOKEN, now=lambda: now[0])
    first = sessions.sign_in(TOKEN, "a")
    now[0] = LASTS - 1
    assert sessions.has_signed_in(first)
    now[0] = LASTS + 1
    assert not sessions.has_signed_in(first)
    several = [sessions.sign_in(TOKEN, "a") for _ in range(MOST + 1)]
    assert [sessions.has_signed_in(one) for one in several[:2]] == [False, True]


def test_a_limit_of_attempts_holds_for_each_address_and_ends(tmp_path: Path) -> None:
    now = [0.0]
    sessions = SignInSessions(TOKEN, now=lambda: now[0])

    def wrong(address: str) -> str:
        try:
            sessions.sign_in("x", address)
        except TooManyAttemptsError as error:
            return f"wait {error.seconds}"
        except Exception as error:  # noqa: BLE001
            return str(error)
        return "in"

    assert [wrong("a") for _ in range(ATTEMPTS + 1)][-1] == "wait 61"
    assert wrong("b") == "the token is wrong"
    now[0] = 61
    assert wrong("a") == "the token is wrong"


def test_language_and_theme_are_kept_in_the_browser(local: TestClient) -> None:
    assert '<html lang="ja"' in local.get("/nothing", headers={"Accept-Language": "ja,en;q=0.5"}).text
    said = local.post(
        "/preferences", data={"csrf": csrf(local, "/nothing"), "language": "ja", "next": "/runs"}
    )
    assert (said.status_code, said.headers["location"]) == (303, "/runs")
    assert "ネットワーク" in local.get("/nothing").text
    local.post("/preferences", data={"csrf": csrf(local, "/nothing"), "theme": "dark"})
    assert 'data-theme="dark"' in local.get("/nothing").text


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "", "x", "/\n", "/" + "x" * 5000]
)
def test_nobody_is_sent_to_another_site(path: str) -> None:
    assert inside(path) == "/"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("ja", "ja"),
        ("en;q=0.5,ja;q=0.9", "ja"),
        ("de,fr", "en"),
        ("", "en"),
        ("ja;q=0,en", "en"),
        ("ja;q=x", "ja"),
        (",;q=;", "en"),
    ],
)
def test_the_language_is_the_first_of_the_browser_that_there_is(accepted: str, language: str) -> None:
    assert preferred(accepted) == language


def test_no_page_has_a_script_or_a_style_of_its_own(local: TestClient) -> None:
    said = local.get("/nothing")
    assert "unsafe" not in said.headers["content-security-policy"]
    assert "unsafe" not in local.get("/docs").headers["content-security-policy"]
    assert not re.search(r"<style|<script(?! src=\"/static/)| style=| on\w+=", said.text)


def test_files_are_only_those_of_the_pages(local: TestClient) -> None:
    found = re.findall(r'(?:src|href)="(/static/[^"]+)"', local.get("/nothing").text)
    assert len(found) >= 3
    for path in found:
        assert "immutable" in local.get(path).headers["cache-control"]
    for path in ("/static/..%2Fapp.py", "/static/nothing", "/static/", "/static/../app.py"):
        assert local.get(path).status_code == 404


def test_ids_are_random() -> None:
    assert len({new_id() for _ in range(100)}) == 100


@pytest.mark.parametrize(("user", "status"), [(os.geteuid(), 404), (0, 404), (65_534, 403), (None, 403)])
def test_without_a_token_pages_are_for_the_user_who_serves_them(
    tmp_path: Path, user: int | None, status: int
) -> None:
    with browser(Settings(home=tmp_path), lambda _client, _server: user) as found:
        assert found.get("/nothing").status_code == status
        assert found.get("/api/backups").status_code == 200


def test_a_change_of_the_language_returns_to_a_path_as_it_was_asked(local: TestClient) -> None:
    said = local.get("/artifacts/a%2Fb%3F/%E2%80%AE?contents=yes").text
    following = re.search(r'name="next" value="([^"]+)"', said)
    assert following
    answer = local.post("/preferences", data={"csrf": csrf(local, "/nothing"), "next": following[1]})
    assert answer.headers["location"] == "/artifacts/a/b%3F/%E2%80%AE?contents=yes"


@pytest.mark.parametrize("path", ["/timeline", "/stores"])
def test_sessions_share_a_page_and_each_gets_its_own_form_token(guarded: TestClient, path: str) -> None:
    other = TestClient(guarded.app, base_url=guarded.base_url, follow_redirects=False)
    signed_in(guarded), signed_in(other)
    tokens = csrf(guarded, path), csrf(other, path)
    assert tokens[0] != tokens[1]
    pages = [
        one.get(path).text.replace(token, "") for one, token in zip((guarded, other), tokens, strict=True)
    ]
    assert pages[0] == pages[1]
    assert re.findall('name="csrf" value="[^"]+"', pages[0]) == []
    japanese = other.get(path, headers={"Accept-Language": "ja"}).text
    assert tokens[1] in japanese
    assert 'lang="ja"' in japanese
    for one, token in zip((guarded, other), tokens, strict=True):
        assert one.post("/sign-out", data={"csrf": token}).status_code == 303
