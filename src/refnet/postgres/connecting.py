"""Why there is no session: what the server or libpq said, as two lines that a user can act on.

psycopg hands on the text of a refusal and not its SQLSTATE, so the text is read here, once, by the
server's English words. A server that speaks another language gets the general answer with its own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg

from refnet.errors import RefnetError

NO_SUCH_DATABASE = "3D000"


class ConnectError(RefnetError):
    """No session was to be had. `sqlstate`: the server's reason; None where no server answered or it is not known."""

    def __init__(self, message: str, hint: str, sqlstate: str | None = None, transient: bool = False) -> None:
        super().__init__(message, hint, transient=transient)
        self.sqlstate = sqlstate

    @property
    def no_such_database(self) -> bool:
        return self.sqlstate == NO_SUCH_DATABASE


@dataclass(frozen=True)
class _Reason:
    words: str
    sqlstate: str | None
    message: str
    hint: str
    transient: bool = False


_REASONS = (
    _Reason(
        r"no password supplied",
        None,
        "the server at {place} asks for a password of {user}, and none is given",
        "Put it into REFNET_DATABASE_URL, or into ~/.pgpass.",
    ),
    _Reason(
        r"password authentication failed",
        "28P01",
        "the server at {place} refuses the password of {user}",
        "Mend the password in REFNET_DATABASE_URL or in ~/.pgpass.",
    ),
    _Reason(
        r"pg_hba\.conf|role .* does not exist|not permitted to log in|authentication failed",
        "28000",
        "the server at {place} does not let {user} in from here: {said}",
        "Create that role, or allow it in the server's pg_hba.conf.",
    ),
    _Reason(
        r"database .* does not exist",
        NO_SUCH_DATABASE,
        "the server at {place} has no database {database}",
        "Create it, or restore a backup into it.",
    ),
    _Reason(
        r"too many|remaining connection slots",
        "53300",
        "the server at {place} has no connection left: {said}",
        "Close some sessions, or raise max_connections on the server; then run this again.",
        transient=True,
    ),
    _Reason(
        r"starting up|shutting down|recovery mode|not yet accepting|consistent recovery",
        "57P03",
        "the server at {place} is not ready: {said}",
        "Wait until it has started, then run this again.",
        transient=True,
    ),
    _Reason(
        r"not currently accepting connections",
        "55000",
        "the database {database} at {place} does not allow connections",
        "ALTER DATABASE … ALLOW_CONNECTIONS true, if that was not meant so.",
    ),
    _Reason(
        r"permission denied for database",
        "42501",
        "the server at {place} does not let {user} into the database {database}",
        "GRANT CONNECT on that database to the role.",
    ),
    _Reason(
        r"configuration parameter|invalid value for parameter",
        "22023",
        "the server at {place} refuses the session: {said}",
        "Mend the parameters in REFNET_DATABASE_URL or PGOPTIONS.",
    ),
    _Reason(
        r"FATAL|ERROR",
        "XX000",
        "the server at {place} refuses the session: {said}",
        "Mend REFNET_DATABASE_URL, or see the server's log.",
    ),
    _Reason(
        r"failed to resolve|could not translate host name",
        None,
        "no machine is known by the name in {place}: {said}",
        "Mend the host in REFNET_DATABASE_URL, or see whether the name service works.",
        transient=True,
    ),
    _Reason(
        r"SSL|certificate",
        None,
        "no encrypted connection to {place}: {said}",
        "Mend sslmode and its files in REFNET_DATABASE_URL, or turn on SSL on the server.",
    ),
    _Reason(
        r"invalid |requirepeer",
        None,
        "no session with {place}: {said}",
        "Mend that parameter in REFNET_DATABASE_URL or the PG* variables.",
    ),
    _Reason(
        r"",
        None,
        "no PostgreSQL server answers at {place}: {said}",
        "Start the server, or mend host and port in REFNET_DATABASE_URL.",
        transient=True,
    ),
)
_OWN_HINT = "It is a server that RefNet itself started; if it has gone, run this again."


def explain(error: psycopg.Error, *, place: str, database: str, user: str, own: bool) -> ConnectError:
    """`error` of a failed connect as a ConnectError; neither line holds a secret."""
    text = str(error)
    reason = next(reason for reason in _REASONS if re.search(reason.words, text))
    message = reason.message.format(place=place, database=database, user=user, said=_said(text))
    hint = _OWN_HINT if own and reason.sqlstate is None else reason.hint
    return ConnectError(message, hint, reason.sqlstate, reason.transient)


def _said(text: str) -> str:
    """The line that says why, without the address and the prefixes that libpq and psycopg put before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = next(
        (line for line in reversed(lines) if "FATAL" in line), lines[0] if lines else "no reason given"
    )
    return re.sub(r"^.*(FATAL: +|failed: |connection is bad: )", "", line)
