"""The settings of sessions that load and build indexes."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from refnet.postgres.session import reader_settings
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Index

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
    """Return the setting with the time zone of the source of `index`, if it is recorded and this server knows it.

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
