"""The lists of the pages of a restore: days with their artifacts, and previous versions with their undo."""

from __future__ import annotations

import html
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

from tests.dashboard import browser

from refnet.actions.list import Kept
from refnet.catalog.manifest import Entry, Manifest
from refnet.catalog.retention import PreviousVersion
from refnet.catalog.source_name import Kind, SourceName
from refnet.settings import Settings
from refnet.web.pages.restore import DAYS, days_of, undo_orders

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SHOP, NOTES = SourceName("shop", Kind.DATABASE), SourceName("notes", Kind.FOLDER)


def entry(name: str, hours: float = 0, *, partial: bool = False) -> Entry:
    return Entry(Manifest(SHOP, name, NOON + timedelta(hours=hours), 1, "aa", 1.0, partial=partial))


def version(what: str, source: SourceName = SHOP, **values: str) -> PreviousVersion:
    return PreviousVersion(source, what, NOON, lambda: None, **values)


def test_each_day_lists_its_newest_complete_artifact_and_counts_the_rest():
    found, older = days_of(
        [entry("a"), entry("b", 1), entry("c", 2, partial=True), entry("d", 24, partial=True)], UTC
    )
    assert [(one.day, one.entries[0].name, one.more) for one in found] == [
        (date(2026, 11, 26), "d", 0),
        (date(2026, 11, 25), "b", 2),
    ]
    assert older is None


def test_a_day_is_one_of_the_time_zone_and_lists_all_of_it():
    found, _ = days_of([entry("a"), entry("b", 6)], timezone(timedelta(hours=9)), day=date(2026, 11, 26))
    assert [[one.name for one in day.entries] for day in found] == [["b"]]


def test_older_days_are_on_the_next_page():
    entries = [entry(f"{n}", -24 * n) for n in range(DAYS + 3)]
    first, older = days_of(entries, UTC)
    second, rest = days_of(entries, UTC, before=older)
    assert [len(first), len(second), rest] == [DAYS, 3, None]
    assert second[0].day == first[-1].day - timedelta(days=1)


def test_each_database_and_the_last_folder_have_an_undo_and_nothing_else():
    database, copy = (
        version("database shop_before_20261125_120000"),
        version("copy shop_copy_20261125_120000"),
    )
    odd, gone = (
        version("database postgres"),
        version("record of shop_before_20261125_110000, which was dropped"),
    )
    first, last = version("folder /a", NOTES), version("folder /b", NOTES)
    kept = Kept((odd, gone, copy, database, first, last), (), timedelta(days=7), NOON)
    assert {one.what: order.words for one, order in undo_orders(kept).items()} == {
        database.what: ("undo", "shop", "shop_before_20261125_120000"),
        last.what: ("undo", "notes"),
    }
    unknown = Kept((first, version("folder /c", NOTES, blocked="unknown")), (), timedelta(days=7), NOON)
    assert [one.what for one in undo_orders(unknown)] == []


def test_for_an_encrypted_backup_folder_the_page_shows_only_the_command(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, vault_dir=tmp_path, encryption_local=True)
    with browser(settings) as client:
        client.app.state.settings.origins["vault_dir"] = "a test"
        said = client.get("/restore/plan", params={"source": "obsidian", "at": "2026-11-25T02:00+00:00"})
    assert "never asks for it" in said.text
    assert "refnet restore obsidian --at=2026-11-25T02:00:00+00:00 --plan" in html.unescape(said.text)
    assert "<input id=" not in said.text
