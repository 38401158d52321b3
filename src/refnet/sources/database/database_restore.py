"""restore and undo of the database, and its comparison with an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from refnet import servers, wiring
from refnet.catalog.artifact import Finding, OpenArtifact
from refnet.catalog.catalog import continued
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Outcome
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.connecting import ConnectError
from refnet.postgres.session import Target, server_version
from refnet.settings import Settings
from refnet.sources import hooks, source_of
from refnet.sources.base import Permits
from refnet.sources.database import replaced_tables, undo_database
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact, open_database
from refnet.sources.database.plan.origin import Permission, origin_label
from refnet.sources.database.plan.restore_place import Where, check_name
from refnet.sources.database.plan.restore_plan import DatabasePlan, Options
from refnet.sources.database.plan.table_plan import TableSelection
from refnet.sources.database.restore import copy_and_swap
from refnet.sources.database.restore.copy_and_swap import Dump, Resources, Restored
from refnet.sources.database.restore.left_out import LEFT_OUT
from refnet.sources.database.restore.server_facts import holds_tables
from refnet.sources.database.restore_table import Staged, staged
from refnet.sources.database.undo_database import Undone, UndoPlan
from refnet.sources.database.workers import Workers
from refnet.sources.hooks import Action
from refnet.sources.restore_options import Mode

#: Parts of a URL that are secrets.
_SECRETS = ("password", "sslpassword", "oauth_client_secret")


@dataclass(frozen=True)
class DatabaseRestore:
    """The restore of an artifact, or of a foreign dump, as the live database."""

    context: Context
    #: The database of the settings that it is about.
    source: SourceName
    dump: Dump
    target: Target
    options: Options

    def plan(self, *, count: bool, damaged_anyway: bool) -> DatabasePlan:
        """Return what `run` would do. `count`: count the live rows, and those written after the dump."""
        planned = copy_and_swap.plan(self.target, self.dump, self.options, count=count)
        stored = self.dump.stored
        refusals = stored.refusals(anyway=damaged_anyway)
        hooked = (f"hook {line}" for line in self.hooks)
        notes = (*stored.notes, *planned.notes, *_left_out(stored), *hooked)
        return replace(planned, problems=(*refusals, *planned.problems), notes=notes, damage=stored.damage)

    @property
    def hooks(self) -> list[str]:
        """Return the hooks that it runs: none for a database beside the live one or elsewhere."""
        is_live = self.options.where is Where.LIVE
        return hooks.listed(self.context.settings, self.source, Action.RESTORE) if is_live else []

    def around(self) -> AbstractContextManager[object]:
        """Run the hooks around a block."""
        if not self.hooks:
            return nullcontext()
        return hooks.around(self.context, self.source, Action.RESTORE, self.dump.name)

    def run(self) -> Restored:
        context, settings = self.context, self.context.settings
        binaries, previous = (
            partial(servers.binaries_for, settings),
            wiring.previous_databases(settings, self.source),
        )
        resources = Resources(binaries, previous, context.clock, context.progress)
        with self.around():
            with context.restore_lock(self.source):
                done = copy_and_swap.restore(self.target, self.dump, self.options, resources)
            self._record_origin(done)  # before a hook, which may fail: the next run must know what it finds
        return done

    def _record_origin(self, done: Restored) -> None:
        for place in wiring.lineages(self.context.settings):
            try:
                place.add(done.destination.identity, done.origin)
            except RefnetError as error:
                self.context.note(f"the origin of the restored database was not recorded: {error.message}")

    def tables(self, selection: TableSelection) -> AbstractContextManager[Staged]:
        """Read the rows of the selected tables, and plan their restore in place."""
        if not isinstance(self.dump, DatabaseArtifact):
            raise RefnetError(
                f"{self.dump.name} is a foreign dump, so single tables cannot be restored from it",
                "Restore all of it under another name, and copy the rows.",
            )
        permission, progress = self.options.permission, self.context.progress
        return staged(self.target, self.dump.with_digests(), selection, permission, progress)


def _left_out(stored: OpenArtifact) -> Iterator[str]:
    """Yield a note for each object that the last proof could not restore as it is."""
    for what in stored.entry.faulty if stored.entry else ():
        yield f"{what}: no server accepts it as it is, so it is left out; the result says how to complete it by hand"


def database_at(url: str) -> Target:
    """Return the database that `--to` names. RefnetError (USAGE) if the URL is not one, or contains a password."""
    target = Target.from_url(url, "--to")
    if any(target.parts.get(name) for name in _SECRETS):
        raise RefnetError(
            f"--to {target.display}: the URL contains a password, which every user of this machine can read",
            "Leave it out: put the password into ~/.pgpass, or into the variable PGPASSWORD.",
            Exit.USAGE,
        )
    check_name(target.name, "--to")
    return target


def restore_of(
    context: Context,
    source: SourceName,
    chosen: OpenArtifact,
    options: Options | None = None,
    *,
    from_database: str | None = None,
    in_place: bool = False,
    to: str | None = None,
) -> DatabaseRestore:
    """Return the restore of `chosen` into the database of `source`.

    Args:
        from_database: the database, beside the target's own, whose data may be restored.
        in_place: the database must exist already.
        to: the URL of the database that is written, for Where.ELSEWHERE; None: the source's own, or a new one beside it.
    """
    settings, dump = context.settings, open_database(chosen)
    options = options or Options(settings.jobs)
    if isinstance(dump, ForeignDump):
        dump.wanted()  # a file that is not a dump starts no server
    if options.where is not Where.LIVE and from_database is None:
        from_database = _own_name(settings, source, chosen)  # the target has another name
    if to is not None:
        target, before = database_at(to), frozenset[str]()
    else:
        target = servers.restoring(settings, source, existing=in_place)
        here = source_of(settings, source).whose()
        before = (
            continued(here, context.store.entries(source)).before
            if isinstance(here, Identity)
            else frozenset()
        )
    permission = Permission(from_database, before)
    options = replace(options, permission=permission, keep_days=settings.retention_previous, source=source)
    return DatabaseRestore(context, source, dump, target, options)


def _own_name(settings: Settings, source: SourceName, chosen: OpenArtifact) -> str | None:
    """Return the name of the database of `source`: that of the settings, else that of its artifact."""
    if source == SourceName.DATABASE or source in settings.sources:
        return servers.database_name(settings, source)
    return chosen.entry.identity.database if chosen.entry and chosen.entry.identity else None


def recovery_of(
    context: Context, source: SourceName, chosen: OpenArtifact, permits: Permits
) -> DatabaseRestore:
    """The restore of `chosen` in a recovery."""
    how = Options(context.settings.jobs, create_roles=True, role_powers=permits.role_powers)
    other = permits.from_database if source == SourceName.DATABASE else None
    return restore_of(context, source, chosen, how, from_database=other)


def recover(context: Context, source: SourceName, chosen: OpenArtifact, permits: Permits) -> list[str]:
    """Restore `chosen` in a recovery; return what was done, a sentence each."""
    notes = list[str]()
    back = recovery_of(replace(context, note=notes.append), source, chosen, permits).run()
    of = origin_label(back.origin, back.destination)
    left_out = (note for note in back.notes if note.startswith(LEFT_OUT))
    return [
        f"the database {back.destination} is restored from {back.artifact} (of {of})",
        *left_out,
        *notes,
    ]


def plan_undo(
    context: Context, source: SourceName, name: str | None = None, to: str | None = None
) -> UndoPlan:
    """Return what `undo` of the database `source` would do.

    Args:
        name: this previous version; None: the last recorded one.
        to: the URL of the database that was restored; None: that of the settings.
    """
    return undo_database.plan(
        _existing(context, source, to), wiring.previous_databases(context.settings, source), name
    )


def _existing(context: Context, source: SourceName, to: str | None) -> Target:
    return servers.restoring(context.settings, source, existing=True) if to is None else database_at(to)


def undo_tables(context: Context, source: SourceName) -> tuple[DatabaseRestore, TableSelection] | None:
    """Return the restore that undoes the last restore of tables; None if a later one replaced the whole database."""
    found = replaced_tables.newest(context.settings, source)
    whole = (one.mark.at for one in wiring.previous_databases(context.settings, source).read().records)
    if found is None or any(at > found.at for at in whole):
        return None
    return restore_of(context, source, found.artifact, in_place=True), TableSelection(
        found.tables, Mode.REPLACE
    )


def undo(context: Context, source: SourceName, name: str | None = None, to: str | None = None) -> Undone:
    """Swap the previous version and the live database; see `plan_undo`."""
    target, records = _existing(context, source, to), wiring.previous_databases(context.settings, source)
    with context.restore_lock(source):
        return undo_database.undo(target, records, name, context.clock)


def compare(context: Context, chosen: OpenArtifact) -> tuple[Finding, ...]:
    """Compare the live database with an artifact, by content."""
    settings, dump = context.settings, open_database(chosen)
    target = servers.server(settings, chosen.source)
    try:
        with target.connect() as session:
            binaries = servers.binaries_for(settings, server_version(session))
    except ConnectError as error:
        return (Finding(f"database {target.name}", Outcome.FAILED, error.message),)
    workers = Workers(binaries, settings.jobs, context.progress)
    return dump.compare(target, workers, content=True)


def replaced(settings: Settings, source: SourceName) -> str:
    """Return the live database of `source` if it has any table, else "". An embedded server is not made for this."""
    if not servers.is_made(settings, source):
        return ""
    target = servers.restoring(settings, source)
    try:
        return f"the database {target.display}" if holds_tables(target) else ""
    except ConnectError as error:
        if error.no_such_database:
            return ""
        raise
