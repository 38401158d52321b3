"""The page of runs: start, watch, stop, read why something failed; whatever names and messages contain."""

from __future__ import annotations

import asyncio
import fcntl
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from starlette.testclient import TestClient
from tests.dashboard import browser, csrf
from tests.unit.web.test_children import GOOD, NAME, program, put

from refnet.catalog.run import EXPECTED, Ended, Origin, Reason, Run, RunKind
from refnet.context import read_settings
from refnet.core.errors import RefnetError
from refnet.core.processes import until
from refnet.store.run_journal import RunJournal
from refnet.web import child_process
from refnet.web.answers import MOST_STREAMS, Streams
from refnet.web.children import Child, Children
from refnet.web.pages import runs
from refnet.web.pages.runs import rows_of, shown

HTML = "<script>alert(1)</script>"
WAITS = "import sys, time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: sys.exit('refnet: interrupted\\n        Retry.')"


@pytest.mark.parametrize(
    ("source", "named"), [("", ["database", "obsidian"]), ("obsidian", ["obsidian"]), ("config", None)]
)
def test_a_configuration_unknown_to_the_dashboard_is_left_to_others(
    home: Path, monkeypatch: pytest.MonkeyPatch, source: str, named: list[str] | None
) -> None:
    monkeypatch.setenv("REFNET_DATABASE_URL", "own")
    monkeypatch.setenv("REFNET_CONFIG_DIR", str(home / "clone"))
    (home / "vault").mkdir()
    monkeypatch.setenv("REFNET_VAULT_DIR", str(home / "vault"))
    with browser(read_settings(print)) as client:
        status, said = post(client, action="backup", source=source)
        started = children(client).all()
        if named is None:
            assert (status, started) == (400, [])
            assert "docker compose exec backup refnet backup config" in said
        else:
            assert [one.words for one in started] == [("backup", *named, "--verbose")]


