"""Manifests and evidence as files: read back as written, and nothing else believed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.source_name import STANDARD, SourceName, artifact_names, read_file_name

NOW = datetime(2026, 11, 25, 17, 0, 1, 250_000, tzinfo=UTC)
MANIFEST = Manifest(
    SourceName.OBSIDIAN,
    "vault_20261125.tar.gz",
    NOW,
    7,
    "ab" * 32,
    1.5,
    files_sha256="cd" * 32,
    unchecked=("論文",),
    details={"files": 3, "folder": "/日本"},
    made_by="refnet 1",
)
LINE = Evidence(NOW, Level.PROVEN, Outcome.UNVERIFIED, 1.5, "18.6", ("no ICU",), drill=True)
FAULTY = replace(LINE, fault=Fault.SOURCE, objects=("materialized view public.ratio",))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_what_is_written_is_read() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert Evidence.from_json(LINE.to_json()) == LINE


def test_without_a_publication_time_a_manifest_is_as_old_as_its_snapshot() -> None:
    values = json.loads(MANIFEST.to_json())
    del values["published"]
    read = Manifest.from_json(json.dumps(values))
    assert (read, Entry(read).made) == (MANIFEST, NOW)


@pytest.mark.parametrize(("hours", "made"), [(-9, NOW), (9, NOW + timedelta(hours=9))])
def test_age_counts_from_the_later_of_snapshot_and_publication(hours: int, made: datetime) -> None:
    published = replace(MANIFEST, published=NOW + timedelta(hours=hours))
    assert Manifest.from_json(published.to_json()) == published
    assert Entry(published).made == made


def test_keys_of_a_later_refnet_of_the_same_format_are_left_out() -> None:
    values = json.loads(MANIFEST.to_json()) | {"colour": "red"}
    assert Manifest.from_json(json.dumps(values)) == MANIFEST


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 4),
        ("format", 0),
        ("source", "Papers"),
        ("name", 5),
        ("name", "../vault_20261125.tar.gz"),
        ("name", ".."),
        ("name", "a\0b"),
        ("created", "2026-11-25T17:00:01"),
        ("created", "0001-01-01T00:00:00+00:00"),
        ("created", 5),
        ("size", "7"),
        ("size", True),
        ("sha256", None),
        ("seconds", 1e999),
        ("unchecked", "a sentence"),
        ("unchecked", [1]),
        ("details", []),
        ("details", {"files": "7"}),
        ("details", {"rows": -1}),
        ("details", {"shares_bytes_with": "../a"}),
        ("details", {"more": [[[[[[[[[1]]]]]]]]]}),
        ("details", {"more": 1e999}),
        ("size", -1),
        ("size", 1 << 70),
        ("sha256", "AB" * 32),
        ("made_by", "a\ud800"),
        ("partial", 0),
        ("published", 5),
        ("published", "2026-11-25T17:00:01"),
    ],
)
def test_a_manifest_with_a_value_that_is_none_is_no_manifest(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"manifest|format"):
        Manifest.from_json(json.dumps(json.loads(MANIFEST.to_json()) | {key: value}))


@pytest.mark.parametrize("key", ["format", "source", "name", "created", "size", "sha256", "seconds"])
def test_a_manifest_that_lacks_what_it_must_say_is_none(key: str) -> None:
    values = json.loads(MANIFEST.to_json())
    del values[key]
    with pytest.raises(ValueError, match=key):
        Manifest.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"x"', "{", b"\xff", "[" * 100_000])
def test_what_is_no_json_object_is_neither(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="not a manifest"):
        Manifest.from_json(text)
    with pytest.raises(ValueError, match="not a line of evidence"):
        Evidence.from_json(text)


@given(key=st.sampled_from(sorted(json.loads(MANIFEST.to_json()))), value=JSON)
def test_whatever_a_manifest_says_it_is_a_good_one_or_a_value_error(key: str, value: Any) -> None:
    text = json.dumps(json.loads(MANIFEST.to_json()) | {key: value})
    try:
        manifest = Manifest.from_json(text)
    except ValueError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.created.astimezone().year > 1800


@given(key=st.sampled_from(sorted(json.loads(FAULTY.to_json()))), value=JSON)
def test_whatever_a_line_says_it_is_evidence_or_a_value_error(key: str, value: Any) -> None:
    try:
        line = Evidence.from_json(json.dumps(json.loads(FAULTY.to_json()) | {key: value}))
    except ValueError:
        return
    assert Evidence.from_json(line.to_json()) == line
    assert Entry(MANIFEST, (line,)).state in {"written", "intact", "restored", "proven", "damaged"}


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([], "written"),
        ([(Level.INTACT, Outcome.PASSED)], "intact"),
        ([(Level.PROVEN, Outcome.PASSED), (Level.INTACT, Outcome.PASSED)], "proven"),
        ([(Level.PROVEN, Outcome.PASSED), (Level.INTACT, Outcome.FAILED)], "damaged"),
        ([(Level.RESTORED, Outcome.FAILED), (Level.INTACT, Outcome.PASSED)], "damaged"),
        ([(Level.RESTORED, Outcome.FAILED), (Level.RESTORED, Outcome.PASSED)], "restored"),
        ([(Level.INTACT, Outcome.PASSED), (Level.PROVEN, Outcome.UNVERIFIED)], "intact"),
        (
            [
                (Level.PROVEN, Outcome.PASSED),
                (Level.PROVEN, Outcome.FAILED),
                (Level.WRITTEN, Outcome.FAILED),
                (Level.INTACT, Outcome.PASSED),
            ],
            "damaged",
        ),
        (
            [
                (Level.PROVEN, Outcome.PASSED),
                (Level.WRITTEN, Outcome.FAILED),
                (Level.INTACT, Outcome.PASSED),
            ],
            "intact",
        ),
        (
            [
                (Level.PROVEN, Outcome.PASSED),
                (Level.RESTORED, Outcome.FAILED),
                (Level.RESTORED, Outcome.PASSED),
            ],
            "restored",
        ),
        (
            [
                (Level.PROVEN, Outcome.FAILED),
                (Level.INTACT, Outcome.FAILED),
                (Level.PROVEN, Outcome.PASSED),
            ],
            "proven",
        ),
    ],
)
def test_the_state_follows_from_the_evidence(lines: list[tuple[Level, Outcome]], state: str) -> None:
    evidence = tuple(Evidence(NOW, level, outcome, 1.0) for level, outcome in lines)
    assert Entry(MANIFEST, evidence).state == state


@pytest.mark.parametrize("fault", [None, Fault.DAMAGE])
def test_damage_revokes_what_passed(fault: Fault | None) -> None:
    failed = Evidence(NOW, Level.WRITTEN, Outcome.FAILED, 1.0, fault=fault)

    assert Entry(MANIFEST, (Evidence(NOW, Level.PROVEN, Outcome.PASSED, 1.0), failed)).damaged


@pytest.mark.parametrize("fault", [Fault.TRANSIENT, Fault.ENVIRONMENT, Fault.SOURCE])
def test_nothing_but_damage_revokes_what_passed(fault: Fault) -> None:
    failed = Evidence(NOW, Level.WRITTEN, Outcome.FAILED, 1.0, fault=fault)
    entry = Entry(MANIFEST, (Evidence(NOW, Level.PROVEN, Outcome.PASSED, 1.0), failed))

    assert (entry.damaged, entry.proven) == (False, True)


def test_a_line_without_a_fault_was_written_by_an_older_refnet() -> None:
    values = json.loads(LINE.to_json())

    assert not {"fault", "objects"} & values.keys()
    assert Evidence.from_json(json.dumps(values)).fault is None


def test_faulty_objects_count_until_accepted_or_until_a_proof_finds_none() -> None:
    proof = replace(FAULTY, outcome=Outcome.PASSED, objects=("view a", "view b"))
    accepts = Evidence(NOW, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, accepts=True, objects=("view a",))

    assert Entry(MANIFEST, (proof,)).unaccepted == ("view a", "view b")
    assert Entry(MANIFEST, (proof, accepts)).unaccepted == ("view b",)
    assert Entry(MANIFEST, (proof, replace(LINE, outcome=Outcome.PASSED))).faulty == ()
    assert Entry(MANIFEST, (proof, replace(LINE, level=Level.INTACT))).faulty == ("view a", "view b")


def test_accepted_objects_do_not_accept_that_an_artifact_shrank() -> None:
    shrank = replace(MANIFEST, shrunk=("8 tables → 0",))
    accepts = Evidence(NOW, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, accepts=True)

    assert Entry(shrank, (replace(accepts, objects=("view a",)),)).shrunk
    assert not Entry(shrank, (accepts,)).shrunk


LINES = st.lists(
    st.builds(
        Evidence,
        at=st.integers(0, 9).map(lambda minutes: NOW + timedelta(minutes=minutes)),
        level=st.sampled_from(Level),
        outcome=st.sampled_from(Outcome),
        seconds=st.just(1.0),
    ),
    max_size=7,
).map(tuple)


def counts(level: Level, evidence: tuple[Evidence, ...]) -> bool:
    """Whether a pass reached `level`, and nothing at that level or a shallower one failed after it."""
    return any(
        line.outcome is Outcome.PASSED
        and line.level.rank >= level.rank
        and not any(
            later.outcome is Outcome.FAILED and later.level.rank <= level.rank
            for later in evidence[number + 1 :]
        )
        for number, line in enumerate(evidence)
    )


@given(LINES)
def test_a_level_counts_until_it_or_a_lower_one_fails_after_its_pass(
    evidence: tuple[Evidence, ...],
) -> None:
    reached = [level for level in Level if counts(level, evidence)]
    entry = Entry(MANIFEST, evidence)

    assert entry.level is max([Level.WRITTEN, *reached], key=lambda level: level.rank)
    assert (entry.proven_at is None) is not counts(Level.PROVEN, evidence)


@given(LINES)
def test_a_failure_stands_until_a_check_as_deep_passes(evidence: tuple[Evidence, ...]) -> None:
    standing = [
        failure
        for number, failure in enumerate(evidence)
        if failure.outcome is Outcome.FAILED
        and not any(
            later.outcome is Outcome.PASSED and later.level.rank >= failure.level.rank
            for later in evidence[number + 1 :]
        )
    ]
    assert Entry(MANIFEST, evidence).damaged is bool(standing)


@pytest.mark.parametrize("source", STANDARD)
@pytest.mark.parametrize("partial", [False, True])
def test_every_name_says_its_source_and_its_time(source: SourceName, partial: bool) -> None:
    local = datetime(2026, 11, 25, 2, 0, 1)  # noqa: DTZ001  # a name's local time
    names = artifact_names(source, local, partial=partial)
    assert len(set(names)) == len(names)
    for name in names[:5]:
        said = read_file_name(name)
        assert said is not None
        assert said[0] is source
        assert said[1].date() == local.date()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "papers_backup.sql",
        "refnet_20261399_020000.sql.gz",
        "refnet_20261125_020000.sql.gz.json",
        "vault_1.tar.gz",
    ],
)
def test_other_names_say_nothing(name: str) -> None:
    assert read_file_name(name) is None
