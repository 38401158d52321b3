"""The dashboard of a cluster with WAL: how far its stream is, and a database as of any second."""

from __future__ import annotations

import html
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.clusters import Live, commands, live
from tests.integration.web.test_restore import Browser
from tests.serving import serving

from refnet.catalog.wal import KnownServer
from refnet.catalog.wal_stream import StreamReport, StreamState
from refnet.postgres.binaries import Binaries
from refnet.sources.cluster.wal_archive import REPORT
from refnet.store.source_records import ClusterRecord, SeenDatabases


@pytest.fixture(scope="module")
def shop(wheel: Binaries, short_folder: Path) -> Iterator[Live]:
    with live(wheel, short_folder / "page") as found:
        found.sql("CREATE DATABASE shop")
        found.sql(
            "CREATE TABLE orders AS SELECT g AS i, 'order ' || g AS what FROM generate_series(1, 100) g",
            database="shop",
        )
        found.base()
        found.sql("UPDATE orders SET what = 'paid' WHERE i = 7", database="shop")
        found.before = found.now().isoformat()
        found.sql("DELETE FROM orders", database="shop")
        found.arrived()
        found.publish()
        yield found


@pytest.fixture
def page(short_folder: Path, shop: Live) -> Iterator[Browser]:
    with commands(shop.cluster, short_folder, shop.backups) as refnet:
        home = refnet.home.parent  # with the settings
        ClusterRecord.at(home, "main").write(SeenDatabases(("shop",)))
        (home / "wal").mkdir()
        (home / "wal" / "main.json").write_text(KnownServer(shop.archive.folder.name).to_json())
        now = datetime.now(UTC)
        report = StreamReport(
            StreamState.STREAMING, now, 7, 1, 5, 5, now, slot="refnet_main", slot_status="reserved"
        )
        (shop.archive.folder / REPORT).write_text(report.to_json())
        environment = {"REFNET_HOME": str(home), "REFNET_BACKUP_DIR": str(shop.backups)}
        with serving({**environment, "REFNET_LOG_FOLDER": "none", "PATH": "/usr/bin:/bin"}) as served:
            yield Browser(served)


def test_a_database_comes_back_as_of_a_second_that_the_page_offers(page: Browser, shop: Live) -> None:
    overview = page.get("/").body.decode()
    assert "Lag of the WAL" in overview
    assert "no receiver runs" in overview
    offered = page.get("/restore", source="main-shop").body.decode()
    assert "out of base backups and WAL" in offered
    assert 'max="20' in offered
    whole = page.get("/restore", source="main-cluster").body.decode()
    assert "refnet restore main-cluster --at '20" in html.unescape(whole)

    shown = page.get("/restore/plan", source="main-shop", at=shop.before)
    text = html.unescape(shown.body.decode())
    assert shown.status == 200, text
    assert "as of" in text
    refused = page.send(shown, "/restore", typed="wrong")
    assert "The typed name is not shop" in html.unescape(refused.body.decode())
    result = page.end(page.send(shown, "/restore", typed="shop"))
    assert "passed" in result
    assert shop.sql(
        "SELECT count(*), count(*) FILTER (WHERE what = 'paid') FROM orders", database="shop"
    ) == [(100, 1)]


def test_a_moment_after_the_window_is_refused_by_its_plan(page: Browser) -> None:
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    shown = page.get("/restore/plan", source="main-shop", at=later)
    assert shown.status == 400
    assert "The first one is" in shown.body.decode()