@pytest.fixture
def page(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The dashboard of a vault with one note, and a log of its own."""
    (home / "vault").mkdir()
    (home / "vault" / "a.md").write_text("# a")
    monkeypatch.setenv("REFNET_VAULT_DIR", str(home / "vault"))
    monkeypatch.setenv("REFNET_LOG_FOLDER", str(home / "logs"))
    with browser(read_settings(print)) as client:
        yield client


def children(page: TestClient) -> Children:
    return cast(Children, page.app.state.children)  # type: ignore[attr-defined]


def post(page: TestClient, path: str = "/runs", **fields: str) -> tuple[int, str]:
    """The status, and where the browser is sent, or the text."""
    said = page.post(path, data={"csrf": csrf(page, "/runs"), **fields})
    return said.status_code, said.headers.get("location", said.text)


def test_a_backup_that_a_form_starts_is_followed_to_its_result(page: TestClient) -> None:
    status, where = post(page, action="backup", source="obsidian")
    assert status == 303
    assert "<h1>backup obsidian</h1>" in page.get(where).text
    with page.stream("GET", f"{where}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        sent = "".join(events.iter_text())
    assert sent.endswith("event: done\ndata: \n\n")
    assert "proven" in sent
    after = page.get(where).text
    assert "/artifacts/obsidian/vault_" in after
    assert "hx-sse:connect" not in after
    listed = page.get("/runs").text
    run = children(page).all()[0]
    assert run.words == ("backup", "obsidian", "--verbose")
    [journal] = re.findall(
        r'href="(/runs/[^"]+)">backup obsidian</a>', listed
    )  # once, as the run of the journal
    own = page.get(journal).text
    assert "info began" in own  # its own lines of the log
    assert f'href="{where}"' in own
    assert "<dd>browser</dd>" in own
    assert "obsidian" in page.get("/runs?kind=backup&outcome=done&source=obsidian").text
    assert "No such run" in page.get("/runs?kind=drill").text


def test_a_stream_ends_with_the_session_of_its_browser(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, WAITS)
    _, where = post(page, action="drill", source="obsidian")
    answers = iter([True, False])  # whether the browser is signed in, at each look
    monkeypatch.setattr(page.app.state, "may_see", lambda _: next(answers))  # type: ignore[attr-defined]
    assert "event: done" not in page.get(f"{where}/events").text
    post(page, f"{where}/stop")


def test_the_same_again_is_refused_with_a_link_and_can_be_stopped(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, WAITS)
    _, where = post(page, action="drill", source="obsidian")
    status, text = post(page, action="drill", source="obsidian")
    assert (status, f'href="{where}"' in text, "Drill of obsidian is still running" in text) == (
        409,
        True,
        True,
    )
    assert f'hx-sse:connect="{where}/events"' in page.get(where).text
    assert post(page, f"{where}/stop") == (303, where)
    assert until(lambda: not children(page).one(where.rpartition("/")[2]).running, 30)
    assert "</span> stopped</span>" in page.get(where).text
    assert f'href="{where}"' in page.get("/runs?outcome=stopped").text
    assert "No such run" in page.get("/runs?outcome=failed").text


def test_a_restore_is_not_stopped_here(page: TestClient, home: Path) -> None:
    put(home, NAME, child_process.STARTED, json.dumps(GOOD | {"kind": "restore"}))
    status, text = post(page, f"/runs/{NAME}/stop")
    assert (status, "cannot be stopped here" in text) == (400, True)
    assert not (home / "web" / f"{NAME}.stop").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"action": "restore", "source": "obsidian"},
        {"action": "backup", "source": "--help"},
        {"action": "backup", "source": "nothing"},
        {"action": "backup", "source": "obsidian", "artifact": "x"},
        {"action": "verify", "source": "obsidian", "artifact": "../../etc/passwd"},
        {"action": "verify", "source": "", "artifact": "--trust"},
        {"action": "verify", "source": "obsidian", "artifact": HTML},
    ],
)
def test_a_form_that_names_nothing_here_starts_nothing(page: TestClient, fields: dict[str, str]) -> None:
    status, text = post(page, **fields)
    assert (status, HTML in text) == (400, False)
    assert children(page).all() == []


def test_a_start_without_the_token_of_a_page_is_refused(page: TestClient) -> None:
    assert page.post("/runs", data={"action": "backup", "source": "obsidian"}).status_code == 403
    assert page.post(f"/runs/{NAME}/stop", data={"csrf": "0" * 64}).status_code == 403


@pytest.mark.parametrize(
    "name", [NAME, "0123456789ab", "..%2f..%2fetc", "%00", "x" * 3000, HTML.replace("/", "%2f")]
)
def test_an_unknown_run_is_not_found(page: TestClient, name: str) -> None:
    for path in (f"/runs/{name}", f"/runs/{name}/events"):
        said = page.get(path)
        assert (said.status_code, HTML in said.text) == (404, False)
    assert post(page, f"/runs/{name}/stop")[0] == 404


def test_html_in_what_a_child_wrote_is_text(page: TestClient, home: Path) -> None:
    put(
        home, NAME, child_process.STARTED, json.dumps(GOOD | {"title": HTML, "words": [HTML], "source": HTML})
    )
    put(home, NAME, child_process.END, '{"code": 1, "seconds": 1}')
    put(
        home,
        NAME,
        child_process.STEP,
        json.dumps({"report": {"step": HTML, "done": 1, "total": None}, "at": GOOD["started"]}),
    )
    put(home, NAME, child_process.MESSAGES, f"{HTML}\nrefnet: {HTML}\n        {HTML}\n")
    row = {
        "source": HTML,
        "name": HTML,
        "outcome": HTML,
        "level": HTML,
        "findings": [{"outcome": "failed", "reason": HTML}],
    }
    put(home, NAME, child_process.RESULT, json.dumps({"results": [row]}))
    for path in ("/runs", f"/runs/{NAME}", f"/runs/{NAME}/events"):
        said = page.get(path).text
        assert "&lt;script&gt;" in said
        assert HTML not in said


def test_a_command_of_a_hostile_word_is_one_that_a_shell_takes_as_text(page: TestClient, home: Path) -> None:
    words = ["crawl", "URL:https://a.org/$(reboot)"]
    put(home, NAME, child_process.STARTED, json.dumps(GOOD | {"words": words}))
    assert "refnet crawl &#39;URL:https://a.org/$(reboot)&#39;" in page.get(f"/runs/{NAME}").text


def test_html_in_the_journal_and_the_log_is_text(page: TestClient, home: Path) -> None:
    run = Run(
        "f58e5d885f78",
        RunKind.BACKUP,
        "obsidian",
        datetime.now(UTC),
        Ended.FAILED,
        1.0,
        Reason.OTHER,
        HTML,
        HTML,
    )
    journal = RunJournal(home / "runs")
    journal.begin(run)
    journal.end(run)
    (home / "logs").mkdir()
    log = home / "logs" / "refnet-backup.log"
    good = {"run": run.id, "event": HTML, "level": HTML, "timestamp": HTML, HTML: HTML}
    other = {"run": "0" * 12, "event": f"another {run.id}"}
    deep = b'{"run": "f58e5d885f78", "a": ' + b"[" * 5000
    log.write_bytes(
        b"\n".join([json.dumps(good).encode(), json.dumps(other).encode(), deep, b"\xff" + run.id.encode()])
    )
    for path in ("/runs", f"/runs/{run.id}"):
        said = page.get(path).text
        assert "&lt;script&gt;" in said
        assert HTML not in said
        assert "another" not in said
    log.unlink()
    log.symlink_to("/etc/passwd")
    assert "is not a regular file" in page.get(f"/runs/{run.id}").text


def test_the_list_has_every_run_by_source_kind_outcome_origin_and_day_in_pages(
    page: TestClient, home: Path
) -> None:
    journal, begun = RunJournal(home / "runs"), datetime(2026, 11, 1, 12, tzinfo=UTC)
    kinds = [*RunKind]
    for number in range(120):
        kind, at = kinds[number % len(kinds)], begun + timedelta(hours=number)
        by = [*Origin][number % 3]
        ended = Ended.FAILED if number == 7 else Ended.DONE
        source = "obsidian" if number % 2 or kind in EXPECTED else ""
        run = Run(f"run{number:03}", kind, source, at, ended, 1.0, by=by, user="ann")
        journal.begin(run)
        journal.end(run)

    def ids(query: str) -> list[str]:
        return re.findall(r'href="/runs/(run\d+)"', page.get(f"/runs?{query}").text)

    assert ids("") == [f"run{number:03}" for number in range(119, 69, -1)]
    assert ids("page=3") == [f"run{number:03}" for number in range(19, -1, -1)]
    assert (ids("page=4"), ids("outcome=failed")) == ([], ["run007"])
    assert ids("kind=crawl&source=obsidian")[0] == "run119"
    assert {int(one[3:]) % 3 for one in ids("by=scheduler")} == {1}
    assert ids("since=2026-11-02&until=2026-11-02") == [f"run{number:03}" for number in range(35, 11, -1)]
    first = page.get("/runs?by=browser&since=2026-11-02").text
    assert "browser (ann)" in first
    assert "page=2#journal" in page.get("/runs").text
    assert "スケジューラー" in page.get("/runs", headers={"Accept-Language": "ja"}).text


def test_the_list_is_read_and_rendered_once_for_all_until_a_file_changes(
    page: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "FRESH", 600.0)
    journal, reader = RunJournal(home / "runs"), page.app.state.runs  # type: ignore[attr-defined]
    page.get("/runs")
    page.get("/runs")
    page.get("/runs?kind=drill")
    last = reader()
    assert [query for _, query, *_ in last.pages] == ["", "kind=drill"]
    for change in (journal.begin, journal.end):
        change(Run("c" * 12, RunKind.PRUNE, "obsidian", datetime.now(UTC), Ended.DONE, 1.0))
        assert "c" * 12 in page.get("/runs").text
    put(home, NAME, child_process.STARTED, json.dumps(GOOD))
    assert NAME in page.get("/runs").text
    assert reader() is not last


def test_a_killed_process_is_seen_although_its_end_changes_no_file(page: TestClient, home: Path) -> None:
    put(home, NAME, child_process.STARTED, json.dumps(GOOD))
    with (home / "web" / f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the child does for as long as it lives
        assert f'href="/runs/{NAME}"' in page.get("/runs?outcome=running").text
    assert until(lambda: f'href="/runs/{NAME}"' in page.get("/runs?outcome=lost").text, 30)


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "page=²", "page=x", "since=yesterday", "until=2026-13-01", "since=9999-12-31"],
)
def test_a_filter_that_is_malformed_is_named(page: TestClient, query: str) -> None:
    said = page.get(f"/runs?{query}")
    assert (said.status_code, query.partition("=")[0] in said.text) == (400, True)


def test_of_a_long_log_the_last_lines_are_read(tmp_path: Path) -> None:
    lines = [json.dumps({"run": "a" * 12, "event": f"line {number} " + "x" * 3000}) for number in range(600)]
    (tmp_path / "refnet-backup.log.1").write_text("\n".join(lines[:300]))
    (tmp_path / "refnet-backup.log").write_text("\n".join(lines[300:]))
    found = runs.lines_of(tmp_path, "a" * 12)
    assert (len(found), found[-1].text[:8], len(found[-1].text)) == (
        runs.LOGGED,
        "line 599",
        runs.LONGEST_LINE,
    )
    assert runs.lines_of(tmp_path / "none", "a" * 12) == ()


def test_each_end_has_its_word_and_a_reason(home: Path) -> None:
    put(home, NAME, child_process.STARTED, json.dumps(GOOD))
    bad = {
        "source": "obsidian",
        "name": "vault.tar.gz",
        "outcome": "failed",
        "findings": [{"what": "bytes", "outcome": "failed", "reason": "differ"}],
    }
    put(home, NAME, child_process.RESULT, json.dumps({"results": [bad]}))
    for code, state in {0: "done", 1: "failed", 3: "could not verify", 4: "damaged", -9: "failed"}.items():
        put(home, NAME, child_process.END, json.dumps({"code": code, "seconds": 1}))
        found = shown(children_of(home))
        assert found.state == state
        assert (found.problem.message if found.problem else "") == (
            "vault.tar.gz: bytes: differ" if code else ""
        )
    put(home, NAME, child_process.STOP, "")
    for code, state in {0: "done", 1: "stopped", 4: "damaged"}.items():
        put(home, NAME, child_process.END, json.dumps({"code": code, "seconds": 1}))
        assert shown(children_of(home)).state == state
    (home / "web" / f"{NAME}.end").unlink()
    assert shown(children_of(home)).state == "lost"


def children_of(home: Path) -> Child:
    return Children(read_settings(print)).one(NAME)


@pytest.mark.parametrize(
    "result",
    [{}, {"results": 1}, {"results": [1, None, []]}, {"sources": [{"findings": {"a": 1}, "proof": 7}]}],
)
def test_a_result_of_another_form_has_no_findings(result: dict[str, object]) -> None:
    assert [row.reason for row in rows_of(result) if row.reason] == []


class _Looks:
    """Looks that never end."""

    def __init__(self) -> None:
        self.seen = 0

    async def __call__(self) -> tuple[str, bool]:
        self.seen += 1
        return f"<p>\n{self.seen}", False


async def _ended(opened: list[AsyncIterator[str]]) -> list[str]:
    return [part for one in opened async for part in one]


def test_streams_are_limited_and_all_end_when_the_server_stops() -> None:
    async def run() -> None:
        ours = Streams()
        opened = [ours.follow(_Looks()) for _ in range(MOST_STREAMS)]
        assert [await anext(one) for one in opened] == ["data: <p>\ndata: 1\n\n"] * MOST_STREAMS
        assert ours.are_full
        assert await _ended([ours.follow(_Looks())]) == []
        ours.end()
        async with asyncio.timeout(5):
            assert await _ended(opened) == []
        assert not ours.are_full

    asyncio.run(run())


def test_a_stream_ends_where_its_subject_is_gone() -> None:
    async def gone() -> tuple[str, bool]:
        raise RefnetError("there is no run", "")

    assert asyncio.run(_ended([Streams().follow(gone)])) == []


def test_a_crawl_that_somebody_stopped_did_not_fail(page: TestClient, home: Path) -> None:
    put(home, NAME, child_process.STARTED, json.dumps(GOOD | {"kind": "crawl", "words": ["crawl"]}))
    put(home, NAME, child_process.END, '{"code": 1, "seconds": 1}')
    assert "</span> failed</span>" in page.get("/network/crawls/part").text
    put(home, NAME, child_process.STOP, "")
    assert "</span> stopped</span>" in page.get("/network/crawls/part").text
