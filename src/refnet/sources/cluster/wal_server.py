"""What a server says of its WAL: who it is, its timeline, its settings, and the replication slot of a receiver.

The questions need no more than LOGIN and REPLICATION.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import make_conninfo

from refnet.catalog.wal import Fork, ServerFacts, parse_lsn, read_history
from refnet.core.errors import RefnetError
from refnet.core.formatting import sql_name
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import CONNECT_SECONDS, Target, server_version

Session = psycopg.Connection[tuple[Any, ...]]
#: The settings of sessions that ask.
_SETTINGS = {"statement_timeout": "20s", "search_path": "", "lock_timeout": "5s"}
_CONTROL = "pg_control_system"
_FACTS = """
SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
       (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'),
       pg_catalog.current_setting('wal_level'),
       pg_catalog.current_setting('max_slot_wal_keep_size', true),
       pg_catalog.current_setting('summarize_wal', true),
       pg_catalog.current_setting('synchronous_standby_names'),
       (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""
#: What to do where nobody may be let replicate.
_MANAGED = "; a managed server that offers no replication: wal = false"
_POSITION = """
SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN coalesce(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
            ELSE pg_catalog.pg_current_wal_flush_lsn() END::text,
       pg_catalog.statement_timestamp(), slot.restart_lsn::text, slot.active, slot.wal_status, slot.safe_wal_size, slot.slot_type
  FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_replication_slots AS slot ON slot.slot_name = %s
"""


@dataclass(frozen=True)
class WalSettings:
    """A server, and what of its settings matters for WAL."""

    facts: ServerFacts
    wal_level: str
    #: How much WAL a slot may keep back, as the server writes it; "-1": no limit; None: it does not know the setting.
    keep_size: str | None
    #: "on", "off"; None: the server is older than 17.
    summarize: str | None
    synchronous_standbys: str
    #: The role may replicate.
    may_replicate: bool


class Position(NamedTuple):
    """How far the server is, and what its slot says the receiver has."""

    lsn: int
    #: The server's clock, just before.
    at: datetime
    #: On the receiver's disk; None: there is no slot, or nothing was ever received.
    received: int | None
    has_slot: bool
    is_active: bool
    #: reserved, extended, unreserved, lost; "": no slot.
    status: str
    #: Bytes until the server drops what the slot needs; None: no limit.
    left: int | None


def slot_of(cluster: str) -> str:
    """The name of the slot of a cluster, and of its receiver in synchronous_standby_names."""
    return f"refnet_{cluster.replace('-', '_')}"


@contextmanager
def session(target: Target) -> Iterator[Session]:
    """A session that asks; its errors are RefnetErrors."""
    with target.connect(_SETTINGS) as connection:
        try:
            yield connection
        except psycopg.Error as error:
            if error.sqlstate is None:
                raise target.explained(error) from None
            said = str(error.diag.message_primary)
            grant = f"GRANT EXECUTE ON FUNCTION pg_catalog.{_CONTROL}() TO {sql_name(target.user)};{_MANAGED}"
            raise RefnetError(
                f"the server at {target.address} rejects a query about its WAL: {said}",
                grant if _CONTROL in said else "See the server's log.",
                transient=True,
            ) from None


def settings_of(connection: Session, target: Target) -> WalSettings:
    """Ask the server of `connection`; RefnetError for an answer that cannot be."""
    row = connection.execute(_FACTS).fetchone() or ()
    try:
        identifier, size, level, keep, summarize, synchronous, may = row
        said = {"system_identifier": identifier, "segment_bytes": size, "major": server_version(connection)}
        facts = ServerFacts.from_values({"format": 1, **said})
    except ValueError as error:
        raise _no_sense(target, error) from None
    return WalSettings(facts, str(level), keep, summarize, str(synchronous or ""), bool(may))


def position(connection: Session, slot: str, target: Target) -> Position:
    """Where the WAL of the server ends, and the state of the slot `slot`."""
    row = connection.execute(_POSITION, (slot,)).fetchone() or ()
    try:
        lsn, at, received, active, status, left, kind = row
        return Position(
            parse_lsn(lsn or ""),
            at.astimezone(UTC),
            parse_lsn(received) if received else None,
            kind == "physical",
            bool(active),
            str(status or ""),
            None if left is None else int(left),
        )
    except ValueError as error:
        raise _no_sense(target, error) from None


def _no_sense(target: Target, error: ValueError) -> RefnetError:
    return RefnetError(
        f"the server at {target.address} gives an invalid answer about its WAL: {error}",
        "Set the URL of the cluster to a PostgreSQL server, without a pooler.",
    )


def make_slot(connection: Session, slot: str, target: Target) -> None:
    """Create the physical slot `slot`, which keeps WAL from now on."""
    try:
        connection.execute("SELECT pg_catalog.pg_create_physical_replication_slot(%s, true)", (slot,))
    except psycopg.Error as error:
        raise RefnetError(
            f"the replication slot {slot} cannot be made at {target.address}: {error.diag.message_primary or error}",
            f"ALTER ROLE {sql_name(target.user)} REPLICATION; and set max_replication_slots to at least 1 more.",
        ) from None


def drop_slot(connection: Session, slot: str, target: Target) -> None:
    """Remove the slot `slot`; RefnetError (transient) while the server still uses it."""
    try:
        connection.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (slot,))
    except psycopg.Error as error:
        raise RefnetError(
            f"the replication slot {slot} cannot be removed at {target.address}: {error.diag.message_primary or error}",
            "The receiver tries again.",
            transient=True,
        ) from None


class Identified(NamedTuple):
    """What a server says over a replication connection."""

    system_identifier: str
    timeline: int
    #: The forks before it, oldest first, and their text as PostgreSQL keeps it.
    history: tuple[Fork, ...]


def identify(target: Target) -> Identified:
    """Open a replication connection and ask who is there; ConnectError with the line of pg_hba.conf if it is refused."""
    try:
        wait = {} if "connect_timeout" in target.parts else {"connect_timeout": CONNECT_SECONDS}
        as_replica = make_conninfo(target.conninfo, dbname="replication", replication="true", **wait)
        with psycopg.connect(as_replica, autocommit=True) as connection:  # as pg_receivewal
            row = connection.execute("IDENTIFY_SYSTEM").fetchone() or ()
            identifier, timeline, text = _text(row[0]), int(row[1]), ""
            if timeline > 1:
                history = connection.execute(f"TIMELINE_HISTORY {timeline:d}".encode()).fetchone() or ()
                text = _text(history[1])
    except psycopg.Error as error:
        raise refused(target, error) from None
    except (IndexError, ValueError) as error:
        raise _no_sense(target, ValueError(error)) from None
    try:
        return Identified(identifier, timeline, read_history(text))
    except ValueError as error:
        raise _no_sense(target, error) from None


def _text(value: object) -> str:
    """A value of a replication connection, which has no encoding."""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def refused(target: Target, error: psycopg.Error) -> ConnectError:
    """The error of a replication connection; where pg_hba.conf or the role's rights refuse it, with what to add."""
    found, said = target.explained(error), str(error)
    if found.transient:
        return found
    role = sql_name(target.user)
    if "pg_hba.conf" in said:
        hint = f"Add to pg_hba.conf, and reload: {hba_line(target)}"
        hint += f'  ("all" in the column of databases does not include replication){_MANAGED}'
    elif "replication" in said.lower() or "WAL sender" in said:
        hint = f"ALTER ROLE {role} REPLICATION;{_MANAGED}"
    else:
        return found
    return ConnectError(
        f"{target.address} refuses a replication connection of {target.user}", hint, found.sqlstate
    )


def hba_line(target: Target) -> str:
    """The line of pg_hba.conf that lets the role of `target` replicate."""
    host = str(target.parts.get("host") or "")
    if not host or host.startswith("/"):
        return f"local  replication  {target.user}  scram-sha-256"
    return f"host  replication  {target.user}  ADDRESS-OF-THIS-MACHINE/32  scram-sha-256"
