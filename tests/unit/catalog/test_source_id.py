"""What an artifact of files was made of, the order that numbers give, and what is dated in the future."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Identity, SourceId
from refnet.catalog.manifest import Entry, Manifest
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
VAULT = SourceName.OBSIDIAN
A, B = SourceId("a" * 32), SourceId("b" * 32)


def entry(hours: float, whose: SourceId | None = None, number: int | None = None, **made: Any) -> Entry:
    created, own = NOON + timedelta(hours=hours), whose.id if whose else ""
    name = f"{own[:1]}{hours}"
    return Entry(Manifest(VAULT, name, created, 1, "", 1.0, identity_id=own, number=number, format=3, **made))


def of_database(hours: float, system: str, number: int, *continues: str) -> Entry:
    details = {"database": "shop", "system_identifier": system}
    source, created = SourceName.DATABASE, NOON + timedelta(hours=hours)
    return Entry(
        Manifest(
            source,
            f"{system}-{number}",
            created,
            1,
            "",
            1.0,
            details=details,
            number=number,
            continues=continues,
        )
    )


def names(catalog: Catalog, source: SourceName = VAULT) -> list[str]:
    return [one.name for one in catalog.of_source(source)]


def test_a_manifests_source_and_number_are_read_as_written() -> None:
    made = Manifest(
        VAULT, "vault_20261125.tar.gz", NOON, 1, "ab" * 32, 1.0, identity_id=A.id, number=7, format=3
    )

    assert Manifest.from_json(made.to_json()) == made
    assert json.loads(made.to_json())["identity"] == A.id
    assert made.whose == A


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("identity", value) for value in ("x", "A" * 32, "a" * 33, 7, ["a"])),
        *(("number", value) for value in (0, -1, True, 1.5, "1", 10**12 + 1)),
        *(("continues", value) for value in ("1", [1], ["x"], ["1" * 21], ["1"] * 21)),
    ],
)
def test_a_manifest_with_an_identity_or_a_number_out_of_bounds_is_refused(key: str, value: Any) -> None:
    made = Manifest(VAULT, "vault_20261125.tar.gz", NOON, 1, "ab" * 32, 1.0, format=3)
    values = json.loads(made.to_json()) | {key: value}

    with pytest.raises(ValueError, match=key):
        Manifest.from_json(json.dumps(values))


def test_the_number_decides_the_order_whatever_the_clock_said() -> None:
    ahead = entry(24 * 365, A, 2)
    catalog = Catalog.of([entry(30, A, 4), entry(1, A, 1), ahead, entry(29, A, 3)])

    assert names(catalog) == ["a1", ahead.name, "a29", "a30"]


def test_what_has_no_number_is_ordered_by_its_time_among_the_numbered() -> None:
    ahead = entry(24 * 365, A, 2)
    catalog = Catalog.of([entry(-48), entry(40), entry(1, A, 1), ahead, entry(29, A, 3)])

    assert names(catalog) == ["-48", "a1", ahead.name, "a29", "40"]


def test_a_run_with_a_slow_clock_sorts_after_earlier_runs() -> None:
    own = [entry(hours, A, number) for number, hours in enumerate((1, 2, 3, -200_000), 1)]
    older, newer = entry(-9000), entry(6)

    catalog = Catalog.of((*own, older))
    assert names(catalog) == [older.name, *(one.name for one in own)]
    assert catalog.newest_complete(VAULT) is own[3]
    later = Catalog.of((*own, older, newer, entry(7, A, 5)))
    assert names(later) == [older.name, *(one.name for one in own), newer.name, "a7"]


def test_a_moment_is_that_of_the_snapshot_whatever_the_number() -> None:
    catalog = Catalog.of([entry(24 * 365, A, 2), entry(1, A, 1), entry(29, A, 3)], NOON)

    found = catalog.newest_complete(VAULT, NOON + timedelta(hours=28))

    assert found
    assert found.name == "a1"


def test_a_database_that_continues_another_goes_on_with_its_numbers() -> None:
    there = [of_database(24 * 365, "1", 5), of_database(2, "2", 6, "1"), of_database(3, "2", 7)]

    assert names(Catalog.of(there), SourceName.DATABASE) == ["1-5", "2-6", "2-7"]


def test_what_is_dated_in_the_future_is_chosen_only_if_there_is_no_other() -> None:
    ahead, now = entry(72, A, 2), NOON + timedelta(hours=24)

    both = Catalog.of([entry(1, A, 1), ahead], now)
    alone = Catalog.of([ahead], now)

    assert [one.name for one in both.complete(VAULT)] == ["a1", ahead.name]
    assert alone.newest_complete(VAULT) == ahead
    assert both.ahead(VAULT) == (ahead,)


def test_a_clock_that_is_an_hour_ahead_is_not_the_future() -> None:
    catalog = Catalog.of([entry(1, A, 1), entry(25, A, 2)], NOON + timedelta(hours=24))

    assert catalog.ahead(VAULT) == ()


def test_each_machine_chooses_its_own_artifacts_in_a_folder_of_two() -> None:
    catalog = Catalog.of([entry(1, A, 1), entry(2, B, 1), entry(3, A, 2), entry(4, B, 2)])

    assert names(catalog.choices(A, None, VAULT)) == ["a1", "a3"]
    assert names(catalog.choices(B, None, VAULT)) == ["b2", "b4"]
    assert catalog.others(A, VAULT) == (B,)
    assert {whose: len(own) for whose, own in catalog.by_identity().items()} == {A: 2, B: 2}


def test_a_machine_that_made_none_does_not_choose_among_two() -> None:
    catalog = Catalog.of([entry(1, A, 1), entry(2, B, 1)])

    with pytest.raises(
        RefnetError, match="artifacts of several sources obsidian: aaaaaaaa, bbbbbbbb"
    ) as raised:
        catalog.choices(None, None, VAULT)

    assert raised.value.code is Exit.USAGE


def test_a_machine_that_made_none_chooses_the_only_source_there_is() -> None:
    assert names(Catalog.of([entry(1, A, 1), entry(0)]).choices(None, None, VAULT)) == ["0", "a1"]


def test_artifacts_without_an_identity_are_own_if_no_other_source_exists() -> None:
    old, own, other = entry(0), entry(1, A, 1), entry(2, B, 1)

    assert names(Catalog.of([old, own]).choices(A, None, VAULT)) == ["0", "a1"]
    assert names(Catalog.of([old]).choices(A, None, VAULT)) == ["0"]
    assert names(Catalog.of([old, own, other]).choices(A, None, VAULT)) == ["a1"]
    assert names(Catalog.of([old, other]).choices(A, None, VAULT)) == []
    assert list(Catalog.of([old, own]).by_identity()) == [A]


def test_what_a_database_continues_is_known_from_the_manifests() -> None:
    there = [of_database(1, "1", 1), of_database(2, "2", 2, "1"), of_database(3, "3", 3, "2")]
    catalog = Catalog.of(there)

    assert names(catalog.about(Identity("shop", "3")), SourceName.DATABASE) == ["1-1", "2-2", "3-3"]
    assert names(catalog.about(Identity("shop", "2")), SourceName.DATABASE) == ["1-1", "2-2"]
    assert catalog.others(Identity("shop", "3")) == ()
