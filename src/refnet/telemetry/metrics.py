"""The metrics, computed from the catalog, the evidence and the journal of runs.

Nothing is counted in memory, so the numbers are right after a restart and whichever process made the backup.
Times are Unix timestamps in seconds: an age would go stale in a textfile; `time() - …` in a rule does not.
prometheus-client does the escaping and both text formats.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import product

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

from refnet import __version__
from refnet.catalog.catalog import kept_bytes
from refnet.catalog.manifest import Entry, Lacks, Level, Outcome, Unprotected
from refnet.catalog.monitoring import Status
from refnet.catalog.remote import CopyLevel
from refnet.catalog.remote_state import is_missing
from refnet.catalog.run import BUCKETS, EXPECTED, Ended, Reason, Run, RunKind
from refnet.catalog.source_name import SourceName
from refnet.catalog.wal_status import StreamStatus
from refnet.catalog.wal_stream import StreamReport, StreamState
from refnet.telemetry.facts import Facts, is_proof

_STATES = (*Level, Outcome.UNVERIFIED, "damaged")
#: Metric → its help.
_HELP = {
    "refnet_build": "The RefNet that wrote these metrics.",
    "refnet_metrics_timestamp_seconds": "When these metrics were computed; it shows a textfile that is no longer written.",
    "refnet_backup_success_timestamp": "When the newest complete artifact was finished, in seconds since 1970.",
    "refnet_backup_data_timestamp_seconds": "The moment whose state the newest complete artifact contains.",
    "refnet_backup_data_age_seconds": "The age of that state when these metrics were computed.",
    "refnet_restorable_timestamp_seconds": "What was written before this moment can be restored, by the newest complete artifact or by WAL: its age is what a loss would cost (RPO).",
    "refnet_backup_size_bytes": "Size of the newest complete artifact.",
    "refnet_backup_last_duration_seconds": "Time taken to make the newest complete artifact, without its proof.",
    "refnet_backup_evidence_level": "How far the newest complete artifact is proven: 0 written, 1 intact, 2 restored, 3 proven.",
    "refnet_backup_shrunk": "1 if the newest complete artifact contains much less than the previous one and was not accepted.",
    "refnet_unprotected": "What the newest complete artifact's source leaves unprotected: files, databases, or excluded.",
    "refnet_excluded_bytes": "Bytes of the files that exclude left out of the newest complete artifact.",
    "refnet_proven_timestamp_seconds": "When an artifact of the source was last proven.",
    "refnet_proven_data_timestamp_seconds": "The moment whose state the newest proven artifact contains.",
    "refnet_drill_success_timestamp_seconds": "When a drill of the source last passed.",
    "refnet_drill_duration_seconds": "Duration of the last passed drill: the measured recovery time (RTO).",
    "refnet_artifacts": "Artifacts by state.",
    "refnet_backup_duration_seconds": "Duration of backups, their proofs included.",
    "refnet_failures": "Failed runs by kind, source and reason.",
    "refnet_last_run_failed": "1 if the last run failed, else 0.",
    "refnet_failing_since_timestamp_seconds": "When the first failure since the last success began.",
    "refnet_at_work": "Runs at work.",
    "refnet_kept_bytes": "Size of all artifacts of the source; bytes that two of them share count once.",
    "refnet_previous_versions": "Recorded databases or folders that restores replaced and keep; `refnet list --previous`.",
    "refnet_previous_versions_oldest_timestamp_seconds": "When the oldest of them was replaced.",
    "refnet_leftover_bytes": "Size of the leftovers of crashed runs; `refnet prune` removes them.",
    "refnet_free_bytes": "Free space in the backup folder.",
    "refnet_source_configured": "1 if the settings protect the source, else 0.",
    "refnet_backup_next_due_timestamp_seconds": "When the next backup is due.",
    "refnet_backup_interval_seconds": "The longest time between two backups by the schedule.",
    "refnet_task_scheduled": "1 if the task has a schedule, 0 if it is off.",
    "refnet_backup_age_limit_seconds": "The age of the newest artifact above which the monitor reports a missed run.",
    "refnet_drill_age_limit_seconds": "The age of the last drill above which the monitor reports a missed one.",
    "refnet_store_copy_timestamp_seconds": "The moment whose state the newest complete copy in the remote store contains.",
    "refnet_store_copy_level": "How far the newest complete copy is checked in the remote store: 0 sent, 1 fetched, 2 proven.",
    "refnet_store_copy_missing": "1 if the newest complete artifact has no copy in the remote store.",
    "refnet_store_plain_bytes": "Size of the artifacts with a copy in the remote store.",
    "refnet_store_stored_bytes": "Size of the copies in the remote store; pieces that copies of the source share count once.",
    "refnet_store_gaps": "Manifests of the remote store that were removed, replaced or put back.",
    "refnet_store_readable": "1 if the remote store could be listed, else 0.",
    "refnet_wal_received_timestamp_seconds": "Each commit before this moment is received, by the clock of this machine.",
    "refnet_wal_lag_seconds": "What a loss of the server would cost: the age of the oldest commit that may not be received.",
    "refnet_wal_lag_bytes": "WAL that the server had and this machine had not, when the server was asked last.",
    "refnet_wal_receiver_up": "1 if a receiver runs and streams, else 0.",
    "refnet_wal_last_commit_timestamp_seconds": "The last commit in the archive of WAL.",
    "refnet_wal_gaps": "Gaps in the WAL after the newest base backup: later moments cannot be restored.",
    "refnet_wal_damaged_segments": "Segments of WAL whose bytes differ from the index, as a reading found; they are gaps too.",
    "refnet_wal_read_timestamp_seconds": "Every older segment of WAL was read and compared with the index since this moment.",
    "refnet_wal_slot_ok": "1 if the replication slot keeps all WAL that was not received, else 0.",
    "refnet_wal_slot_left_bytes": "WAL that the server can still write before it drops what was not received.",
    "refnet_wal_restorable_from_timestamp_seconds": "The first moment that can be restored.",
    "refnet_wal_stored_bytes": "Size of the archive of WAL.",
    "refnet_check_status": "Status by `refnet monitor`: 0 ok or new, 1 warning, 2 critical, 3 unknown; source `all`: the store.",
}


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
    yield InfoMetricFamily("refnet_build", _HELP["refnet_build"], {"version": __version__})
    yield _gauge("refnet_metrics_timestamp_seconds", [((), facts.now.timestamp())])
    yield from _newest(facts)
    yield from _left_out(facts)
    yield from _proofs(facts)
    yield from _runs(facts)
    yield from _bytes(facts)
    yield from _due(facts)
    yield from _copies(facts)
    yield from _wal(facts)
    statuses = (((c.source or "all", c.what), _STATUS[c.status]) for c in facts.checks())
    yield _gauge("refnet_check_status", statuses, ("source", "check"))


def _gauge(
    name: str, values: Iterable[tuple[tuple[str, ...], float | None]], labels: tuple[str, ...] = ()
) -> Metric:
    family = GaugeMetricFamily(name, _HELP[name], labels=labels)
    for label_values, value in values:
        if value is not None:
            family.add_metric(label_values, value)
    return family


def _by_source(
    name: str, sources: Iterable[SourceName], value: Callable[[SourceName], float | None]
) -> Metric:
    return _gauge(name, (((source,), value(source)) for source in sources), ("source",))


def _by_run(facts: Facts, name: str, value: Callable[[RunKind, SourceName], float | None]) -> Metric:
    pairs = ((kind, source) for kind in EXPECTED for source in facts.sources)
    return _gauge(name, ((pair, value(*pair)) for pair in pairs), ("run", "source"))


def _newest(facts: Facts) -> Iterator[Metric]:
    """Metrics of each source's newest complete artifact."""
    newest = facts.own.set_at()
    values: dict[str, Callable[[Entry], float]] = {
        "refnet_backup_success_timestamp": _finished,
        "refnet_backup_data_timestamp_seconds": lambda entry: entry.created.timestamp(),
        "refnet_backup_data_age_seconds": lambda entry: (facts.now - entry.created).total_seconds(),
        "refnet_backup_size_bytes": lambda entry: entry.manifest.size,
        "refnet_backup_last_duration_seconds": lambda entry: entry.manifest.seconds,
        "refnet_backup_evidence_level": lambda entry: entry.level.rank,
        "refnet_backup_shrunk": lambda entry: entry.shrunk,
    }
    for name, value in values.items():
        yield _gauge(name, (((source,), value(entry)) for source, entry in newest.items()), ("source",))
    restorable = {source: entry.created for source, entry in newest.items()}
    for source in facts.sources:
        if at := facts.restorable_by_wal(source):
            restorable[source] = max(at, restorable.get(source, at))
    name = "refnet_restorable_timestamp_seconds"
    yield _by_source(name, restorable, lambda source: restorable[source].timestamp())


