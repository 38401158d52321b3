"""The metrics tell what the catalog, the evidence and the journal say, and nothing that they do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.remote_copies import LOCAL, shared, signed
from tests.unit.telemetry.conftest import World

from refnet.catalog.manifest import HIDDEN_PREFIX, Level
from refnet.catalog.monitoring import Limits
from refnet.catalog.remote import Copy
from refnet.catalog.remote_state import StoreState
from refnet.catalog.run import EXPECTED, Reason, RunKind
from refnet.catalog.schedule import Schedule, TaskName
from refnet.catalog.source_name import STANDARD, Kind, SourceName
from refnet.core.errors import RefnetError
from refnet.store import scan
from refnet.telemetry.metrics import exposition

_DAY = timedelta(days=1)
_DATABASE = {"source": "database"}


def values(world: World) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Metric → labels → value, as Prometheus reads the text."""
    text = exposition(world.facts)[0].decode()
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def value(world: World, name: str, **labels: str) -> float | None:
    return values(world).get(name, {}).get(frozenset(labels.items()))


def test_the_specifications_three_metrics_are_there_by_their_names(world: World) -> None:
    made = world.artifact(ago=timedelta(hours=3))
    world.run(seconds=7.0)
    done = made.created.timestamp() + made.seconds
    assert value(world, "refnet_backup_success_timestamp", **_DATABASE) == pytest.approx(done)
    assert value(world, "refnet_backup_size_bytes", **_DATABASE) == made.size
    assert value(world, "refnet_backup_duration_seconds_sum", **_DATABASE) == 7.0
    assert value(world, "refnet_backup_duration_seconds_count", **_DATABASE) == 1.0
    assert value(world, "refnet_backup_duration_seconds_bucket", le="5.0", **_DATABASE) == 0.0
    assert value(world, "refnet_backup_duration_seconds_bucket", le="15.0", **_DATABASE) == 1.0


def test_a_source_without_an_artifact_has_no_success_and_no_size(world: World) -> None:
    world.artifact(SourceName.DATABASE)
    found = values(world)
    for name in (
        "refnet_backup_success_timestamp",
        "refnet_backup_size_bytes",
        "refnet_backup_evidence_level",
    ):
        assert set(found[name]) == {frozenset(_DATABASE.items())}


def test_a_damaged_artifact_is_counted_and_never_the_newest(world: World) -> None:
    whole = world.artifact(ago=2 * _DAY)
    damaged = world.artifact(ago=_DAY)
    world.damage(damaged)
    assert value(world, "refnet_backup_data_timestamp_seconds", **_DATABASE) == whole.created.timestamp()
    assert value(world, "refnet_artifacts", state="damaged", **_DATABASE) == 1
    assert value(world, "refnet_artifacts", state="proven", **_DATABASE) == 1


@pytest.mark.parametrize("level", list(Level))
def test_the_evidence_of_the_newest_is_told_as_a_number(world: World, level: Level) -> None:
    world.artifact(level=level)
    assert value(world, "refnet_backup_evidence_level", **_DATABASE) == level.rank


def test_the_data_age_metric_is_the_age_of_the_newest_artifacts_state(world: World) -> None:
    world.artifact(ago=timedelta(hours=5))
    assert value(world, "refnet_backup_data_age_seconds", **_DATABASE) == 5 * 3600


def test_a_database_with_nothing_unprotected_is_zero_also_when_named(world: World) -> None:
    shop = SourceName("shop", Kind.DATABASE)
    for source in (SourceName.DATABASE, shop, SourceName.OBSIDIAN):
        world.artifact(source, details={"unprotected": None})
    found = values(world)["refnet_unprotected"]
    assert {(dict(labels)["source"], dict(labels)["kind"], count) for labels, count in found.items()} == {
        ("database", "databases", 0.0),
        ("shop", "databases", 0.0),
    }


def test_proven_times_are_those_of_the_newest_proven_artifact(world: World) -> None:
    proven = world.artifact(ago=2 * _DAY)
    world.artifact(ago=_DAY, level=Level.RESTORED)
    assert value(world, "refnet_proven_data_timestamp_seconds", **_DATABASE) == proven.created.timestamp()
    assert value(world, "refnet_proven_timestamp_seconds", **_DATABASE) == proven.created.timestamp() + 5


def test_a_drill_is_remembered_when_its_artifact_was_pruned(world: World) -> None:
    drilled = world.artifact(ago=_DAY, drill=True)
    at = drilled.created.timestamp() + 5
    assert value(world, "refnet_drill_success_timestamp_seconds", **_DATABASE) == at
    assert value(world, "refnet_drill_duration_seconds", **_DATABASE) == 3.0

    run = world.run(kind=RunKind.DRILL, seconds=40.0)
    for entry in world.store.entries():
        world.store.delete(entry)
    ended = run.started.timestamp() + 40
    assert value(world, "refnet_drill_success_timestamp_seconds", **_DATABASE) == ended
    assert value(world, "refnet_drill_duration_seconds", **_DATABASE) == 40.0


def test_a_proof_that_was_no_drill_is_none(world: World) -> None:
    world.artifact(level=Level.PROVEN)
    assert value(world, "refnet_drill_success_timestamp_seconds", **_DATABASE) is None


def test_failures_are_counted_by_reason_and_absent_reasons_are_zero(world: World) -> None:
    world.run(failed=Reason.NO_SPACE)
    world.run(failed=Reason.NO_SPACE)
    world.run(SourceName.CONFIG, kind=RunKind.DRILL, failed=Reason.DAMAGED)
    counts = values(world)["refnet_failures_total"]
    assert counts.pop(frozenset({"run": "backup", "source": "database", "reason": "no_space"}.items())) == 2
    assert counts.pop(frozenset({"run": "drill", "source": "config", "reason": "damaged"}.items())) == 1
    assert set(counts.values()) == {0.0}
    assert len(counts) == len(EXPECTED) * len(STANDARD) * len(Reason) - 2


