"""When a source counts as shrunk, and against which artifact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refnet.catalog.artifact import Made
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.next_artifact import Shrinking, baseline, losses, marked
from refnet.catalog.source_name import SourceName

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
DATABASE = SourceName.DATABASE
SHOP = {"database": "shop", "system_identifier": "7"}
FULL = {"tables": 8, "rows": 30_078, "raw_bytes": 5 << 20}
DAMAGE = Evidence(NOW, Level.PROVEN, Outcome.FAILED, 1.0)
ACCEPTED = Evidence(NOW, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, accepts=True)


@pytest.mark.parametrize(
    ("before", "after", "shrank"),
    [
        (FULL, FULL, ()),
        (
            FULL,
            {"tables": 0, "rows": 0, "raw_bytes": 700},
            ("8 tables → 0", "30,078 rows → 0", "5.0 MiB of content → 700 B"),
        ),
        ({"tables": 8}, {"tables": 7}, ("8 tables → 7",)),
        ({"tables": 20}, {"tables": 19}, ()),
        ({"tables": 20}, {"tables": 17}, ("20 tables → 17",)),
        ({"rows": 1000}, {"rows": 500}, ()),
        ({"rows": 1000}, {"rows": 499}, ("1,000 rows → 499",)),
        ({"rows": 3}, {"rows": 1}, ()),
        ({"rows": 150}, {"rows": 60}, ()),
        ({"rows": 3}, {"rows": 0}, ("3 rows → 0",)),
        ({"raw_bytes": 900_000}, {"raw_bytes": 10}, ()),
        ({"files": 12}, {"files": 5}, ()),
        ({"files": 40}, {"files": 5}, ("40 files → 5",)),
        ({"files": 1}, {"files": 0}, ("1 file → 0",)),
        ({"rows": 0}, {"rows": 0}, ()),
        ({"rows": "many"}, {"rows": 0}, ()),
        ({"rows": 1000}, {}, ()),
    ],
)
def test_what_is_much_less_than_before_is_told(
    before: dict[str, Any], after: dict[str, Any], shrank: tuple[str, ...]
) -> None:
    assert losses(before, after, Shrinking()) == shrank


def test_the_settings_say_how_much_must_be_left() -> None:
    before, after = {"rows": 1000, "tables": 8}, {"rows": 700, "tables": 1}
    assert losses(before, after, Shrinking(tables=0, rows=80)) == ("1,000 rows → 700",)


def entry(hours: float, *evidence: Evidence, **changes: Any) -> Entry:
    made = {"details": SHOP | FULL} | changes
    name = f"refnet {hours}"
    return Entry(Manifest(DATABASE, name, NOW + timedelta(hours=hours), 1, "", 1.0, **made), evidence)


SHRANK = {"shrunk": ("8 tables → 0",), "shrunk_from": "refnet 0"}


@pytest.mark.parametrize(
    ("later", "name"),
    [
        ([], "refnet 0"),
        ([entry(1)], "refnet 1"),
        ([entry(1, partial=True)], "refnet 0"),
        ([entry(1, DAMAGE)], "refnet 0"),
        ([entry(1, **SHRANK), entry(2, **SHRANK)], "refnet 0"),
        ([entry(1, **SHRANK), entry(2, ACCEPTED, **SHRANK)], "refnet 2"),
        ([entry(1, details={"database": "wiki", "system_identifier": "7"})], "refnet 0"),
        ([entry(1, details=SHOP | {"system_identifier": "8"})], "refnet 0"),
    ],
)
def test_the_baseline_is_the_last_good_one_of_the_same_database(later: list[Entry], name: str) -> None:
    found = baseline(DATABASE, Identity.read(SHOP), [entry(0), *later])
    assert found is not None
    assert found.name == name


def test_a_recreated_server_is_compared_with_the_lost_one() -> None:
    anew = Made(NOW, {"database": "shop", "system_identifier": "9", "tables": 0, "rows": 0, "raw_bytes": 0})
    found = marked(anew, DATABASE, [entry(0)], Shrinking())
    assert (found.shrunk[0], found.shrunk_from) == ("8 tables → 0", "refnet 0")


def test_some_tables_alone_and_a_first_artifact_are_not_compared() -> None:
    empty = Made(NOW, SHOP | {"tables": 0, "rows": 0})
    assert marked(empty, DATABASE, [], Shrinking()) == empty
    some = Made(NOW, SHOP | {"tables": 1, "rows": 5}, partial=True)
    assert marked(some, DATABASE, [entry(0)], Shrinking()) == some
