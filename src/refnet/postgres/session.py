"""A database on a server: sessions with it, and the environment for PostgreSQL's own programs.

A password is only in `Target.conninfo` and in the environment of a child: never in argv, a log or an error.
"""

import logging
import os
import pwd
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from typing import Any, Self

import psycopg
from psycopg.adapt import Buffer, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.connect_error import URL, ConnectError, explain
from refnet.postgres.preparing import Openings, WantedSession

#: The settings of every reader: the same rows always give the same text.
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
    "standard_conforming_strings": "on",
    "enable_tidscan": "on",
    "synchronize_seqscans": "off",
    "default_transaction_isolation": "read committed",  # a standby refuses serializable
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
_KNOWN_TO_POOLERS = {"PGTZ": "timezone", "PGDATESTYLE": "datestyle"}
#: New in PostgreSQL 17; an older server would refuse the session.
READER_SETTINGS_17: Mapping[str, str] = {"transaction_timeout": "0"}

#: The databases that every server has.
MAINTENANCE = ("postgres", "template1")
#: For --verbose.
_log = logging.getLogger("refnet.detail")
#: libpq's connect_timeout, unless the user sets it.
CONNECT_SECONDS = 30

#: Variables that libpq reads in spite of given parameters.
STUBBORN_VARIABLES = ("PGSERVICE", "PGSERVICEFILE", "PGCLIENTENCODING", "PGTZ", "PGDATESTYLE", "PGGEQO")
_environment_lock = threading.Lock()
_openings = Openings()

# psycopg logs errors that it ignores (a rollback on a session that an interrupt broke): keep them off the terminal.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


def reader_settings(major: int) -> Mapping[str, str]:
    """Return the settings of a reader on a server of `major`."""
    return {**READER_SETTINGS, **(READER_SETTINGS_17 if major >= 17 else {})}


def options(settings: Mapping[str, str]) -> str:
    """Return `settings` as libpq's `options` (PGOPTIONS): `-c name=value`, spaces and backslashes escaped."""
    escaped = ((name, value.replace("\\", "\\\\").replace(" ", "\\ ")) for name, value in settings.items())
    return " ".join(f"-c {name}={value}" for name, value in escaped)


def own_parameters(**wanted: str) -> dict[str, str]:
    """For RefNet's own servers: every parameter that a PG* variable could set, as given or with libpq's default."""
    compiled = {
        option.keyword.decode(): (option.compiled or b"").decode()
        for option in Conninfo.get_defaults()
        if option.envvar and option.keyword != b"service"
    }
    given = {
        "sslmode": "disable",
        "sslcertmode": "disable",
        "gssencmode": "disable",
        "min_protocol_version": "3.0",
        "max_protocol_version": "3.0",
        "passfile": "/dev/null/none",
        "connect_timeout": str(CONNECT_SECONDS),
    }
    unset = ("client_encoding", "application_name")
    return {
        name: value
        for name, value in (compiled | given | wanted).items()
        if name in compiled and name not in unset
    }


