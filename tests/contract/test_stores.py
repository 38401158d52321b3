"""What every Store promises; one suite for all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.memory_store import MemoryStore

from refnet.catalog.artifact import Made
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Store
from refnet.core.errors import Exit, RefnetError
from refnet.store.local import LocalStore

NOW = datetime(2026, 11, 25, 17, 0, 1, 250_000, tzinfo=UTC)
LOCAL = datetime(2026, 11, 26, 2, 0, 1)  # noqa: DTZ001  # a name's local time

STORES: dict[str, Callable[[Path], Store]] = {
    "local": lambda folder: LocalStore(folder / "backups"),
    "flat": lambda folder: LocalStore(folder / "elsewhere", flat=True),
    "memory": lambda _: MemoryStore(),
}


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path)


def publish(
    store: Store, source: SourceName = SourceName.DATABASE, data: bytes = b"SELECT 1;\n", **made: Any
) -> Manifest:
    local = made.pop("local", LOCAL)
    with store.draft(source) as draft:
        draft.out.write(data)
        return draft.publish(Made(**({"created": NOW, "details": {"rows": 7}} | made)), local, 1.5)


def entry_of(store: Store, name: str) -> Entry:
    entry = Catalog.of(store.entries()).named(name)
    assert entry is not None
    return entry


def test_nothing_is_there_before_something_is_published(store: Store) -> None:
    assert store.entries() == ()
    assert store.leftovers() == ()


def test_entries_and_leftovers_of_one_scan_are_what_each_alone_says(store: Store) -> None:
    manifests = [publish(store), publish(store, SourceName.CONFIG)]

    for source in (None, SourceName.DATABASE):
        assert store.entries_and_leftovers(source) == (store.entries(source), store.leftovers(source))
    assert len(store.entries_and_leftovers()[0]) == len(manifests)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (SourceName.DATABASE, "refnet_20261126_020001.sql.gz"),
        (SourceName.CONFIG, "config_20261126.tar.gz"),
        (SourceName.OBSIDIAN, "vault_20261126.tar.gz"),
    ],
)
def test_a_published_artifact_is_listed_with_its_digest_and_reads_back(
    store: Store, source: SourceName, name: str
) -> None:
    data = bytes(range(256)) * 20_000
    manifest = publish(store, source, data, unchecked=("a note changed while it was read",))

    (entry,) = store.entries()
    assert entry.manifest == manifest
    assert manifest.name == name
    assert (manifest.sha256, manifest.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (manifest.created, manifest.seconds, manifest.details) == (NOW, 1.5, {"rows": 7})
    assert manifest.unchecked == ("a note changed while it was read",)
    assert entry.state == "written"
    with store.artifact(entry).open() as reader:
        assert reader.read() == data
        reader.seek(256)
        assert reader.read(3) == b"\x00\x01\x02"


def test_the_list_of_files_comes_back_as_it_was_given(store: Store) -> None:
    files = json.dumps([{"path": "日本.md"}]).encode()
    manifest = publish(store, SourceName.OBSIDIAN, b"tar", files=files)

    assert manifest.files_sha256 == hashlib.sha256(files).hexdigest()
    assert store.artifact(entry_of(store, manifest.name)).files() == files


def test_an_artifact_without_a_list_of_files_says_so(store: Store) -> None:
    manifest = publish(store)
    assert store.artifact(entry_of(store, manifest.name)).files() is None


def test_a_name_that_is_taken_is_never_overwritten(store: Store) -> None:
    names = [publish(store, SourceName.CONFIG, bytes([65 + n])).name for n in range(4)]

    assert names == [
        "config_20261126.tar.gz",
        "config_20261126_020001.tar.gz",
        "config_20261126_020001_2.tar.gz",
        "config_20261126_020001_3.tar.gz",
    ]
    for number, name in enumerate(names):
        with store.artifact(entry_of(store, name)).open() as reader:
            assert reader.read() == bytes([65 + number])


def test_a_partial_artifact_is_named_so_and_is_never_the_newest(store: Store) -> None:
    whole = publish(store)
    partial = publish(store, partial=True, created=NOW + timedelta(hours=1))

    assert partial.name == "refnet_20261126_020001_tables.sql.gz.partial"
    newest = Catalog.of(store.entries()).newest_complete(SourceName.DATABASE)
    assert newest is not None
    assert newest.name == whole.name


@pytest.mark.parametrize("failure", [RefnetError("a", "b"), KeyboardInterrupt(), ValueError()])
def test_a_draft_that_is_not_published_is_gone(store: Store, failure: BaseException) -> None:
    def write_and_fail() -> None:
        with store.draft(SourceName.DATABASE) as draft:
            draft.out.write(b"x" * 3_000_000)
            raise failure

    with pytest.raises(type(failure)):
        write_and_fail()
    with store.draft(SourceName.DATABASE) as draft:
        draft.out.write(b"y")

    assert store.entries() == ()
    assert store.leftovers() == ()


def test_evidence_is_kept_in_order_and_decides_the_state(store: Store) -> None:
    name = publish(store).name
    proven = Evidence(NOW, Level.PROVEN, Outcome.PASSED, 4.2, server="18.1", drill=True)
    failed = Evidence(
        NOW + timedelta(days=1), Level.INTACT, Outcome.FAILED, 0.1, reasons=("footer: missing",)
    )

    store.record(entry_of(store, name), proven)
    assert entry_of(store, name).proven
    store.record(entry_of(store, name), failed)

    assert entry_of(store, name).evidence == (proven, failed)
    assert entry_of(store, name).state == "damaged"
    assert Catalog.of(store.entries()).newest_complete(SourceName.DATABASE) is None


def test_a_deleted_artifact_is_gone_with_everything_beside_it(store: Store) -> None:
    gone = publish(store, SourceName.OBSIDIAN, b"one", files=b"[]").name
    kept = publish(store, SourceName.OBSIDIAN, b"two", files=b"[]").name
    store.record(entry_of(store, gone), Evidence(NOW, Level.INTACT, Outcome.PASSED, 0.1))

    store.delete(entry_of(store, gone))

    assert [entry.name for entry in store.entries()] == [kept]
    assert store.leftovers() == ()
    again = publish(store, SourceName.OBSIDIAN, b"three").name
    assert entry_of(store, again).evidence == ()


def test_a_second_artifact_may_share_the_bytes_of_the_first(store: Store) -> None:
    first = publish(store, SourceName.OBSIDIAN, b"the same vault", files=b"[]")
    second = publish(store, SourceName.OBSIDIAN, b"", files=b"[]", details={"shares_bytes_with": first.name})

    assert (second.sha256, second.size) == (first.sha256, first.size)
    store.delete(entry_of(store, first.name))
    with store.artifact(entry_of(store, second.name)).open() as reader:
        assert reader.read() == b"the same vault"


def test_the_newest_is_chosen_by_manifest_time_whatever_the_names_say(store: Store) -> None:
    late = publish(store, created=NOW, local=LOCAL - timedelta(days=400))
    publish(store, created=NOW - timedelta(days=1), local=LOCAL)

    newest = Catalog.of(store.entries()).newest_complete(SourceName.DATABASE)
    assert newest is not None
    assert newest.name == late.name


def test_free_room_is_a_number_of_bytes_or_not_known(store: Store) -> None:
    free = store.free_bytes()
    assert free is None or free > 0


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_lock_is_for_one_run_and_one_source(kind: str, tmp_path: Path) -> None:
    store = STORES[kind](tmp_path)
    with store.lock(SourceName.DATABASE):
        with store.lock(SourceName.CONFIG):
            pass
        with pytest.raises(RefnetError, match="database") as refused, store.lock(SourceName.DATABASE):
            pass
        assert refused.value.code is Exit.LOCKED
    with store.lock(SourceName.DATABASE):
        pass


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_one_source_can_be_read_alone(kind: str, tmp_path: Path) -> None:
    store = STORES[kind](tmp_path)
    database = publish(store).name
    publish(store, SourceName.CONFIG)

    assert [entry.name for entry in store.entries(SourceName.DATABASE)] == [database]
    assert len(store.entries()) == 2
    assert store.leftovers(SourceName.CONFIG) == ()
