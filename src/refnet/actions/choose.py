"""Resolves the sources and artifacts of a command line: a listed name, a path, or nothing for each source's newest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from refnet import wiring
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.catalog import Catalog, parse_time
from refnet.catalog.identity import Identity, Whose, labels
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import LOCAL, STANDARD, Kind, SourceName, read_file_name
from refnet.catalog.store import AnyStore
from refnet.context import Context
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, did_you_mean
from refnet.core.files import explained
from refnet.settings import user_path
from refnet.sources import kind_of, source_of
from refnet.store.local import LocalStore
from refnet.store.open_artifacts import artifact_at, folder_at

if TYPE_CHECKING:
    from refnet.store.remote import RemoteStore
    from refnet.store.sealed import SealedStore


@dataclass(frozen=True)
class Selected:
    """The artifacts to check."""

    chosen: list[OpenArtifact]
    #: The sources that are configured and have no complete artifact.
    absent: tuple[SourceName, ...] = ()
    #: It is the newest of every source.
    everything: bool = False


def select(context: Context, meant: str | None) -> Selected:
    """The artifact `meant`, the newest of the source `meant`, or (None) the newest of every source.

    RefnetError (UNVERIFIED) if nothing is found.
    """
    source = named_source(context, meant) if meant else None
    if meant and not source:
        return Selected([_chosen(context, meant)])
    names = (source,) if source else wiring.known(context.settings)
    try:
        chosen = newest_of(context, names)
    except RefnetError as error:
        code = Exit.UNVERIFIED if error.code is Exit.FAILED else error.code
        raise RefnetError(error.message, error.hint, code, error.transient) from error
    found = {one.source for one in chosen}
    configured = wiring.configured(context.settings)
    absent = tuple(name for name in names if name not in found and name in configured)
    return Selected(chosen, absent, everything=meant is None)


def newest_of(
    context: Context,
    names: tuple[SourceName, ...],
    at: datetime | None = None,
    from_database: str | None = None,
) -> list[OpenArtifact]:
    """Return the newest complete artifact (at or before `at`) of each of `names`.

    from_database: a database; None: the configured one.
    """
    targets: dict[SourceName, Whose | None] = {}
    store = context.store
    if context.remote and not any(context.remote.entries(name) for name in names):
        raise no_copy(context.remote, names)
    for name in names:
        # A server is asked only for what the store may hold of its database.
        there = not name.kind.row.by_name or name == SourceName.DATABASE or store.entries(name)
        target = source_of(context.settings, name).whose() if there else None
        if from_database:
            target = Identity(from_database, target.system if isinstance(target, Identity) else None)
        targets[name] = target
    stores = () if context.remote else _stores_of(context, names)
    return choose(store, names, at, targets=targets, now=context.clock.now(), stores=stores)


def _stores_of(context: Context, names: Iterable[SourceName]) -> tuple[str, ...]:
    """Names of the remote stores that receive copies of some source of `names`."""
    found = (one.name for name in names for one in context.settings.stores_of(name))
    return tuple(dict.fromkeys(found))


def named_source(context: Context, meant: str) -> SourceName | None:
    """The configured source `meant`, or one of that name with artifacts."""
    known = (*wiring.known(context.settings), *(() if "/" in meant else context.store.sources()))
    return next((one for one in known if one == meant), None)


def choose_to_read(context: Context, meant: str, at: str | None = None) -> OpenArtifact:
    """Return the artifact `meant`: a name in the catalog, a path, or a source for its newest one (at or before `at`)."""
    if source := named_source(context, meant):
        return newest_of(context, (source,), parse_time(at, None) if at else None)[0]
    if at:
        raise RefnetError(
            f"--at chooses an artifact of a source, and '{meant}' is not a source",
            f"Omit --at, or give one of: {', '.join(wiring.known(context.settings))}.",
            Exit.USAGE,
        )
    return _chosen(context, meant)


def _chosen(context: Context, meant: str) -> OpenArtifact:
    if meant in context.settings.clusters:
        raise wiring.is_cluster(context.settings, meant)
    return choose_one(context.store, meant, others=wiring.known(context.settings))


def choose_to_restore(
    context: Context,
    source: SourceName,
    artifact: str | None,
    at: str | None,
    named: str | None = None,
) -> OpenArtifact:
    """Return the artifact `artifact` (a name or a path) of `source`; else the newest one (at or before `at`).

    named: origin of the artifact, if not `source`; see `read_from`.
    """
    if artifact and at:
        raise RefnetError("ARTIFACT and --at exclude each other", "Omit one of them.", Exit.USAGE)
    origin, database = read_from(context, source, named)
    if artifact:
        chosen, now = choose_one(context.store, artifact, origin), context.clock.now()
        return (
            replace(chosen, notes=Catalog((chosen.entry,), now).notes(chosen.entry))
            if chosen.entry
            else chosen
        )
    return newest_of(context, (origin,), parse_time(at, None) if at else None, database)[0]


def read_from(context: Context, source: SourceName, named: str | None) -> tuple[SourceName, str | None]:
    """Source whose artifact is restored into `source`, and its database if `named` is one.

    named: the value of --source: another source of the same kind, or a database.
    """
    other = named_source(context, named) if named else None
    if other and other != source and other.kind is source.kind:
        return other, None
    if named is None or (source.kind.row.by_name and (other is None or other == source)):
        return source, named
    if other == source:
        return source, None
    if any(one.identity and one.identity.database == named for one in context.store.entries(source)):
        return source, named  # a database with the name of another source
    what = f"a {other.kind}" if other else "not a source"
    there = Catalog.of(context.store.entries()).sources
    fitting = [one for one in there if one.kind is source.kind]
    raise RefnetError(
        f"--source: '{named}' is {what}, and {source} is a {source.kind}",
        f"Give one of: {', '.join(fitting)}." if fitting else f"No {source.kind} has an artifact yet.",
        Exit.USAGE,
    )


def choose(
    store: AnyStore,
    sources: Iterable[SourceName],
    at: datetime | None = None,
    *,
    targets: Mapping[SourceName, Whose | None] | None = None,
    now: datetime | None = None,
    stores: Sequence[str] = (),
) -> list[OpenArtifact]:
    """The newest complete artifact (at or before `at`) of each of `sources`; RefnetError if one has none.

    Args:
        targets: the identity of each source, see Catalog.choices.
        now: artifacts dated later are a last resort; None: no restriction.
        stores: remote stores with copies, for a hint.
    """
    everything, sources, targets = Catalog.of(store.entries(), now), tuple(sources), targets or {}
    catalog = everything
    for source in sources:
        catalog = catalog.choices(targets.get(source), at, source)
    newest = [catalog.newest_complete(source, at) for source in sources]
    found = [
        replace(store.artifact(entry), notes=(*catalog.notes(entry), *catalog.passed_over(entry, at)))
        for entry in newest
        if entry
    ]
    if not found:
        if isinstance(store, LocalStore) and (trouble := store.trouble()):
            raise trouble
        for source, target in targets.items():
            if target and (others := everything.others(target, source)):
                raise of_others(target, others, source)
        raise nothing(catalog, sources, at, stores)
    return found


def absence(store: AnyStore, source: SourceName) -> str:
    """Reason why `source` has nothing to choose."""
    others = Catalog.of(store.entries(source)).newest_complete(source)
    of = " of the database that the settings name, only of others" if others else ""
    return f"there is no complete artifact{of}"


def of_others(
    target: Whose, others: Collection[Whose | None], source: SourceName = SourceName.DATABASE
) -> RefnetError:
    """Error: the store has artifacts of `source` only from `others`, not from `target`."""
    if not isinstance(target, Identity):
        there = ", ".join(labels(others).values())
        return RefnetError(
            f"there is no complete artifact of the {source} of this machine ({target}), only of others: {there}",
            f"To restore one of those, give its name: `refnet list {source}` shows them.",
        )
    known = [one.database for one in others if isinstance(one, Identity)]
    names = dict.fromkeys((*known, *(["an unknown one"] if None in others else [])))
    url = "REFNET_DATABASE_URL" if source == SourceName.DATABASE else f"the url of {source}"
    return RefnetError(
        f"there is no complete artifact of the database {target.database}; the store has artifacts of {', '.join(names)}",
        f"Set {url} to the intended database; to restore another database there, give --from-database NAME.",
    )


def nothing(
    catalog: Catalog, sources: Sequence[SourceName], at: datetime | None, stores: Sequence[str] = ()
) -> RefnetError:
    """Error: no complete artifact of `sources` (at or before `at`); names the oldest one, or how to look in `stores`."""
    oldest = catalog.oldest_complete(sources)
    if at is None or oldest is None:
        damaged = sum(one.damaged for source in sources for one in catalog.of_source(source))
        more = f", {formatting.plural(damaged, 'damaged one')}" if damaged else ""
        what = f"there is no complete artifact of {', '.join(sources)}{more}"
        if stores and len(sources) == 1:
            copy = f"{sources[0]} --store {stores[0]}"
            # A fetch replaces no damaged artifact of the same name.
            back = (
                f"`refnet restore {copy}` restores from one"
                if damaged
                else f"`refnet fetch {copy}` brings one here"
            )
            return RefnetError(
                what,
                f"Look for a copy first: `refnet list {copy}`; {back}. `refnet backup` would save what is live now.",
            )
        return RefnetError(what, "Make one with `refnet backup`; `refnet list` shows what there is.")
    # A time of day as people write it has no fractions, and this one must still be at or after the artifact's.
    reached = oldest.created.astimezone(at.tzinfo) + timedelta(microseconds=999_999)
    return RefnetError(
        f"there is no complete artifact at or before {at:%Y-%m-%d %H:%M %Z}",
        f"The oldest is {oldest.name}: give `--at '{reached:%Y-%m-%d %H:%M:%S%z}'` or a later time.",
    )


def no_copy(store: RemoteStore, sources: Iterable[SourceName]) -> RefnetError:
    """Error: no usable copy of `sources`, and why."""
    what = f"there is no copy of {', '.join(sources)} in {store.shown}"
    unlisted = [one for name in sources for one in store.contents().unlisted if one.source == name]
    if not unlisted:
        return RefnetError(
            what, f"`refnet list --store {store.name}` shows what there is, `refnet copy` sends one."
        )
    last = unlisted[-1]
    count = formatting.plural(len(unlisted), "manifest")
    return RefnetError(
        f"{what} that can be used: {count} there cannot; the last one {formatting.plain(last.why)}",
        f"{last.advice[0].upper()}{last.advice[1:]}.",
    )


def choose_one(
    store: AnyStore, artifact: str, source: SourceName | None = None, others: Iterable[str] = ()
) -> OpenArtifact:
    """The artifact named `artifact` in the catalog, else the file at that path.

    Args:
        source: required source, and default for a file without a recognizable name or manifest; None: any.
        others: what else the caller would take, for a hint.
    """
    chosen = _named(store, artifact, source, others)
    if source and chosen.source == source and chosen.source.kind is not source.kind:
        raise RefnetError(
            f"{chosen.name} is of a {chosen.source.kind}, and {source} is a {source.kind}",
            "Restore it as a source of that kind, under another name.",
            Exit.USAGE,
        )
    if source and chosen.source != source:
        into = (
            f", or into {source} with --source {chosen.source}" if chosen.source.kind is source.kind else ""
        )
        raise RefnetError(
            f"{chosen.name} is an artifact of {chosen.source}, not of {source}",
            f"Restore it with `refnet restore {chosen.source}`{into}.",
            Exit.USAGE,
        )
    return chosen


def choose_listed(store: LocalStore | SealedStore, artifact: str) -> Entry:
    """The catalog's entry for `artifact`, a name or a path; RefnetError if it has none."""
    chosen = choose_one(store, artifact)
    listed = chosen.entry and (
        chosen.path == store.path(chosen.entry)
        if isinstance(store, LocalStore)
        else chosen.store == store.name
    )
    if chosen.entry is None or not listed:
        raise RefnetError(
            f"{chosen.name} is not in the catalog", "Give a name that `refnet list` shows.", Exit.USAGE
        )
    return chosen.entry


