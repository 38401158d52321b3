"""Summaries of papers, one job each: runs share the work, and a failure concerns only one job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from refnet.catalog.artifact import Counted, Progress, silent
from refnet.core.errors import RefnetError
from refnet.network import EXTRACT_MODEL, SESSION, server_errors
from refnet.network.http_api import Api, RefusedRequestError, UnavailableError
from refnet.network.jobs import Job, LostClaimError, Worker
from refnet.network.rate_limit import Limiter
from refnet.network.summary_writers import (
    Chat,
    Extractor,
    NotSummaryError,
    Summary,
    SummaryWriter,
    server,
)
from refnet.postgres.session import Target
from refnet.settings import Settings

KIND = "summarize"
#: The message and the hint for errors of the server.
_FAILED = ("fails", "Finished summaries are stored. Fix the cause and retry.")
#: The consecutive failures that end a run: more likely caused by the server than by papers.
_MOST_FAILURES = 5
#: The delay before a retry after a failure of the server, in seconds.
_LATER = 60.0
#: The number of jobs queued at once, as a claim reads all queued jobs.
_CHUNK = 500


@dataclass(frozen=True)
class Summarized:
    """The result of a run."""

    #: The model that wrote the summaries.
    model: str
    #: The number of written summaries.
    made: int
    #: The number of papers with an earlier summary, including the provider's own.
    before: int
    #: The number of papers with details, but without abstract and summary.
    without_abstract: int
    #: The number of jobs that failed finally in this run.
    failed: int
    #: The number of unfinished jobs.
    waiting: int
    #: The error that ended the run early.
    stopped: RefnetError | None = None

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"stopped": self.stopped and self.stopped.to_json()}


#: SQL: papers that need a summary and have no job. A model of the settings summarizes every paper; extracts are only
#: for papers without a summary. A paper with a failed job waits for `refnet jobs --retry`, or `--again`.
_WANTED = """
FROM papers AS p LEFT JOIN ranks AS r ON r.paper_id = p.id
WHERE p.abstract ~ '\\S' AND NOT EXISTS (
    SELECT FROM jobs AS j WHERE j.paper_id = p.id AND j.kind = 'summarize' AND j.state IN ('queued', 'running')
) AND NOT EXISTS (
    SELECT FROM summaries AS s WHERE s.paper_id = p.id AND (
        %(extract)s AND s.model <> %(model)s OR s.kind = 'abstract' AND s.model = %(model)s
            AND s.prompt_version = %(version)s AND s.created_at >= %(since)s)
) AND NOT EXISTS (
    SELECT FROM jobs AS j WHERE j.paper_id = p.id AND j.kind = 'summarize' AND j.state = 'failed'
        AND j.finished_at >= %(since)s AND j.payload ->> 'model' = %(model)s
)
"""
#: Best ranked papers first.
_QUEUE = f"""
INSERT INTO jobs (kind, paper_id, payload, dedupe_key)
SELECT 'summarize', id, %(payload)s, 'summarize:' || id FROM (
    SELECT p.id {_WANTED} ORDER BY r.position NULLS LAST, p.citation_count DESC NULLS LAST, p.id LIMIT %(most)s
) AS wanted
ON CONFLICT (dedupe_key) WHERE state IN ('queued', 'running') DO NOTHING
"""  # noqa: S608
_WAITING = "SELECT count(*) FROM jobs WHERE kind = 'summarize' AND state IN ('queued', 'running')"
_COUNTS = f"""
SELECT (SELECT count(DISTINCT paper_id) FROM summaries), (
    SELECT count(*) FROM papers AS p WHERE p.details_fetched_at IS NOT NULL AND coalesce(p.abstract, '') !~ '\\S'
        AND NOT EXISTS (SELECT FROM summaries AS s WHERE s.paper_id = p.id)
), ({_WAITING})
"""  # noqa: S608
_PAPER = """
SELECT coalesce(p.title, ''), coalesce(p.abstract, ''), EXISTS (
    SELECT FROM summaries AS s WHERE s.paper_id = p.id AND s.kind = 'abstract' AND s.model = %s AND s.prompt_version = %s
)
FROM papers AS p WHERE p.id = %s
"""
#: A paper that was merged into another one meanwhile gets no summary.
_STORE = """
INSERT INTO summaries (paper_id, kind, model, prompt_version, content, input_tokens, output_tokens)
SELECT id, 'abstract', %s, %s, %s, %s, %s FROM papers WHERE id = %s FOR KEY SHARE
ON CONFLICT (paper_id, kind, language, model, prompt_version) DO UPDATE SET content = excluded.content,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, created_at = now()
"""


def plan(
    target: Target, settings: Settings, limit: int | None = None, again: bool = False
) -> tuple[int, str]:
    """Return the number of papers that a run would summarize, and the model."""
    with (
        server_errors(target, *_FAILED),
        target.connect(SESSION) as connection,
        _writer(settings, connection) as writer,
    ):
        return _count(connection, _values(connection, writer, again=again), limit), writer.model


def summarize(
    target: Target,
    settings: Settings,
    limit: int | None = None,
    again: bool = False,
    progress: Progress = silent,
    pace: float = 1.0,
) -> Summarized:
    """Summarize papers with an abstract and no summary, best ranked first; also finish the jobs of earlier runs.

    Args:
        limit: the most papers of this run; None: all.
        again: also papers with a summary, and papers with a failed job.
        pace: the factor for waits between retries.
    """
    with (
        server_errors(target, *_FAILED),
        Worker(target, [KIND]) as worker,
        _writer(settings, worker.connection, pace) as writer,
    ):
        [(before, _, _)] = worker.connection.execute(_COUNTS).fetchall()
        values = _values(worker.connection, writer, again=again)
        total = _count(worker.connection, values, limit)
        run = _SummaryRun(worker, writer, values, total)
        stopped = run.work(progress)
        [(_, without, waiting)] = worker.connection.execute(_COUNTS).fetchall()
    return Summarized(writer.model, run.made, before, without, run.failed, waiting, stopped)


class _SummaryRun:
    """A run through the queue."""

    def __init__(self, worker: Worker, writer: SummaryWriter, values: dict[str, Any], total: int) -> None:
        self.made = self.failed = 0
        self._worker, self._writer, self._values, self._total = worker, writer, values, total
        self._ended = self._in_a_row = 0
        #: The summaries and failures when jobs were last queued; without progress since, no more are queued.
        self._before = -1

    def work(self, progress: Progress) -> RefnetError | None:
        """Do jobs until none is left or the total is reached; return the error that ended the run early."""
        while self._ended < self._total:
            job = self._worker.claim() or (self._queue() and self._worker.claim())
            if not job:
                return None
            try:
                self._do(job)
            except LostClaimError:  # it took so long that another worker has the job
                continue
            except RefnetError as error:
                return error
            progress(Counted("summaries", "papers"), self._ended, self._total)
        return None

    def _queue(self) -> bool:
        """Queue the next jobs; return whether there were any."""
        if self.made + self.failed == self._before:
            return False
        self._before = self.made + self.failed
        values = self._values | {"most": min(_CHUNK, self._total - self._ended)}
        return self._worker.connection.execute(_QUEUE, values).rowcount > 0

    def _do(self, job: Job) -> None:
        try:
            summary = self._written(job)
        except NotSummaryError as error:
            self._fail(job, RefnetError(str(error), "Use another model."), 0.0)
        except RefusedRequestError as error:
            if error.is_final:
                self._give_back(job, error)
            self._fail(job, error, None)
        except UnavailableError as error:
            if error.limited:
                self._give_back(job, error)
            self._fail(job, error, _LATER)
        except RefnetError as error:
            self._give_back(job, error)
        else:
            self._store(job, summary)

    def _written(self, job: Job) -> Summary | None:
        """Write the summary of the job's paper; None if there is one already, no abstract, or no such paper."""
        values = [self._writer.model, self._writer.version, job.paper_id]
        rows = self._worker.connection.execute(_PAPER, values).fetchall()
        for title, abstract, exists in rows:
            if abstract.strip() and (job.payload.get("again") is True or not exists):
                return self._writer.write(title, abstract)
        return None

    def _store(self, job: Job, summary: Summary | None) -> None:
        with self._worker.connection.transaction(), self._worker.connection.cursor() as cursor:
            if summary and summary.text:
                tokens = (summary.input_tokens, summary.output_tokens)
                values = (self._writer.model, self._writer.version, summary.text, *tokens, job.paper_id)
                self.made += cursor.execute(_STORE, values).rowcount
            self._worker.done(cursor, job)
        self._ended += 1
        self._in_a_row = 0

    def _fail(self, job: Job, error: RefnetError, again_in: float | None) -> None:
        """Record a failed attempt; RefnetError after too many in a row."""
        with self._worker.connection.transaction(), self._worker.connection.cursor() as cursor:
            if not self._worker.failed(cursor, job, error.message, again_in):
                self.failed += 1
                self._ended += 1
        self._in_a_row += 1
        if self._in_a_row >= _MOST_FAILURES:
            raise RefnetError(
                f"{self._in_a_row} failures in a row, the last one: {error.message}",
                error.hint,
                transient=True,
            )

    def _give_back(self, job: Job, error: RefnetError) -> None:
        """Return the job to the queue, and raise `error` to end the run: other jobs would fail too."""
        self._worker.give_back(job)
        raise error


