"""Summaries of papers: each a job, so that runs share the work, and a failure is the state of one job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg.types.json import Jsonb

from refnet.core.errors import RefnetError
from refnet.network import SESSION, extract, server_errors
from refnet.network.chat_api import AnswerError, Chat, Summary, server
from refnet.network.http_api import Api, RefusedError, UnavailableError
from refnet.network.jobs import Job, LostClaimError, Worker
from refnet.network.rate_limit import Limiter
from refnet.postgres.session import Target
from refnet.recovery.model.source import Counted, Progress, silent
from refnet.settings import Settings

KIND = "summarize"
#: What fails if the server does, and what to do.
_FAILED = ("fails", "What was written stays. Fix the cause and retry.")
#: A run ends after this many failures in a row: then it is the server, and not a paper.
_MOST_FAILURES = 5
#: Seconds until a job is tried again that a server could not do.
_LATER = 60.0
#: Jobs that are queued at once: a claim looks at all that wait.
_CHUNK = 500


@dataclass(frozen=True)
class Summarized:
    """The result of a run."""

    #: What wrote the summaries.
    model: str
    #: Summaries that were written.
    made: int
    #: Papers that had a summary before, the provider's own included.
    before: int
    #: Papers with details, and without an abstract and a summary.
    without_abstract: int
    #: Jobs that failed for good in this run.
    failed: int
    #: Jobs that still wait.
    waiting: int
    #: Why the run ended before its end.
    stopped: RefnetError | None = None

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"stopped": self.stopped and self.stopped.to_json()}


class Writer(Protocol):
    """A writer of summaries."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> str: ...
    def write(self, title: str, abstract: str) -> Summary: ...


class _Extractor:
    model, version = extract.MODEL, extract.VERSION

    def write(self, title: str, abstract: str) -> Summary:  # noqa: ARG002  # of the protocol
        return Summary(extract.extract(abstract))


#: Papers that need a summary and have no job. A model that is asked for by the settings writes its own summary of each;
#: an extract is for papers without any. A paper whose job failed waits for `refnet jobs --retry`, or `--again`.
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
#: The best papers come first.
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
#: A paper that was merged into another one meanwhile gets none.
_STORE = """
INSERT INTO summaries (paper_id, kind, model, prompt_version, content, input_tokens, output_tokens)
SELECT id, 'abstract', %s, %s, %s, %s, %s FROM papers WHERE id = %s FOR KEY SHARE
ON CONFLICT (paper_id, kind, language, model, prompt_version) DO UPDATE SET content = excluded.content,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, created_at = now()
"""


def plan(
    target: Target, settings: Settings, limit: int | None = None, again: bool = False
) -> tuple[int, str]:
    """Return how many papers a run would summarize, and by which model."""
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
    """Summarize the papers that have an abstract and no summary, the best first; continue what another run has left.

    Args:
        limit: the most papers of this run; None: all.
        again: also the papers that have a summary, and those whose job failed.
        pace: what the waits between retries are multiplied with.
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

    def __init__(self, worker: Worker, writer: Writer, values: dict[str, Any], total: int) -> None:
        self.made = self.failed = 0
        self._worker, self._writer, self._values, self._total = worker, writer, values, total
        self._ended = self._in_a_row = 0
        #: Summaries and failures when jobs were last queued: jobs without either are not queued without end.
        self._before = -1

    def work(self, progress: Progress) -> RefnetError | None:
        """Do jobs until none is left, or as many as there are in total; return what ended the run before that."""
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
        except AnswerError as error:
            self._fail(job, RefnetError(str(error), "Use another model."), 0.0)
        except RefusedError as error:
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
        """Return the summary of the job's paper; None if it has one already, or no abstract, or is gone."""
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
        """Return the job to the queue, and end the run: no other job would be done."""
        self._worker.give_back(job)
        raise error


@contextmanager
def _writer(settings: Settings, connection: psycopg.Connection[Any], pace: float = 1.0) -> Iterator[Writer]:
    """Yield the model of the settings, or what extracts sentences if they name none."""
    if not settings.summarize_url:
        yield _Extractor()
        return
    with Api(server(settings), Limiter(connection, KIND, 0), pace=pace) as api:
        yield Chat(api, str(settings.summarize_model))


def _count(connection: psycopg.Connection[Any], values: dict[str, Any], limit: int | None) -> int:
    """Return how many jobs a run does."""
    [(waiting,)] = connection.execute(_WAITING).fetchall()
    [(wanted,)] = connection.execute(f"SELECT count(*) {_WANTED}", values).fetchall()
    found = int(waiting + wanted)
    return found if limit is None else min(found, limit)


def _values(connection: psycopg.Connection[Any], writer: Writer, *, again: bool) -> dict[str, Any]:
    """Return the values of `_WANTED`; what is older than `since` does not count."""
    [(now,)] = connection.execute("SELECT clock_timestamp()::text").fetchall()
    model = writer.model
    return {
        "since": now if again else "-infinity",
        "extract": model == extract.MODEL,
        "model": model,
        "version": writer.version,
        "payload": Jsonb({"model": model, "again": again}),
    }
