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

    def __init__(self, message: str, hint: str, sqlstate: str | None = None) -> None:
        super().__init__(message, hint)
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


_REASONS = (
    _Reason(
        r"no password supplied",
        None,
        "{where} asks for a password of {user}, and none is given",
        "Put it into REFNET_DATABASE_URL, or into ~/.pgpass.",
    ),
    _Reason(
        r"password authentication failed",
        "28P01",
        "{where} refuses the password of {user}",
        "Mend the password in REFNET_DATABASE_URL or in ~/.pgpass.",
    ),
    _Reason(
        r"pg_hba\.conf|role .* does not exist|not permitted to log in|[Pp]eer auth|[Ii]dent auth|authentication failed",
        "28000",
        "{where} does not let {user} in from here: {said}",
        "Create that role, or allow it in the server's pg_hba.conf.",
    ),
    _Reason(
        r"database .* does not exist",
        NO_SUCH_DATABASE,
        "{where}: that database does not exist",
        "Create it, or restore a backup into it.",
    ),
    _Reason(
        r"too many|remaining connection slots",
        "53300",
        "{where} has no connection left: {said}",
        "Close some sessions, or raise max_connections on the server; then run this again.",
    ),
    _Reason(
        r"starting up|shutting down|recovery mode|not yet accepting|consistent recovery",
        "57P03",
        "{where} is not ready: {said}",
        "Wait until the server has started, then run this again.",
    ),
    _Reason(
        r"not currently accepting connections",
        "55000",
        "{where}: the database does not allow connections",
        "ALTER DATABASE … ALLOW_CONNECTIONS true, if that was not meant so.",
    ),
    _Reason(
        r"permission denied for database",
        "42501",
        "{where} does not let {user} connect: {said}",
        "GRANT CONNECT on that database to the role.",
    ),
    _Reason(
        r"configuration parameter|invalid value for parameter",
        "22023",
        "{where} refuses the session: {said}",
        "Mend the parameters in REFNET_DATABASE_URL or PGOPTIONS.",
    ),
    _Reason(
        r"FATAL|ERROR",
        "XX000",
        "{where} refuses the session: {said}",
        "Mend REFNET_DATABASE_URL, or see the server's log.",
    ),
    _Reason(
        r"",
        None,
        "no PostgreSQL server answers at {where}: {said}",
        "Start the server, or mend host and port in REFNET_DATABASE_URL.",
    ),
)


def explain(error: psycopg.Error, where: str, user: str) -> ConnectError:
    """`error` of a failed connect as a ConnectError; neither line holds a secret."""
    text = str(error)
    reason = next(reason for reason in _REASONS if re.search(reason.words, text))
    filled = reason.message.format(where=where, user=user, said=_said(text))
    return ConnectError(filled, reason.hint, reason.sqlstate)


def _said(text: str) -> str:
    """The line that says why, without the address and the prefixes that libpq and psycopg put before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = next(
        (line for line in reversed(lines) if "FATAL" in line), lines[0] if lines else "no reason given"
    )
    return re.sub(r"^.*(FATAL: +|failed: |connection is bad: )", "", line)
