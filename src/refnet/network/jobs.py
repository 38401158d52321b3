"""The job queue in the table `jobs`: add, claim (one worker at a time), finish, fail, retry.

Each worker has a session advisory lock with a unique number. So a killed worker loses its claim as soon as its session
ends, and the next worker takes the job. A claim also ends at `claimed_until`, for a worker that hangs.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from refnet.network import SESSION
from refnet.postgres.session import Target

#: The first key of the advisory locks of workers: "jobs" in ASCII. The second is the number of the worker.
_LOCK = 0x6A6F6273
#: Commits do not wait for the disk: if a crash of the server undoes a job with its results, the job is done again.
_RELAXED = {"synchronous_commit": "off"}
#: How long a claim is valid, in minutes; a worker renews the claim of a long job.
_MINUTES = 15
#: The longest stored error, in characters.
_ERROR = 1000
STATES = ("queued", "running", "succeeded", "failed", "cancelled")
_Row = tuple[Any, ...]


class LostClaimError(Exception):
    """The claim has ended, and another worker may have the job: the transaction must be rolled back."""


@dataclass(frozen=True)
class NewJob:
    """A job to add."""

    kind: str
    paper_id: int | None = None
    crawl_id: int | None = None
    #: The worker's input, a JSON object.
    payload: Mapping[str, Any] = field(default_factory=dict)
    #: Unique among queued and running jobs; None: not unique.
    dedupe_key: str | None = None
    #: The highest priority comes first.
    priority: int = 0


@dataclass(frozen=True)
class Job:
    """A job that a worker has claimed."""

    id: int
    kind: str
    paper_id: int | None
    crawl_id: int | None
    payload: dict[str, Any]
    #: Including this attempt.
    attempts: int
    max_attempts: int


@dataclass(frozen=True)
class ListedJob:
    """A row of the list of jobs."""

    id: int
    kind: str
    state: str
    paper_id: int | None
    crawl_id: int | None
    payload: dict[str, Any]
    attempts: int
    max_attempts: int
    error: str | None
    claimed_by: str | None
    created_at: datetime
    run_after: datetime
    finished_at: datetime | None

    def to_json(self) -> dict[str, Any]:
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in vars(self).items()
        }


class Worker:
    """A session that claims jobs of `kinds`, of one crawl or of all; a context manager.

    `connection` is in autocommit mode: write the results of a job and `done` in one `connection.transaction()`.
    """

    def __init__(self, target: Target, kinds: Sequence[str], crawl: int | None = None) -> None:
        self._kinds = [*kinds]
        self._crawl = crawl
        self.connection = target.connect({**SESSION, **_RELAXED})
        self._name = _take_number(self.connection)
        _free_lost(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Return claimed jobs to the queue, and close the session."""
        with suppress(psycopg.Error):  # the claims of a broken session have ended already
            if not self.connection.closed:
                self.connection.rollback()
                self.connection.execute(_GIVE_BACK.format(which="claimed_by = %s"), ["0", self._name])
        self.connection.close()

    def claim(self, *kinds: str) -> Job | None:
        """Claim the next job of `kinds` (default: all of this worker's kinds); None if there is no job."""
        wanted = [*kinds] or self._kinds
        values = {"kinds": wanted, "crawl": self._crawl, "name": self._name, "minutes": _MINUTES}
        with self.connection.cursor(row_factory=class_row(Job)) as cursor:
            job = cursor.execute(_CLAIM, values).fetchone()
            if job is None and _free_lost(self.connection):
                job = cursor.execute(_CLAIM, values).fetchone()
        return job

    def renew(self, job: Job) -> None:
        """Extend the claim of a long job; LostClaimError."""
        with self.connection.cursor() as cursor:
            self._change(
                cursor, job, "claimed_until = clock_timestamp() + make_interval(mins => %s)", [_MINUTES]
            )

    def keep(self, cursor: psycopg.Cursor[_Row], job: Job, payload: Mapping[str, Any]) -> None:
        """Store `payload` with an open job in the transaction of `cursor`, and renew the claim; LostClaimError."""
        self._change(
            cursor,
            job,
            "payload = %s, claimed_until = clock_timestamp() + make_interval(mins => %s)",
            [Jsonb(dict(payload)), _MINUTES],
        )

    def done(self, cursor: psycopg.Cursor[_Row], job: Job, payload: Mapping[str, Any] | None = None) -> None:
        """Mark `job` as succeeded in the transaction that writes its result; LostClaimError."""
        kept = Jsonb(dict(job.payload if payload is None else payload))
        self._change(cursor, job, f"{_ENDED.format(state='succeeded')}, error = NULL, payload = %s", [kept])

    def failed(
        self, cursor: psycopg.Cursor[_Row], job: Job, error: str, again_in: float | None = None
    ) -> bool:
        """Record a failed attempt; return whether the job will be retried.

        again_in: delay of the retry, in seconds; None: fail finally, as after the last attempt.
        """
        text = printable(error)
        if again_in is None or job.attempts >= job.max_attempts:
            self._change(cursor, job, f"{_ENDED.format(state='failed')}, error = %s", [text])
            return False
        self._change(
            cursor,
            job,
            "state = 'queued', claimed_by = NULL, claimed_until = NULL, error = %s,"
            " run_after = clock_timestamp() + make_interval(secs => %s)",
            [text, again_in],
        )
        return True

    def give_back(self, job: Job, again_in: float = 0) -> None:
        """Return `job` to the queue, as if it had not been claimed."""
        self.connection.execute(
            _GIVE_BACK.format(which="id = %s AND claimed_by = %s"), [again_in, job.id, self._name]
        )

    def forgive(self, ids: Sequence[int]) -> None:
        """Return failed jobs to the queue, without counting the failed attempt."""
        self.connection.execute(_FORGIVE, [[*ids]])

    def _change(self, cursor: psycopg.Cursor[_Row], job: Job, change: str, values: list[Any]) -> None:
        """Change a claimed job; LostClaimError if the claim has ended."""
        query = f"UPDATE jobs SET {change} WHERE id = %s AND state = 'running' AND claimed_by = %s"  # noqa: S608
        if cursor.execute(query, [*values, job.id, self._name]).rowcount == 0:
            raise LostClaimError


