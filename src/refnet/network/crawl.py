"""Runs a crawl: does its jobs one after another until none is left; several processes may share a crawl.

The state of a crawl is in the database. So the next run continues after a kill or a restart of the database, and
written data stays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from refnet.core.errors import RefnetError
from refnet.network import SESSION, server_errors
from refnet.network import crawl_levels as levels
from refnet.network.crawl_levels import KINDS, LevelStep, advance
from refnet.network.crawl_work import Crawler, OpenAlex, Scholar, openalex_server, scholar_server
from refnet.network.crawls import CrawlOrder, CrawlResult, CrawlStanding, Direction, result, standing
from refnet.network.http_api import Api, ApiServer, RefusedRequestError, UnavailableError
from refnet.network.jobs import Job, LostClaimError, Worker
from refnet.network.papers import AnswerError
from refnet.network.rate_limit import Limiter
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import Target
from refnet.settings import Settings

_HINT = "What was collected is stored. Fix the cause, and continue with `refnet crawl`."
_log = logging.getLogger("refnet")
#: Seconds between two queries for a job, two reports, and two renewals of a claim during a long wait.
_IDLE, _REPORT, _RENEW = 0.2, 0.5, 60.0
#: The delay before a retry of a job, in seconds, and the consecutive failures that stop a run.
_AGAIN, _FAILURES = 10.0, 3
#: The attempts to reconnect to the database, and the longest wait between two of them, in seconds.
_RECONNECTS, _LONGEST_BACK_OFF = 12, 15.0


@dataclass(frozen=True)
class CrawlReports:
    """Callbacks of a run, and its pace."""

    #: Called with the state of the crawl, at most twice a second; each call costs a query.
    standing: Callable[[CrawlStanding], None] | None = None
    #: Called with a sentence about a wait, or about a problem that does not stop the run.
    say: Callable[[str], None] = _log.warning
    #: The factor for waits between retries.
    pace: float = 1.0


_NO_REPORTS = CrawlReports()


def start(target: Target, order: CrawlOrder) -> int:
    """Store a crawl in the migrated database and return its id, or the id of an unfinished crawl of the same order."""
    with _session(target) as connection:
        return levels.begin(connection, order)


def start_update(target: Target, limit: int) -> int:
    """Store an update of the migrated database and return its id, or the id of an unfinished one.

    It collects the papers that cite the seeds of all crawls, and the details of at most `limit` that are new.
    RefnetError if there is no seed.
    """
    with _session(target) as connection:
        begun = connection.execute(
            "SELECT id FROM crawls WHERE is_update AND state = 'running' ORDER BY id LIMIT 1"
        ).fetchone()
        if begun:  # the seeds may be others by now; the next update has them
            return int(begun[0])
        seeds = levels.watched(connection)
        if not seeds:
            raise RefnetError(
                "no crawl has a seed that could be watched", "Collect papers: `refnet crawl ID`."
            )
        order = CrawlOrder(tuple(seeds), Direction.CITATIONS, 1, limit + len(seeds))
        return levels.begin(connection, order, update=True)


def unfinished(target: Target) -> list[int]:
    """Return the ids of the unfinished crawls, oldest first."""
    with _session(target) as connection:
        rows = connection.execute("SELECT id FROM crawls WHERE state = 'running' ORDER BY id").fetchall()
        return [number for (number,) in rows]


def stop(target: Target, crawl: int) -> None:
    """Cancel an unfinished crawl; what it collected stays. RefnetError (USAGE) if it is not unfinished.

    Whoever works on it ends after the current job.
    """
    with _session(target) as connection:
        levels.cancel(connection, crawl)


def resume(target: Target, crawl: int) -> None:
    """Make a cancelled crawl unfinished again, with the jobs that it had left; RefnetError (USAGE) without `crawl`."""
    with _session(target) as connection:
        levels.uncancel(connection, crawl)


def run(target: Target, settings: Settings, crawl: int, reports: CrawlReports = _NO_REPORTS) -> CrawlResult:
    """Work on `crawl` until no job is left.

    RefnetError if the provider stops answering or refuses the key, or the database is lost; the crawl can be continued.
    """
    running = _CrawlRun(target, settings, crawl, reports)
    with server_errors(target, "fails", _HINT):
        running.resume()
    with _session(target) as connection:
        return result(connection, crawl, running.requests, time.monotonic() - running.begun, [*running.notes])


@contextmanager
def _session(target: Target) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with target.connect(SESSION) as connection, server_errors(target, "fails", _HINT):
        yield connection


@dataclass
class _CrawlRun:
    target: Target
    settings: Settings
    crawl: int
    reports: CrawlReports
    begun: float = field(default_factory=time.monotonic)
    requests: int = 0
    #: Sentences for the result, each once.
    notes: dict[str, None] = field(default_factory=dict)
    #: The ids of consecutive jobs that failed because of the provider.
    _failures: list[int] = field(default_factory=list)
    _next_report: float = 0.0
    _job: Job | None = None
    _apis: list[Api] = field(default_factory=list)
    #: The number of finished jobs.
    _done: int = 0

    def resume(self) -> None:
        """Work until the crawl has ended; reconnect if the database is lost."""
        lost, done = 0, 0
        while True:
            try:
                self._work()
            except (psycopg.OperationalError, ConnectError) as error:
                first = not lost and not self._done and isinstance(error, ConnectError)
                if first or not _is_lost(error):
                    raise _failed(self.target, error) from None
                lost = lost + 1 if done == self._done else 1
                done = self._done
                if lost > _RECONNECTS:
                    raise _failed(self.target, error) from None
                if lost == 1:
                    self.reports.say(f"{self.target.display} is lost: connecting again, for two minutes")
                time.sleep(min(0.25 * 2**lost, _LONGEST_BACK_OFF) * self.reports.pace)
            else:
                return

    def _work(self) -> None:
        with ExitStack() as stack:
            worker = stack.enter_context(Worker(self.target, KINDS, self.crawl))
            scholar = self._api(stack, worker, "semantic_scholar", scholar_server(self.settings))
            openalex = self._api(stack, worker, "openalex", openalex_server(self.settings))
            prefers = self.settings.crawl_provider == "openalex"
            crawler = Crawler(worker, Scholar(scholar), OpenAlex(openalex), prefers)
            self._apis = [scholar, openalex]
            stack.callback(self._count)
            while True:
                self._job = worker.claim()
                if self._job:
                    self._do(crawler, self._job)
                elif (step := advance(worker.connection, self.crawl)) is LevelStep.ENDED:
                    break
                elif step is LevelStep.WAITING:
                    time.sleep(_IDLE)
                self._report(worker.connection)
            if crawler.without_openalex:
                self.notes[
                    f"missing details were not requested from OpenAlex: {crawler.without_openalex}"
                ] = None

    def _api(self, stack: ExitStack, worker: Worker, name: str, server: ApiServer) -> Api:
        def sleep(seconds: float) -> None:
            """Sleep, and renew the claim of the job meanwhile."""
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, _RENEW))
                if left > _RENEW and self._job:
                    worker.renew(self._job)

        limiter = Limiter(worker.connection, name, self.settings.crawl_requests_per_second, sleep)
        return stack.enter_context(
            Api(server, limiter, say=self.reports.say, sleep=sleep, pace=self.reports.pace)
        )

    def _do(self, crawler: Crawler, job: Job) -> None:
        worker = crawler.worker
        try:
            crawler.do(job)
        except LostClaimError:
            return
        except RefusedRequestError as error:
            if error.is_final:
                raise self._stopped(worker, job, error) from None
            self._fail(worker, job, str(error))
        except (UnavailableError, AnswerError) as error:
            shown = _shown(error)
            if (isinstance(error, UnavailableError) and error.limited) or len(
                self._failures
            ) + 1 >= _FAILURES:
                raise self._stopped(worker, job, shown) from None
            self._failures.append(job.id)
            self._fail(worker, job, str(shown), _AGAIN * self.reports.pace)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            self._fail(worker, job, f"the database rejects the response: {error}")
        else:
            self._failures.clear()
            self._done += 1
        finally:
            self._job = None

    def _stopped(self, worker: Worker, job: Job, error: RefnetError) -> RefnetError:
        """Requeue `job` and the failures before it, without counting the attempts; return the run's error."""
        worker.give_back(job)
        worker.forgive(self._failures)
        self._failures.clear()
        hint = f"{error.hint} Collected papers are stored; continue with `refnet crawl`."
        return RefnetError(error.message, hint, transient=error.transient)

    def _fail(self, worker: Worker, job: Job, error: str, again_in: float | None = None) -> None:
        try:
            with worker.connection.transaction(), worker.connection.cursor() as cursor:
                worker.failed(cursor, job, error, again_in)
        except LostClaimError:
            return
        _log.info("job %s (%s) failed: %s", job.id, job.kind, error)

    def _count(self) -> None:
        self.requests += sum(one.requests for one in self._apis)
        self._apis = []

    def _report(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        now = time.monotonic()
        if self.reports.standing and now >= self._next_report:
            requests = self.requests + sum(one.requests for one in self._apis)
            found = standing(connection, self.crawl, requests, now - self.begun)
            self._next_report = now + max(
                _REPORT, 20 * (time.monotonic() - now)
            )  # a large crawl is counted less often
            self.reports.standing(found)


def _is_lost(error: psycopg.OperationalError | ConnectError) -> bool:
    """Return whether the session or the server is lost, in contrast to a refused statement."""
    if isinstance(error, ConnectError):
        return error.transient
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _shown(error: UnavailableError | AnswerError) -> RefnetError:
    if isinstance(error, UnavailableError):
        return error
    return RefnetError(
        f"unexpected response from Semantic Scholar: {error}",
        "Check crawl.semantic_scholar_url; RefNet supports version 1 of its Graph API.",
    )


def _failed(target: Target, error: psycopg.OperationalError | ConnectError) -> RefnetError:
    if isinstance(error, ConnectError):
        return RefnetError(error.message, f"{error.hint} Then continue with `refnet crawl`.", transient=True)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return RefnetError(f"the database {target.name} fails: {lines[0]}", _HINT, transient=True)
