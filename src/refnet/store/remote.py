"""A remote store: encrypted copies in a bucket.

What this machine knows of a store is in REFNET_HOME/remote/NAME: `manifests/` and `versions/` (those that were fetched), a lock,
and the records of `remote_records.py`.
"""

from __future__ import annotations

import copy as copying
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

from refnet.catalog import wal_record
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Entry, Evidence
from refnet.catalog.object_names import DATA, MANIFESTS, PIECES, ManifestName, PieceName, SharedName, key_id
from refnet.catalog.remote import Copy
from refnet.catalog.remote_state import Gap, gaps, ranges
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.catalog.store import Leftover, Unlisted
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import make_folder
from refnet.core.locks import locked
from refnet.settings import Settings
from refnet.store import deletions, leases
from refnet.store.buckets.bucket import Bucket, BucketError, BucketFailure, Stored, Versions, versions_once
from refnet.store.buckets.opening import open_bucket
from refnet.store.cutting import Cutting
from refnet.store.encryption import fingerprint
from refnet.store.keys import GivenKeys, MachineKeys, Opener
from refnet.store.leases import Begun
from refnet.store.open_artifacts import listed_in
from refnet.store.piece_cache import PieceCache
from refnet.store.remote_manifests import Manifests, Trust
from refnet.store.remote_pieces import OpenCopy
from refnet.store.remote_records import RemoteRecords
from refnet.store.store_check import CHECKS

#: A piece of an unpublished copy may be of a run that is on the way, on this machine or another, for so long.
_ON_THE_WAY = timedelta(days=2)
#: Leases and intents that have ended stay for so long: a lock may forbid to delete them.
_RUNS_KEPT = timedelta(days=90)


@dataclass(frozen=True)
class RemoteContents:
    """A remote store at one moment."""

    #: In the order of their manifests' names; of two copies of one artifact, the better one first.
    copies: tuple[Copy, ...]
    #: Manifests that cannot be trusted or read; they are never chosen, and never deleted.
    unlisted: tuple[Unlisted, ...]
    #: What the order of the manifests shows to be removed, replaced or put back.
    gaps: tuple[Gap, ...]


def home_of(settings: Settings, store: str) -> Path:
    """The folder with what this machine records of the remote store of that name."""
    return settings.home / "remote" / store