def _left_out(facts: Facts) -> Iterator[Metric]:
    """Metrics of unprotected and excluded data, from each source's newest complete artifact."""
    newest = facts.own.set_at()
    counts: list[tuple[tuple[str, str], float]] = []
    sizes: list[tuple[tuple[str], float]] = []
    for source, entry in newest.items():
        details = entry.manifest.details
        if "unprotected" in details:
            lacks, kind = Unprotected.read(details), _looked_for(entry)
            counts += (
                [((source, lacks.kind), lacks.count)] if lacks else [((source, kind), 0)] if kind else []
            )
        if excluded := details.get("excluded"):
            counts.append(((source, "excluded"), excluded["files"] + excluded["folders"]))
            sizes.append(((source,), excluded["bytes"]))
    yield _gauge("refnet_unprotected", counts, ("source", "kind"))
    yield _gauge("refnet_excluded_bytes", sizes, ("source",))


def _looked_for(entry: Entry) -> Lacks | None:
    """The kind of unprotected data that the backup of `entry` looked for; None: it did not look."""
    if entry.manifest.of_database:
        return Lacks.DATABASES
    return Lacks.FILES if entry.source == SourceName.CONFIG else None


def _proofs(facts: Facts) -> Iterator[Metric]:
    proven = {source: [e for e in facts.own.of_source(source) if e.proven] for source in facts.sources}
    drilled = {source: _last_drill(facts, source) for source in facts.sources}
    states = {s: Counter(e.state for e in facts.catalog.of_source(s)) for s in facts.sources}
    yield _by_source(
        "refnet_proven_timestamp_seconds", proven, lambda s: _latest(e.proven_at for e in proven[s])
    )
    yield _by_source(
        "refnet_proven_data_timestamp_seconds", proven, lambda s: _latest(e.created for e in proven[s])
    )
    yield _by_source(
        "refnet_drill_success_timestamp_seconds",
        drilled,
        lambda s: (found := drilled[s]) and found[0],
    )
    yield _by_source("refnet_drill_duration_seconds", drilled, lambda s: (found := drilled[s]) and found[1])
    counts = (((source, state), count[state]) for source, count in states.items() for state in _STATES)
    yield _gauge("refnet_artifacts", counts, ("source", "state"))


