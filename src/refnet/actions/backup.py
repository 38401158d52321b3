"""backup: lock, dump, publish, prove, in one straight line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refnet import wiring
from refnet.actions.backup_result import Backup
from refnet.catalog.artifact import Made, Maker, Turn, at_once, retried
from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import MOST_BEFORE, MOST_NUMBERED, Entry
from refnet.catalog.next_artifact import marked
from refnet.catalog.run import Reason, RunKind
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.formatting import plural
from refnet.settings import Settings
from refnet.settings.stores import ENCRYPTED
from refnet.sources import hooks, source_of
from refnet.sources.database import saved_tables
from refnet.sources.hooks import HookAction
from refnet.store.local import LocalStore
from refnet.store.source_records import KnownSource, new_id

if TYPE_CHECKING:
    from refnet.telemetry.watch import AtWork


@dataclass(frozen=True)
class Options:
    #: Restore the artifact into a scratch place and compare before the backup ends.
    prove: bool = True
    #: Parallel workers; None: as many as the settings say.
    jobs: int | None = None
    #: Only these tables of the database; empty: everything.
    tables: tuple[str, ...] = ()
    #: Write there, outside the catalog; None: into the store.
    folder: Path | None = None
    #: A transient failure is retried soon, so no message goes out yet.
    again: bool = False
    #: Make none if the newest one was published and checked since then.
    since: datetime | None = None
    #: Make none if the newest one is not older than this, or the last run ended within it with a copy missing.
    if_older: timedelta | None = None
    #: Details of the manifest beside those of the source.
    details: Mapping[str, Any] = field(default_factory=dict)
    #: Called when the moment of the artifact is fixed; returns when it may be copied.
    turn: Turn = at_once
    #: It is proven, and the server digests every row, whatever the settings say.
    first: bool = False
    #: Make no increment.
    full: bool = False


@dataclass(frozen=True)
class BackupPlan:
    """The next backup of one source."""

    source: SourceName
    #: The database with its server, or the folder; "": it is not configured.
    what: str
    #: The folder of the new artifact.
    folder: Path
    #: Why the backup would fail, as far as that is known before.
    problem: RefnetError | None = None
    #: The hooks that it runs.
    hooks: tuple[str, ...] = ()
    #: The remote stores that it copies the artifact to.
    stores: tuple[str, ...] = ()
    #: The artifact that is new enough, so that none is made; "": one is made.
    earlier: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "what": self.what or None,
            "folder": str(self.folder),
            "hooks": list(self.hooks),
            "stores": list(self.stores),
            "earlier": self.earlier or None,
            "problem": self.problem and self.problem.to_json(),
        }


@dataclass(frozen=True)
class _Place:
    """Where the artifacts of a source are made, and where they are kept."""

    context: Context
    source: SourceName
    store: LocalStore

    @classmethod
    def of(cls, context: Context, source: SourceName, folder: Path | None) -> _Place:
        return cls(context, source, LocalStore(folder, flat=True) if folder else context.local)

    @property
    def seals(self) -> bool:
        """Whether they are then encrypted into the backup folder."""
        return self.context.settings.encryption_local and not self.store.flat

    def entries(self) -> tuple[Entry, ...]:
        """Those that exist, before a new one."""
        return (self.context.catalog if self.seals else self.store).entries(self.source)

    def earlier(self, since: datetime | None) -> Backup | None:
        """The newest complete one of the live server, if published and checked since `since`."""
        if since is None:
            return None
        source, now = source_of(self.context.settings, self.source), self.context.clock.now()
        newest = (
            Catalog.of(self.entries(), now).about(source.whose(), self.source).newest_complete(self.source)
        )
        if not newest or not since <= newest.published <= now or not newest.evidence:
            return None
        if not source.is_of_live(newest):  # such as one that a recovery fetched, of the server that was lost
            return None
        unaccepted = (*(newest.manifest.shrunk if newest.shrunk else ()), *newest.unaccepted)
        return Backup(newest.manifest, None, {}, earlier=True, unaccepted=unaccepted)

    def published(self, since: datetime) -> Entry | None:
        """The one that was published since `since`."""
        found = [*self.entries(), *(self.store.entries(self.source) if self.seals else ())]
        return next((one for one in reversed(found) if one.published >= since), None)

    def path(self, name: str) -> Path:
        """The file of the artifact `name`; of an encrypted one its manifest."""
        if not self.seals:
            return self.store.folder(self.source) / name

        from refnet.actions import seal

        return seal.path(self.context, self.source, name)


def plan(context: Context, name: SourceName, options: Options) -> BackupPlan:
    """Plan a backup of `name`; writes nothing and starts no server."""
    place = _Place.of(context, name, options.folder)
    what, problem = "", None if options.folder else _trouble(context)
    if name in wiring.configured(context.settings):
        try:
            what = source_of(context.settings, name).reached()
            what = f"only {', '.join(options.tables)} of {what}" if options.tables else what
        except RefnetError as error:
            problem = error
    else:
        problem = problem or nothing_named(context.settings, name)
    listed = hooks.listed(context.settings, name, HookAction.BACKUP)
    aside = options.folder or options.tables  # such an artifact is not copied
    stores = () if aside else tuple(one.name for one in context.settings.stores_of(name))
    known = what and not problem
    there = place.earlier(_since(context, name, options)) if known else None
    earlier = there.manifest.name if there else ""
    folder = context.settings.backup_dir / ENCRYPTED if place.seals else place.store.folder(name)
    return BackupPlan(name, what, folder, problem, () if earlier else tuple(listed), stores, earlier)


def nothing_named(settings: Settings, name: SourceName) -> RefnetError | None:
    """Error with advice about settings, if no source is named and no default exists."""
    there = {*settings.sources} | wiring.configured(settings) - {SourceName.CONFIG}
    asked = name == SourceName.DATABASE and settings.defaults_to(name) and not there
    return wiring.not_configured(settings, name) if asked else None


def _trouble(context: Context) -> RefnetError | None:
    """Error that would prevent storing artifacts in the backup folder, as far as known in advance."""
    if context.settings.encryption_local:
        from refnet.actions import seal

        try:
            seal.check(context)
        except RefnetError as error:
            return error
    return wiring.store(context.settings).trouble()


def backup(context: Context, name: SourceName, options: Options | None = None) -> Backup | None:
    """Make an artifact of the source `name` and prove it; None if the source is not configured."""
    from refnet.actions import unprotected
    from refnet.actions.watching import open_watch, report_proof

    options, settings = options or Options(), context.settings
    if name not in wiring.configured(settings):
        return None
    place = _Place.of(context, name, options.folder)
    options = replace(options, since=_since(context, name, options))
    if earlier := place.earlier(options.since):
        earlier = replace(earlier, path=place.path(earlier.manifest.name))
        return _send_earlier(context, earlier, again=options.again)
    maker = source_of(settings, name).maker(
        jobs=options.jobs, tables=options.tables, into=place.store, full=options.full
    )
    watched = options.folder is None and not options.tables  # else it protects nothing that is monitored
    if watched:
        run = open_watch(context).run(RunKind.BACKUP, name, again=options.again, left=place.published)
    with run if watched else nullcontext() as at_work:
        within = replace(context, progress=at_work.logged(context.progress)) if at_work else context
        with hooks.around(within, name, HookAction.BACKUP) as doing:
            if watched:
                options = replace(options, details=unprotected.details(settings, name))
            result = make(within, maker, place.store, options)
            result = replace(result, path=place.path(result.manifest.name))
            doing.artifact = result.manifest.name
            if result.proof and result.damaged:
                doing.damaged = "; ".join(result.proof.reasons) or "the proof failed"
        if at_work:
            report_proof(at_work, result.manifest.name, result.proof)
            result = _copied(within, result, at_work)
        if not result.path.exists():
            raise RefnetError(f"{result.path} is gone", "A hook or another program removed it; retry.")
    if watched and (failed := unprotected.keep_settings(settings, context.clock)):
        result = replace(result, warnings=(*result.warnings, failed))
    return result


def _send_earlier(context: Context, result: Backup, *, again: bool) -> Backup:
    """Send missing copies of an earlier artifact; recorded as a separate run if stores are configured."""
    if not context.settings.stores_of(result.manifest.source):
        return result

    from refnet.actions.watching import open_watch

    with open_watch(context).run(RunKind.BACKUP, result.manifest.source, again=again) as at_work:
        at_work.done(result.manifest.name)
        return _copied(replace(context, progress=at_work.logged(context.progress)), result, at_work)


def _copied(context: Context, result: Backup, at_work: AtWork) -> Backup:
    """Copy the new artifact to the remote stores of its source, unless it is damaged."""
    source = result.manifest.source
    if result.damaged or not context.settings.stores_of(source):
        return result

    from refnet.actions.copy import copy_new, missing

    copies = copy_new(context, source, result.manifest.name)
    at_work.sent({one.store: one.sent for one in copies if one.is_new})
    if uncopied := missing(copies):
        at_work.failed(Reason.COPY, uncopied.message, uncopied.hint)
    return replace(result, copies=(*result.copies, *copies), uncopied=uncopied)


def _since(context: Context, name: SourceName, options: Options) -> datetime | None:
    """Earliest time of an artifact that counts as new enough.

    Sending may take longer than `if_older`, so an artifact that the last run did not send is always new enough.
    """
    if options.if_older is None:
        return options.since
    now = context.clock.now()
    since = now - options.if_older
    last = wiring.journal(context.settings).history().last(RunKind.BACKUP, name)
    if last is None or last.reason is not Reason.COPY:
        return since
    ago = (now - last.started).total_seconds() - last.seconds
    entry = Catalog.of(context.catalog.entries(name)).named(last.artifact)
    return min(since, entry.published) if entry and 0 <= ago <= options.if_older.total_seconds() else since


def make(context: Context, maker: Maker, store: LocalStore, options: Options) -> Backup:
    """Make one artifact in `store`; return an earlier one if another run made it meanwhile."""
    place = _Place(context, maker.name, store)
    work = partial(_make_proven, place, maker, options)
    with store.lock(maker.name):
        if not place.seals:
            return work()

        from refnet.actions import seal

        return seal.sealed(context, maker.name, work)


def keep_tables(context: Context, source: SourceName, tables: Sequence[str]) -> None:
    """Save `tables` of the live database, `schema.table` each, before a restore changes their rows; see `saved_tables`."""
    place = saved_tables.store(context.settings, source)
    how = Options(prove=False, tables=tuple(tables), details={saved_tables.DETAIL: list(tables)})
    make(context, source_of(context.settings, source).maker(tables=how.tables), place, how)


def _make_proven(place: _Place, maker: Maker, options: Options) -> Backup:
    """Make and prove an artifact in the locked `place`."""
    if earlier := place.earlier(options.since):
        return earlier
    from refnet.actions import verify

    context = place.context
    level, maker = verify.comparison(
        context, maker, place.entries(), prove=options.prove, first=options.first
    )
    dump = partial(_dump, place, maker, options)
    prove = partial(verify.prove, context, place.store, known=place.entries, level=level)
    result = prove(retried(dump))
    if not result.differs:  # only a database can: its rows against those that its server digested
        return result
    context.note(
        f"{result.manifest.name} differs from the database and counts as damaged; the backup is repeated"
    )
    return prove(dump())


def _dump(place: _Place, maker: Maker, options: Options) -> Backup:
    """Dump into a draft and publish it, once."""
    context, clock = place.context, place.context.clock
    started, waited = clock.monotonic(), 0.0

    def turn() -> None:
        nonlocal waited
        begin = clock.monotonic()
        options.turn()
        waited = clock.monotonic() - begin

    with place.store.draft(maker.name) as draft:
        made = replace(maker.dump(draft.out, context.progress, turn), published=clock.now())
        made = replace(made, details={**made.details, **options.details})
        known = place.entries()
        if options.folder is None:
            made = _identified(context, maker.name, made, known)
        made = marked(made, maker.name, known, wiring.shrinking(context.settings, maker.name))
        dumped = clock.monotonic()
        took = dumped - started - waited
        local, others = made.created.astimezone(clock.zone), frozenset(one.name for one in known)
        manifest = draft.publish(made, local, took, others)
    seconds = {"dump": took, "publish": clock.monotonic() - dumped}
    must_prove = context.settings.prove_required and not made.partial  # some tables cannot be proven
    return Backup(manifest, None, seconds, made.warnings, unaccepted=manifest.shrunk, must_prove=must_prove)


def _identified(context: Context, source: SourceName, made: Made, there: Iterable[Entry]) -> Made:
    """`made` with identity and next number, which are recorded in REFNET_HOME.

    there: the artifacts of `source` in the catalog, whose store is locked.
    """
    records, catalog = wiring.identities(context.settings), Catalog.of(there)
    known = records.or_handed_over(source)
    if source.kind.row.by_name:
        own = Identity.read(made.details)
        made = replace(made, continues=_continues(context, own, catalog)) if own else made
        before = frozenset(made.continues)
        catalog = catalog.about(replace(own, before=before) if own else None, source)
    else:
        if not known.id:
            known = replace(known, id=new_id())
            _say_others(context, source, catalog)
        made = replace(made, identity_id=known.id)
        catalog = catalog.about(known.whose, source)
    numbers = (entry.manifest.number or 0 for entry in catalog.of_source(source))
    number = min(max(known.number, *numbers, 0) + 1, MOST_NUMBERED)
    records.made(source, KnownSource(known.id, number))
    return replace(made, number=number)


def _continues(context: Context, own: Identity, catalog: Catalog) -> tuple[str, ...]:
    """Servers whose database of the same name `own` continues, newest last."""
    recorded = [one for place in wiring.lineages(context.settings) for one in place.before(own)]
    said = [one for e in catalog.entries if e.identity == own for one in e.manifest.continues]
    return tuple(one for one in dict.fromkeys((*said, *recorded)) if one != own.system)[-MOST_BEFORE:]


def _say_others(context: Context, source: SourceName, catalog: Catalog) -> None:
    """Warn that a new source does not continue others of the same name."""
    others = {entry.whose for entry in catalog.of_source(source) if entry.whose}
    if others:
        context.note(
            f"{source} is a new source: {plural(len(others), 'other')} of this name in the backup folder (of another machine or"
            " another REFNET_HOME) stay separate"
        )
