"""A remote store: encrypted copies in a bucket, and the encrypted backup folder, which has their format.

What this machine knows of a store is in REFNET_HOME/remote/NAME: `manifests/` and `versions/` (those that were fetched), a lock,
and the records of `remote_records.py`.
"""

from __future__ import annotations

import copy as copying
import io
import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self, cast

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Entry, Evidence
from refnet.catalog.remote import DATA, MANIFESTS, Copy, ManifestName, PieceName, lengths
from refnet.catalog.remote_state import Gap, Head, accepted, gaps, ranges
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.catalog.store import Leftover, Unlisted
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import make_folder
from refnet.core.locks import locked
from refnet.settings import Settings
from refnet.settings.stores import ENCRYPTED
from refnet.store.buckets.bucket import Bucket
from refnet.store.buckets.opening import open_bucket
from refnet.store.encryption import fingerprint
from refnet.store.keys import GivenKeys, MachineKeys, Opener
from refnet.store.local import LocalStore
from refnet.store.open_artifacts import listed_in
from refnet.store.remote_manifests import Manifests, Trust
from refnet.store.remote_pieces import KeptPieces, PieceReader, Pieces, decrypt, fetch
from refnet.store.remote_records import RemoteRecords
from refnet.store.store_check import CHECKS

#: A piece of an unpublished copy may be of a run that is on the way, on this machine or another, for so long.
_ON_THE_WAY = timedelta(days=2)


@dataclass(frozen=True)
class RemoteContents:
    """A remote store at one moment."""

    #: In the order of their manifests' names; of two copies of one artifact, the better one first.
    copies: tuple[Copy, ...]
    #: Manifests that cannot be trusted or read; they are never chosen, and never deleted.
    unlisted: tuple[Unlisted, ...]
    #: What the order of the manifests shows to be removed, replaced or put back.
    gaps: tuple[Gap, ...]


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
        self.home = home
        self.records = RemoteRecords(home)
        self.trust = trust
        fetched = home / (
            "versions" if versions else "manifests"
        )  # the two tell an object's content apart otherwise
        self.manifests = Manifests(bucket, fetched, trust, versions)
        self._once = False
        self._contents: RemoteContents | None = None

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
        return cls(own.name, open_bucket(own), settings.home / "remote" / own.name, trust)

    @property
    def shown(self) -> str:
        """Its name and place, for outputs."""
        return f"{self.name} ({self.bucket.shown})"

    def with_versions(self, bucket: Bucket | None = None) -> RemoteStore:
        """The store including deleted and replaced copies; `bucket`: opened with another credential."""
        found = copying.copy(self)
        found.bucket = bucket or self.bucket
        found.manifests = Manifests(found.bucket, self.home / "versions", self.trust, True)
        found._once, found._contents = False, None
        return found

    def by_recovery_key(self, *, versions: bool) -> RemoteStore:
        """The store as seen with only the recovery key, as on an empty machine."""
        trust = replace(self.trust, opener=replace(self.trust.opener, catalog=None))
        return RemoteStore(self.name, self.bucket, self.home, trust, versions=versions)

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
        known = self.records
        copies = [
            Copy(one.document.manifest, known.evidence(one), known.marks(one), signed=one) for one in found
        ]
        copies.sort(key=lambda one: (one.damaged, one.object))
        return RemoteContents(tuple(copies), tuple(unlisted), gaps(found, self.name, self.records.head()))

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
        copy, what = _as_copy(entry), f"{entry.name} in {self.name}"
        document = copy.document

        size = sum(one.size for one in document.pieces)
        kept = KeptPieces(lambda number: fetch(self.bucket, document.pieces[number], what), self.home, size)

        def read(number: int, keep: bool) -> bytes:
            return decrypt(self.trust.opener, kept.piece(number, keep=keep), what)

        def stored(_most: int) -> bytes | None:
            parts = (
                decrypt(self.trust.opener, fetch(self.bucket, one, what), what) for one in document.files
            )
            return b"".join(parts)

        pieces = Pieces(read, lengths(copy.manifest.size))
        files, packed = listed_in(copy.name, copy.manifest, stored)

        def open_it() -> BinaryIO:
            return cast(BinaryIO, io.BufferedReader(PieceReader(pieces, in_order=in_order), 1 << 20))

        return OpenArtifact(
            copy.source, copy.name, open_it, copy.manifest, files, entry=copy, record=partial(self.record, copy),
            packed_files=packed, store=self.name,
        )  # fmt: skip

    def record(self, entry: Entry, *evidence: Evidence) -> None:
        self.records.add_evidence(_as_copy(entry).signed, evidence)

    def unpublish(self, entry: Entry) -> None:
        """Delete the manifest of a copy: every version of it. BucketError (LOCKED, REFUSED): then it stays."""
        copy, head = _as_copy(entry), self.records.head()
        own = self.name == copy.document.store
        if own:  # before: a crash must not look like an attack
            self.records.keep_head(head.having_deleted(copy.signed.signer, ranges([copy.document.counter])))
        try:
            self._delete(copy.object)
        except BaseException:
            if own:
                self.records.keep_head(head)
            raise

    def require_manifests(self) -> None:
        """RefnetError if the store has no manifests at all; needs no key."""
        if not any(True for _ in self.bucket.listed(MANIFESTS)):
            hint = "Check the name or URL of the store; --deleted also reads deleted copies."
            raise RefnetError(f"there is no copy in {self.shown}", hint)

    def require_mounted(self) -> None:
        """RefnetError if a folder is empty although this machine sent copies: its disk may not be mounted."""
        sent = sum(high - low + 1 for low, high in self.records.head().sent)
        if sent and not any(True for _ in self.bucket.listed(MANIFESTS)):
            count = "a copy" if sent == 1 else f"{sent:,} copies"
            raise RefnetError(
                f"{self.shown} is empty, but this machine sent {count} there: is it mounted?",
                f"Mount it. If it is a new disk, or was emptied on purpose: `refnet store accept {self.bucket.shown}`.",
                transient=True,
            )

    def published(self, but: Collection[str] = ()) -> frozenset[str]:
        """Ids of copies with a manifest of any signer, including those behind a delete marker.

        but: objects of manifests to ignore.
        """
        versions = self.bucket.versions(MANIFESTS)
        there = (one.name for one in versions if not one.delete_marker and one.name not in but)
        return frozenset(found.id for name in there if (found := ManifestName.read(name)))

    def delete_pieces(self, entry: Entry, published: frozenset[str]) -> None:
        """Delete the pieces of a copy whose manifest was deleted; until then they are leftovers.

        They stay if another manifest (`published`) claims the same id: either one may be forged.
        """
        copy = _as_copy(entry)
        if copy.id not in published:
            self._delete(f"{DATA}{copy.id}/")
        self.records.forget(copy.signed)

    def _delete(self, prefix: str) -> None:
        """Delete every version of the objects whose names begin with `prefix`; delete markers last."""
        found = sorted(self.bucket.versions(prefix), key=lambda one: one.delete_marker)
        for one in found:
            self.bucket.delete(one.name, version=one.id)

    def leftovers(self) -> tuple[Leftover, ...]:
        """Pieces that no manifest names and no run is sending. They are attributed to the source `database`.

        A manifest that is unreadable, or hidden by a delete marker, keeps its pieces.
        """
        pieces = list(
            self.bucket.listed(DATA)
        )  # before the manifests: a copy that is published meanwhile is known
        contents = self.contents()
        named = {piece.name for one in contents.copies for piece in one.document.objects}
        complete = {one.id for one in contents.copies}
        unknown = self.published({one.object for one in contents.copies})
        left = []
        for one in pieces:
            name = PieceName.read(one.name)
            if name is None or one.name in named or name.id in unknown:
                continue
            young = datetime.now(UTC) - one.modified < _ON_THE_WAY
            if name.id not in complete and (young or name.id in self.records.sending()):
                continue
            left.append(Leftover(SourceName.DATABASE, one.name, one.size, "sent by a run that did not end"))
        old = (one for one in self.bucket.listed(CHECKS) if datetime.now(UTC) - one.modified >= _ON_THE_WAY)
        left += [Leftover(SourceName.DATABASE, one.name, one.size, "of a check of the store") for one in old]
        return tuple(left)

    def clean(self, leftover: Leftover) -> None:
        if PieceName.read(leftover.name) or leftover.name.startswith(CHECKS):
            self._delete(leftover.name)

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

    def accepted(self) -> tuple[tuple[Gap, ...], tuple[Gap, ...], Head]:
        """The gaps, the gaps that remain after accepting the store as it is, and the head after that."""
        manifests = [one.signed for one in self.contents().copies]
        head = accepted(manifests, self.name, self.records.head())
        return self.contents().gaps, gaps(manifests, self.name, head), head


