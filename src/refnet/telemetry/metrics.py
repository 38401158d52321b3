"""The metrics, computed from the catalog, the evidence and the journal of runs.

Nothing is counted in memory, so the numbers are right after a restart and whichever process made the backup.
Times are Unix timestamps in seconds: an age would go stale in a textfile; `time() - …` in a rule does not.
prometheus-client does the escaping and both text formats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector

from refnet.recovery.model.artifact import Entry, Evidence, Level, Outcome, SourceName
from refnet.recovery.model.monitoring import Status
from refnet.recovery.model.run import BUCKETS, Ended, Kind, Reason, Run
from refnet.recovery.model.schedule import TaskName
from refnet.telemetry.facts import Facts

_STATES = (*Level, Outcome.UNVERIFIED, "damaged")


def exposition(read: Callable[[], Facts], accept: str = "") -> tuple[bytes, str]:
    """Return all metrics of the facts that `read` returns, and their content type; `accept` is an HTTP header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(read))
    encoder, content_type = choose_encoder(accept) if accept else (generate_latest, "text/plain")
    return encoder(registry), content_type


class _Collector(Collector):
    def __init__(self, read: Callable[[], Facts]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return list(families(self._read()))


def families(facts: Facts) -> Iterator[Metric]:
    """Yield every metric of `facts`."""
    yield InfoMetricFamily(
        "refnet_build", "The RefNet that wrote these metrics.", {"version": version("refnet")}
    )
    yield _gauge(
        "refnet_metrics_timestamp_seconds",
        "When these metrics were computed; it shows a textfile that is no longer written.",
        [((), facts.now.timestamp())],
        (),
    )
    yield from _newest(facts)
    yield from _proofs(facts)
    yield from _runs(facts)
    yield from _bytes(facts)
    yield from _due(facts)
    yield from _checks(facts)


def _gauge(
    name: str, text: str, values: Iterable[tuple[tuple[str, ...], float | None]], labels: tuple[str, ...]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        if value is not None:
            family.add_metric(label_values, value)
    return family


def _by_source(name: str, text: str, values: Iterable[tuple[SourceName, float | None]]) -> Metric:
    return _gauge(name, text, (((source,), value) for source, value in values), ("source",))


def _newest(facts: Facts) -> Iterator[Metric]:
    """Metrics of each source's newest complete artifact."""
    newest = facts.own.set_at().items()
    yield _by_source(
        "refnet_backup_success_timestamp",
        "When the newest complete artifact was finished, in seconds since 1970.",
        ((source, _finished(entry)) for source, entry in newest),
    )
    yield _by_source(
        "refnet_backup_data_timestamp_seconds",
        "The moment whose state the newest complete artifact contains.",
        ((source, entry.created.timestamp()) for source, entry in newest),
    )
    yield _by_source(
        "refnet_backup_data_age_seconds",
        "What a loss would cost now (RPO): the age of that state when these metrics were computed.",
        ((source, (facts.now - entry.created).total_seconds()) for source, entry in newest),
    )
    yield _by_source(
        "refnet_backup_size_bytes",
        "Size of the newest complete artifact.",
        ((source, entry.manifest.size) for source, entry in newest),
    )
    yield _by_source(
        "refnet_backup_last_duration_seconds",
        "Time taken to make the newest complete artifact, without its proof.",
        ((source, entry.manifest.seconds) for source, entry in newest),
    )
    yield _by_source(
        "refnet_backup_evidence_level",
        "How far the newest complete artifact is proven: 0 written, 1 intact, 2 restored, 3 proven.",
        ((source, entry.level.rank) for source, entry in newest),
    )
    yield _by_source(
        "refnet_backup_shrunk",
        "1 if the newest complete artifact contains much less than the previous one and was not accepted.",
        ((source, entry.shrunk) for source, entry in newest),
    )


def _proofs(facts: Facts) -> Iterator[Metric]:
    """Metrics of proofs and drills."""
    of_source = {source: facts.catalog.of_source(source) for source in SourceName}
    proven = {source: [e for e in facts.own.of_source(source) if e.proven] for source in SourceName}
    drilled = {source: last_drill(facts, source) for source in SourceName}
    yield _by_source(
        "refnet_proven_timestamp_seconds",
        "When an artifact of the source was last proven.",
        ((s, _latest(entry.proven_at for entry in entries)) for s, entries in proven.items()),
    )
    yield _by_source(
        "refnet_proven_data_timestamp_seconds",
        "The moment whose state the newest proven artifact contains.",
        ((s, _latest(entry.created for entry in entries)) for s, entries in proven.items()),
    )
    yield _by_source(
        "refnet_drill_success_timestamp_seconds",
        "When a drill of the source last passed.",
        ((s, found and found[0].timestamp()) for s, found in drilled.items()),
    )
    yield _by_source(
        "refnet_drill_duration_seconds",
        "Duration of the last passed drill: the measured recovery time (RTO).",
        ((s, found and found[1]) for s, found in drilled.items()),
    )
    yield _gauge(
        "refnet_artifacts",
        "Artifacts by state.",
        (
            ((source, state), count[state])
            for source, count in ((s, Counter(e.state for e in entries)) for s, entries in of_source.items())
            for state in _STATES
        ),
        ("source", "state"),
    )


def last_drill(facts: Facts, source: SourceName) -> tuple[datetime, float] | None:
    """Return the end of the last passed drill and its duration (s).

    Evidence is deleted with its artifact; the journal keeps the drill.
    """
    lines = [
        (e.at, e.seconds) for entry in facts.own.of_source(source) for e in entry.evidence if _drilled(e)
    ]
    runs = [
        (datetime.fromtimestamp(run.started.timestamp() + run.seconds, run.started.tzinfo), run.seconds)
        for run in facts.history.runs
        if run.kind is Kind.DRILL and run.source is source and run.ended is Ended.DONE
    ]
    return max([*lines, *runs], default=None)


def _drilled(line: Evidence) -> bool:
    return line.drill and line.outcome is Outcome.PASSED and line.level is Level.PROVEN


def _runs(facts: Facts) -> Iterator[Metric]:
    """Metrics of the journal: durations, failures, runs at work."""
    history = facts.history
    durations = HistogramMetricFamily(
        "refnet_backup_duration_seconds", "Duration of backups, their proofs included.", labels=["source"]
    )
    for source in SourceName:
        counts = history.totals.buckets.get(source, (0,) * (len(BUCKETS) + 1))
        durations.add_metric([source], _cumulative(counts), history.totals.sums.get(source, 0.0))
    yield durations
    failures = CounterMetricFamily(
        "refnet_failures",
        "Failed runs by kind, source and reason.",
        labels=["run", "source", "reason"],
    )
    for kind, source, reason in ((k, s, r) for k in Kind for s in SourceName for r in Reason):
        failures.add_metric([kind, source, reason], history.totals.failures.get((kind, source, reason), 0))
    yield failures
    pairs = [(kind, source) for kind in Kind for source in SourceName]
    yield _gauge(
        "refnet_last_run_failed",
        "1 if the last run failed, else 0.",
        ((pair, _failed(history.last(*pair))) for pair in pairs),
        ("run", "source"),
    )
    yield _gauge(
        "refnet_failing_since_timestamp_seconds",
        "When the first failure since the last success began.",
        ((pair, _started(history.failing_since(*pair))) for pair in pairs),
        ("run", "source"),
    )
    yield _gauge(
        "refnet_at_work",
        "Runs at work.",
        ((pair, sum((run.kind, run.source) == pair for run in history.at_work)) for pair in pairs),
        ("run", "source"),
    )


def _cumulative(counts: tuple[int, ...]) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:.1f}" for bound in BUCKETS), "+Inf"]
    return [(bound, sum(counts[: place + 1])) for place, bound in enumerate(bounds)]


def _bytes(facts: Facts) -> Iterator[Metric]:
    """Metrics of disk space: artifacts, leftovers of crashed runs, free space."""
    yield _by_source(
        "refnet_kept_bytes",
        "Size of all artifacts of the source; bytes that two of them share count once.",
        ((source, kept_bytes(facts.catalog.of_source(source))) for source in SourceName),
    )
    yield _by_source(
        "refnet_leftover_bytes",
        "Size of the leftovers of crashed runs; `refnet prune` removes them.",
        ((s, sum(each.size for each in facts.leftovers if each.source is s)) for s in SourceName),
    )
    yield _gauge("refnet_free_bytes", "Free space in the backup folder.", [((), facts.free_bytes)], ())


def kept_bytes(entries: Iterable[Entry]) -> int:
    """Return the size of `entries` on the disk; artifacts of equal content share their bytes."""
    return sum({entry.manifest.sha256: entry.manifest.size for entry in entries}.values())


def _due(facts: Facts) -> Iterator[Metric]:
    """Metrics of the schedule."""
    configured = sorted(facts.configured)
    yield _by_source(
        "refnet_source_configured",
        "1 if the settings protect the source, else 0.",
        ((source, source in facts.configured) for source in SourceName),
    )
    yield _by_source(
        "refnet_backup_next_due_timestamp_seconds",
        "When the next backup is due.",
        ((s, facts.schedule.next_due(TaskName(s), facts.now).timestamp()) for s in configured),
    )
    yield _by_source(
        "refnet_backup_interval_seconds",
        "The longest time between two backups by the schedule.",
        ((s, facts.limits[s].interval.total_seconds()) for s in configured),
    )
    yield _by_source(
        "refnet_backup_age_limit_seconds",
        "The age of the newest artifact above which the monitor reports a missed run.",
        ((s, facts.limits[s].age.total_seconds()) for s in configured),
    )
    yield _by_source(
        "refnet_drill_age_limit_seconds",
        "The age of the last drill above which the monitor reports a missed one.",
        ((s, facts.limits[s].drill_age.total_seconds()) for s in configured),
    )


#: The monitor's statuses as numbers.
_STATUS = {Status.OK: 0, Status.NEW: 0, Status.WARNING: 1, Status.CRITICAL: 2, Status.UNKNOWN: 3}


def _checks(facts: Facts) -> Iterator[Metric]:
    """The monitor's checks."""
    yield _gauge(
        "refnet_check_status",
        "Status by `refnet monitor`: 0 ok or new, 1 warning, 2 critical, 3 unknown; source `all`: the store.",
        (((c.source or "all", c.what), _STATUS[c.status]) for c in facts.checks()),
        ("source", "check"),
    )


def _finished(entry: Entry) -> float:
    published = entry.manifest.published
    return published.timestamp() if published else entry.created.timestamp() + entry.manifest.seconds


def _latest(moments: Iterable[datetime | None]) -> float | None:
    return max((moment.timestamp() for moment in moments if moment), default=None)


def _failed(run: Run | None) -> float | None:
    return None if run is None else float(run.ended is Ended.FAILED)


def _started(run: Run | None) -> float | None:
    return None if run is None else run.started.timestamp()
