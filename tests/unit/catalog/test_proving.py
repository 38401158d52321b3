"""How often a source is proven and digested."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from refnet.catalog.manifest import Compared, Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.next_artifact import ALL, SMALL, Proving
from refnet.catalog.source_name import SourceName

NOW = datetime(2026, 11, 25, 2, 0, tzinfo=UTC)


def entry(days: float, level: Level = Level.PROVEN, compared: Compared = Compared.DIGESTED) -> Entry:
    made = NOW - timedelta(days=days)
    manifest = Manifest(SourceName.DATABASE, f"{days}", made, 1, "", 1.0, compared=compared)
    return Entry(manifest, (Evidence(made, level, Outcome.PASSED, 1.0),))


@pytest.mark.parametrize(
    ("every", "days", "due"),
    [(0, 0.1, True), (7, 6.0, False), (7, 6.99, True), (7, -1, True), (1, 0.9, True)],
)
def test_a_proof_is_due_when_the_last_proven_artifact_is_old_enough(
    every: int, days: float, due: bool
) -> None:
    assert Proving(every).due([entry(20), entry(days), entry(0.1, Level.INTACT)], NOW) is due


def test_the_first_artifact_is_proven() -> None:
    assert Proving(7).due([], NOW)
    assert Proving(7).due([entry(1, Level.INTACT)], NOW)


@pytest.mark.parametrize(
    ("source", "entries", "proves", "up_to"),
    [
        ("count", [], True, 0),
        ("digest", [entry(1)], False, ALL),
        ("auto", [], True, ALL),
        ("auto", [], False, 0),
        ("auto", [entry(6)], True, SMALL),
        ("auto", [entry(6.9)], True, ALL),
        ("auto", [entry(1, compared=Compared.COUNTED)], True, ALL),
        ("auto", [entry(1, Level.INTACT)], True, ALL),
    ],
)
def test_auto_digests_each_small_database_and_every_one_once_a_week(
    source: str, entries: list[Entry], proves: bool, up_to: int
) -> None:
    assert replace(Proving(), source=source).digest_up_to(entries, NOW, proves=proves) == up_to