class RemoteStore:
    """Copies in a bucket.

    Args:
        name: from the settings, or derived from the URL.
        home: its folder in REFNET_HOME; created when something is written.
        trust: the available keys, and the signers whose copies are listed.
        versions: also list deleted and replaced copies, if the bucket keeps versions. Prune removes versions.
    """

    def __init__(
        self,
        name: str,
        bucket: Bucket,
        home: Path,
        trust: Trust,
        *,
        versions: bool = False,
    ) -> None:
        self.name = name
        self.bucket = bucket
        #: Creates objects, where the credential of `bucket` may only delete.
        self.writer = bucket
        self.home = home
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        # without keys of its own, a machine that has the recovery key seals by that
        keys = [one for one in (trust.opener.catalog, *trust.opener.recovery) if one]
        self.records = RemoteRecords(home, Cutting.of(keys[0].revealed()) if keys else None)
        self.trust = trust
        self.cache = PieceCache(home, 0)  # what checks a copy reads all of it from its store
        fetched = home / ("versions" if versions else "manifests")  # the tags of the two differ
        self.manifests = Manifests(bucket, fetched, trust, versions, self._taken)
        self._once = False
        self._contents: RemoteContents | None = None
        self._pruning_since: float | None = None  # by `leases.now_awake`

    @classmethod
    def of_settings(
        cls, settings: Settings, name_or_url: str, given: GivenKeys | None = None, *, any_signer: bool = False
    ) -> Self:
        """Return the store of a name or at a URL; RefnetError (USAGE) if it is neither. Nothing is requested yet.

        Args:
            given: recovery keys and signers of this run.
            any_signer: trust every signer.
        """
        own, keys = settings.store(name_or_url), MachineKeys.in_home(settings.home)
        opener = Opener(keys.catalog() if keys.catalog_file.exists() else None, given.keys if given else ())
        signers = {
            fingerprint(one) for one in (*settings.encryption_signers, *(given.signers if given else ()))
        }
        if keys.signing_file.exists():
            signers.add(keys.signer().fingerprint)
        trust = Trust(opener, frozenset(signers), any_signer)
        return cls(own.name, open_bucket(own), home_of(settings, own.name), trust)

    @property
    def shown(self) -> str:
        """Its name and place, for outputs."""
        return f"{self.name} ({self.bucket.shown})"

    def with_versions(self, bucket: Bucket | None = None) -> RemoteStore:
        """The store including deleted and replaced copies; `bucket`: opened with another credential."""
        found = copying.copy(self)
        found.bucket = bucket or self.bucket
        found.manifests = Manifests(found.bucket, self.home / "versions", self.trust, True, self._taken)
        found._once, found._contents = False, None
        return found

    def by_recovery_key(self, *, versions: bool) -> RemoteStore:
        """The store as seen with only the recovery key, as on an empty machine."""
        trust = replace(self.trust, opener=replace(self.trust.opener, catalog=None))
        found = RemoteStore(self.name, self.bucket, self.home, trust, versions=versions)
        found.records = self.records
        return found

    def contents(self) -> RemoteContents:
        """List the store; fetches only new manifests."""
        if not (self._once and self._contents):
            self._contents = self._listed()
        return self._contents

    def reading(self) -> RemoteStore:
        """The store for a read-only command: it is listed only once."""
        found = copying.copy(self)
        found._once, found._contents = True, None
        return found

    def _listed(self) -> RemoteContents:
        found, unlisted = self.manifests.read()
        copies = self.records.copies(found, self.now())
        copies.sort(key=lambda one: (one.damaged, one.object))
        head = self.records.head()
        if shown := gaps(found, self.name, head):  # without that head, a machine finds what was pruned there
            keys = {one.document.key for one in found} - {""}
            shown = gaps(found, self.name, head, deletions.explained(self.bucket, self.trust, keys))
        return RemoteContents(tuple(copies), tuple(unlisted), shown)

    def entries(self, source: SourceName | None = None) -> tuple[Copy, ...]:
        return tuple(one for one in self.contents().copies if source in {None, one.source})

    def sources(self) -> tuple[SourceName, ...]:
        """Standard sources, then others with copies or unlisted manifests."""
        contents = self.contents()
        copies, unlisted = ({one.source for one in part} for part in (contents.copies, contents.unlisted))
        found = sorted((copies | unlisted) - {*STANDARD})
        return (*STANDARD, *found)

    def artifact(self, entry: Entry, *, in_order: bool = False) -> OpenArtifact:
        """The artifact of a copy. Reading it needs the recovery key and fetches pieces on demand.

        in_order: all of it will be read in order, so pieces are prefetched from the start.
        """
        copy = as_copy(entry)
        opened = OpenCopy(copy, self.bucket, self.trust.opener, self.home, self.name, self.cache)
        files, packed, pieces = listed_in(copy.name, copy.manifest, opened.list_of_files)
        return OpenArtifact(
            copy.source, copy.name, partial(opened.reader, in_order=in_order), copy.manifest, files, entry=copy,
            record=partial(self.record, copy), packed_files=packed, file_pieces=pieces, store=self.name,
        )  # fmt: skip

    def record(self, entry: Entry, *evidence: Evidence) -> None:
        self.records.add_evidence(as_copy(entry).signed, evidence)

    def unpublish(self, entry: Entry) -> None:
        """Delete all versions of the manifest of a copy; see `unpublishing`."""
        with self.unpublishing([entry]) as unpublish:
            unpublish(entry)

    @contextmanager
    def unpublishing(
        self, entries: Iterable[Entry], listed: Versions | None = None
    ) -> Iterator[Callable[[Entry], None]]:
        """Note durably that the manifests of these copies go, and yield what deletes all versions of one: as `listed`, or now.

        BucketError (LOCKED, REFUSED): it stays. The end of the block notes which went, and which stay.
        """
        own = {one.object: one for one in map(as_copy, entries) if one.document.store == self.name}
        head, tried, gone = self.records.head(), set[str](), set[str]()
        listed_copies = {one.object for one in (self._contents or self.contents()).copies}

        def note(names: Collection[str]) -> None:
            noted = head
            for name, one in own.items():
                if name in names:
                    noted = noted.perhaps_deleted(one.signed.signer, ranges([one.document.counter]))
                if name in gone:
                    noted = noted.surely_deleted(one.document.counter)
            if own:
                self.records.keep_head(noted)

        def unpublish(entry: Entry) -> None:
            copy = as_copy(entry)
            tried.add(copy.object)
            try:
                # Earlier manifests first: without this one they would count again. A copy of its own is none of them.
                earlier = [one.object for one in copy.document.replaces if one.object not in listed_copies]
                for name in (*earlier, copy.object):
                    self._delete_manifest(name, listed)
            except BucketError as error:
                if error.kind in {BucketFailure.LOCKED, BucketFailure.REFUSED}:
                    tried.remove(copy.object)
                raise
            gone.add(copy.object)

        note(own)  # before: a crash, or an answer that is lost, must not look like an attack
        try:
            yield unpublish
        finally:
            note(tried)

    def _delete_manifest(self, name: str, listed: Versions | None) -> None:
        named = ManifestName.read(name)
        if named and named.key:  # first: a lease without its manifest would look like a copy under way
            self._delete(leases.lease_name(named.key, named.id), listed)
            self._delete(leases.end_name(named.key, named.id), listed)
        self._delete(name, listed)

    def has_manifests(self) -> bool:
        """Whether the store has any manifest; needs no key."""
        return any(True for folder in self.manifests.folders(MANIFESTS) for _ in self.bucket.listed(folder))

    def manifest_times(self) -> dict[str, datetime]:
        """When the newest version of each manifest was stored, by the server's clock."""
        found: dict[str, datetime] = {}
        for folder in self.manifests.readable():
            for one in self.bucket.versions(folder):
                if not one.delete_marker:
                    found[one.name] = max(one.modified, found.get(one.name, one.modified))
        return found

    def require_manifests(self) -> None:
        """RefnetError if the store has no manifests at all; needs no key."""
        if not self.has_manifests():
            hint = "Check the name or URL of the store; --deleted also reads deleted copies."
            raise RefnetError(f"there is no copy in {self.shown}", hint)

    def require_mounted(self) -> None:
        """RefnetError if a folder is empty although this machine sent copies: its disk may not be mounted."""
        sent = sum(high - low + 1 for low, high in self.records.head().sent)
        if sent and not self.has_manifests():
            count = "a copy" if sent == 1 else f"{sent:,} copies"
            raise RefnetError(
                f"{self.shown} is empty, but this machine sent {count} there: is it mounted?",
                f"Mount it. If it is a new disk, or was emptied on purpose: `refnet store accept {self.bucket.shown}`.",
                transient=True,
            )

    def delete_pieces(self, entries: Iterable[Entry]) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield what deletes the pieces of copies whose manifests were deleted, each with a name; until then they are leftovers.

        In format 1 they stay if another manifest claims the same id: either one may be forged. Shared pieces stay while a
        manifest of the same machine names them; RefnetError (UNVERIFIED) if one there cannot be read.
        """
        copies = [as_copy(one) for one in entries]
        old = [one for one in copies if not one.document.key]
        published = self.ids("") if old else frozenset()
        for copy in old:
            if copy.id not in published:
                yield f"pieces of {copy.name}", partial(self._delete, f"{DATA}{copy.id}/")
        for key in sorted({one.document.key for one in copies} - {""}):
            named = self._named(key)
            gone = {piece.name for one in copies if one.document.key == key for piece in one.document.pieces}
            gone -= named
            listed = versions_once(self.bucket, f"{key}/{PIECES}", len(gone), len(gone) + len(named))
            for name in sorted(gone):
                yield name, partial(self._delete, name, listed)
        for copy in copies:
            self.records.forget(copy.signed)

    @contextmanager
    def pruning(self, keys: Collection[str]) -> Iterator[None]:
        """Keep copies from being published below `keys` meanwhile; RefnetError (LOCKED) if one is under way.

        The caller holds the lock of this store: the leases of runs of this machine that failed or were killed end.
        """
        leases.end_killed(self.home, self.create)
        begun = self.records.sending()
        with leases.own_intents(self.home, keys) as own, ExitStack() as ends:
            self._pruning_since = leases.now_awake()
            for key, id_ in own.items():
                self.create(leases.intent_name(key, id_))
                ends.callback(self.create, leases.intent_end(key, id_))
                for one in leases.open_leases(self.bucket, key, self.ids(key)):
                    if one.id not in begun:
                        leases.refuse_beside(one, self.bucket, key, id_, self.name)
                    self.create(leases.end_name(key, one.id))
            yield

    def create(self, name: str, data: bytes = b"") -> None:
        """Create an object, also where the credential that deletes may not create."""
        try:
            self.bucket.put(name, data)
        except BucketError as error:
            if error.kind is not BucketFailure.REFUSED or self.writer is self.bucket:
                raise
            self.writer.put(name, data)

    def ids(self, key: str, but: Collection[str] = ()) -> frozenset[str]:
        """Ids of copies below `key` ("": of format 1) with a manifest of any signer, including those behind a delete marker.

        but: objects of manifests to ignore.
        """
        versions = self.bucket.versions(f"{key}/{MANIFESTS}" if key else MANIFESTS)
        there = (one.name for one in versions if not one.delete_marker and one.name not in but)
        return frozenset(found.id for name in there if (found := ManifestName.read(name)))

    def _named(self, key: str) -> set[str]:
        """Names of the pieces that manifests of the machine `key` name; RefnetError (UNVERIFIED) if one cannot be read."""
        self._contents = None
        contents = self.contents()
        there = {one.name for one in self.bucket.versions(f"{key}/{MANIFESTS}") if not one.delete_marker}
        read = {one.object: one for one in contents.copies if one.document.key == key}
        replaced = {earlier.object for one in read.values() for earlier in one.document.replaces}
        if unread := sorted(there - {*read} - replaced - self.records.accepted()):
            raise RefnetError(
                f"{self.name}: no piece is deleted, as the manifest {unread[0]} cannot be read or is not trusted",
                f"It may name them. If it is bogus: `refnet store accept {self.name}`.",
                Exit.UNVERIFIED,
            )
        return {piece.name for one in read.values() for piece in one.document.pieces}

    def _delete(self, prefix: str, listed: Versions | None = None) -> None:
        """Delete every version of the objects whose names begin with `prefix`, or that is `listed`; delete markers last."""
        leases.require_time(self._pruning_since, self.name)
        versions = self.bucket.versions(prefix) if listed is None else listed.get(prefix, ())
        found = sorted(versions, key=lambda one: one.delete_marker)
        for one in found:
            self.bucket.delete(one.name, version=one.id)

    def leftovers(self) -> tuple[Leftover, ...]:
        """Pieces that no manifest names and no run is sending. They are attributed to the source `database`.

        A manifest that is unreadable, or hidden by a delete marker, keeps its pieces.
        """
        # Before the manifests: a copy that is published meanwhile is known.
        old, shared = list(self.bucket.listed(DATA)), list(self._shared_pieces())
        contents, sending, now = self.contents(), self.records.sending(), datetime.now(UTC)
        named = {piece.name for one in contents.copies for piece in one.document.objects}
        complete = {one.id for one in contents.copies}
        unknown = self.ids("", {one.object for one in contents.copies}) if old else frozenset()
        left = []
        for one in old:
            name = PieceName.read(one.name)
            if name is None or one.name in named or name.id in unknown:
                continue
            young = now - one.modified < _ON_THE_WAY
            if name.id not in complete and (young or name.id in sending):
                continue
            left.append(Leftover(SourceName.DATABASE, one.name, one.size, "sent by a run that did not end"))
        left += [
            Leftover(SourceName.DATABASE, one.name, one.size, "named by no copy")
            for one in shared
            if one.name not in named and one.name not in sending and now - one.modified >= _ON_THE_WAY
        ]
        checks = (one for one in self.bucket.listed(CHECKS) if now - one.modified >= _ON_THE_WAY)
        others = [(one, "of a check of the store") for one in checks]
        for key in self._keys:
            ended = leases.old(self.bucket, key, self.ids(key), now - _RUNS_KEPT)
            others += [(one, "of a run that ended") for one in ended]
            others += [(one, "of a prune") for one in deletions.old(self.bucket, key, now - _RUNS_KEPT)]
        left += [Leftover(SourceName.DATABASE, one.name, one.size, why) for one, why in others]
        return tuple(left)

    def _shared_pieces(self) -> Iterator[Stored]:
        """Yield the pieces below this machine's key but for most that a copy names; none if a manifest there cannot be read.

        It may name them. The others, of copies that are known, are left out while they are listed: there may be many.
        """
        copies = self._contents.copies if self._contents else ()
        known = {piece.name for one in copies for piece in one.document.pieces}
        for key in self._keys:
            there = (one for one in self.bucket.listed(f"{key}/{PIECES}") if one.name not in known)
            found = [one for one in there if SharedName.read(one.name)]
            try:
                self._named(key)
            except RefnetError as error:
                if error.code is not Exit.UNVERIFIED:
                    raise
                continue
            yield from found

    def clean(self, leftover: Leftover) -> None:
        name = leftover.name
        ours = (
            PieceName.read(name) or SharedName.read(name) or leases.is_name(name) or deletions.is_name(name)
        )
        if ours or name.startswith(CHECKS) or wal_record.is_object(name):
            self._delete(name)

    @contextmanager
    def alone(self, seconds: float | None) -> Iterator[None]:
        """Lock the store; wait `seconds` for another run (None: until it ends), then RefnetError (LOCKED)."""
        make_folder(self.home)
        with locked(self.home / "lock", seconds=seconds) as ours:
            if not ours:
                raise RefnetError(
                    f"{self.name} is locked by another run of RefNet",
                    "Wait until it ends, then retry. A killed run leaves no lock.",
                    Exit.LOCKED,
                    transient=True,
                )
            yield

    def unfinished(self) -> tuple[tuple[Begun, ...], tuple[Begun, ...], tuple[Unlisted, ...]]:
        """This machine's open leases and intents; its manifests, and those of format 1, that are neither usable nor accepted."""
        if not (keys := self._keys):
            return (), (), ()
        copies = (one for key in keys for one in leases.open_leases(self.bucket, key, self.ids(key)))
        prunes = (one for key in keys for one in leases.open_intents(self.bucket, key))
        own = (*(f"{key}/" for key in keys), MANIFESTS)
        there = (one for one in self.with_versions().contents().unlisted if one.name.startswith(own))
        return (*copies,), (*prunes,), self.records.unaccepted(there)

    @property
    def own_key(self) -> str:
        """The folder of this machine's objects; "" without a catalog key."""
        catalog = self.trust.opener.catalog
        return key_id(catalog.recipient.text) if catalog else ""

    def _taken(self) -> tuple[str, ...]:
        return self.records.head().taken

    @property
    def _keys(self) -> tuple[str, ...]:
        """The folders of this machine's objects, and of the machines whose copies it took over; none without a catalog key."""
        return (self.own_key, *self._taken()) if self.own_key else ()


def as_copy(entry: Entry) -> Copy:
    """`entry` as what it is in a remote store."""
    if not isinstance(entry, Copy):
        raise TypeError("not an entry of a remote store")
    return entry
