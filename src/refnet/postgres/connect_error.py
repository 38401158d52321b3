"""The error where no session with a server can be opened, and its reason as two lines for the user.

psycopg passes on the text of a refusal and not its SQLSTATE, so the text is matched here, in English and where runs depend
on it in Japanese. The error of a server with messages in another language gets the general lines.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import sql_name

if TYPE_CHECKING:
    import psycopg

NO_SUCH_DATABASE = "3D000"
_UNKNOWN = "XX000"
#: Marks the error of a login trigger: only functions have a context, and a login runs no other function.
LOGIN_TRIGGER = r"\nCONTEXT: "
#: The default name of the setting with the URL.
URL = "REFNET_DATABASE_URL"
_OWN_HINT = "RefNet itself started that server; if it has ended, retry."


class ConnectError(RefnetError):
    """A session could not be opened. `sqlstate`: the server's reason; None if no server answered or it is unknown."""

    def __init__(
        self,
        message: str,
        hint: str,
        sqlstate: str | None = None,
        transient: bool = False,
        code: Exit = Exit.FAILED,
    ) -> None:
        super().__init__(message, hint, code, transient)
        self.sqlstate = sqlstate

    @property
    def no_such_database(self) -> bool:
        return self.sqlstate == NO_SUCH_DATABASE

    @property
    def is_unexplained(self) -> bool:
        """Whether the text of the server is not one of those that are known here."""
        return self.sqlstate in {None, _UNKNOWN}


@dataclass(frozen=True)
class _ConnectReason:
    words: str
    sqlstate: str | None
    message: str
    hint: str
    transient: bool = False


_REASONS = (
    _ConnectReason(
        r"no password supplied",
        None,
        "the server at {address} requires a password for {user}, but none is set",
        "Put it into {named}, or into {passwords}.",
    ),
    _ConnectReason(
        LOGIN_TRIGGER,
        "P0001",
        "an event trigger of {database} at {address} refuses the login of {user}: {said}",
        "Let its function return for {sql_user} (SELECT evtfoid::regproc FROM pg_event_trigger WHERE evtevent = 'login'), "
        "or GRANT SET ON PARAMETER event_triggers TO {sql_user}.",
    ),
    _ConnectReason(
        r"password authentication failed|パスワード認証に失敗しました",
        "28P01",
        "the server at {address} rejects the password of {user}",
        "Fix the password in {named} or in {passwords}.",
    ),
    _ConnectReason(
        r"pg_hba\.conf|role .* does not exist|not permitted to log in|authentication failed|ロール.*は存在しません",
        "28000",
        "the server at {address} does not accept {user} from here: {said}",
        "Create that role, or allow it in the server's pg_hba.conf.",
    ),
    _ConnectReason(
        r"database .* does not exist|no such database|データベース.*は存在しません",  # the second is pgbouncer's
        NO_SUCH_DATABASE,
        "the server at {address} has no database {database}",
        "Create it, or restore a backup into it.",
    ),
    _ConnectReason(
        r"too many|remaining connection slots|クライアント数が多すぎ|残りの接続枠",
        "53300",
        "the server at {address} has no free connection: {said}",
        "Close some sessions or raise max_connections on the server, and retry.",
        transient=True,
    ),
    _ConnectReason(
        r"starting up|shutting down|recovery mode|not yet accepting|consistent recovery"
        r"|データベースシステムは(起動|シャットダウン|リカバリ|まだ接続)",
        "57P03",
        "the server at {address} is not ready: {said}",
        "Wait until it has started, and retry.",
        transient=True,
    ),
    _ConnectReason(
        r"not currently accepting connections",
        "55000",
        "the database {database} at {address} does not allow connections",
        "ALTER DATABASE {sql_database} ALLOW_CONNECTIONS true, unless that is intended.",
    ),
    _ConnectReason(
        r"permission denied for database",
        "42501",
        "the server at {address} does not let {user} connect to the database {database}",
        "GRANT CONNECT ON DATABASE {sql_database} TO {sql_user};",
    ),
    _ConnectReason(
        r"configuration parameter|invalid value for parameter",
        "22023",
        "the server at {address} rejects the session: {said}",
        "Fix the parameters in {named} or PGOPTIONS.",
    ),
    _ConnectReason(
        r"FATAL|ERROR",
        _UNKNOWN,
        "the server at {address} rejects the session: {said}",
        "Fix {named}, or that setting of the server.",
    ),
    _ConnectReason(
        r"failed to resolve|could not translate host name",
        None,
        "the host name in {address} cannot be resolved: {said}",
        "Fix the host in {named}, or check the name service.",
        transient=True,
    ),
    _ConnectReason(
        r"SSL|certificate",
        None,
        "no encrypted connection to {address}: {said}",
        "Fix sslmode and its files in {named}, or enable SSL on the server.",
    ),
    _ConnectReason(
        r"invalid |requirepeer",
        None,
        "cannot connect to {address}: {said}",
        "Fix that parameter in {named} or the PG* variables.",
    ),
    _ConnectReason(
        r"",
        None,
        "no PostgreSQL server answers at {address}: {said}",
        "Start the server, or fix host and port in {named}.",
        transient=True,
    ),
)


def restore_setting(named: str) -> str:
    """Return the setting with the URL for restores; `named`: the setting or option with the URL for backups."""
    short = {URL: "REFNET_DATABASE_RESTORE_URL", "database_url": "database.restore_url"}
    return short.get(named, f"{named.removesuffix('.url')}.restore_url" if named.endswith(".url") else named)


def explain(
    error: psycopg.Error, *, address: str, database: str, user: str, named: str = URL
) -> ConnectError:
    """Return `error` of a failed connect as a ConnectError; neither line contains a secret.

    named: the setting or option with the URL; "": RefNet itself started that server.
    """
    text = f"ERROR: {error}" if error.sqlstate else str(error)
    reason = next(reason for reason in _REASONS if re.search(reason.words, text))
    message = reason.message.format(address=address, database=database, user=user, said=_said(text))
    hint = _OWN_HINT if not named and reason.sqlstate is None else reason.hint
    hint = hint.format(
        sql_database=sql_name(database),
        sql_user=sql_name(user),
        named=named or URL,
        passwords=os.environ.get("PGPASSFILE") or "~/.pgpass",
    )
    return ConnectError(message, hint, reason.sqlstate, reason.transient)


def _said(text: str) -> str:
    """Return the line with the reason, without the address and the prefixes of libpq and psycopg."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = next(
        (line for line in reversed(lines) if "FATAL" in line), lines[0] if lines else "no reason given"
    )
    return re.sub(r"^.*(FATAL: +|failed: |connection is bad: )", "", line)
