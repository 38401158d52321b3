"""The settings of sessions that load and build indexes, and of tables while they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psycopg

from refnet.postgres.session import reader_settings
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Index, Table
from refnet.sources.database.sql_text import Codec

#: What every loading session sets. A database that is read-only by default can still be filled. A lost commit
#: loses nothing: the copy is not live until a later commit has reached the disk.
LOADER_SETTINGS: Mapping[str, str] = {
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "synchronous_commit": "off",
    "check_function_bodies": "off",
    "xmloption": "content",
    "client_min_messages": "warning",
}
WORKERS = "max_parallel_maintenance_workers"
#: PostgreSQL's own default.
MOST_WORKERS = 2

_MEMORY = "maintenance_work_mem"
_FEW_JOBS = 2
#: maintenance_work_mem of a session of a live server, in KiB.
_LEAST, _MOST = 64 << 10, 256 << 10
_BUFFERS = "SELECT pg_size_bytes(current_setting('shared_buffers')) / 1024"


def loader_settings(major: int) -> dict[str, str]:
    """Return the settings of all loading sessions on a server of `major`, including the readers' settings."""
    return {**reader_settings(major), **LOADER_SETTINGS}


def time_zone(session: Session, index: Index) -> dict[str, str]:
    """Set the time zone of the source of `index`, if it is recorded and this server knows it; return that setting.

    Checks and materialized views may depend on it.
    """
    if not (zone := index.server.get("timezone")):
        return {}
    try:
        session.execute("SELECT pg_catalog.set_config('timezone', %s, false)", (zone,))
    except psycopg.DataError:
        return {}
    return {"timezone": zone}


def build_settings(session: Session, jobs: int, *, scratch: bool) -> dict[str, str]:
    """Return the settings for building `jobs` indexes at once on the server of `session`.

    Each core is busy, so there are no parallel workers and no reads ahead; a build beside idle workers gets some.
    A live server may have more cores than `jobs`: with many jobs it decides itself.

    scratch: it is a scratch server, whose memory is sized already.
    """
    settings = {} if scratch else sorts(session, jobs)
    if scratch or jobs <= _FEW_JOBS:
        settings[WORKERS] = "0"
    if jobs <= _FEW_JOBS:
        settings |= dict.fromkeys(("effective_io_concurrency", "maintenance_io_concurrency"), "0")
    return settings


def sorts(session: Session, jobs: int) -> dict[str, str]:
    """Return the memory of each of `jobs` sessions of a live server: all together have a quarter of its shared buffers.

    They are what shows how much memory its administrator gives it; its machine may be another one.
    """
    ((buffers,),) = session.execute(_BUFFERS).fetchall()
    return {_MEMORY: f"{max(_LEAST, min(_MOST, int(buffers) // (4 * jobs)))}kB"}


#: The most that toast_tuple_target accepts, with pages of 8 kB.
_LONGEST = 8160
#: Bytes of a row's text, and of a value in the mean: longer values are compressed, which saves disk.
_ROW, _VALUE = 1000, 64
_TABLES = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND NOT coalesce(pg_catalog.array_to_string(c.reloptions, ',') LIKE '%toast_tuple_target=%', false)
  AND pg_catalog.current_setting('block_size') = '8192'
"""


@contextmanager
def in_one_piece(connect: Callable[[], Session], index: Index, codec: Codec) -> Iterator[None]:
    """Let the tables of `index` with rows of many small values keep them in one piece while the block loads them.

    PostgreSQL moves values of a row that is longer than 2 kB to another table (TOAST), even short ones. Reading one back
    costs more than all the rest of it. A page has room for 8 kB, and nobody needs the short rows that a live database is
    better off with.

    connect: opens a superuser's session in the database, in its encoding.
    """
    wide = {(table.schema, table.name) for table in index.tables if _is_wide(table)}
    names: list[bytes] = []
    if wide:
        with connect() as session:
            names = [codec.quoted(*name) for name in codec.rows(session, _TABLES) if name in wide]
            for name in names:
                session.execute(b"ALTER TABLE ONLY %b SET (toast_tuple_target = %d)" % (name, _LONGEST))
    yield
    if names:
        with connect() as session:
            for name in names:
                session.execute(b"ALTER TABLE ONLY %b RESET (toast_tuple_target)" % name)


def _is_wide(table: Table) -> bool:
    row = table.raw // max(1, table.rows)
    return table.blocks and row > _ROW and row < _VALUE * len(table.columns)
