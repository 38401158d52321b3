"""The checks of the database: its server, the rights of the login, PostgreSQL's programs, a restore."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from refnet import servers, wiring
from refnet.actions import database_restore
from refnet.actions.check_result import Line, State, error_line, ok, warning
from refnet.actions.context import Context
from refnet.errors import RefnetError
from refnet.postgres import embedded
from refnet.postgres.account import account
from refnet.postgres.walls import ServerFolders, enclosure
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.formatting import plural, size, some
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.admin_session import admin_session
from refnet.recovery.sources.database.dump import server_clock
from refnet.recovery.sources.database.dump.readable import Login, login_of
from refnet.recovery.sources.database.restore.server_facts import facts
from refnet.settings import Settings


def database(settings: Settings) -> Iterator[Line]:
    """Check the database. RefNet's own server is not started for this."""
    try:
        yield from _database(settings)
    except psycopg.Error as error:
        raise server_errors.of_server(error, "checking the database") from None


def _database(settings: Settings) -> Iterator[Line]:
    own = None if settings.database_url else embedded.status(settings.home)
    if own and own.major is not None and own.pid is None:
        yield ok("database", f"RefNet's own server in {own.folder} is stopped; a backup starts it")
        yield from _programs(settings, own.major)
        return
    try:
        login = login_of(servers.existing_server(settings))
    except RefnetError as error:
        yield error_line("database", error)
        yield from _programs(settings, None)
        return
    yield ok("database", f"{login.display}, {size(login.size)}")
    for sentence in server_clock.warnings(servers.existing_server(settings), Context(settings).clock.now):
        yield warning("database", sentence, "Synchronize both clocks (NTP).")
    yield from _rights(login)
    yield from _programs(settings, login.major)
    yield from _space(settings, login)
    yield from _restore(settings)


def _rights(login: Login) -> Iterator[Line]:
    """Check that a dump can read everything."""
    what, before = "backup rights", f"{login.role} cannot read"
    if login.unreadable:
        hint = f"GRANT pg_read_all_data TO {login.role};"
        yield Line(what, State.ERROR, f"{before} {some(login.unreadable, 3)}", hint)
    if login.filtered:
        hint = f"ALTER ROLE {login.role} BYPASSRLS;"
        says = f"row-level security hides rows from {login.role}: {some(login.filtered, 3)}"
        yield Line(what, State.ERROR, says, hint)
    if login.large_objects:
        hint = f"Make {login.role} a member of their owner, or GRANT SELECT ON LARGE OBJECT."
        says = f"{before} {plural(login.large_objects, 'large object')}"
        yield Line(what, State.ERROR, says, hint)
    if not (login.unreadable or login.filtered or login.large_objects):
        yield ok(what, f"{login.role} can read all of {login.database}")


def _programs(settings: Settings, major: int | None) -> Iterator[Line]:
    """Check the programs of a backup, and those and the isolation layers of a proof."""
    client = servers.binaries_for(settings, major)
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
    server = servers.binaries_for(settings, major, server=True)
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
        hint = "Install bubblewrap. Foreign dumps need --trust until then."
        yield warning("proof", f"{says}, without isolation layers: {', '.join(missing)}", hint)
    else:
        yield ok("proof", f"{says}, all isolation layers")


def _space(settings: Settings, login: Login) -> Iterator[Line]:
    """Check the free space for a first backup and for a proof; the monitor knows the size of the next backup."""
    for folder, purpose in ((settings.home, "proof"), (settings.backup_dir, "backup")):
        nearest = next(one for one in (folder, *folder.parents) if one.exists())
        disk = os.statvfs(nearest)
        free = disk.f_bavail * disk.f_frsize
        says = f"{size(free)} free in {folder}, a {purpose} takes at most about {size(login.size)}"
        if free < login.size:
            yield warning("free space", says, "Free space, or choose a folder on another disk.")
        else:
            yield ok("free space", says)


def _restore(settings: Settings) -> Iterator[Line]:
    """Check that this login could restore the newest artifact, else that it could create a database."""
    context, target = Context(settings), servers.existing_server(settings)
    store = wiring.store(settings)
    newest = Catalog.of(store.entries(SourceName.DATABASE)).about(servers.identity(settings))
    entry = newest.newest_complete(SourceName.DATABASE)
    if entry:
        plan = database_restore.restore_of(context, store.artifact(entry)).plan(
            count=False, damaged_anyway=True
        )
        problems = plan.problems
        says = f"{plan.facts.user} can restore {entry.name} as {plan.facts.database}"
    else:
        with admin_session(target) as admin:
            found = facts(admin, target, {})
        may = found.superuser or found.createdb
        hint = f"ALTER ROLE {found.user} CREATEDB; or restore as another role."
        problems = () if may else (RefnetError(f"{found.user} may not create databases", hint),)
        says = f"{found.user} can create databases"
    for problem in problems:
        yield error_line("restore", problem, State.WARNING)
    if not problems:
        yield ok("restore", says)
