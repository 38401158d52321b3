"""Named sources in a store: their files, what is of which source, and what is not theirs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet.catalog.artifact import Made
from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Entry, Manifest
from refnet.catalog.source_name import STANDARD, Kind, SourceName, artifact_names, read_file_name
from refnet.store.local import LocalStore

AT = datetime(2026, 11, 25, 2, 0, 0, tzinfo=UTC)
SHOP, WIKI = SourceName("shop", Kind.DATABASE), SourceName("wiki", Kind.DATABASE)
NOTES = SourceName("notes", Kind.FOLDER)


def _made(store: LocalStore, source: SourceName, **details: object) -> Manifest:
    with store.draft(source) as draft:
        draft.out.write(b"x")
        return draft.publish(Made(AT, details), AT, 1.0)


def _entry(source: SourceName, name: str, at: datetime = AT, **details: object) -> Entry:
    return Entry(Manifest(source, name, at, 1, "0" * 64, 1.0, details=dict(details)))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (SHOP, "shop_20261125_020000.sql.gz"),
        (NOTES, "notes_20261125_020000.tar.gz"),
        (SourceName("shop_20261124", Kind.DATABASE), "shop_20261124_20261125_020000.sql.gz"),
        (SourceName("a" * 40, Kind.FOLDER), f"{'a' * 40}_20261125_020000.tar.gz"),
    ],
)
def test_the_name_of_a_file_says_its_source_and_kind(source, name):
    names = artifact_names(source, AT)
    assert names[0] == name
    for one in (names[0], names[1], names[-1]):
        said = read_file_name(one)
        assert said
        assert (said[0], said[0].kind, said[1]) == (source, source.kind, AT.replace(tzinfo=None))


@pytest.mark.parametrize(
    "name",
    [
        "shop_20261125.sql.gz",
        "Shop_20261125_020000.sql.gz",
        "live_20261125_020000.sql.gz",
        "database_20261125_020000.sql.gz",
        "obsidian_20261125_020000.tar.gz",
        "../shop_20261125_020000.sql.gz",
        f"{'a' * 41}_20261125_020000.tar.gz",
    ],
)
def test_a_name_that_no_source_can_have_says_nothing(name):
    assert read_file_name(name) is None


def test_a_store_finds_the_sources_that_no_settings_name(tmp_path: Path):
    store = LocalStore(tmp_path)
    for source in (SourceName.CONFIG, SHOP, NOTES):
        _made(store, source)
    for odd in ("Odd", "old", "empty", "live"):
        (tmp_path / odd).mkdir()
    (tmp_path / "old" / "shop_20261125_020000.sql.gz").write_bytes(b"of another")
    (tmp_path / "link").symlink_to(tmp_path / "shop")
    assert store.sources() == (*STANDARD, NOTES, SHOP)
    assert [one.kind for one in store.sources()[3:]] == [Kind.FOLDER, Kind.DATABASE]
    assert {(e.source, e.source.kind) for e in LocalStore(tmp_path).entries()} == {
        (SourceName.CONFIG, Kind.FOLDER),
        (SHOP, Kind.DATABASE),
        (NOTES, Kind.FOLDER),
    }


def test_an_artifact_in_the_folder_of_another_source_is_never_its_own(tmp_path: Path):
    store = LocalStore(tmp_path)
    name = _made(store, SHOP).name
    _made(store, WIKI)
    for file in list((tmp_path / "shop").glob(f"{name}*")):
        file.rename(tmp_path / "wiki" / file.name)
    assert store.entries(SHOP) == ()
    assert [e.name for e in store.entries(WIKI)] == ["wiki_20261125_020000.sql.gz"]
    assert "it is of another source (shop)" in store.unlisted(WIKI)[0].why


def test_a_folder_that_became_a_database_keeps_what_it_was_apart(tmp_path: Path):
    store, was = LocalStore(tmp_path), SourceName("shop", Kind.FOLDER)
    _made(store, was)
    new = _made(store, SHOP)
    assert [e.name for e in store.entries(SHOP)] == [new.name]
    assert "it is of a folder, and shop is a database" in store.unlisted(SHOP)[0].why
    catalog = Catalog.of([_entry(was, "shop_20261126_020000.tar.gz"), _entry(SHOP, new.name)])
    assert [e.name for e in catalog.of_source(SHOP)] == [new.name]


def test_each_database_has_its_own_artifacts_and_its_own_choices():
    old = _entry(SHOP, "shop_20261124_020000.sql.gz", AT - timedelta(days=1), database="shop_old")
    new = _entry(SHOP, "shop_20261125_020000.sql.gz", database="shop")
    wiki = _entry(WIKI, "wiki_20261125_020000.sql.gz", database="wiki")
    catalog = Catalog.of([wiki, new, old])
    assert catalog.about(Identity("shop"), SHOP).of_source(SHOP) == (new,)
    assert catalog.about(Identity("shop"), SHOP).of_source(WIKI) == (wiki,)
    assert catalog.choices(Identity("shop_old"), None, SHOP).newest_complete(SHOP) == old
    assert catalog.others(Identity("shop"), SHOP) == (Identity("shop_old"),)
    assert dict(catalog.set_at()) == {SHOP: new, WIKI: wiki}
