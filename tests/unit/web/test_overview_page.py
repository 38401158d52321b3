"""The page `/`: what it says of artifacts that are there, of hostile names, and while something does not answer."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient
from tests.dashboard import browser

from refnet.catalog.artifact import Made
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Entry, Evidence, Level, Outcome
from refnet.catalog.monitoring import Check, Status
from refnet.catalog.run import Run, RunKind
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import examine_settings
from refnet.core.errors import RefnetError
from refnet.settings import Settings, load
from refnet.store.local import LocalStore
from refnet.store.run_journal import RunJournal
from refnet.telemetry.facts import Overview, SourceState, unreadable
from refnet.web import shared_facts
from refnet.web.pages.overview import sign, trend
from refnet.web.shared_facts import Overviews

NOW = datetime.now(UTC).replace(microsecond=0)
DATABASE = SourceName.DATABASE


def settings_of(home: Path, **more: str) -> Settings:
    environment = {"REFNET_HOME": str(home), "REFNET_BACKUP_DIR": str(home / "backups"), **more}
    environment |= {"REFNET_VAULT_DIR": str(home / "vault")} if (home / "vault").exists() else {}
    return load(environment, home, root=True, cores=2)


def artifact(home: Path, source: SourceName, ago: timedelta, size: int = 2048) -> None:
    """Publish a proven artifact of `source`."""
    store, created = LocalStore(home / "backups"), NOW - ago
    with store.draft(source) as draft:
        draft.out.write(bytes(size))
        made = draft.publish(Made(created=created, details={}), created, 2.0)
    store.record(Entry(made), Evidence(created, Level.PROVEN, Outcome.PASSED, 3.0))


def shown(text: str) -> str:
    """The words of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A REFNET_HOME with artifacts of the database and the vault, and a backup at work."""
    found = tmp_path_factory.mktemp("overview")
    (found / "vault").mkdir()
    for hours in (30, 3):
        artifact(found, DATABASE, timedelta(hours=hours), 1024 * hours)
    artifact(found, SourceName.OBSIDIAN, timedelta(hours=2))
    RunJournal(found / "runs").begin(Run("a", RunKind.BACKUP, SourceName.OBSIDIAN, NOW))
    return found


@pytest.fixture(scope="module")
def whole(home: Path) -> Iterator[TestClient]:
    away = "postgresql://somebody:a-secret@127.0.0.1:1/papers"
    with browser(settings_of(home, REFNET_DATABASE_URL=away)) as found:
        yield found


def test_each_source_has_its_evidence_its_figures_and_its_buttons(whole: TestClient) -> None:
    text = whole.get("/").text
    words = shown(text)
    assert "Everything is protected" in words
    assert "A loss now costs (RPO) 3 h" in words
    assert "A recovery took (RTO) 3.0 s" in words
    assert re.search(r"RTO measured [-\d: ]+, by a proof", words)
    assert "Size of the last 2 artifacts: 3.0 KiB to 30.0 KiB" in text
    assert re.search(r'<polyline points="0,2.0 600,56.0"', text)
    assert re.search(r'href="/artifacts/database/refnet_\d+_\d+\.sql\.gz"', text)
    assert 'href="/timeline?source=database"' in text
    assert 'class="button primary" href="/restore?source=obsidian"' in text


def test_a_backup_is_started_by_a_form_that_needs_no_javascript(whole: TestClient) -> None:
    text = whole.get("/").text
    form = re.search(r'<form id="backup" method="post" action="/runs">(.*?)</form>', text)
    assert form
    assert re.findall(r'name="(\w+)"', form[1]) == ["csrf", "action"]
    assert re.findall(r'<button form="backup" name="source" value="(\w+)"', text) == ["database"]
    assert "A backup is running since" in text


def test_a_database_that_is_down_is_said_and_its_password_is_not(whole: TestClient) -> None:
    text = whole.get("/").text
    assert "The database papers does not answer: this page uses only the catalog" in text
    assert "a-secret" not in text


def test_the_changing_part_has_no_session_token_or_inline_script(
    whole: TestClient,
) -> None:
    part = whole.get("/overview/part").text
    assert part.startswith('<section id="overview" hx-get="/overview/part" hx-trigger="every 10s"')
    assert "csrf" not in part
    assert part in whole.get("/").text
    for forbidden in ("<script>", "<style", "style=", "onclick", "http://", "https://"):
        assert forbidden not in whole.get("/").text


def test_the_page_is_japanese_for_a_browser_that_prefers_it(whole: TestClient) -> None:
    text = whole.get("/", headers={"Accept-Language": "ja,en;q=0.5"}).text
    assert "すべて保護されています" in text
    assert "今すぐバックアップ" in text
    assert "Everything is protected" in whole.get("/").text  # each language has a part of its own


def test_an_empty_catalog_says_what_to_do(tmp_path: Path) -> None:
    with browser(settings_of(tmp_path)) as found:
        said = found.get("/")
    assert said.status_code == 200
    assert "Nothing is backed up yet" in said.text
    assert re.findall(r"<code>(.*?)</code>", said.text) == ["refnet init", "refnet backup"]
    assert "No remote store is configured" not in said.text  # there is nothing to send yet
    assert 'class="verdict unverified"' in said.text


def test_what_cannot_be_read_is_said_and_nothing_is_called_protected(tmp_path: Path) -> None:
    with browser(settings_of(tmp_path)) as found:
        wrong = unreadable(NOW, RefnetError("the <b>folder</b> is gone", "Mount it."))
        found.app.state.overviews._look = lambda: wrong  # type: ignore[attr-defined]
        text = found.get("/").text
    assert "Could not verify whether everything is protected" in text
    assert "the &lt;b&gt;folder&lt;/b&gt; is gone" in text


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestClient, Path]]:
    """A dashboard of a vault with an artifact, in the time of Tokyo, and its settings file."""
    for name in [one for one in os.environ if one.startswith("REFNET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REFNET_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shared_facts, "AROUND", 0.0)
    monkeypatch.setattr(shared_facts, "PAUSE", 0.0)
    monkeypatch.setattr(shared_facts, "OLDEST", 0.0)
    monkeypatch.setattr(shared_facts, "_NEXT", 0.0)
    monkeypatch.setattr(shared_facts, "SHARE", 1e9)
    (tmp_path / "vault").mkdir()
    file = tmp_path / "refnet.toml"
    file.write_text(f'backup_dir = "{tmp_path}/backups"\n[schedule]\ntimezone = "Asia/Tokyo"\n')
    file.chmod(0o600)
    artifact(tmp_path, SourceName.OBSIDIAN, timedelta(hours=2))
    with browser(examine_settings().valid()) as found:
        yield found, file


def test_missing_schedulers_and_stores_are_named_in_the_schedules_zone(
    told: tuple[TestClient, Path],
) -> None:
    words = shown(told[0].get("/").text)
    assert "no scheduler is active: `refnet schedule install`" in words
    assert re.search(r"Next run [-\d: ]+ \( ?no active scheduler was found\)", words)
    assert "every artifact is only in the backup folder. Stores" in words
    assert re.search(r"As of [-\d]+ [\d:]+ JST", words)
    assert "times in Asia/Tokyo" in words
    assert "started with other values" not in words


def test_settings_that_are_wrong_or_not_yet_in_use_are_said(told: tuple[TestClient, Path]) -> None:
    page, file = told
    kept = file.read_text()
    file.write_text(f'jobs = 7\n{kept}[folders.notes]\npath = "/srv/notes"\n')
    assert "This server was started with other values of: jobs, folders.notes" in shown(page.get("/").text)
    file.write_text(f"{kept}[<b>]\n")
    text = page.get("/").text
    assert "Until then every backup fails." in text
    assert "<b>" not in text
    file.write_text(kept)
    assert "Until then" not in page.get("/").text


_HTML = "<script>alert(1)</script>\x1b[31m"


def _hostile() -> Overview:
    """An overview whose every text is HTML, as an artifact or a server could say it."""
    source = SourceName("notes", Kind.FOLDER)
    check = Check(source, _HTML, Status.CRITICAL, _HTML * 500)
    state = SourceState(source, True, Status.CRITICAL, (check,))
    store = replace(check, source=None)
    return Overview(NOW, (state,), (check, store), silent=_HTML)


def test_html_in_what_a_check_or_a_name_says_is_shown_as_text(tmp_path: Path) -> None:
    with browser(settings_of(tmp_path)) as found:
        found.app.state.overviews._look = _hostile  # type: ignore[attr-defined]
        text = found.get("/").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m" in text
    assert len(text) < 30_000


def test_unprotected_or_unscheduled_sources_are_named_with_the_verdict(tmp_path: Path, home: Path) -> None:
    entry = next(iter(LocalStore(home / "backups").entries(DATABASE)))
    bad = Check(DATABASE, "age", Status.CRITICAL, "it is 9 d old")
    states = (
        SourceState(DATABASE, True, Status.CRITICAL, (bad,), next_run=NOW),
        SourceState(SourceName.CONFIG, True, Status.OK, usable=entry),
    )
    with browser(settings_of(tmp_path)) as found:
        found.app.state.overviews._look = lambda: Overview(NOW, states, (bad,))  # type: ignore[attr-defined]
        words = shown(found.get("/").text)
    assert "1 of 2 sources are protected" in words
    assert "not scheduled: config database : it is 9 d old" in words


def test_an_artifact_of_a_hostile_name_stays_one_link(tmp_path: Path, home: Path) -> None:
    found = next(iter(LocalStore(home / "backups").entries(DATABASE)))
    evil = replace(found, manifest=replace(found.manifest, name='"><img src=x>/../%2e.sql.gz'))
    state = SourceState(DATABASE, True, Status.OK, newest=evil, usable=evil)
    with browser(settings_of(tmp_path)) as client:
        client.app.state.overviews._look = lambda: Overview(NOW, (state,))  # type: ignore[attr-defined]
        text = client.get("/").text
    assert "<img src=x" not in text
    assert 'href="/artifacts/database/%22%3E%3Cimg%20src%3Dx%3E/../%252e.sql.gz"' in text


@pytest.mark.parametrize(
    ("protected", "status", "css"),
    [
        (True, Status.OK, "passed"),
        (True, Status.NEW, "passed"),
        (False, Status.NEW, "partly"),
        (True, Status.WARNING, "unverified"),
        (True, Status.UNKNOWN, "unverified"),
        (False, Status.CRITICAL, "failed"),
    ],
)
def test_green_is_only_what_is_protected(home: Path, protected: bool, status: Status, css: str) -> None:
    entry = next(iter(LocalStore(home / "backups").entries(DATABASE)))
    state = SourceState(DATABASE, True, Status.OK, usable=entry if protected else None)
    seen = Overview(NOW, (state,), (Check(None, "age", status, ""),))
    assert sign(seen)[1] == css


def test_a_trend_is_drawn_over_time_from_zero_up() -> None:
    def at(days: float, size: int) -> tuple[datetime, int]:
        return NOW + timedelta(days=days), size

    assert trend([]) == trend([at(0, 5)]) == ""
    assert trend([at(0, 100), at(1, 50), at(4, 0)]) == "0,2.0 150,32.0 600,62.0"
    assert trend([at(0, 0), at(0, 0)]) == "0,62.0 0,62.0"


class _Slow:
    """What makes an overview only when it is let."""

    def __init__(self) -> None:
        self.go, self.count = threading.Event(), 0

    def __call__(self) -> Overview:
        assert self.go.wait(30)
        self.count += 1
        return Overview(NOW + timedelta(hours=self.count))


def test_many_requests_share_one_overview_and_get_the_last_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_facts, "PAUSE", 0.0)
    monkeypatch.setattr(shared_facts, "SHARE", 1e9)

    async def act() -> None:
        made, slow = Overviews(settings_of(tmp_path)), _Slow()
        made._look = slow
        waiting = [asyncio.create_task(made.latest()) for _ in range(16)]
        await asyncio.sleep(0)
        slow.go.set()
        found = await asyncio.gather(*waiting)
        assert (len({id(one) for one in found}), slow.count) == (1, 1)
        slow.go.clear()
        assert [await made.latest() for _ in range(3)] == found[:3]  # none waits for the second
        slow.go.set()
        assert made._making
        await made._making
        assert (await made.latest() is not found[0], slow.count >= 2) == (True, True)

    asyncio.run(act())


def test_an_old_overview_is_not_shown_while_the_next_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_facts, "PAUSE", 0.0)
    monkeypatch.setattr(shared_facts, "SHARE", 1e9)
    monkeypatch.setattr(shared_facts, "OLDEST", 0.0)
    monkeypatch.setattr(shared_facts, "_NEXT", 0.0)

    async def act() -> None:
        made, slow = Overviews(settings_of(tmp_path)), _Slow()
        made._look = slow
        slow.go.set()
        assert (await made.latest()).overview.now == NOW + timedelta(hours=1)
        assert (await made.latest()).overview.now == NOW + timedelta(hours=2)

    asyncio.run(act())


def test_the_age_of_an_overview_counts_from_the_beginning_of_its_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    fake = SimpleNamespace(monotonic=lambda: clock[0], thread_time=lambda: 0.0)
    monkeypatch.setattr(shared_facts, "time", fake)

    async def act() -> None:
        made, slow = Overviews(settings_of(tmp_path)), _Slow()

        def look() -> Overview:
            clock[0] += 3  # as a database that does not answer makes it
            return slow()

        slow.go.set()
        made._look = look
        first = await made.latest()
        assert (clock[0], await made.latest() is first, slow.count) == (103.0, True, 1)
        clock[0] = 100.0 + shared_facts.OLDEST
        assert await made.latest() is not first

    asyncio.run(act())


def test_while_reading_takes_longer_than_an_overview_may_be_old_the_last_one_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    fake = SimpleNamespace(monotonic=lambda: clock[0], thread_time=lambda: 0.0)
    monkeypatch.setattr(shared_facts, "time", fake)

    async def act() -> None:
        made, slow = Overviews(settings_of(tmp_path)), _Slow()

        def look() -> Overview:
            clock[0] += shared_facts.OLDEST + 1  # as a slow disk makes it
            return slow()

        slow.go.set()
        made._look = look
        first = await made.latest()
        slow.go.clear()
        assert await made.latest() is first
        slow.go.set()

    asyncio.run(act())


def test_a_wrong_setting_is_shown_and_the_server_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_settings: object) -> Identity | None:
        raise RefnetError("REFNET_DATABASE_URL is not a URL", "Set it to postgresql://…")

    monkeypatch.setattr("refnet.sources.database.source.Database.whose", refuse)
    with browser(settings_of(tmp_path, REFNET_DATABASE_URL="own")) as found:
        said = found.get("/")
    assert (said.status_code, "REFNET_DATABASE_URL is not a URL" in said.text) == (200, True)
