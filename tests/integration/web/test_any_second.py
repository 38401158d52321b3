"""The pages of a cluster whose WAL is received: how far it is, and the moments that they offer."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from starlette.testclient import TestClient
from tests.dashboard import browser
from tests.streams import NOW, streamed

from refnet.settings import load
from refnet.wiring import with_clusters

TOKYO = ZoneInfo("Asia/Tokyo")
LAST = NOW.astimezone(TOKYO)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with streamed(tmp_path_factory.mktemp("stream")) as environment:
        settings = load({**os.environ, **environment}, Path(environment["REFNET_HOME"]), root=True, cores=2)
        with browser(with_clusters(settings)) as found:
            yield found


def words(pages: TestClient, path: str, status: int = 200, **headers: str) -> str:
    """What can be read on a page."""
    said = pages.get(path, headers=headers)
    assert said.status_code == status, said.text
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", said.text)).split())


def card(text: str) -> str:
    """The words of the card of the cluster."""
    return text.partition("Back up now : main-shop")[2].partition("Restore : main-cluster")[0]


def test_the_overview_says_how_far_the_wal_is(pages: TestClient) -> None:
    shown = card(words(pages, "/"))
    assert re.search(r"Lag of the WAL \d[^,]*, 1\.0 MiB", shown), shown
    assert re.search(r"Any second from [-\d: ]+ JST to [-\d: ]+ JST", shown), shown
    assert "WAL is missing" not in shown  # a newer base backup has healed it
    assert re.search(r"WAL in nas until [-\d: ]+ \(\d+ \w+", shown), shown


def test_a_database_without_an_artifact_loses_only_the_lag_and_can_be_restored(pages: TestClient) -> None:
    shown = words(pages, "/").partition("main-shop ○ new")[2].partition("main-cluster")[0]
    assert re.search(r"A loss now costs \(RPO\) (under )?\d+ (min|h)", shown), shown
    assert "Restore : main-shop" in shown


def test_the_page_of_the_source_also_has_slot_and_archive(pages: TestClient) -> None:
    shown = words(pages, "/timeline?source=main-cluster")
    assert "Replication slot refnet_main, reserved, the server keeps 50.0 GiB more" in shown
    assert "WAL is missing before a newer base backup 000000010000000000000004" in shown
    assert "Archive 4 segments" in shown
    assert f"WAL received until {LAST.isoformat(' ')}" in shown
    assert "WAL のストリーム" in words(pages, "/timeline?source=main-cluster", **{"Accept-Language": "ja"})
    assert "Stream of WAL" not in words(pages, "/timeline?source=main-cluster&store=nas")


def test_a_database_of_the_cluster_has_a_picker_that_the_window_bounds(pages: TestClient) -> None:
    text = pages.get("/restore?source=main-shop").text
    field = re.search(r'<input id="at"[^>]*>', text)
    assert field
    assert f'max="{LAST.replace(tzinfo=None).isoformat()}"' in field[0]
    assert f'min="{(LAST - timedelta(hours=3)).replace(tzinfo=None).isoformat()[:14]}' in field[0]
    assert 'step="1"' in field[0]
    assert '<input type="hidden" name="offset" value="+09:00">' in text
    assert "Moment (JST, +09:00)" in text


@pytest.mark.parametrize("path", ["/restore/plan?source=main-shop", "/restore?source=main-cluster"])
def test_a_moment_outside_is_refused_with_the_first_and_the_last_and_stays_in_the_field(
    pages: TestClient, path: str
) -> None:
    for hours, when in ((-4, "earlier than the first"), (1, "later than the last")):
        asked = (LAST + timedelta(hours=hours)).replace(tzinfo=None).isoformat()
        shown = words(pages, f"{path}&at={asked}&offset=%2B09:00", 400)
        assert f"{asked.replace('T', ' ')}+09:00 is {when} moment that can be restored" in shown
        assert re.search(rf"The first one is \S+ \S+, the last one {re.escape(LAST.isoformat(' '))}\.", shown)
        assert f'value="{asked}"' in pages.get(f"{path}&at={asked}").text


@pytest.mark.parametrize("at", ["x", "2026-02-30T10:00", "9" * 5000, '"><script>', "0001-01-01T00:00"])
def test_what_is_no_moment_is_refused(pages: TestClient, at: str) -> None:
    for path in ("/restore/plan", "/restore"):
        said = pages.get(path, params={"source": "main-cluster", "at": at, "offset": "+09:00"})
        assert said.status_code == 400
        assert "<script>" not in said.text.replace('<script src="', "")


def test_of_the_whole_server_the_page_shows_the_command_and_names_no_folder(pages: TestClient) -> None:
    at = LAST - timedelta(hours=1)
    shown = words(pages, f"/restore?source=main-cluster&at={at.replace(tzinfo=None).isoformat()}")
    assert f"refnet restore main-cluster --at '{at.isoformat(' ')}' --into DIR" in shown
    assert "Show the command" in shown
    name = re.search(r"main-cluster_\d+_\d+\.base\.tar\.gz", shown)
    assert name
    plan = words(pages, f"/restore/plan?source=main-cluster&artifact={name[0]}")
    assert f"refnet restore main-cluster {name[0]} --into DIR" in plan
    assert "Start it" not in plan


def test_without_a_base_backup_or_a_receiver_the_pages_say_so(tmp_path: Path) -> None:
    with streamed(tmp_path, base=False, received=False) as environment:
        settings = load({**os.environ, **environment}, Path(environment["REFNET_HOME"]), root=True, cores=2)
        with browser(with_clusters(settings)) as found:
            assert "No moment can be restored" in words(found, "/restore?source=main-cluster")
            assert "The newest artifact at or before (JST)" in words(found, "/restore?source=main-shop")
            source = words(found, "/timeline?source=main-cluster")
            assert "(no receiver runs)" in source
            assert "Any second none" in source
            assert "WAL is missing 000000010000000000000004" in source
            assert "critical gaps: WAL is missing" in words(found, "/")