def _named(store: AnyStore, artifact: str, source: SourceName | None, others: Iterable[str]) -> OpenArtifact:
    if "/" not in artifact and (entry := Catalog.of(store.entries()).named(artifact)):
        return store.artifact(entry)
    path = user_path(artifact)
    with explained(path):
        if path.is_file():
            return _at_path(store, path, source)
        of_dumps = source if source and kind_of(source).takes_dumps else None
        if (path / "toc.dat").is_file() or (path.is_dir() and of_dumps):
            return folder_at(path, of_dumps or SourceName.DATABASE)
        there = path.exists()
    near = "" if there else did_you_mean(artifact, [one.name for one in store.entries()], 0.8)
    near = near or did_you_mean(artifact, others)
    name = getattr(store, "name", LOCAL)  # only stores of copies have one
    place = "" if name == LOCAL else f" --store {name}"
    raise RefnetError(
        f"'{artifact}' is not a file" if there else f"there is no artifact '{artifact}'",
        f"{near}Give a name that `refnet list{place}` shows, or the path of a file.",
        Exit.USAGE,
    )


def _at_path(store: AnyStore, path: Path, source: SourceName | None) -> OpenArtifact:
    home: AnyStore = LocalStore(path.parent, flat=True)
    if isinstance(store, LocalStore) and path.resolve().parent in {
        store.folder(one).resolve() for one in store.sources()
    }:
        home = store
    entry = Catalog.of(home.entries()).named(path.name)
    if entry:
        return home.artifact(entry)
    said = read_file_name(path.name)
    own = said[0] if said and said[0] in STANDARD else source or (said and said[0])
    if source and kind_of(source).takes_dumps and own is SourceName.DATABASE:
        own = source  # many programs name a dump so; RefNet's own says inside of which database it is
    return artifact_at(path, own or _by_ending(path.name))


def _by_ending(name: str) -> SourceName:
    """Return the source of a file with a foreign name; one with an ending of no kind is a dump."""
    found = (SourceName(kind.row.stand_in, kind) for kind in Kind if name.endswith(kind.row.foreign))
    return next(found, SourceName.DATABASE)
