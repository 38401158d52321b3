"""The API's pool of read-only sessions, with bounds on their number and on the time of each query."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import psycopg
from anyio import CapacityLimiter
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from refnet import servers
from refnet.core.errors import RefnetError
from refnet.network import SESSION
from refnet.postgres.preparing import SET
from refnet.postgres.session import STUBBORN_VARIABLES, Target
from refnet.settings import Settings
from refnet.web.answers import seen, threaded, within

#: The most sessions, and the most requests waiting for a session.
SESSIONS, WAITING = 8, 128
#: Time limits in seconds: waiting for a session, a query (kept by the server), a complete request.
WAIT, QUERY, ALL = 3, 4, 10
#: How long the rows of a search are cached, in seconds, and the number of cached searches.
RECENT, KEPT = 30, 512
#: Settings of a session. No JIT compilation: it takes longer than these queries.
READER = {
    **SESSION,
    "statement_timeout": f"{QUERY}s",
    "lock_timeout": f"{WAIT}s",
    "idle_in_transaction_session_timeout": "10s",
    "default_transaction_read_only": "on",
    "jit": "off",
}
_Result = TypeVar("_Result")
_Row = tuple[Any, ...]


class NoTablesError(RefnetError):
    """The database has no tables of the network, or those of an older RefNet."""


class NetworkDatabase:
    """The network's database. It connects at the first query, so the server also starts without it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._target: Target | None = None
        self._pool: AsyncConnectionPool | None = None
        self._opening = asyncio.Lock()
        self._recent: dict[object, tuple[float, asyncio.Task[list[_Row]]]] = {}
        #: Threads for blocking work; a hanging server cannot block more of them.
        self.threads = CapacityLimiter(SESSIONS)

    async def rows(self, query: str, values: Mapping[str, Any]) -> list[_Row]:
        """Return the rows of `query`; RefnetError if the database does not answer in time."""
        return await within(ALL, f"the database {await self.name()}", self._rows(query, values))

    async def recent_rows(self, query: str, values: Mapping[str, Any]) -> list[_Row]:
        """Return the rows of `query`, at most `RECENT` seconds old; concurrent equal requests share one query."""
        key, now = (query, repr(sorted(values.items()))), time.monotonic()
        until, found = self._recent.get(key, (0.0, None))
        if found is None or until < now or (found.done() and found.exception()):
            found = asyncio.ensure_future(self.rows(query, values))
            found.add_done_callback(seen)
            self._recent.pop(key, None)
            self._recent[key] = (now + RECENT, found)
            if len(self._recent) > KEPT:
                del self._recent[next(iter(self._recent))]
        return await asyncio.shield(found)

    async def _rows(self, query: str, values: Mapping[str, Any], *, again: bool = True) -> list[_Row]:
        pool, connection = await self._opened(), None
        try:
            async with pool.connection() as connection:
                # RefNet's own text: values are passed separately.
                found = await connection.execute(query.encode(), values)
                return await found.fetchall()
        except psycopg.Error as error:
            if not (again and connection and connection.closed):
                raise failure(error, await self.target()) from None
        await pool.check()  # the server restarted: every session is replaced
        return await self._rows(query, values, again=False)

    async def threaded(self, work: Callable[[Target], _Result]) -> _Result:
        """Run the blocking `work` and return its result; RefnetError if the database does not answer in time."""

        def run(target: Target) -> _Result:
            try:
                return work(target)
            except psycopg.Error as error:
                raise failure(error, target) from None

        async def wait() -> _Result:
            return await threaded(partial(run, await self.target()), self.threads)

        return await within(ALL, f"the database {await self.name()}", wait())

    async def reading(self, work: Callable[[psycopg.Connection[Any]], _Result]) -> _Result:
        """Run the blocking `work` with a read-only session and return its result; RefnetError as for `threaded`."""

        def run(target: Target) -> _Result:
            with target.connect(READER) as session:
                return work(session)

        return await self.threaded(run)

    async def target(self) -> Target:
        """Return the database of the settings; RefNet's own server is started if needed."""
        if self._target is None:
            self._target = await threaded(partial(servers.existing_server, self.settings), self.threads)
            if self._target.own:
                for name in STUBBORN_VARIABLES:  # libpq reads them in spite of parameters
                    os.environ.pop(name, None)
        return self._target

    async def name(self) -> str:
        """Return the name of the database."""
        return (await within(ALL, "PostgreSQL", self.target())).name

    async def probe(self) -> None:
        """Raise RefnetError unless a new session can be opened."""
        target = await self.target()
        try:
            async with await psycopg.AsyncConnection.connect(
                target.parameters(READER), autocommit=True
            ) as session:
                await session.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise target.explained(error) from None

    async def close(self) -> None:
        """Close every session."""
        if self._pool:
            with suppress(RefnetError):  # a hanging server does not prevent the stop
                await within(WAIT, "the pool", self._pool.close(timeout=WAIT))

    async def _opened(self) -> AsyncConnectionPool:
        target = await self.target()
        async with self._opening:
            if self._pool is None:
                # This refuses a pooler that shares sessions.
                await threaded(lambda: target.connect(READER).close(), self.threads)
                pool = AsyncConnectionPool(
                    target.parameters(READER),
                    kwargs={"autocommit": True},
                    configure=_configure,
                    min_size=1,
                    max_size=SESSIONS,
                    max_waiting=WAITING,
                    timeout=WAIT,
                    max_idle=120,
                    open=False,
                )
                await pool.open()
                self._pool = pool
        return self._pool


async def _configure(session: psycopg.AsyncConnection[Any]) -> None:
    """Set by SQL the settings that a login cannot carry."""
    await session.execute(SET, (list(READER), list(READER.values())))


def failure(error: psycopg.Error, target: Target) -> RefnetError:
    """Return the RefnetError for a failed query, without secrets."""
    name = f"the database {target.name}"
    if isinstance(error, PoolTimeout | TooManyRequests):
        return RefnetError(
            f"{name} does not respond, or all its sessions are in use",
            "Retry later; /health names what fails.",
            transient=True,
        )
    if isinstance(error, psycopg.errors.QueryCanceled):
        return RefnetError(
            f"{name} needs more than {QUERY} s for this query", "Narrow it: rarer words, fewer rows."
        )
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return NoTablesError(
            f"{name} does not have the tables of this version", "Run: refnet network migrate."
        )
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return RefnetError(
        f"{name} rejects the query: {lines[0][:200]}", "Retry; /health names what fails.", transient=True
    )
