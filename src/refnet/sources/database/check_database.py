"""The checks of the database: its server, the rights of the login, PostgreSQL's programs, a restore."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from refnet import local_postgres, servers, wiring
from refnet.catalog.catalog import Catalog
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.core.formatting import plural, size
from refnet.postgres import binaries, embedded
from refnet.postgres.account import account
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.postgres.walls import ServerFolders, advice, enclosure
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.sources.check_result import CheckLine, CheckState, error_line, ok, warning
from refnet.sources.database import rights, server_errors
from refnet.sources.database.admin_session import admin_session
from refnet.sources.database.database_restore import restore_of
from refnet.sources.database.dump.snapshot import clock_warnings
from refnet.sources.database.restore.server_facts import facts
from refnet.sources.database.sql_text import Codec
from refnet.sources.restoring import RestoreRequest
from refnet.store.local import LocalStore

#: The time limit of a connection, in seconds, and of a statement, in milliseconds.
CONNECT_SECONDS, _STATEMENT = 10, "20000"
_INSTALLED = "SELECT extname::text, extversion FROM pg_catalog.pg_extension ORDER BY 1"
_LOGIN = """
SELECT current_setting('server_version'), current_user::text, pg_database_size(current_database())::int8
"""


def database(settings: Settings, source: SourceName = SourceName.DATABASE) -> Iterator[CheckLine]:
    """Check the database `source`. RefNet's own server is not started for this."""
    own = None if settings.of(source).url else embedded.status(settings.home)
    if own and own.major is not None and own.pid is None:
        yield ok(source, f"RefNet's own server in {own.folder} is stopped; a backup starts it")
        yield from _programs(settings, own.major)
        return
    target = servers.existing_server(settings, source)
    asked = replace(target, conninfo=make_conninfo(target.conninfo, connect_timeout=CONNECT_SECONDS))
    major, there = None, dict[str, str]()
    try:
        with asked.connect({**READER_SETTINGS, "statement_timeout": _STATEMENT}) as session:
            yield from _login(session, asked, settings, source)
            major = server_version(session)
            codec, _ = Codec.of_server(session)
            there = dict(codec.rows(session, _INSTALLED))
        yield from _restore(settings, source)
    except psycopg.Error as error:
        yield error_line(source, server_errors.of_server(error, f"checking {target.display}"))
    except RefnetError as error:
        yield error_line(source, error)
    yield from _programs(settings, major)
    yield from _extensions(settings, major, there)


def _extensions(settings: Settings, major: int | None, there: Mapping[str, str]) -> Iterator[CheckLine]:
    """Compare the extensions of the database with those available to scratch servers."""
    server = local_postgres.proof_binaries(settings, major, server=True)
    known = binaries.available(server)
    if known is None or not there:
        return
    if lacks := [name for name in there if name not in known]:
        named = ", ".join(
            f"{name} {there[name]} (Debian: {binaries.package(name, server.major)})" for name in lacks
        )
        says = f"scratch servers lack the extensions {named}, so the database cannot be proven"
        hint = f"Install them for the programs in {server.folder}, or set prove.bin_dir to those of a server that has them."
        yield warning("extensions", says, hint)
    if others := [name for name in there if known.get(name, "") not in ("", there[name])]:
        named = ", ".join(f"{name} {there[name]} (here {known[name]})" for name in others)
        yield warning(
            "extensions",
            f"scratch servers have other versions of {named}",
            "ALTER EXTENSION … UPDATE, or install the same package on both sides.",
        )
    if not lacks and not others:
        yield ok("extensions", f"scratch servers have {plural(len(there), 'extension')} of the database")


def _login(
    session: psycopg.Connection[tuple[Any, ...]], target: Target, settings: Settings, source: SourceName
) -> Iterator[CheckLine]:
    """Check the rights of the login, the server's clock, and the free space for a first backup and its proof."""
    codec, _ = Codec.of_server(session)
    ((version, role, count),) = codec.rows(session, _LOGIN)
    server = f"PostgreSQL {version.split(' ')[0]} at {target.address}"
    yield ok(source, f"{server}, database {target.name}, role {role}, {size(count)}")
    for sentence in clock_warnings(session, Clock().now):
        yield warning(source, sentence, "Synchronize both clocks (NTP).")
    made_in = settings.home if settings.encryption_local else settings.backup_dir
    for folder, purpose in ((made_in, "backup"), (settings.home, "proof")):
        free = LocalStore(folder).free_bytes()
        if free is not None and free < count:
            says = f"{size(free)} free in {folder}, and a {purpose} takes up to {size(count)}"
            yield warning("free space", says, "Free space, or choose a folder on another disk.")
    try:
        rights.check_readable(session, target, codec, entire=True)
    except RefnetError as error:
        yield error_line("backup rights", error)
    else:
        yield ok("backup rights", f"{role} can read all of {target.name}")


def _programs(settings: Settings, major: int | None) -> Iterator[CheckLine]:
    """Check the programs of a backup, and those and the isolation layers of a proof."""
    client = local_postgres.binaries_for(settings, major)
    for name in ("pg_dump", "pg_restore", "psql"):
        client.tool(name)
    newer = f"; the server is {major}" if major and client.major != major else ""
    says = f"pg_dump, pg_restore and psql {client.version} in {client.folder}{newer}"
    if newer:
        yield warning(
            "programs", says, f"Install the programs of {major} (Debian: postgresql-client-{major})."
        )
    else:
        yield ok("programs", says)
    server = local_postgres.proof_binaries(settings, major, server=True)
    user = account()
    with tempfile.TemporaryDirectory(prefix="refnet-check-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        folders = ServerFolders(folder, folder / "socket", server)
        for one in folders.writable:
            one.mkdir()
            user.own(one)
        missing = enclosure(folders, user).walls.missing
    says = f"scratch servers: PostgreSQL {server.version} in {server.folder}"
    if missing:
        hint = f"{advice()}. Foreign dumps need --trust until then."
        yield warning("proof", f"{says}, without isolation layers: {', '.join(missing)}", hint)
    else:
        yield ok("proof", f"{says}, all isolation layers")


def _restore(settings: Settings, source: SourceName) -> Iterator[CheckLine]:
    """Check that this login can restore the newest artifact, or at least create a database."""
    context, target = Context(settings), servers.restoring(settings, source, existing=True)
    store = wiring.store(settings)
    here = source_of(settings, source).whose()
    newest = Catalog.of(store.entries(source), context.clock.now()).about(here, source)
    entry = newest.newest_complete(source)
    if entry:
        restore = restore_of(context, source, store.artifact(entry), RestoreRequest())
        plan = restore.full_plan(count=False, damaged_anyway=True)
        problems, role, what = plan.problems, plan.facts.user, f"restore {entry.name} as {target.name}"
    else:
        with admin_session(target) as admin:
            found = facts(admin, target)
        role, what = found.user, "create databases"
        hint = f"ALTER ROLE {role} CREATEDB; or restore as another role."
        wrong = RefnetError(f"{role} may not create databases", hint)
        problems = () if found.superuser or found.createdb else (wrong,)
    for problem in problems:
        yield error_line("restore", problem, CheckState.WARNING)
    if not problems:
        yield ok("restore", f"{role} can {what}")
