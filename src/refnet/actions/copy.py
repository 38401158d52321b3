"""copy: send artifacts to the remote stores, and read them back from there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from refnet import wiring
from refnet.actions import set_records
from refnet.actions.choose import named_source
from refnet.catalog.catalog import Catalog
from refnet.catalog.cluster_base import chain, facts_of
from refnet.catalog.manifest import Entry
from refnet.catalog.remote import Copy, CopyLevel
from refnet.catalog.remote_state import copy_of
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError, did_you_mean
from refnet.settings.urls import StoreKind
from refnet.sources import source_of
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.copy_checks import fetch_back, read_oldest_back, sample_back
from refnet.store.local import LocalStore
from refnet.store.remote import RemoteStore
from refnet.store.sending import Sender, SentCopy, sender_to


@dataclass(frozen=True)
class Copied:
    """Result or plan of a copy: one artifact, one store."""

    source: SourceName
    #: Its name; "": the source has none that can be copied.
    artifact: str
    #: The name of the store.
    store: str
    #: Of the artifact, in bytes.
    size: int = 0
    #: None: there is no copy, or only a plan.
    level: CopyLevel | None = None
    #: This run sent it; otherwise it was there.
    is_new: bool = False
    #: Of a new one: the bytes of its pieces that were sent, and of those that other copies in the store have too.
    sent: int = 0
    shared: int = 0
    seconds: float = 0.0
    #: Why it is not copied, although nothing failed.
    skipped: str = ""
    error: RefnetError | None = None

    @property
    def exit(self) -> Exit:
        """Exit code of the error; DONE if nothing had to be copied."""
        return self.error.code if self.error else Exit.DONE

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "artifact": self.artifact or None,
            "store": self.store,
            "size": self.size,
            "level": self.level,
            "new": self.is_new,
            "sent": self.sent if self.is_new else None,
            "shared": self.shared if self.is_new else None,
            "seconds": round(self.seconds, 3),
            "skipped": self.skipped or None,
            "error": self.error and self.error.to_json(),
        }


@dataclass(frozen=True)
class Wanted:
    """An artifact of the backup folder to copy to a store."""

    source: SourceName
    store: str
    #: None: there is none; see `skipped`.
    entry: Entry | None
    #: Why it is not copied.
    skipped: str = ""
    #: Where it is, if it is not a copy itself.
    place: LocalStore | None = None


def wanted(
    context: Context, meant: str | None, to: str | None = None, *, all_of_them: bool = False
) -> list[Wanted]:
    """Artifacts to copy: the artifact `meant`, the newest of the source or cluster `meant`, or of all.

    Args:
        to: only this store, a name or a URL; None: the configured stores.
        all_of_them: every artifact, not only the newest complete one.
    """
    settings, local = context.settings, context.catalog
    if to == LOCAL and settings.encryption_local:
        return [
            one for one in _unsealed(context) if meant in {None, one.source, one.entry and one.entry.name}
        ]
    if trouble := local.trouble():
        raise trouble
    source = named_source(context, meant) if meant else None
    if meant and not source and meant not in settings.clusters:
        entry = Catalog.of(local.entries()).named(meant)
        if entry is None:
            raise RefnetError(
                f"'{meant}' is not in the catalog",
                f"{did_you_mean(meant, wiring.known(settings))}`refnet list` shows the artifacts.",
                Exit.USAGE,
            )
        chosen = {entry.source: ([entry], "")}
    else:
        names = wiring.expanded(settings, (source or meant,)) if meant else wiring.known(settings)
        configured = wiring.configured(settings)
        there = {name: _of_source(local.entries(name), all_of_them=all_of_them) for name in names}
        chosen = {name: one for name, one in there.items() if meant or one[0] or name in configured}
    if to:
        settings.store(to)
    stores = {name: (to,) if to else tuple(one.name for one in settings.stores_of(name)) for name in chosen}
    if not any(stores.values()):
        raise RefnetError(
            "no remote store is configured",
            "Add [stores.NAME] to the settings file, or use --store URL.",
            Exit.USAGE,
        )
    return [
        Wanted(name, store, entry, skipped or _unfit(entry))
        for name, (entries, skipped) in chosen.items()
        for store in stores[name]
        for entry in (entries or (None,))
    ]


def at_bandwidth(context: Context, speed: int, to: str | None = None) -> Context:
    """The context with `speed` (bytes per second) as the bandwidth of each remote store.

    to: another store, at a URL.
    """
    settings = context.settings
    stores = dict(settings.stores)
    if to and to != LOCAL:
        given = settings.store(to)
        stores.setdefault(given.name, given)
    paced = {name: replace(one, bandwidth=speed) for name, one in stores.items()}
    return replace(context, settings=replace(settings, stores=paced))


def _unsealed(context: Context) -> Iterator[Wanted]:
    """Yield unencrypted artifacts, although encryption.local is set."""
    for place in wiring.plaintext(context.settings):
        for entry in place.entries():
            yield Wanted(entry.source, LOCAL, entry, "it is damaged" if entry.damaged else "", place)


def _of_source(entries: Iterable[Entry], *, all_of_them: bool) -> tuple[list[Entry], str]:
    """Artifacts of a source to copy, oldest first, or the reason why there are none."""
    found = Catalog.of(entries).entries
    chosen = found if all_of_them else [one for one in found if one.complete][-1:]
    return [*chosen], "" if chosen else "no complete artifact"


def _unfit(entry: Entry | None) -> str:
    """Reason for not copying an artifact, or ""."""
    if entry is None:
        return "no artifact"
    if entry.damaged:
        return "it is damaged"
    if entry.manifest.partial:
        return "it contains only some tables"
    return f"it shrank; `refnet accept {entry.name}` if that is intended" if entry.shrunk else ""


def plan(context: Context, ones: Iterable[Wanted]) -> Iterator[Copied]:
    """Plan copies: lists the stores, sends nothing."""
    opened: dict[str, Sender] = {}
    for one in ones:
        found = Copied(one.source, one.entry.name if one.entry else "", one.store, skipped=one.skipped)
        try:
            if one.entry and not one.skipped:
                if known := (context.down or {}).get(one.store):
                    raise known
                if one.store not in opened:
                    opened[one.store] = _sender(context, one.store)
                there = copy_of(opened[one.store].store.entries(one.source), one.entry.manifest)
                found = replace(
                    found, size=one.entry.manifest.size, level=there.copy_level if there else None
                )
        except RefnetError as error:
            _note_down(context, one.store, error)
            found = replace(found, error=error)
        yield found


def _note_down(context: Context, store: str, error: RefnetError) -> None:
    """Remember an unreachable store: this run does not contact it again."""
    if (
        context.down is not None
        and isinstance(error, BucketError)
        and error.kind is BucketFailure.UNREACHABLE
    ):
        context.down[store] = error


def _sender(context: Context, name: str) -> Sender:
    """Sender for the store `name`; RefnetError if it cannot send, or a disk is probably not mounted."""
    store = wiring.remote_store(context.settings, name)
    sender = replace(sender_to(store, context.settings, context.clock.now), samples=True)
    if context.settings.store(name).place.kind is StoreKind.FILE:
        store.require_mounted()
    return sender


def unready(context: Context, sources: Iterable[SourceName]) -> list[RefnetError]:
    """Errors that prevent copies of `sources`, as far as known without contacting the stores."""
    names = dict.fromkeys(one.name for source in sources for one in context.settings.stores_of(source))
    found: dict[str, tuple[list[str], RefnetError]] = {}
    for name in names:
        try:
            sender_to(wiring.remote_store(context.settings, name), context.settings, context.clock.now)
        except RefnetError as error:
            found.setdefault(error.message, ([], error))[0].append(name)
    return [
        RefnetError(f"nothing can be copied to {', '.join(stores)}: {error.message}", error.hint, error.code)
        for stores, error in found.values()
    ]


def copy(context: Context, one: Wanted) -> Copied:
    """Send an artifact to a store unless its copy exists, and read it back. Errors are returned, not raised.

    What a base backup was made from is sent before it.
    """
    begun = context.clock.monotonic()
    found = Copied(one.source, one.entry.name if one.entry else "", one.store, skipped=one.skipped)
    if one.entry is None or one.skipped:
        return found
    found = replace(found, size=one.entry.manifest.size)
    if known := (context.down or {}).get(one.store):
        return replace(found, error=known)
    try:
        sender = _sender(context, one.store)
        store, earlier = sender.store, list[Copied]()
        for parent in _missing_parents(context, store, one.entry):
            earlier.append(copy(context, Wanted(one.source, one.store, parent, place=one.place)))
            if error := earlier[-1].error:
                raise error
        if isinstance(one.entry, Copy):
            result = sender.send_copy(wiring.sealed(context.settings), one.entry, context.progress)
        else:
            place = one.place or context.local
            result = sender.send(place.artifact(one.entry), one.entry, context.progress)
        set_records.send(context, sender, result.settings)
        if one.source.kind.row.sends_more:  # the other kinds need not be loaded
            source_of(context.settings, one.source).send_more(context, one.store)
        made = result.copy
        found = replace(found, level=made.copy_level, is_new=result.is_new)
        if made.copy_level is CopyLevel.SENT:
            made = fetch_back(store, made, context.clock.now, context.progress)
            found = replace(
                found, level=None if made.damaged else made.copy_level, error=_damage(made, one.store)
            )
        if result.is_new:
            sent = result.sent + sum(each.sent for each in earlier)
            found = replace(found, sent=sent, shared=result.shared + sum(each.shared for each in earlier))
            _sample(context, store, result)
    except RefnetError as error:
        _note_down(context, one.store, error)
        found = replace(found, error=error)
    return replace(found, seconds=context.clock.monotonic() - begun)


def _missing_parents(context: Context, store: RemoteStore, entry: Entry) -> list[Entry]:
    """What the base backup `entry` was made from and `store` does not have, oldest first; RefnetError if that is not whole."""
    facts = facts_of(entry)
    if facts is None or facts.of_full:
        return []
    known = {one.name: one for one in context.catalog.entries(entry.source)} | {entry.name: entry}
    try:
        above = chain(entry, known.values())[:-1]
        if damaged := next((one.name for one in above if one.damaged), None):
            raise ValueError(f"{damaged} is damaged")  # noqa: TRY301  # one message for both
    except ValueError as error:
        raise RefnetError(
            f"{entry.name} is not copied: a backup that it depends on cannot be used: {error}",
            f"`refnet backup {entry.source}` makes a base backup without that dependency.",
        ) from None
    there = store.entries(entry.source)
    return [one for one in above if copy_of(there, one.manifest) is None]


def _sample(context: Context, store: RemoteStore, sent: SentCopy) -> None:
    """Read back parts of older copies; damage and errors become notes, and refused locks, as the new copy is complete."""
    if sent.not_extended:
        why = f"{sent.not_extended}; run: refnet store check {store.name}"
        context.note(f"{store.name}: locks are not extended, so pieces were sent again: {why}")
    try:
        looked = sent.looked.result() if sent.looked else None
        found = sample_back(store, sent.others, context.clock.now, looked, sent.unlisted)
    except RefnetError as error:
        context.note(f"older copies in {store.name} could not be read back: {error.message}")
        return
    for damaged in found:
        context.note(_lost(damaged))


def read_back_older(context: Context, but: str = "") -> Iterator[str]:
    """Read back the copies with the oldest checks in each store, except the store `but`; yield problems."""
    for name in (one for one in context.settings.every_store if one != but):
        try:
            store = wiring.remote_store(context.settings, name)
            yield from map(_lost, read_oldest_back(store, context.clock.now, context.progress))
        except RefnetError as error:
            yield f"older copies in {name} could not be read back: {error.message}"


def _lost(damaged: Copy) -> str:
    why = "; ".join(damaged.evidence[-1].reasons)
    return f"{why}: `refnet copy --all` sends the artifacts that are still in the backup folder"


def copy_new(context: Context, source: SourceName, artifact: str) -> tuple[Copied, ...]:
    """Copy a new artifact to each store of its source; an error of one does not stop the others."""
    stores = context.settings.stores_of(source)
    entry = Catalog.of(context.catalog.entries(source)).named(artifact) if stores else None
    return tuple(copy(context, Wanted(source, one.name, entry, _unfit(entry))) for one in stores)


def missing(copies: Iterable[Copied]) -> RefnetError | None:
    """Error about missing copies, or None."""
    failed = [(one, one.error) for one in copies if one.error]
    if not failed:
        return None
    stores: dict[tuple[str, str], list[str]] = {}
    for one, error in failed:
        stores.setdefault((error.message, error.hint), []).append(one.store)
    said = "; ".join(f"{', '.join(names)}: {message}" for (message, _), names in stores.items())
    (_, hint), *more = stores
    hint = "`refnet copy` sends missing copies, or says for each store what to do." if more else hint
    code = Exit.DAMAGED if any(error.code is Exit.DAMAGED for _, error in failed) else Exit.FAILED
    transient = all(error.transient for _, error in failed)
    return RefnetError(f"{failed[0][0].artifact} is not copied to {said}", hint, code, transient)


def _damage(made: Copy, store: str) -> RefnetError | None:
    if not made.damaged:
        return None
    why = "; ".join(made.evidence[-1].reasons)
    return RefnetError(
        f"the copy read back from {store} differs from what was sent: {why}",
        "Retry: refnet copy sends it again.",
        Exit.DAMAGED,
    )
