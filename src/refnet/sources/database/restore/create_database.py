"""Creates a database and roles as recorded by an artifact; a dump of one database contains neither."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psycopg
from psycopg import errors, sql

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.session import server_version
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session, Statement
from refnet.sources.database.artifact.index_values import PRIVILEGES

State = Mapping[str, Any]

_REVOKE = sql.SQL("REVOKE ALL ON DATABASE {} FROM {}")

#: Settings whose value is a list of names, kept quoted by the server: each element is a literal of its own.
_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
#: An element of such a list and its separator; both match in linear time.
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?: *, *| *$)')
_BARE = re.compile(r'([^",]+)(?:, *|$)')
#: The keywords of a statement that an artifact may choose.
_PRIVILEGES = {one: sql.SQL(one) for one in sorted(PRIVILEGES)}
#: The majors since which memberships have INHERIT and SET, and parameters privileges.
_WITH_OPTIONS, _WITH_PARAMETERS = 16, 15
#: The major that introduced a choice; older servers copy files.
_WITH_STRATEGY = 15
_ON_PARAMETERS = {one: sql.SQL(one) for one in ("SET", "ALTER SYSTEM")}
#: Attributes with which a role acts as others, reads all rows, or reads all changes.
_RISKY = ("superuser", "createrole", "replication", "bypassrls")
_POWERS = ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls")


def create_database(admin: Session, name: str, state: State, *, by_files: bool = False) -> None:
    """Create the empty database `name` from template0 with the encoding, locale, owner and tablespace of `state`.

    It allows no connections yet. RefnetError if the server lacks the locale or fails.

    by_files: the server copies files between two checkpoints, and does not write each page to the WAL: a quarter of the
        CPU time where nothing else has been written yet and fsync is off.
    """
    parts: list[Statement] = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ALLOW_CONNECTIONS false ENCODING {}").format(
            sql.Identifier(name), sql.Literal(state["encoding"])
        ),
        *_locale(state, server_version(admin)),
    ]
    if by_files and server_version(admin) >= _WITH_STRATEGY:
        parts.append(sql.SQL("STRATEGY file_copy"))
    if state["owner"]:
        parts.append(sql.SQL("OWNER {}").format(sql.Identifier(state["owner"])))
    if state.get("tablespace") not in {None, "pg_default"}:
        parts.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(state["tablespace"])))
    try:
        admin.execute(sql.SQL(" ").join(parts))
    except psycopg.Error as error:
        raise _not_created(error, state) from error
    except UnicodeEncodeError as error:
        raise _no_utf8("the new database's owner, tablespace or locale") from error


def close_to_others(admin: Session, name: str, state: State) -> None:
    """Allow only this role and superusers to connect to `name`, until `finish` sets the database's own privileges."""
    database = sql.Identifier(name)
    try:
        with admin.transaction():
            for grantee in (sql.SQL("PUBLIC"), sql.Identifier(state["owner"] or _own_role(admin))):
                admin.execute(_REVOKE.format(database, grantee))
            admin.execute(sql.SQL("GRANT ALL ON DATABASE {} TO CURRENT_USER").format(database))
    except psycopg.Error as error:
        raise server_errors.of_server(error, "closing the new database to others") from error


def apply_settings(admin: Session, name: str, state: State) -> tuple[str, ...]:
    """Apply the database's settings, including those per role; return sentences about failures.

    Call it before the load: functions in indexes may need the settings.
    """
    return tuple(_each(admin, _settings(name, state)))


def finish(admin: Session, name: str, state: State) -> tuple[str, ...]:
    """Set the database's privileges and connection limit; return sentences about failures.

    Call it after the load, which they might prevent; they replace those of `close_to_others`.
    """
    limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
        sql.Identifier(name), sql.Literal(state["connection_limit"])
    )
    return (
        *_each(admin, [("the connection limit", (limit,))] if state["connection_limit"] != -1 else []),
        *_each(admin, _privileges(name, state, _own_role(admin))),
    )


def powers(role: Mapping[str, Any]) -> tuple[str, ...]:
    """Attributes and parameter privileges that give `role` power beyond its own objects."""
    parameters = dict.fromkeys(one["name"] for one in role.get("parameters", ()))
    return (
        *(power.upper() for power in _RISKY if role[power]),
        *(f"may change {name}" for name in parameters),
    )


