"""A database on a server: sessions with it, and the environment of PostgreSQL's own tools that talk to it.

A password is in `Target.conninfo` and in the environment of a child, and nowhere else: never in argv,
a log or an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

#: What every reader sets, so that the same rows always make the same text (also for pg_dump, by PGOPTIONS).
READER_SETTINGS: Mapping[str, str] = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "timezone": "UTC",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "row_security": "off",
    "search_path": "",
    "quote_all_identifiers": "off",
    "enable_tidscan": "on",
    "synchronize_seqscans": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
#: Known since PostgreSQL 17; an older server would refuse the session.
READER_SETTINGS_17: Mapping[str, str] = {"transaction_timeout": "0"}


def options(settings: Mapping[str, str]) -> str:
    """`settings` as libpq's `options` (PGOPTIONS): `-c name=value`, spaces and backslashes escaped."""
    escaped = ((name, value.replace("\\", "\\\\").replace(" ", "\\ ")) for name, value in settings.items())
    return " ".join(f"-c {name}={value}" for name, value in escaped)


@dataclass(frozen=True)
class Target:
    """A database on a server, by libpq's connection string.

    `own`: a server that RefNet itself started; inherited PG* variables are then ignored.
    """

    conninfo: str = field(repr=False)
    own: bool = False

    @property
    def parts(self) -> dict[str, Any]:
        return conninfo_to_dict(self.conninfo)

    @property
    def name(self) -> str:
        """The database's name."""
        parts = self.parts
        return str(parts.get("dbname") or os.environ.get("PGDATABASE") or parts.get("user") or "postgres")

    def database(self, name: str) -> Target:
        """Another database on the same server, with the same login."""
        return replace(self, conninfo=make_conninfo(self.conninfo, dbname=name))

    def connect(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        autocommit: bool = True,
        encoding: str | None = None,
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """A new session with `settings` in force from its start; RefnetError where there is none to be had."""
        extra: dict[str, Any] = {"fallback_application_name": "refnet"}
        if settings:
            extra["options"] = " ".join(filter(None, [self.parts.get("options"), options(settings)]))
        if encoding:
            extra["client_encoding"] = encoding
        return psycopg.connect(make_conninfo(self.conninfo, **extra), autocommit=autocommit)

    def environment(
        self, settings: Mapping[str, str] | None = None, *, encoding: str | None = None
    ) -> dict[str, str]:
        """The environment for a child (psql, pg_dump, pg_restore) that is to talk to this database."""
        inherited = {k: v for k, v in os.environ.items() if not (self.own and k.startswith("PG"))}
        names = {
            option.keyword.decode(): option.envvar.decode()
            for option in Conninfo.get_defaults()
            if option.envvar
        }
        given = {names[k]: str(v) for k, v in self.parts.items() if k in names}
        if settings:
            given["PGOPTIONS"] = " ".join(filter(None, [given.get("PGOPTIONS"), options(settings)]))
        if encoding:
            given["PGCLIENTENCODING"] = encoding
        return {**inherited, "PGAPPNAME": "refnet", **given}