class _Text(Loader):
    """Text of any encoding; bytes that are not UTF-8 become surrogates: names of roles and databases may have them."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Target:
    """A database on a server."""

    #: libpq's connection string.
    conninfo: str = field(repr=False)
    #: A server that RefNet itself started: inherited PG* variables are ignored.
    own: bool = False
    #: The setting or option with the connection string, for errors.
    named: str = field(default=URL, compare=False)

    @classmethod
    def from_url(cls, url: str, named: str = URL) -> Self:
        """Return the target of a libpq URI, the socket form included; RefnetError (USAGE) if it is invalid.

        named: the setting or option with the URI, for the error.
        """
        try:
            target = cls(make_conninfo(url), named=named)
            target.parts  # noqa: B018  # libpq reads it only here
        except (psycopg.ProgrammingError, UnicodeError):
            target = None  # libpq's error quotes the URI, with the password
        if target is None or not _is_well_escaped(url, str(target.parts.get("port", ""))):
            raise RefnetError(
                f"{named} is not a valid PostgreSQL URI",
                "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE (or …@/DATABASE?host=/FOLDER); "
                "in a password, write %40 for @, %2F for /, %3A for : and %25 for %.",
                Exit.USAGE,
            )
        if not target._in_force("dbname"):  # a private member of the same class
            raise RefnetError(
                f"{named} names no database on the server at {target.address}",
                "Write postgresql://USER@HOST:PORT/DATABASE (or …@/DATABASE?host=/FOLDER).",
                Exit.USAGE,
            )
        return target

    @property
    def parts(self) -> dict[str, Any]:
        return dict(_parts(self.conninfo))

    @property
    def name(self) -> str:
        """The database's name."""
        return self._in_force("dbname") or self.user

    @property
    def user(self) -> str:
        """The login role; the operating system's user if none is given."""
        return self._in_force("user") or _system_user()

    @property
    def address(self) -> str:
        """`host:port`, or the folder of the socket; for messages."""
        host = self._in_force("hostaddr") or self._in_force("host") or "the local socket"
        return host if self.own else f"{host}:{self._in_force('port') or '5432'}"

    @property
    def display(self) -> str:
        """`refnet on host:port`, for messages; without any secret."""
        return f"{self.name} on {self.address}"

    def _in_force(self, keyword: str) -> str:
        given = _parts(self.conninfo).get(keyword)
        if given is None:
            given = os.environ.get(_variables()[keyword])
        return str(given or "")

    def database(self, name: str) -> Self:
        """Another database on the same server, with the same login."""
        return replace(self, conninfo=make_conninfo(self.conninfo, dbname=name))

    def parameters(self, settings: Mapping[str, str] | None = None, encoding: str | None = None) -> str:
        """Return libpq's connection string of a session with `settings`; it may contain a password.

        Settings that a login cannot carry are missing: see `connect`.
        """
        return self._parameters(_openings.at_login(self._wanted(settings, encoding)), encoding)

    def _parameters(self, at_login: Mapping[str, str], encoding: str | None) -> str:
        extra: dict[str, Any] = {"fallback_application_name": "refnet"}
        if not self._in_force("connect_timeout"):
            extra["connect_timeout"] = CONNECT_SECONDS
        extra["options"] = self._options(at_login)
        if encoding:
            extra["client_encoding"] = encoding
        return make_conninfo(self.conninfo, **extra)

    def _wanted(self, settings: Mapping[str, str] | None, encoding: str | None = None) -> WantedSession:
        reads = settings is None or "statement_timeout" in settings
        encoded = {"client_encoding": encoding} if encoding else {}
        return WantedSession(
            {"idle_session_timeout": "0", **(settings or {}), **encoded}, (self.address, self.user), reads
        )

    def connect(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        autocommit: bool = True,
        encoding: str | None = None,
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """Open a session with `settings`, which are set by SQL and compared with those in force.

        ConnectError if that fails: server down, wrong password, no such database, a pooler that shares sessions …
        idle_session_timeout is off: a session may wait for other work of the same run.
        With statement_timeout, or without settings, transaction_timeout is off too, and so are event triggers where the
        server knows them and the role may turn them off.
        """
        wanted = self._wanted(settings, encoding)
        if not self.own:
            self._check_password_file()

        def login(at_login: Mapping[str, str]) -> psycopg.Connection[tuple[Any, ...]]:
            with _hidden_variables() if self.own else nullcontext():
                return psycopg.connect(self._parameters(at_login, encoding), autocommit=True)

        try:
            connection = _openings.open(login, wanted)
            try:
                if encoding == "UTF8":
                    connection.adapters.register_loader("text", _Text)
                if not self.own:
                    _openings.poolers.check(connection, self.conninfo, partial(login, {}), self.named)
                _openings.prepare(connection, wanted)
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            raise self.explained(error) from None
        except (LookupError, TypeError, ValueError) as error:  # unexpected rows
            raise ConnectError(
                f"{self.address} is not a PostgreSQL server",
                f"Set {self.named} to the address of a PostgreSQL server.",
            ) from error
        connection.autocommit = autocommit
        version = connection.info.parameter_status("server_version")
        _log.debug("server: PostgreSQL %s, %s", version, self.display)
        return connection

    def _check_password_file(self) -> None:
        """RefnetError (USAGE) if libpq would wait for the content of a pipe or a device."""
        path = self._in_force("passfile")
        is_read = path not in {"", os.devnull} and not self._in_force("password")
        if is_read and os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113  # never an error
            raise RefnetError(
                f"the password file {path} is not a regular file",
                "Let PGPASSFILE name a file of mode 0600, or unset it.",
                Exit.USAGE,
            )

    def explained(self, error: psycopg.Error) -> ConnectError:
        """Return the ConnectError for a failed login, without a secret."""
        named = "" if self.own else self.named
        told = partial(explain, address=self.address, database=self.name, user=self.user, named=named)
        found = told(error)
        if found.is_unexplained and not str(error).isascii() and self._is_missing():
            return told(psycopg.OperationalError("no such database"))
        return found

    def _is_missing(self) -> bool:
        """Whether the server, whose messages are in another language, has no database of this name."""
        if self.name in MAINTENANCE:
            return False
        for name in MAINTENANCE:
            with suppress(ConnectError, psycopg.Error), self.database(name).connect() as session:
                query = "SELECT FROM pg_database WHERE datname = %s"
                return session.execute(query, (self.name,)).fetchone() is None
        return False

    def environment(
        self, settings: Mapping[str, str] | None = None, *, encoding: str | None = None
    ) -> dict[str, str]:
        """Return the environment for psql, pg_dump or pg_restore to use this database; messages are in English.

        search_path, row_security and a read-only mode of `settings` are missing: these programs set them.
        """
        inherited = {k: v for k, v in os.environ.items() if not (self.own and k.startswith("PG"))}
        names = _variables()
        given = {names[k]: str(v) for k, v in self.parts.items() if k in names and not (self.own and v == "")}
        if settings:
            given["PGOPTIONS"] = self._options(_openings.at_login(self._wanted(settings)))
            # Poolers that drop options keep these.
            given |= {
                variable: settings[name] for variable, name in _KNOWN_TO_POOLERS.items() if name in settings
            }
        if encoding:
            given["PGCLIENTENCODING"] = encoding
        return {**inherited, "LC_ALL": "C", "PGAPPNAME": "refnet", **given}

    @property
    def pooled(self) -> bool:
        """Whether an earlier session of this process found a pooler here."""
        return _openings.poolers.knows(self.conninfo)

    def _options(self, settings: Mapping[str, str]) -> str:
        return " ".join(filter(None, [self._in_force("options"), options(settings)]))


def server_version(connection: psycopg.Connection[Any]) -> int:
    """Return the server's major version."""
    return connection.info.server_version // 10_000


def _is_well_escaped(url: str, port: str) -> bool:
    """Return False if libpq took a `/` or `@` of the password for the end of the login.

    An error would then show a part of the password as host, port or database.
    """
    head = url.split("://", 1)[-1].split("?", 1)[0]
    login = head[: head.rfind("@") + 1][:-1]
    return not set(login) & {"/", "@"} and f"0{port}".replace(",", "").isdecimal()


def _system_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


@lru_cache
def _parts(conninfo: str) -> Mapping[str, Any]:
    return conninfo_to_dict(conninfo)


@cache
def _variables() -> Mapping[str, str]:
    """Return keyword → environment variable, as libpq reads them."""
    return {o.keyword.decode(): o.envvar.decode() for o in Conninfo.get_defaults() if o.envvar}


@contextmanager
def _hidden_variables() -> Iterator[None]:
    """Hide the variables that no parameter overrides from libpq, while it connects to our own server.

    One thread at a time. Sessions with the user's server do not begin meanwhile: a proof runs after its backup.
    """
    with _environment_lock:
        hidden = {k: os.environ.pop(k) for k in STUBBORN_VARIABLES if k in os.environ}
        try:
            yield
        finally:
            os.environ.update(hidden)