def create_roles(
    admin: Session, roles: Iterable[Mapping[str, Any]], wanted: Iterable[str]
) -> tuple[str, ...]:
    """Create the roles in `wanted` with everything except passwords; return sentences about losses.

    These roles cannot log in by password until one is set.
    """
    major, notes = server_version(admin), list[str]()
    chosen = [role for role in roles if role["name"] in set(wanted)]
    try:
        with admin.transaction():
            for role in chosen:
                admin.execute(_role(role))
            existing = {name for (name,) in admin.execute("SELECT rolname::text FROM pg_roles").fetchall()}
            for role in chosen:
                notes += _lost(role, existing, major)
                for statement in (*_memberships(role, existing, major), *_of_role(role, major)):
                    admin.execute(statement)
    except psycopg.Error as error:
        raise server_errors.of_server(error, "creating roles") from error
    except UnicodeEncodeError as error:
        raise _no_utf8("a name, a comment or a setting of a role") from error
    return tuple(notes)


def _locale(state: State, major: int) -> Iterator[Statement]:
    provider, locale = state["provider"], state["locale"]
    if provider is None:
        return
    if state["collate"]:
        yield sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(
            sql.Literal(state["collate"]), sql.Literal(state["ctype"])
        )
    if provider == "c":
        if major >= 15:
            yield sql.SQL("LOCALE_PROVIDER libc")
        return
    if major < (17 if provider == "b" else 15):
        kind = "built-in" if provider == "b" else "ICU"
        raise RefnetError(
            f"the database has the {kind} locale {locale}, which PostgreSQL {major} does not support",
            f"Restore it on PostgreSQL {17 if provider == 'b' else 15} or newer.",
        )
    name = sql.SQL(
        "LOCALE_PROVIDER builtin BUILTIN_LOCALE {}"
        if provider == "b"
        else "LOCALE_PROVIDER icu ICU_LOCALE {}"
    )
    yield name.format(sql.Literal(locale))
    if state.get("icu_rules"):
        yield sql.SQL("ICU_RULES {}").format(sql.Literal(state["icu_rules"]))


def _not_created(error: psycopg.Error, state: State) -> RefnetError:
    said = error.diag.message_primary or ""
    locale = state["locale"] or state["collate"]
    unsupported = errors.WrongObjectType | errors.InvalidParameterValue | errors.FeatureNotSupported
    if isinstance(error, unsupported) or "locale" in said or "ICU" in said:
        return server_errors.ServerError(
            f"the server cannot create a database with the locale {locale}: {said}",
            f"Install the locale {locale} on the server's machine (or a PostgreSQL built with it), then retry.",
            server_errors.Cause.UNSUPPORTED,
        )
    return server_errors.of_server(error, "creating the new database")


def _no_utf8(what: str) -> RefnetError:
    return RefnetError(
        f"{what} is not valid UTF-8, so RefNet cannot create it",
        "Create it with psql in the encoding of the old server, then retry.",
    )


def _each(admin: Session, changes: Iterable[tuple[str, Iterable[Statement]]]) -> Iterator[str]:
    """Make each change in a separate transaction; yield sentences about rejected ones."""
    for what, statements in changes:
        try:
            with admin.transaction():
                for statement in statements:
                    admin.execute(statement)
        except psycopg.Error as error:
            yield f"could not be restored: {what} ({error.diag.message_primary})"
        except UnicodeEncodeError:
            yield f"could not be restored: {what.encode('utf-8', 'replace').decode()} (it is not valid UTF-8)"


def _settings(name: str, state: State) -> Iterator[tuple[str, tuple[Statement, ...]]]:
    database = sql.Identifier(name)
    for one in state["settings"]:
        role, setting = one["role"], one["setting"]
        if role is None:
            whose, head = "", sql.SQL("ALTER DATABASE {} SET ").format(database)
        else:
            whose = f" of the role {role}"
            head = sql.SQL("ALTER ROLE {} IN DATABASE {} SET ").format(sql.Identifier(role), database)
        yield f"the setting {setting}{whose}", (head + _assignment(setting),)


def _assignment(setting: str) -> sql.Composed:
    """Return `name TO value` for a stored `name=value`."""
    name, _, value = setting.partition("=")
    values = _elements(value) if name.lower() in _LISTS else [value]
    listed = sql.SQL(", ").join([sql.Literal(one) for one in values])
    return sql.SQL("{} TO {}").format(sql.Identifier(name), listed)


def _elements(value: str) -> list[str]:
    """Elements of a stored list such as `"$user", public`; other values are one element."""
    found, at = [], 0
    while at < len(value):
        one = _QUOTED.match(value, at) or _BARE.match(value, at)
        if one is None:
            return [value]
        quoted = one[0].startswith('"')
        found.append(one[1].replace('""', '"') if quoted else one[1].strip())
        at = one.end()
    return found or [""]


