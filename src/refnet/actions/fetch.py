"""fetch: bring copies back from a remote store into the backup folder, where a recovery finds them.

Each copy is decrypted under a hidden name, compared with its signed manifest, and published with that manifest. Existing
artifacts are compared and not fetched again, so an interrupted fetch continues.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from refnet import wiring
from refnet.actions.choose import nothing, of_others
from refnet.catalog.catalog import Catalog, parse_time
from refnet.catalog.evidence import Marks
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.object_names import ManifestName
from refnet.catalog.remote import Copy
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Unlisted
from refnet.context import Context
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained
from refnet.sources import source_of
from refnet.store import disk, settings_copies
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.local import IS_ANOTHER, LocalDraft, name_taken
from refnet.store.remote import RemoteContents, RemoteStore
from refnet.store.scan import taken
from refnet.store.settings_copies import SOON_AFTER, SettingsCopy

_ALARM = "alarm: "


@dataclass(frozen=True)
class FetchRequest:
    #: A listed name, or a source: its newest; None: the newest of every source.
    meant: str | None = None
    #: The newest at or before this time.
    at: str | None = None
    #: Of this database; None: of the one that the settings name.
    from_database: str | None = None


@dataclass(frozen=True)
class FoundCopies:
    """The copies that a fetch found and chose."""

    store: RemoteStore
    #: The complete copies of each source, the one to fetch first; the others are fetched where it is damaged.
    candidates: Mapping[SourceName, tuple[Copy, ...]]
    #: What is there and not used, and what was removed there, a sentence each.
    notes: tuple[str, ...]
    #: What somebody removed, replaced or put back there, a sentence each.
    gaps: tuple[str, ...] = ()
    #: All copies there.
    there: tuple[Copy, ...] = ()
    #: The largest number of an artifact of each source there.
    numbers: Mapping[SourceName, int] = field(default_factory=dict)

    @property
    def alarm(self) -> str:
        """Alarm that a recovery asks about first and repeats at the end; "" without gaps."""
        said = (one.removeprefix(_ALARM) for one in self.notes if one.startswith(_ALARM))
        return next(said, "") if self.gaps else ""

    @property
    def chosen(self) -> tuple[Copy, ...]:
        return tuple(copies[0] for copies in self.candidates.values())


@dataclass(frozen=True)
class Fetched:
    """A copy, and what a fetch did or would do with it."""

    copy: Copy
    #: It was not in the backup folder.
    is_new: bool
    seconds: float = 0.0
    #: Why no copy of its source came: all are damaged.
    error: RefnetError | None = None
    #: What came with it, a sentence each.
    more: tuple[str, ...] = ()

    @property
    def exit(self) -> Exit:
        return self.error.code if self.error else Exit.DONE

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.copy.source,
            "artifact": self.copy.name,
            "created": self.copy.created.isoformat(),
            "size": self.copy.manifest.size,
            "signer": self.copy.signed.signer,
            "new": self.is_new,
            "seconds": round(self.seconds, 3),
            "error": self.error and self.error.to_json(),
            "more": list(self.more),
        }


def find(context: Context, store: RemoteStore, request: FetchRequest) -> FoundCopies:
    """The copies in `store` for `request`; RefnetError if none is usable.

    Only copies that the recovery key opens are used, even if this machine can list others. Deleted and replaced copies
    are found too, if the bucket keeps versions.
    """
    contents, notes = _contents(store)
    if not contents.copies:
        raise _nothing_to_use(store, contents)
    moment = parse_time(request.at, None) if request.at else None
    candidates = _candidates(context, contents, request, moment)
    chosen = [copies[0] for copies in candidates.values()]
    numbers: dict[SourceName, int] = {}
    for copy in contents.copies:
        numbers[copy.source] = max(copy.manifest.number or 0, numbers.get(copy.source, 0))
    gaps = tuple(one.why for one in contents.gaps)
    said = (*notes, *_notes(store, contents, chosen))
    return FoundCopies(store, candidates, said, gaps, contents.copies, numbers)


def plan(context: Context, found: FoundCopies) -> Iterator[Fetched]:
    """Yield what `bring` would do, reading only manifests."""
    for copy in found.chosen:
        yield Fetched(copy, not _is_here(context, copy))


def bring(context: Context, found: FoundCopies) -> Iterator[Fetched]:
    """Fetch one copy of each source, and yield it; if damaged, try the next older one.

    A source whose copies are all damaged is yielded with the error, and does not stop the others.
    """
    for source, copies in found.candidates.items():
        # What this machine makes next comes after all that is there, also after what is not fetched.
        wiring.identities(context.settings).reach(source, found.numbers.get(source, 0))
        for copy in copies:
            begun = context.clock.monotonic()
            try:
                is_new, more = _bring_chain(context, found, copy)
            except _DamagedCopyError as error:
                if copy is copies[-1]:
                    yield Fetched(copy, False, error=error)
                else:
                    context.note(f"{error.message}; an older copy is used")
            else:
                yield Fetched(copy, is_new, context.clock.monotonic() - begun, more=more)
                break


def _bring_chain(context: Context, found: FoundCopies, copy: Copy) -> tuple[bool, tuple[str, ...]]:
    """Fetch `copy` and what a restore of it needs besides; return whether `copy` is new here, and what came with it."""
    source = source_of(context.settings, copy.source)
    try:
        chain = source.chain(copy, [one for one in found.there if one.source == copy.source])
    except RefnetError as error:
        raise _DamagedCopyError(error.message, error.hint, error.code) from None
    news = [_bring(context, found.store, one) for one in chain if isinstance(one, Copy)]
    return news[-1], tuple(source.fetched(context, found.store, copy))


def settings_copy(found: FoundCopies) -> SettingsCopy | None:
    """The settings file sent with the copies `found`, by the same signers, or None."""
    signers = None if found.store.trust.any_signer else {one.signed.signer for one in found.chosen}
    moment = max(one.document.sent for one in found.chosen) + SOON_AFTER
    return settings_copies.newest_sent(found.store, moment, signers)


class _DamagedCopyError(RefnetError):
    """A copy that cannot be used, and is recorded as damaged."""


def _contents(store: RemoteStore) -> tuple[RemoteContents, tuple[str, ...]]:
    """Contents of `store` including deleted copies if readable, else a note."""
    try:
        return store.by_recovery_key(versions=True).contents(), ()
    except BucketError as error:
        if error.kind is not BucketFailure.REFUSED:
            raise
        what = f"{store.shown}: this credential cannot list deleted and replaced copies"
        return store.by_recovery_key(versions=False).contents(), (f"{what} ({error.message})",)


def _candidates(
    context: Context, contents: RemoteContents, request: FetchRequest, moment: datetime | None
) -> dict[SourceName, tuple[Copy, ...]]:
    everything, meant = Catalog.of(contents.copies, context.clock.now()), request.meant
    source = next((one for one in everything.sources if one == meant), None)
    if meant and not source:
        if request.at:
            hint = f"Omit --at, or give one of: {', '.join(everything.sources)}."
            raise RefnetError(
                f"--at chooses a copy of a source, and '{meant}' is not a source", hint, Exit.USAGE
            )
        named = tuple(one for one in contents.copies if one.name == meant and not one.damaged)
        if not named:
            hint = "`refnet list --store STORE` shows the copies."
            raise RefnetError(f"the store has no usable copy of '{meant}'", hint, Exit.USAGE)
        return {named[0].source: named}
    sources = (source,) if source else everything.sources
    target = _target(context, request) if SourceName.DATABASE in sources else None
    catalog = everything.choices(target, moment) if SourceName.DATABASE in sources else everything
    for one in (one for one in sources if not one.kind.row.by_name):
        catalog = catalog.choices(source_of(context.settings, one).whose(), moment, one)
    newest = {one: catalog.complete(one, moment) for one in sources}
    found = {one: tuple(e for e in there if isinstance(e, Copy)) for one, there in newest.items() if there}
    others = everything.others(target) if SourceName.DATABASE in {*sources} - {*found} else ()
    if target and others:
        raise of_others(target, others)
    if not found:
        raise nothing(everything, sources, moment)
    return found


def _target(context: Context, request: FetchRequest) -> Identity | None:
    if request.from_database:
        return Identity(request.from_database)
    from refnet import servers

    return servers.named_by(context.settings, SourceName.DATABASE)


def _bring(context: Context, store: RemoteStore, copy: Copy) -> bool:
    """Fetch `copy`; False if the backup folder already has it, after comparing its bytes with the manifest."""
    local, begun = context.local, context.clock.monotonic()
    with local.lock(copy.source):
        if _is_here(context, copy):
            _compare(context, copy)
            return False
        with local.draft(copy.source) as draft:
            listed = _read(context, store, copy, draft)
            draft.publish_again(_brought(copy.manifest), listed)
        says = f"fetched from {store.shown}: every byte matches the manifest signed by {copy.signed.signer}"
        line = Evidence(
            context.clock.now(),
            Level.INTACT,
            Outcome.PASSED,
            context.clock.monotonic() - begun,
            reasons=(says,),
        )
        lines = (one for one in (*copy.document.evidence, *copy.evidence) if one.accepts)
        accepted = {bool(one.objects): one for one in lines}  # the last of each kind
        local.record(Entry(copy.manifest), *accepted.values(), line)
        if copy.marks != Marks():
            local.mark(Entry(copy.manifest), copy.marks)
    return True


def _read(context: Context, store: RemoteStore, copy: Copy, draft: LocalDraft) -> bytes | None:
    """Write the bytes of a copy into `draft`; return its stored list of files."""
    artifact = store.artifact(copy, in_order=True)
    try:
        with artifact.open() as reader:
            while data := reader.read(disk.CHUNK):
                draft.out.write(data)
                context.progress("fetch", draft.out.tell(), copy.manifest.size)
        return artifact.packed_files()
    except RefnetError as error:
        if error.code is not Exit.DAMAGED:
            raise
        now = context.clock.now()
        store.record(copy, Evidence(now, Level.WRITTEN, Outcome.FAILED, 0.0, reasons=(error.message,)))
        raise _DamagedCopyError(error.message, error.hint, error.code) from error


def _brought(manifest: Manifest) -> Manifest:
    """The copy's manifest for the backup folder, without its number, which would order it among newer artifacts."""
    return replace(manifest, number=None)


