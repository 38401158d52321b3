"""Whose data an artifact holds, and what of a store with several databases is chosen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Entry, Manifest
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SHOP, WIKI = Identity("shop", "1"), Identity("wiki", "1")


def entry(hours: float, identity: Identity | None, source: SourceName = SourceName.DATABASE) -> Entry:
    details: dict[str, Any] = {}
    if identity:
        details = {"database": identity.database, "system_identifier": identity.system}
    created = NOON + timedelta(hours=hours)
    return Entry(Manifest(source, f"{source} {hours}", created, 1, "", 1.0, details=details))


def newest(catalog: Catalog, target: Identity | None, at: datetime | None = None) -> str | None:
    found = catalog.choices(target, at).newest_complete(SourceName.DATABASE, at)
    return found.name if found else None


@pytest.mark.parametrize(
    ("details", "identity"),
    [
        ({"database": "shop", "system_identifier": "17"}, Identity("shop", "17")),
        ({"database": "shop", "system_identifier": None}, Identity("shop")),
        ({"database": "shop", "system_identifier": 17}, Identity("shop")),
        ({"database": "shop", "system_identifier": "17; DROP"}, Identity("shop")),
        ({"database": ""}, None),
        ({"database": ["shop"]}, None),
        ({"database": "x" * 10_000}, None),
        ({}, None),
    ],
)
def test_a_manifest_says_whose_data_it_holds_or_nothing(
    details: dict[str, Any], identity: Identity | None
) -> None:
    manifest = Manifest(SourceName.DATABASE, "x", NOON, 1, "", 1.0, details=details)

    assert manifest.identity == identity


def test_files_have_no_identity() -> None:
    assert Manifest(SourceName.CONFIG, "x", NOON, 1, "", 1.0, details={"database": "shop"}).identity is None


def test_where_a_server_is_not_known_the_name_alone_decides() -> None:
    assert SHOP.matches(Identity("shop"))
    assert Identity("shop").matches(SHOP)
    assert not SHOP.matches(Identity("shop", "2"))
    assert not SHOP.matches(WIKI)
    assert not SHOP.matches(None)


def test_a_database_goes_on_with_what_it_was_restored_from() -> None:
    moved = Identity("shop", "2", frozenset({"1"}))

    assert moved.matches(SHOP)
    assert not SHOP.matches(moved)
    assert not moved.matches(Identity("shop", "3"))
    assert not moved.matches(WIKI)
    assert moved == Identity("shop", "2")


def test_the_newest_is_that_of_the_database_that_is_meant() -> None:
    catalog = Catalog.of([entry(0, SHOP), entry(1, WIKI), entry(2, Identity("shop", "2")), entry(3, None)])

    assert newest(catalog, SHOP) == "database 0"
    assert newest(catalog, WIKI) == "database 1"
    assert newest(catalog, Identity("shop")) == "database 2"


def test_a_new_server_gets_the_newest_of_the_same_name_and_no_other() -> None:
    catalog = Catalog.of([entry(0, SHOP), entry(1, WIKI), entry(2, None)])

    assert newest(catalog, Identity("shop", "3")) == "database 0"
    assert newest(catalog, Identity("blog", "1")) is None


def test_what_nobody_recorded_is_chosen_only_where_nothing_is_known() -> None:
    dumps = [entry(0, None), entry(1, None)]

    assert newest(Catalog.of(dumps), SHOP) == "database 1"
    assert newest(Catalog.of([*dumps, entry(-1, SHOP)]), SHOP) == "database -1"
    assert newest(Catalog.of([*dumps, entry(2, WIKI)]), SHOP) is None


def test_what_stood_at_a_time_is_looked_for_before_the_server_is() -> None:
    catalog = Catalog.of([entry(0, SHOP), entry(5, Identity("shop", "2"))])

    assert newest(catalog, Identity("shop", "2"), NOON + timedelta(hours=1)) == "database 0"


def test_of_several_names_none_is_guessed_and_the_error_lists_them() -> None:
    assert newest(Catalog.of([entry(0, SHOP)]), None) == "database 0"

    with pytest.raises(RefnetError, match="shop, wiki") as refused:
        newest(Catalog.of([entry(0, WIKI), entry(1, SHOP)]), None)
    assert refused.value.code is Exit.USAGE


def test_a_catalog_about_one_database_holds_its_artifacts_and_all_files() -> None:
    files = [entry(3, None, SourceName.CONFIG), entry(4, None, SourceName.OBSIDIAN)]
    catalog = Catalog.of([entry(0, SHOP), entry(1, WIKI), entry(2, None), *files])

    assert [one.name for one in catalog.about(SHOP).entries] == ["database 0", "config 3", "obsidian 4"]
    assert catalog.others(SHOP) == (WIKI, None)
    assert catalog.about(None) is catalog
    nobodys = Catalog.of([entry(2, None), *files])
    assert nobodys.about(SHOP) is nobodys
    assert nobodys.others(SHOP) == ()
