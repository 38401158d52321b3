"""`refnet wal run|status`: the stream of WAL of clusters with `wal = true`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Annotated

import typer

from refnet import wiring
from refnet.catalog.wal_status import StreamStatus
from refnet.cli import options
from refnet.cli.command import Commands
from refnet.cli.context import current_settings, print_json
from refnet.cli.output import say
from refnet.cli.render import print_columns
from refnet.core import formatting
from refnet.core.clock import utc_now
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.sources.cluster.receiver import Receiver
from refnet.sources.cluster.stream_status import read_status, with_wal
from refnet.sources.cluster.wal_offsite import StreamSender, stores_of

wal = Commands("Receive the WAL of a cluster, for restores to any second.")
_Cluster = Annotated[
    str | None, typer.Argument(metavar="[CLUSTER]", help="A cluster with wal = true; default: all of them.")
]
#: How often the main thread looks after the receivers, in seconds.
_LOOK = 0.5


@wal.command("run")
def run(cluster: _Cluster = None) -> None:
    """Receive WAL until stopped.

    Each commit arrives within milliseconds, and the server keeps what could not be received. There is one receiver for a
    cluster; one that cannot go on does not stop those of other clusters.
    """
    settings = current_settings()
    names = _streamed(settings, cluster)
    receivers = [Receiver(settings, one, _tell) for one in names]
    senders = [StreamSender(settings, one, _tell) for one in names if stores_of(settings, one)]
    ended, broken = list[RefnetError](), list[BaseException]()

    def work(one: Receiver | StreamSender) -> None:
        try:
            one.run()
        except RefnetError as error:  # the other receivers go on
            ended.append(error)
            if len(names) > 1:
                _tell(f"{one.cluster}: not received any more: {error.message}; {error.hint}")
        except BaseException as error:  # noqa: BLE001  # raised again in the main thread
            broken.append(error)

    for sender in senders:  # a store that hangs stops no receiver
        threading.Thread(target=work, args=(sender,), daemon=True).start()
    with ThreadPoolExecutor(len(receivers)) as pool:
        running = list[Future[None]]()
        try:
            for receiver in receivers:
                running.append(pool.submit(work, receiver))  # an interrupt finds those that began
            # Not Thread.join: before Python 3.13, one that is interrupted takes the thread for ended.
            while not broken and wait(running, _LOOK).not_done:
                continue
        except KeyboardInterrupt:  # how a service is stopped
            _tell("stopping")
        finally:
            for stop in (*(one.stop for one in receivers), *(one.stop for one in senders)):
                stop.set()
            wait(running)
    for error in (*broken, *ended):
        raise error


def _tell(sentence: str) -> None:
    say(formatting.plain(sentence), flush=True)


@wal.command("status")
def status(cluster: _Cluster = None, *, as_json: options.Json = False) -> None:
    """Show how far the stream of each cluster is.

    What would be lost with the server's disk now, the last commit, gaps, and the replication slot. `refnet monitor`
    judges it.
    """
    settings = current_settings(own=False)
    names, entries = _streamed(settings, cluster), wiring.catalog(settings).entries()
    found = [read_status(settings, one, entries, utc_now(), live=True) for one in names]
    if as_json:
        print_json({"clusters": [one.to_json() for one in found]})
        return
    for one in found:
        print_columns([*_rows(one)])


def _streamed(settings: Settings, cluster: str | None) -> list[str]:
    """Clusters with WAL, or the one that is named; RefnetError (USAGE) if it has none."""
    there = with_wal(settings)
    if cluster and cluster not in there:
        raise RefnetError(
            f"{cluster} is not a cluster with wal = true",
            f"Set clusters.{cluster}.wal = true in refnet.toml."
            if cluster in settings.clusters
            else f"Clusters with wal = true: {formatting.some(there) or 'none'}.",
            Exit.USAGE,
        )
    if not there:
        raise RefnetError(
            "no cluster has wal = true",
            "Add it to [clusters.NAME] in refnet.toml; docs/any-second.md has the set-up.",
            Exit.USAGE,
        )
    return [cluster] if cluster else there


def _rows(one: StreamStatus) -> Iterator[tuple[str, str]]:
    report = one.report
    if report is None:
        yield (
            one.cluster,
            "nothing was received on this machine: `refnet wal run` receives, `refnet check` says what is missing",
        )
        return
    yield one.cluster, str(report.state) if one.is_received else "stopped: no receiver runs"
    if report.message:
        yield "", f"{report.message}. {report.hint}"
    if (lag := one.lag) is not None and report.received_until:
        behind = formatting.size(report.lag_bytes)
        yield (
            "lag",
            f"{formatting.seconds(lag.total_seconds())}, {behind}: older commits are safe from a loss of the server",
        )
        yield "received until", formatting.local(report.received_until)
    yield "last commit", formatting.local(one.last_commit) if one.last_commit else "unknown"
    if window := one.window:
        yield "restorable", f"from {formatting.local(window[0])} to {formatting.local(window[1])}"
    if not window or one.open_gaps:
        yield (
            "restorable" if not window else "",
            f"`refnet backup {one.source}` makes {'later ' if window else ''}moments reachable",
        )
    yield "gaps", formatting.some([*map(str, one.gaps)], 3) or "none"
    if one.damaged:
        yield "damaged", formatting.some(sorted(one.damaged), 3)
    yield "compared", f"all since {formatting.local(one.read_since)}" if one.read_since else "not all yet"
    left = "no limit" if report.slot_left is None else f"{formatting.size(report.slot_left)} until it is lost"
    yield "slot", f"{report.slot}, {report.slot_status or 'unknown'}, {left}"
    kept = f"{formatting.plural(one.segments, 'segment')}, {formatting.size(one.stored_bytes)}"
    yield "archive", f"{one.archive}: {kept}{', not encrypted' if one.is_unsealed else ''}"
    for each in one.stores:
        until = each.covered_until
        lost = (
            f"; without segments up to {each.never_sent}, which were deleted here" if each.never_sent else ""
        )
        yield each.store, f"commits up to {formatting.local(until)}{lost}" if until else "nothing yet"