def _is_here(context: Context, copy: Copy) -> bool:
    """Whether the backup folder has the artifact of `copy`; RefnetError if another file has its name."""
    local = context.local
    here = Catalog.of(local.entries(copy.source)).named(copy.name)
    if here is None:
        if taken(folder := local.folder(copy.source), copy.name):
            if not (folder / copy.name).exists():
                raise RefnetError(
                    f"{folder / copy.name} is missing, and its manifest or another file beside it is there",
                    "Move the files beside it away, then retry.",
                )
            raise name_taken(folder / copy.name)
        return False
    if _brought(here.manifest) != _brought(copy.manifest) or here.damaged:
        raise name_taken(local.path(here), "is damaged" if here.damaged else IS_ANOTHER)
    return True


def _compare(context: Context, copy: Copy) -> None:
    """RefnetError unless the artifact in the backup folder matches the signed manifest."""
    path = context.local.folder(copy.source) / copy.name
    with explained(path), disk.open_regular(path) as reader:
        found = disk.digest(reader)
    if found != (copy.manifest.sha256, copy.manifest.size):
        raise name_taken(path)


def _nothing_to_use(store: RemoteStore, contents: RemoteContents) -> RefnetError:
    others = contents.unlisted
    if not others:
        hint = "Check the bucket and the prefix: the recovery page names both."
        return RefnetError(f"{store.shown} has no copy", hint)
    if signers := dict.fromkeys(one.signer for one in others if one.signer):
        return RefnetError(
            f"{store.shown}: every copy there is signed by an unknown key: {formatting.some([*signers], 3)}",
            "Compare it with the signer on the recovery page; if it is the same, add --signer SHA256:….",
            Exit.DAMAGED,
        )
    count = formatting.plural(len(others), "manifest")
    if any(one.needs_key for one in others):
        hint = "Check that the recovery page is of this store. A page from before a rotation opens only older copies."
        return RefnetError(f"{store.shown}: the recovery key opens none of {count}", hint, Exit.USAGE)
    why = f"{others[0].name} {others[0].why}"
    return RefnetError(f"{store.shown}: none of {count} can be read: {why}", "Check the URL.", Exit.DAMAGED)


