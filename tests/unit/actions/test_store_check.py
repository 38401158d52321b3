"""The checks of the stores that are due: once a month, beside the drill."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet.actions.store import check_due, listed_stores
from refnet.catalog.monitoring import Status
from refnet.catalog.monitoring_stores import watch_checks
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.settings import Settings
from refnet.settings.stores import StoreSettings
from refnet.settings.urls import StoreKind
from refnet.store.buckets.object_storage import BucketPlace
from refnet.store.buckets.opening import open_bucket
from refnet.store.store_check import last_checks


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "nas").mkdir()
    nas = replace(StoreSettings.from_url(f"file://{tmp_path}/nas"), name="nas")
    return Context(Settings(home=tmp_path / "home", backup_dir=tmp_path / "b", stores={"nas": nas}))


def _watched(context: Context) -> list[Status]:
    last = last_checks(context.settings.home / "remote", context.settings.stores)
    return [one.status for one in watch_checks(last, context.clock.now())]


def _later(context: Context, days: float) -> Context:
    return replace(context, clock=Clock(now=lambda: datetime.now(UTC) + timedelta(days=days)))


def test_a_store_is_checked_once_a_month(context: Context) -> None:
    assert list(check_due(context)) == []
    [first] = listed_stores(context)
    assert first.last
    assert list(check_due(context)) == []
    assert listed_stores(context) == (first,)
    assert _watched(_later(context, 40.01)) == ["warning"]

    later = list(check_due(_later(context, 40.01)))
    assert later == [
        "the store nas: clock: differs from the server's by 40 d: is this machine's clock right?"
    ]
    assert _watched(context) == ["critical"]


def test_a_store_that_cannot_be_checked_is_a_sentence_and_stops_no_other(context: Context) -> None:
    away = replace(context.settings.stores["nas"], name="away")
    broken = StoreSettings("broken")
    stores = {"broken": broken, "away": away, **context.settings.stores}
    Path(away.place.path).rmdir()
    context = replace(context, settings=replace(context.settings, stores=stores))

    found = list(check_due(context))

    assert [one.split(":")[0] for one in found] == [
        "the store broken could not be checked",
        "the store away",
        "the store nas",
    ]


def test_a_damaged_record_counts_as_no_check(context: Context) -> None:
    list(check_due(context))
    (context.settings.home / "remote" / "nas" / "check.json").write_text("{")

    assert _watched(context) == ["warning"]
    assert list(check_due(context)) == []
    assert _watched(context) == ["ok"]


def test_the_check_of_another_place_does_not_count(context: Context, tmp_path: Path) -> None:
    assert list(check_due(context)) == []
    assert _watched(context) == ["ok"]
    (tmp_path / "other").mkdir()
    moved = replace(StoreSettings.from_url(f"file://{tmp_path}/other"), name="nas")
    context = replace(context, settings=replace(context.settings, stores={"nas": moved}))

    assert _watched(context) == ["warning"]
    assert list(check_due(context)) == []
    assert _watched(context) == ["ok"]


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/a/b?endpoint=https://s3.example.org",
        "gs://bucket/a",
        "file:///mnt/nas",
        "sftp://me@host:22/folder",
        "sftp://host/~/x",
        "rclone:remote:a/b",
    ],
)
def test_the_settings_show_a_place_as_its_bucket_does(url: str) -> None:
    store = StoreSettings.from_url(url)
    if store.place.kind is StoreKind.GS:
        assert BucketPlace("gs", "bucket", "a").shown == store.shown
    else:
        assert open_bucket(store).shown == store.shown