def _privileges(name: str, state: State, login: str) -> Iterator[tuple[str, tuple[Statement, ...]]]:
    """Yield the owner's privileges first, ending those of the load: the owner can connect whatever fails later."""
    database, owner = sql.Identifier(name), state["owner"] or login
    listed = sorted(
        _default(owner) if state["acl"] is None else state["acl"], key=lambda one: one["grantor"] != owner
    )
    own = [one for one in listed if one["grantor"] == one["grantee"] == owner]
    everybody = [sql.SQL("PUBLIC"), *map(sql.Identifier, dict.fromkeys((owner, login)))]
    revoked = [_REVOKE.format(database, grantee) for grantee in everybody]
    granted = [statement for one in own for statement in _grant(database, one)]
    yield "its owner's privileges", (*revoked, *granted)
    for one in listed:
        if one not in own:
            yield f"{one['privilege']} for {one['grantee'] or 'PUBLIC'}", _grant(database, one)


def _default(owner: str) -> list[dict[str, Any]]:
    """Return PostgreSQL's default privileges."""
    rights = [(owner, one) for one in ("CREATE", "CONNECT", "TEMPORARY")] + [
        ("", "CONNECT"),
        ("", "TEMPORARY"),
    ]
    return [{"grantor": owner, "grantee": who, "privilege": one, "grantable": False} for who, one in rights]


def _grant(database: sql.Identifier, one: Mapping[str, Any]) -> tuple[Statement, ...]:
    grant = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(
        _privilege(one["privilege"]),
        database,
        sql.Identifier(one["grantee"]) if one["grantee"] else sql.SQL("PUBLIC"),
    )
    grant += sql.SQL(" WITH GRANT OPTION" if one["grantable"] else "")
    as_grantor = sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(one["grantor"]))
    return as_grantor, grant, sql.SQL("RESET ROLE")


def _privilege(name: str) -> sql.SQL:
    if name not in _PRIVILEGES:
        raise RefnetError(
            "the artifact grants a privilege that no database has",
            "Choose another artifact (`refnet list`); restore nothing from this one.",
            Exit.DAMAGED,
        )
    return _PRIVILEGES[name]


def _own_role(admin: Session) -> str:
    row = admin.execute("SELECT current_user::text").fetchone()
    assert row is not None  # noqa: S101  # for the type checker
    return str(row[0])


def _role(role: Mapping[str, Any]) -> sql.Composed:
    powers = " ".join(power.upper() if role[power] else f"NO{power.upper()}" for power in _POWERS)
    created = sql.SQL("CREATE ROLE {} {} CONNECTION LIMIT {}").format(
        sql.Identifier(role["name"]), sql.SQL(powers), sql.Literal(role["connection_limit"])
    )
    until = role.get("valid_until")
    return created + (sql.SQL(" VALID UNTIL {}").format(sql.Literal(until)) if until else sql.SQL(""))


def _memberships(role: Mapping[str, Any], existing: set[str], major: int) -> Iterator[sql.Composed]:
    for one in role["member_of"]:
        if one["role"] in existing:
            grant = sql.SQL("GRANT {} TO {}").format(
                sql.Identifier(one["role"]), sql.Identifier(role["name"])
            )
            options = [
                f"{option.upper()} {'TRUE' if one[option] else 'FALSE'}"
                for option in ("inherit", "set")
                if option in one and major >= _WITH_OPTIONS
            ]
            options = [*(["ADMIN OPTION"] if one["admin"] else []), *options]
            yield grant + sql.SQL(f" WITH {', '.join(options)}" if options else "")


def _lost(role: Mapping[str, Any], existing: set[str], major: int) -> Iterator[str]:
    """Sentences about parts of `role` that this server does not support."""
    for one in role["member_of"]:
        name = f"the membership of {role['name']} in {one['role']}"
        off = [option.upper() for option in ("inherit", "set") if not one.get(option, True)]
        if one["role"] not in existing:
            yield f"not restored: {name}, as the server has no such role"
        elif off and major < _WITH_OPTIONS:
            yield f"{name} allows more than before: PostgreSQL {major} has no {' or '.join(off)} FALSE"
    if role.get("parameters") and major < _WITH_PARAMETERS:
        yield f"not restored: the privileges of {role['name']} on parameters, which PostgreSQL {major} does not have"


def _of_role(role: Mapping[str, Any], major: int) -> Iterator[sql.Composed]:
    name = sql.Identifier(role["name"])
    for setting in role["settings"]:
        yield sql.SQL("ALTER ROLE {} SET ").format(name) + _assignment(setting)
    if role.get("comment") is not None:
        yield sql.SQL("COMMENT ON ROLE {} IS {}").format(name, sql.Literal(role["comment"]))
    for one in role.get("parameters", ()) if major >= _WITH_PARAMETERS else ():
        yield sql.SQL("GRANT {} ON PARAMETER {} TO {}{}").format(
            _ON_PARAMETERS[one["privilege"]],
            sql.Identifier(one["name"]),
            name,
            sql.SQL(" WITH GRANT OPTION" if one["grantable"] else ""),
        )