def _notes(store: RemoteStore, contents: RemoteContents, chosen: Iterable[Copy]) -> Iterator[str]:
    sealed = [one for one in contents.unlisted if one.needs_key]
    if contents.gaps:
        whys = formatting.some([one.why for one in contents.gaps], 3)
        other = ", or the recovery key does not open them" if sealed else ""
        yield f"{_ALARM}{store.shown}: {whys}: copies were removed or replaced there{other}"
    sent = {str(copy.source): copy.document.sent for copy in chosen}
    newer = [one for one in sealed if _is_newer(one, sent)]
    if newer:
        yield (
            f"{store.shown}: the recovery key does not open {formatting.plural(len(newer), 'newer manifest')}: "
            "look for a newer recovery page"
        )
    foreign = [one for one in contents.unlisted if one.signer]
    if foreign:
        signers = formatting.some([*dict.fromkeys(one.signer for one in foreign)], 3)
        yield f"{store.shown}: not used: {formatting.plural(len(foreign), 'manifest')} signed by an unknown key {signers}"
    if rest := [one for one in contents.unlisted if not one.needs_key and not one.signer]:
        what = formatting.plural(len(rest), "object")
        yield f"{store.shown}: not used: {what} that cannot be read as manifests ({rest[0].name} {rest[0].why})"


def _is_newer(one: Unlisted, sent: Mapping[str, datetime]) -> bool:
    """Whether a manifest's name is dated after the fetched copy of its source."""
    named = ManifestName.read(one.name)
    return bool(named and named.source in sent and named.sent > sent[named.source])