def add(cursor: psycopg.Cursor[Any], jobs: Iterable[NewJob]) -> int:
    """Add `jobs`, except those with the dedupe_key of a queued or running job; return the number added."""
    rows = [*jobs]
    columns = (
        [one.kind for one in rows],
        [one.paper_id for one in rows],
        [one.crawl_id for one in rows],
        [Jsonb(dict(one.payload)) for one in rows],
        [one.dedupe_key for one in rows],
        [one.priority for one in rows],
    )
    return cursor.execute(_ADD, columns).rowcount if rows else 0


def list_jobs(
    connection: psycopg.Connection[Any],
    *,
    states: Sequence[str] = (),
    kinds: Sequence[str] = (),
    crawl: int | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[ListedJob]:
    """Return the newest `limit` jobs with ids below `before`, of `states` and `kinds` (empty: all)."""
    with connection.cursor(row_factory=class_row(ListedJob)) as cursor:
        values = {"states": [*states], "kinds": [*kinds], "crawl": crawl, "before": before, "limit": limit}
        return cursor.execute(_LIST, values).fetchall()


def counts(connection: psycopg.Connection[Any], crawl: int | None = None) -> dict[str, dict[str, int]]:
    """Return kind → state → number of jobs, of one crawl or of all."""
    found: dict[str, dict[str, int]] = {}
    for kind, state, number in connection.execute(_COUNTS, {"crawl": crawl}):
        found.setdefault(kind, {})[state] = number
    return found


def retry_jobs(
    connection: psycopg.Connection[Any], ids: Sequence[int] = (), *, plan: bool = False
) -> list[int]:
    """Requeue failed jobs (empty: all of them) with new attempts; return their ids.

    Their crawls become unfinished, except cancelled ones, which get these jobs when they are resumed. A job with the dedupe_key of a queued or running job stays failed.
    """
    with connection.transaction(), connection.cursor() as cursor:
        found = [number for (number,) in cursor.execute(_FAILED, {"ids": [*ids]}).fetchall()]
        if not plan and found:
            cursor.execute(_AGAIN, [found])
            cursor.execute(_CRAWLS_AGAIN, [found])
    return found


def printable(text: str, longest: int = _ERROR) -> str:
    """Return `text` as one line of at most `longest` characters, without control characters."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text[: 4 * longest]).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _take_number(connection: psycopg.Connection[Any]) -> str:
    """Take the lock of a free number; return the name of the worker."""
    while True:
        number = secrets.randbelow(1 << 31)
        taken = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", [_LOCK, number]).fetchone()
        if taken == (True,):
            host = re.sub(r"[^\w.-]", "_", socket.gethostname())[:100]
            return f"{host}:{os.getpid()}:{number}"


def _free_lost(connection: psycopg.Connection[Any]) -> int:
    """Return jobs with lost claims to the queue, without counting the attempt; return their number."""
    return connection.execute(_GIVE_BACK.format(which=_LOST), ["0"]).rowcount


_ENDED = "state = '{state}', finished_at = clock_timestamp(), claimed_by = NULL, claimed_until = NULL"

_GIVE_BACK = """
UPDATE jobs SET state = 'queued', claimed_by = NULL, claimed_until = NULL, attempts = greatest(attempts - 1, 0),
    run_after = clock_timestamp() + make_interval(secs => %s)
WHERE state = 'running' AND {which}
"""
_LOST = f"""(
    claimed_until < clock_timestamp() OR substring(claimed_by FROM '[0-9]+$') NOT IN (
        SELECT objid::text FROM pg_locks
        WHERE locktype = 'advisory' AND classid = {_LOCK} AND objsubid = 2 AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) OR claimed_by !~ '[0-9]$'
)"""  # noqa: S608

# The first job of each kind is read from jobs_claim_idx; one query for several kinds would sort all queued jobs.
_CLAIM = """
WITH free AS (
    SELECT first.id FROM unnest(%(kinds)s::text[]) AS wanted (kind) CROSS JOIN LATERAL (
        SELECT id, priority, run_after FROM jobs
        WHERE state = 'queued' AND jobs.kind = wanted.kind AND run_after <= statement_timestamp()
          AND (%(crawl)s::bigint IS NULL OR crawl_id = %(crawl)s)
        ORDER BY priority DESC, run_after, id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS first
    ORDER BY priority DESC, run_after, id
    LIMIT 1
)
UPDATE jobs SET state = 'running', attempts = attempts + 1, claimed_by = %(name)s,
    claimed_until = clock_timestamp() + make_interval(mins => %(minutes)s),
    started_at = coalesce(started_at, clock_timestamp())
FROM free WHERE jobs.id = free.id
RETURNING jobs.id, kind, paper_id, crawl_id, payload, attempts, max_attempts
"""

_FORGIVE = """
UPDATE jobs SET state = 'queued', attempts = greatest(attempts - 1, 0), run_after = clock_timestamp(), finished_at = NULL
WHERE id = ANY (%s) AND state IN ('queued', 'failed')
"""

_ADD = """
INSERT INTO jobs (kind, paper_id, crawl_id, payload, dedupe_key, priority)
SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::jsonb[], %s::text[], %s::smallint[])
ON CONFLICT (dedupe_key) WHERE state IN ('queued', 'running') DO NOTHING
"""

#: Limits a time to Python's calendar: PostgreSQL's also has infinity, and years before 1.
_WHEN = "least(greatest({0}, '0002-01-01'), '9998-12-31')"
_LIST = f"""
SELECT id, kind, state, paper_id, crawl_id, payload, attempts, max_attempts, error, claimed_by,
    {_WHEN.format("created_at")} AS created_at, {_WHEN.format("run_after")} AS run_after,
    CASE WHEN finished_at IS NOT NULL THEN {_WHEN.format("finished_at")} END AS finished_at
FROM jobs
WHERE (%(states)s::text[] = '{{}}' OR state = ANY (%(states)s)) AND (%(kinds)s::text[] = '{{}}' OR kind = ANY (%(kinds)s))
  AND (%(crawl)s::bigint IS NULL OR crawl_id = %(crawl)s) AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC
LIMIT %(limit)s
"""  # noqa: S608

_COUNTS = """
SELECT kind, state, count(*) FROM jobs WHERE %(crawl)s::bigint IS NULL OR crawl_id = %(crawl)s
GROUP BY kind, state ORDER BY kind, state
"""

_FAILED = """
SELECT DISTINCT ON (coalesce(dedupe_key, id::text)) id FROM jobs AS mine
WHERE state = 'failed' AND (%(ids)s::bigint[] = '{}' OR id = ANY (%(ids)s)) AND NOT EXISTS (
    SELECT FROM jobs AS other WHERE other.dedupe_key = mine.dedupe_key AND other.state IN ('queued', 'running')
)
ORDER BY coalesce(dedupe_key, id::text), id DESC
"""

_AGAIN = """
UPDATE jobs SET state = 'queued', attempts = 0, run_after = clock_timestamp(), finished_at = NULL
WHERE id = ANY (%s) AND state = 'failed'
"""

_CRAWLS_AGAIN = """
UPDATE crawls SET state = 'running', finished_at = NULL
WHERE state = 'succeeded' AND id IN (SELECT crawl_id FROM jobs WHERE id = ANY (%s))
"""
