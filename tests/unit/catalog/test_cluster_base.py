"""Base backups in a catalog: their chains, what the next one is, and what must stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refnet.catalog.artifact import Made
from refnet.catalog.catalog import Catalog
from refnet.catalog.cluster_base import (
    BaseFacts,
    broken,
    chain,
    children_first,
    needed_by,
    needed_wal,
    next_base,
)
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.monitoring import Limits, Status, watch
from refnet.catalog.next_artifact import Shrinking, marked
from refnet.catalog.retention import Outlived, decide, needed, too_much
from refnet.catalog.run import History
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import Kind, SourceName, in_groups, kind_of_file, member_name, read_file_name

NAME = SourceName("main-cluster", Kind.CLUSTER)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LINEAGE = ("7443", 1)


def facts(parent: str = "", *, start: int = 1, **others: Any) -> dict[str, Any]:
    return {
        "system_identifier": "7443",
        "server_version": "17.7",
        "base": "increment" if parent else "full",
        "parent": parent or None,
        "start_lsn": f"0/{start:X}",
        "end_lsn": f"0/{start + 1:X}",
        "timeline": 1,
        "raw_bytes": 100 << 20,
        "tablespaces": 0,
        **others,
    }


def base(
    name: str, parent: str = "", *, day: int = 0, size: int = 100, damaged: bool = False, **others: Any
) -> Entry:
    made = NOON + timedelta(days=day)
    details = facts(parent, start=others.pop("start", 10 * day + 10), **others)
    manifest = Manifest(NAME, name, made, size, "0" * 64, 1.0, details=details)
    failed = Evidence(made, Level.INTACT, Outcome.FAILED, 1.0)
    return Entry(manifest, (failed,) if damaged else ())


WEEK = [base("full"), base("one", "full", day=1, size=10), base("two", "one", day=2, size=10)]


def test_facts_are_read_and_refused() -> None:
    found = BaseFacts.read(facts("full"))
    assert found
    assert (found.of_full, found.parent, found.start_lsn, found.lineage) == (False, "full", 1, LINEAGE)
    wrong: list[dict[str, Any]] = [
        {"base": "half"},
        {"parent": None},
        {"parent": "a/b"},
        {"start_lsn": "0/G"},
        {"start_lsn": "1/0"},  # after its end
        {"timeline": 0},
        {"system_identifier": "x"},
        {"raw_bytes": True},
    ]
    assert not any(BaseFacts.read({**facts("full"), **one}) for one in wrong)
    assert not BaseFacts.read({**facts(), "parent": "full"})
    assert not BaseFacts.read({})


def test_a_chain_begins_with_its_full() -> None:
    assert [one.name for one in chain(WEEK[2], WEEK)] == ["full", "one", "two"]
    assert chain(WEEK[0], WEEK) == (WEEK[0],)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (WEEK[1:], "full is missing"),
        ([base("full", system_identifier="8"), *WEEK[1:]], "same cluster"),
        ([base("full", start=900), *WEEK[1:]], "not older"),
        ([base("full", "two", start=1), *WEEK[1:]], "not older"),  # a circle
        ([Entry(Manifest(NAME, "full", NOON, 1, "0" * 64, 1.0)), *WEEK[1:]], "not a base backup"),
    ],
)
def test_links_that_make_no_chain_are_refused(entries: list[Entry], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        chain(WEEK[2], entries)


def _next(entries: Iterable[Entry], *, day: float = 3, **options: Any) -> tuple[str, str]:
    found = next_base(entries, options.pop("lineage", LINEAGE), NOON + timedelta(days=day), **options)
    return found.parent.name if found.parent else "", found.why


def test_the_next_base_is_an_increment_of_the_newest() -> None:
    assert _next(WEEK) == ("two", "")
    assert _next(WEEK[:1]) == ("full", "")


@pytest.mark.parametrize(
    ("entries", "options", "why"),
    [
        ([], {}, "no full"),
        (WEEK, {"full": True}, "asked for"),
        (WEEK, {"lineage": ("7443", 2)}, "no full"),
        (WEEK, {"lineage": ("8", 1)}, "no full"),
        (WEEK, {"day": 7}, "older than 7 days"),
        ([*WEEK, base("three", "two", day=3, size=40)], {}, "more than half"),
        ([base("full", damaged=True), *WEEK[1:]], {}, "no full"),
    ],
)
def test_the_next_base_is_a_full(entries: list[Entry], options: dict[str, Any], why: str) -> None:
    parent, said = _next(entries, **options)
    assert (parent, why in said) == ("", True)


def test_an_increment_is_never_made_from_a_damaged_or_broken_chain() -> None:
    damaged = base("two", "one", day=2, size=10, damaged=True)
    assert _next([*WEEK[:2], damaged]) == ("one", "")
    assert _next([WEEK[0], WEEK[2]]) == ("full", "")
    other = [base("second", day=2), base("old", "one", day=3, size=10)]
    assert _next([*WEEK[:2], *other], day=4) == ("second", "")


def test_parents_are_needed_and_deleted_last() -> None:
    assert needed_by([WEEK[2]], WEEK) == {"full": "two", "one": "two"}
    assert needed_by([WEEK[0]], WEEK) == {}
    assert [one.name for one in children_first(WEEK)] == ["two", "one", "full"]
    circle = [base("a", "b"), base("b", "a")]
    assert needed_by(circle, circle).keys() == {"a", "b"}
    assert len(children_first(circle)) == 2


def test_only_a_full_can_have_shrunk() -> None:
    known, limits = [base("full")], Shrinking()
    increment = Made(NOON, facts("full", raw_bytes=1 << 20))
    small = Made(NOON, facts(raw_bytes=1 << 20))
    assert not marked(increment, NAME, known, limits).shrunk
    assert marked(small, NAME, known, limits).shrunk
    assert not marked(small, NAME, [base("full", raw_bytes=2 << 20), *WEEK[1:]], limits).shrunk


def test_names_of_bases_and_of_folders_differ() -> None:
    name = "docs-cluster_20261122_120000"
    assert kind_of_file(f"{name}.base.tar.gz") is Kind.CLUSTER
    assert kind_of_file(f"{name}.tar.gz") is Kind.FOLDER
    found = read_file_name(f"{name}.base.tar.gz")
    assert found
    assert found[0].kind is Kind.CLUSTER
    assert read_file_name("notes_20261122_120000.base.tar.gz") is None
    assert member_name("main", "cluster") not in {"main-cluster", member_name("main", "globals")}


def _kept(entries: list[Entry], *, day: float, days: int = 30) -> dict[str, str]:
    """What a prune on `day` keeps, and why."""
    decided = decide(entries, Retention(days=days), NOON + timedelta(days=day), None)
    return {one.entry.name: "; ".join(one.reasons) for one in decided if one.keep}


def test_a_full_stays_as_long_as_an_increment_of_it_stays() -> None:
    later = base("later", day=33)
    kept = _kept([*WEEK, later], day=31.5)  # only `two` is young enough
    assert kept.keys() == {"full", "one", "two", "later"}
    assert "two was made from it" in kept["full"]
    assert _kept([*WEEK, later], day=64.5).keys() == {"later"}


def test_a_pinned_increment_keeps_its_chain() -> None:
    pinned = replace(WEEK[1], marks=Marks(pinned=True))
    kept = _kept([WEEK[0], pinned, WEEK[2], base("later", day=60), base("last", day=99)], day=100)
    assert kept.keys() == {"full", "one", "later", "last"}


def test_the_base_before_the_window_stays() -> None:
    entries = [base("a", day=0), base("b", day=5), base("c", day=30)]
    kept = _kept(entries, day=40)
    assert kept.keys() == {"b", "c"}
    assert "the last 30 days begin after it" in kept["b"]


def test_a_broken_chain_pushes_nothing_out() -> None:
    entries = [base("good"), base("lost", "gone", day=5), base("torn", day=6, damaged=True)]
    entries += [base("of_torn", "torn", day=7)]
    assert broken(entries) == {"lost", "torn", "of_torn"}
    assert _kept(entries, day=90).keys() == {"good"}
    assert needed(entries, NOON + timedelta(days=90)).keys() == {"good"}
    assert broken([base("a", "b"), base("b", "a"), base("c", "c"), *WEEK]) == {"a", "b", "c"}


def test_what_is_needed_whatever_the_settings_say_has_its_chain() -> None:
    assert needed(WEEK, NOON + timedelta(days=90)) == {
        "two": "the newest complete one",
        "full": "two was made from it",
        "one": "two was made from it",
    }


def test_wal_is_needed_from_the_base_before_the_window() -> None:
    entries = [*WEEK, base("later", day=20)]
    at = {day: needed_wal(entries, NOON + timedelta(days=day))[0] for day in (-1, 0, 1.5, 2.5, 30)}
    begins = {day: one.begin.start_lsn for day, one in at.items()}
    assert begins == {-1: 10, 0: 10, 1.5: 20, 2.5: 30, 30: 210}
    assert [facts.start_lsn for facts, _ in at[2.5].older] == [10, 20]
    assert needed_wal([], NOON) == ()
    assert needed_wal([base("torn", damaged=True)], NOON) == ()
    both = needed_wal([*WEEK, base("other", system_identifier="8")], NOON)
    assert [one.system_identifier for one in both] == ["7443", "8"]


def test_a_clock_that_jumps_deletes_no_wal_of_many_days() -> None:
    days = frozenset((NOON + timedelta(days=one)).date() for one in range(5))
    wal = Outlived(NAME, "WAL", 1, days, lambda: None)
    error = too_much([], NOON, [wal])
    assert error
    assert "would delete WAL of main-cluster" in error.message
    assert too_much([], NOON, [replace(wal, days=frozenset([NOON.date()]))]) is None


def test_bases_are_backed_up_before_the_databases() -> None:
    shop, roles = SourceName("main-shop", Kind.DATABASE), SourceName("main-globals", Kind.GLOBALS)
    assert in_groups((roles, shop, NAME), ()) == [(NAME,), (roles, shop)]
    assert in_groups((shop, NAME), ("main-cluster", "databases")) == [(NAME,), (shop,)]


def test_a_young_base_is_not_called_older_than_it_is() -> None:
    assert _kept([base("a"), base("b", day=1)], day=2)["a"] == "younger than 30 days"


def test_the_monitor_knows_bases() -> None:
    at = NOON + timedelta(days=3)
    restored = Evidence(at, Level.RESTORED, Outcome.PASSED, 1.0)
    fulls = [base(f"full{day}", day=day, size=1000) for day in range(5)]
    small = replace(base("small", "full4", day=5, size=1), evidence=(restored,))
    now = NOON + timedelta(days=5)
    found = watch(NAME, Catalog.of([*fulls, small]), History(), Limits(timedelta(days=1), None), now)
    checks = {one.what: one for one in found}
    assert (checks["size"].status, checks["size"].says) == (Status.OK, "1 B, an increment")
    assert checks["proof"].status is Status.OK
    assert "drill" in checks["proof"].says


@pytest.mark.parametrize(("version", "major"), [("17.7 (Debian 17.7-1)", 17), ("18beta1", 18), ("9", 9)])
def test_the_major_of_a_server_is_read_of_each_form_of_its_version(version: str, major: int) -> None:
    found = BaseFacts.read(facts(server_version=version))
    assert found
    assert found.major == major


@pytest.mark.parametrize("version", ["", "beta", "-17", "1700", "\u0661\u0667.1"])
def test_a_base_backup_of_no_version_is_none(version: str) -> None:
    assert BaseFacts.read(facts(server_version=version)) is None