def _last_drill(facts: Facts, source: SourceName) -> tuple[float, float] | None:
    """Return the end of the last passed drill, and its duration (s)."""
    passed = (line for line in facts.drills(source) if is_proof(line))
    return max(((line.at.timestamp(), line.seconds) for line in passed), default=None)


def _runs(facts: Facts) -> Iterator[Metric]:
    """Metrics of the journal: durations, failures, runs at work."""
    history, totals = facts.history, facts.history.totals
    name = "refnet_backup_duration_seconds"
    durations = HistogramMetricFamily(name, _HELP[name], labels=["source"])
    for source in facts.sources:
        counts = totals.buckets.get(source, (0,) * (len(BUCKETS) + 1))
        durations.add_metric([source], _cumulative(counts), totals.sums.get(source, 0.0))
    yield durations
    failures = CounterMetricFamily(
        "refnet_failures", _HELP["refnet_failures"], labels=["run", "source", "reason"]
    )
    for key in product(EXPECTED, facts.sources, Reason):
        failures.add_metric(key, totals.failures.get(key, 0))
    yield failures
    yield _by_run(facts, "refnet_last_run_failed", lambda *run: _failed(history.last(*run)))
    yield _by_run(
        facts, "refnet_failing_since_timestamp_seconds", lambda *run: _started(history.failing_since(*run))
    )
    yield _by_run(
        facts, "refnet_at_work", lambda *run: sum((one.kind, one.source) == run for one in history.at_work)
    )


def _cumulative(counts: tuple[int, ...]) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:.1f}" for bound in BUCKETS), "+Inf"]
    return [(bound, sum(counts[: place + 1])) for place, bound in enumerate(bounds)]


def _wal(facts: Facts) -> Iterator[Metric]:
    """Metrics of the streams of WAL."""
    values: dict[str, Callable[[StreamStatus, StreamReport], float | None]] = {
        "refnet_wal_received_timestamp_seconds": lambda one, _: (
            None if one.lag is None else (one.now - one.lag).timestamp()
        ),
        "refnet_wal_lag_seconds": lambda one, _: one.lag.total_seconds() if one.lag is not None else None,
        "refnet_wal_lag_bytes": lambda _, report: report.lag_bytes,
        "refnet_wal_receiver_up": lambda one, report: (
            one.is_received and report.state is StreamState.STREAMING
        ),
        "refnet_wal_last_commit_timestamp_seconds": lambda one, _: (
            one.last_commit.timestamp() if one.last_commit else None
        ),
        "refnet_wal_gaps": lambda one, _: len(one.open_gaps),
        "refnet_wal_damaged_segments": lambda one, _: len(one.damaged),
        "refnet_wal_read_timestamp_seconds": lambda one, _: (
            one.read_since.timestamp() if one.read_since else None
        ),
        "refnet_wal_slot_ok": lambda _, report: report.slot_status in {"reserved", "extended"},
        "refnet_wal_slot_left_bytes": lambda _, report: report.slot_left,
        "refnet_wal_restorable_from_timestamp_seconds": lambda one, _: (
            one.window[0].timestamp() if one.window else None
        ),
        "refnet_wal_stored_bytes": lambda one, _: one.stored_bytes,
    }
    streams = [(one, one.report) for one in facts.streams if one.report]
    for name, value in values.items():
        yield _gauge(name, (((one.cluster,), value(one, report)) for one, report in streams), ("cluster",))