def test_whether_the_last_run_failed_is_told_until_one_goes_well(world: World) -> None:
    labels = {"run": "backup", **_DATABASE}
    assert value(world, "refnet_last_run_failed", **labels) is None
    first = world.run(failed=Reason.SERVER)
    world.run(failed=Reason.SERVER)
    assert value(world, "refnet_last_run_failed", **labels) == 1
    assert value(world, "refnet_failing_since_timestamp_seconds", **labels) == first.started.timestamp()
    world.run()
    assert value(world, "refnet_last_run_failed", **labels) == 0
    assert value(world, "refnet_failing_since_timestamp_seconds", **labels) is None


def test_bytes_that_artifacts_share_count_once(world: World) -> None:
    world.artifact(ago=2 * _DAY, data=b"a" * 500)
    world.artifact(ago=_DAY, data=b"a" * 500)
    world.artifact(data=b"b" * 40)
    assert value(world, "refnet_kept_bytes", **_DATABASE) == 540


def test_what_a_killed_run_left_is_told_in_bytes(world: World) -> None:
    world.artifact()
    (world.store.folder(SourceName.DATABASE) / f"{HIDDEN_PREFIX}0123.part").write_bytes(b"x" * 321)
    assert value(world, "refnet_leftover_bytes", **_DATABASE) == 321


def test_an_unreadable_source_has_no_count_of_previous_versions(world: World) -> None:
    since = {
        SourceName.DATABASE: (world.now, world.now - _DAY),
        SourceName.CONFIG: (),
        SourceName.OBSIDIAN: None,
    }
    text = exposition(lambda: replace(world.facts(), previous=since))[0].decode()
    count = "refnet_previous_versions"
    assert f'{count}{{source="database"}} 2.0' in text
    assert f'{count}{{source="config"}} 0.0' in text
    assert f'{count}{{source="obsidian"}}' not in text
    assert f'{count}_oldest_timestamp_seconds{{source="database"}} ' in text


def test_the_schedule_and_the_configured_sources_are_told(world: World) -> None:
    world.configured = frozenset({SourceName.DATABASE})
    due = (world.now + timedelta(hours=14)).timestamp()  # 02:00 of the next day
    assert values(world)["refnet_backup_next_due_timestamp_seconds"] == {frozenset(_DATABASE.items()): due}
    assert value(world, "refnet_backup_interval_seconds", **_DATABASE) == 86_400
    assert value(world, "refnet_task_scheduled", task="drill") == 1
    assert value(world, "refnet_source_configured", source="database") == 1
    assert value(world, "refnet_source_configured", source="config") == 0
    assert value(world, "refnet_free_bytes") == pytest.approx(world.store.free_bytes(), rel=0.5)


def test_a_backup_that_is_off_is_never_due(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world.facts()
    times = {task: when for task, when in facts.schedule.times.items() if task != TaskName.DATABASE}
    limits = facts.limits | {SourceName.DATABASE: Limits(None, None)}
    found = replace(facts, schedule=Schedule(times, facts.schedule.zone, ("database",)), limits=limits)
    monkeypatch.setattr(World, "facts", lambda _: found)
    assert value(world, "refnet_task_scheduled", task="database") == 0
    for name in ("next_due_timestamp", "interval", "age_limit"):
        assert value(world, f"refnet_backup_{name}_seconds", **_DATABASE) is None
        assert value(world, f"refnet_backup_{name}_seconds", source="config") is not None


def test_openmetrics_is_spoken_to_whoever_asks_for_it(world: World) -> None:
    text, kind = exposition(world.facts, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_of_many_artifacts_only_what_changed_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hours in range(1, 21):
        world.artifact(ago=timedelta(hours=hours))
    exposition(world.facts)
    changed = world.artifact(level=Level.INTACT)
    read = _read_in(world.store.root, monkeypatch)
    assert b'refnet_artifacts{source="database",state="intact"} 1.0' in exposition(world.facts)[0]
    assert set(read) == {f"{changed.name}.json", f"{changed.name}.evidence.jsonl"}
    world.damage(changed)
    read.clear()
    assert b'refnet_artifacts{source="database",state="damaged"} 1.0' in exposition(world.facts)[0]
    assert read == [f"{changed.name}.evidence.jsonl"]


def _read_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files below `folder` that are read from now on."""
    names: list[str] = []
    read_regular = scan.read_regular

    def reading(path: str, most: int) -> bytes:
        if Path(path).is_relative_to(folder):
            names.append(Path(path).name)
        return read_regular(path, most)

    monkeypatch.setattr(scan, "read_regular", reading)
    return names


def test_a_store_has_the_bytes_of_its_copies_and_shared_ones_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tuple(Copy(LOCAL, (), signed=signed(shared(number))) for number in (1, 2))
    cloud = StoreState("cloud", frozenset([SourceName.DATABASE]), copies)
    down = replace(cloud, name="down", copies=(), trouble=RefnetError("no answer", "Check the network."))
    facts = replace(world.facts(), stores=(cloud, down))
    monkeypatch.setattr(World, "facts", lambda _: facts)
    found = values(world)
    labels = frozenset({"store": "cloud", "source": "database"}.items())
    assert found["refnet_store_plain_bytes"] == {labels: 2 * LOCAL.size}
    assert found["refnet_store_stored_bytes"] == {labels: copies[0].document.size}
