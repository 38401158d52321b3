"""What `refnet check` says of the WAL of a cluster: everything that would keep it from being received, with the remedy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from refnet.catalog.cluster_base import INCREMENTS
from refnet.core import formatting
from refnet.core.errors import RefnetError
from refnet.core.files import nearest
from refnet.core.formatting import sql_name
from refnet.local_postgres import binaries_for
from refnet.postgres.session import Target
from refnet.settings import Settings
from refnet.sources.check_result import CheckLine, error, error_line, ok, warning
from refnet.sources.cluster import wal_server
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.sources.cluster.wal_server import Position, WalSettings, slot_of

_RELOAD = "SELECT pg_reload_conf();"
#: How many tablespaces there are; if any, the bytes of the databases whose size the role may ask for.
_TABLESPACES = """
SELECT count(*), CASE WHEN count(*) > 0 THEN
         (SELECT sum(pg_catalog.pg_database_size(oid))::bigint FROM pg_catalog.pg_database
           WHERE pg_catalog.has_database_privilege(oid, 'CONNECT')) END
  FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')
"""


def wal_checks(settings: Settings, cluster: str) -> Iterator[CheckLine]:
    """Check the server, a replication connection, the programs and the receiver; RefnetError without a session."""
    target = Target.from_url(settings.of(cluster).url or "", f"clusters.{cluster}.url")
    slot = slot_of(cluster)
    with wal_server.session(target) as session:
        server = wal_server.settings_of(session, target)
        now = wal_server.position(session, slot, target)
        spaces, need = session.execute(_TABLESPACES).fetchone() or (0, None)
    yield from _server(server, target)
    try:
        wal_server.identify(target)
    except RefnetError as refused:
        yield error_line("wal", refused)
    else:
        yield ok("wal", f"{target.address} accepts replication connections of {target.user}")
    yield from _programs(settings, server.facts.major)
    yield from _slot(now, slot)
    if spaces:
        yield _staging(settings.home / "scratch", spaces, need or 0)
    archive = WalArchive.of(settings, server.facts.system_identifier)
    if archive.exists() and archive.is_received():
        yield ok("wal", f"a receiver runs; the archive is {archive.folder}")
    else:
        yield warning(
            "wal",
            "no receiver runs",
            "`refnet schedule install` makes the service, `refnet wal run` runs one.",
        )
    yield ok("wal", _promise(server, slot))
    every = (
        "base backups and WAL have every database, the excluded ones too, and the verifiers of all passwords"
    )
    yield ok("wal", every)
    if settings.encryption_local:
        says = f"WAL is not encrypted: it stays in {archive.folder}"
        yield warning("wal", says, "Encrypt that file system; encryption.local covers artifacts only.")


def _server(server: WalSettings, target: Target) -> Iterator[CheckLine]:
    if server.wal_level == "minimal":
        says = f"wal_level is minimal at {target.address}: no WAL can be received"
        yield error("wal", says, "ALTER SYSTEM SET wal_level = replica; and restart the server.")
    if not server.may_replicate:
        yield error(
            "wal", f"{target.user} may not replicate", f"ALTER ROLE {sql_name(target.user)} REPLICATION;"
        )
    if server.keep_size == "-1":
        yield warning(
            "wal",
            "max_slot_wal_keep_size is not set: while no receiver runs, WAL fills the disk of the server",
            f"ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; {_RELOAD}",
        )
    if server.facts.major < INCREMENTS:
        yield ok("wal", f"PostgreSQL {server.facts.major} makes no increments: every base backup is full")
    elif server.summarize != "on":
        yield warning(
            "wal",
            "summarize_wal is off: every base backup is full",
            f"ALTER SYSTEM SET summarize_wal = on; {_RELOAD}",
        )


def _programs(settings: Settings, major: int) -> Iterator[CheckLine]:
    found = binaries_for(settings, major)
    try:
        found.tool("pg_receivewal")
    except RefnetError as missing:
        yield error_line("wal", missing)
    if found.major != major or not (found.folder / "pg_waldump").is_file():
        yield warning(
            "wal",
            f"pg_waldump of PostgreSQL {major} is not installed: the times of commits in WAL are unknown",
            f"Debian: apt install postgresql-{major}.",
        )


def _slot(now: Position, slot: str) -> Iterator[CheckLine]:
    if not now.has_slot:
        return
    left = "" if now.left is None else f", {formatting.size(now.left)} until the server drops WAL"
    if now.status in {"lost", "unreserved"}:
        yield error(
            "wal",
            f"the slot {slot} is {now.status}: the server drops WAL that was not received",
            "`refnet wal run` begins again after the gap; raise max_slot_wal_keep_size.",
        )
    else:
        yield ok("wal", f"the slot {slot} is {now.status}{left}")


def _staging(folder: Path, spaces: int, need: int) -> CheckLine:
    """Whether there is space for the files of a server with tablespaces, which are not streamed."""
    free = shutil.disk_usage(nearest(folder)).free
    says = (
        f"{formatting.plural(spaces, 'tablespace')}: while a full base backup is made, it takes {formatting.size(need)}"
        f" in {folder}; {formatting.size(free)} are free"
    )
    if free > need:
        return ok("wal", says)
    return warning("wal", says, "Free space, or set REFNET_HOME to a folder on a larger disk.")


def _promise(server: WalSettings, slot: str) -> str:
    if slot in server.synchronous_standbys:
        return f"commits wait for {slot} (synchronous_standby_names), also while no receiver runs"
    return (
        "asynchronous: losing the server loses the commits of the lag (`refnet wal status`); with"
        f" synchronous_standby_names = '{slot}' commits wait for this machine, also while no receiver runs"
    )