def _bytes(facts: Facts) -> Iterator[Metric]:
    """Metrics of disk space: artifacts, leftovers of crashed runs, free space."""
    catalog, leftovers = facts.catalog, facts.leftovers
    yield _by_source("refnet_kept_bytes", facts.sources, lambda s: kept_bytes(catalog.of_source(s)))
    yield _by_source(
        "refnet_leftover_bytes",
        facts.sources,
        lambda s: sum(one.size for one in leftovers if one.source == s),
    )
    previous = {source: since for source, since in facts.previous.items() if since is not None}
    yield _by_source("refnet_previous_versions", previous, lambda s: len(previous[s]))
    yield _by_source(
        "refnet_previous_versions_oldest_timestamp_seconds",
        previous,
        lambda s: min((one.timestamp() for one in previous[s]), default=None),
    )
    yield _gauge("refnet_free_bytes", [((), facts.free_bytes)])


def _due(facts: Facts) -> Iterator[Metric]:
    limits = facts.limits
    values: dict[str, Callable[[SourceName], float | None]] = {
        "refnet_backup_next_due_timestamp_seconds": lambda s: _latest(
            (facts.schedule.next_due(s, facts.now),)
        ),
        "refnet_backup_interval_seconds": lambda s: _seconds(limits[s].interval),
        "refnet_backup_age_limit_seconds": lambda s: _seconds(limits[s].age),
        "refnet_drill_age_limit_seconds": lambda s: _seconds(limits[s].drill_age),
    }
    on, off = facts.schedule.times, facts.schedule.off
    scheduled = (((task,), float(task in on)) for task in (*on, *off))
    yield _gauge("refnet_task_scheduled", scheduled, ("task",))
    yield _by_source("refnet_source_configured", facts.sources, lambda s: s in facts.configured)
    for name, value in values.items():
        yield _by_source(name, sorted(facts.configured), value)


def _copies(facts: Facts) -> Iterator[Metric]:
    """Metrics of each remote store."""
    if not facts.stores:
        return
    listed = [state for state in facts.own_stores if not state.trouble]
    pairs = [(state, source) for state in listed for source in sorted(state.sources)]
    newest = [
        ((state.name, source), copy) for state, source in pairs if (copy := state.newest(source, facts.now))
    ]
    levels, labels = list(CopyLevel), ("store", "source")
    times = ((pair, copy.created.timestamp()) for pair, copy in newest)
    yield _gauge("refnet_store_copy_timestamp_seconds", times, labels)
    ranks = ((pair, levels.index(copy.copy_level)) for pair, copy in newest)
    yield _gauge("refnet_store_copy_level", ranks, labels)
    missing = (
        ((state.name, source), is_missing(state, facts.own.newest_complete(source)))
        for state, source in pairs
    )
    yield _gauge("refnet_store_copy_missing", missing, labels)
    taken = [
        ((one.name, source), its)
        for one in facts.stores
        if not one.trouble
        for source, its in one.sizes.items()
    ]
    yield _gauge("refnet_store_plain_bytes", ((pair, its.plain) for pair, its in taken), labels)
    yield _gauge("refnet_store_stored_bytes", ((pair, its.stored) for pair, its in taken), labels)
    yield _gauge("refnet_store_gaps", (((one.name,), len(one.gaps)) for one in listed), ("store",))
    readable = (((one.name,), one.trouble is None) for one in facts.stores)
    yield _gauge("refnet_store_readable", readable, ("store",))


#: The monitor's statuses as numbers.
_STATUS = {Status.OK: 0, Status.NEW: 0, Status.WARNING: 1, Status.CRITICAL: 2, Status.UNKNOWN: 3}


def _finished(entry: Entry) -> float:
    published = entry.manifest.published
    return published.timestamp() if published else entry.created.timestamp() + entry.manifest.seconds


def _seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span else None


def _latest(moments: Iterable[datetime | None]) -> float | None:
    return max((moment.timestamp() for moment in moments if moment), default=None)


def _failed(run: Run | None) -> float | None:
    return None if run is None else float(run.ended is Ended.FAILED)


def _started(run: Run | None) -> float | None:
    return None if run is None else run.started.timestamp()