class SealedStore(RemoteStore):
    """The store `local`: the encrypted artifacts in the backup folder (in `encrypted`), in the format of copies.

    Unlike in other remote stores, this machine locks, marks and deletes there, as in an unencrypted backup folder. Artifacts
    are made in its `workplace`.
    """

    folder: LocalStore
    workplace: LocalStore

    def trouble(self) -> RefnetError | None:
        """Return the reason why this may not be the expected backup folder; None if it is."""
        return self.folder.trouble()

    def prepare(self) -> None:
        """Make the folder, before something is written; RefnetError if this is not the expected backup folder."""
        if trouble := self.trouble():
            raise trouble
        make_folder(self.folder.root / ENCRYPTED)
        self.folder.remember()

    def lock(self, source: SourceName) -> AbstractContextManager[None]:
        """Lock `source`, also for its backups and restores."""
        if trouble := self.trouble():
            raise trouble
        return self.workplace.lock(source)

    def mark(self, entry: Entry, marks: Marks) -> None:
        """Replace the marks of `entry` durably. They are in REFNET_HOME: nothing in the store changes."""
        self.records.keep_marks(_as_copy(entry).signed, marks.to_file())

    def delete(self, entry: Entry) -> None:
        """Delete an artifact: its manifest, then its pieces."""
        with self.alone(seconds=None):
            self.unpublish(entry)
            self.delete_pieces(entry, self.published())

    def require_manifests(self) -> None:
        if not self.is_new():
            super().require_manifests()

    def is_new(self) -> bool:
        """Whether nothing was encrypted yet."""
        return not os.path.lexists(self.folder.root / ENCRYPTED) and not self.records.head().counter

    def _listed(self) -> RemoteContents:
        if trouble := self.trouble():
            raise trouble
        if self.is_new():
            return RemoteContents((), (), ())
        return super()._listed()


def _as_copy(entry: Entry) -> Copy:
    if not isinstance(entry, Copy):
        raise TypeError("not an entry of a remote store")
    return entry