@contextmanager
def _writer(
    settings: Settings, connection: psycopg.Connection[Any], pace: float = 1.0
) -> Iterator[SummaryWriter]:
    """Yield the model of the settings, or the extractor of sentences if no model is set."""
    if not settings.summarize_url:
        yield Extractor()
        return
    with Api(server(settings), Limiter(connection, KIND, 0), pace=pace) as api:
        yield Chat(api, str(settings.summarize_model))


def _count(connection: psycopg.Connection[Any], values: dict[str, Any], limit: int | None) -> int:
    """Return the number of jobs of a run."""
    [(waiting,)] = connection.execute(_WAITING).fetchall()
    [(wanted,)] = connection.execute(f"SELECT count(*) {_WANTED}", values).fetchall()
    found = int(waiting + wanted)
    return found if limit is None else min(found, limit)


def _values(connection: psycopg.Connection[Any], writer: SummaryWriter, *, again: bool) -> dict[str, Any]:
    """Return the parameters of `_WANTED`; summaries and failures before `since` do not count."""
    [(now,)] = connection.execute("SELECT clock_timestamp()::text").fetchall()
    model = writer.model
    return {
        "since": now if again else "-infinity",
        "extract": model == EXTRACT_MODEL,
        "model": model,
        "version": writer.version,
        "payload": Jsonb({"model": model, "again": again}),
    }
