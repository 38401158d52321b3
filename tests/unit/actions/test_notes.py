"""The notes beside an artifact in `refnet list`."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from refnet.actions.list import notes
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.source_name import Kind, SourceName

NOW = datetime(2026, 11, 30, tzinfo=UTC)
MANIFEST = Manifest(SourceName("main-shop", Kind.DATABASE), "main-shop_1.sql.gz", NOW, 1, "0" * 64, 1.0)


def line(level: Level, outcome: Outcome = Outcome.PASSED, *reasons: str) -> Evidence:
    return Evidence(NOW, level, outcome, 1.0, reasons=reasons)


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        ((line(Level.INTACT),), []),
        ((line(Level.INTACT, Outcome.PASSED, "recovery: no key"),), ["not restored: recovery: no key"]),
        (
            (line(Level.INTACT), line(Level.PROVEN, Outcome.UNVERIFIED, "server: none")),
            ["not restored: server: none"],
        ),
        ((line(Level.WRITTEN, Outcome.PASSED, "a full was made"),), []),
        ((line(Level.RESTORED, Outcome.PASSED, "cross-proof: none is younger"),), []),
        ((line(Level.PROVEN, Outcome.PASSED), line(Level.PROVEN, Outcome.UNVERIFIED, "server: none")), []),
        (
            (line(Level.PROVEN), replace(line(Level.WRITTEN, Outcome.UNVERIFIED, "lost"), revokes=True)),
            ["lost"],
        ),
    ],
)
def test_an_artifact_that_was_read_but_not_restored_says_why(
    evidence: tuple[Evidence, ...], found: list[str]
) -> None:
    assert notes(Entry(MANIFEST, evidence), NOW) == found
