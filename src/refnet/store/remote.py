"""A remote store: encrypted copies in a bucket, with this machine's records in REFNET_HOME/remote/NAME.

There are `manifests/` and `versions/` (those that were fetched), `evidence/SHA256.jsonl` (the checks of the copy whose manifest
has that digest, so that no other manifest can claim them), `marks/SHA256.json` (of the store `local`), `head.json` (the newest
manifest that this machine sent), `sending/` (copies that are on the way, see sending.py), and a lock.
"""

from __future__ import annotations

import copy as copying
import io
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self, cast

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.evidence import MARKS_BYTES, Marks
from refnet.catalog.manifest import Entry, Evidence
from refnet.catalog.remote import DATA, MANIFESTS, Copy, ManifestName, PieceName, Signed, lengths
from refnet.catalog.remote_state import Gap, Head, accepted, gaps, ranges
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.catalog.store import Leftover, Unlisted
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file, sync_folder
from refnet.core.locks import locked
from refnet.settings import Settings
from refnet.store import disk
from refnet.store.buckets.bucket import Bucket
from refnet.store.buckets.opening import open_bucket
from refnet.store.encryption import fingerprint
from refnet.store.keys import GivenKeys, MachineKeys, Opener
from refnet.store.open_artifacts import listed_in
from refnet.store.remote_manifests import Manifests, Trust
from refnet.store.remote_pieces import KeptPieces, PieceReader, Pieces, decrypt, fetch
from refnet.store.scan import evidence_in
from refnet.store.sending_journal import begun
from refnet.store.store_check import CHECKS

#: A piece of an unpublished copy may be of a run that is on the way, on this machine or another, for so long.
_ON_THE_WAY = timedelta(days=2)
#: The largest record of a head, in bytes.
_HEAD_BYTES = 4 << 20


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
        copies = tuple(sorted(map(self._copy, found), key=lambda one: (one.damaged, one.object)))
        return RemoteContents(copies, tuple(unlisted), gaps(found, self.name, self.head()))

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
        path = self._evidence(_as_copy(entry).signed)
        make_folder(path.parent)
        with explained(path):
            disk.append_lines(path, "".join(line.to_json() for line in evidence))
        sync_folder(path.parent)

    def unpublish(self, entry: Entry) -> None:
        """Delete the manifest of a copy: every version of it. BucketError (LOCKED, REFUSED): then it stays."""
        copy, head = _as_copy(entry), self.head()
        own = self.name == copy.document.store
        if own:  # before: a crash must not look like an attack
            self.keep_head(head.having_deleted(copy.signed.signer, ranges([copy.document.counter])))
        try:
            self._delete(copy.object)
        except BaseException:
            if own:
                self.keep_head(head)
            raise

    def require_manifests(self) -> None:
        """RefnetError if the store has no manifests at all; needs no key."""
        if not any(True for _ in self.bucket.listed(MANIFESTS)):
            hint = "Check the name or URL of the store; --deleted also reads deleted copies."
            raise RefnetError(f"there is no copy in {self.shown}", hint)

    def require_mounted(self) -> None:
        """RefnetError if a folder is empty although this machine sent copies: its disk may not be mounted."""
        sent = sum(high - low + 1 for low, high in self.head().sent)
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
        for path in (self._evidence(copy.signed), self._marks_file(copy.signed)):
            with explained(path):
                path.unlink(missing_ok=True)

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
            if name.id not in complete and (young or name.id in self.sending()):
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

    def head(self) -> Head:
        """This machine's record of the last manifest sent; RefnetError if damaged."""
        path = self.home / "head.json"
        try:
            return Head.from_json(read_regular(path, _HEAD_BYTES, owner=os.geteuid()))
        except FileNotFoundError:
            return Head()
        except ValueError as error:
            hint = "Another program wrote it. Move it away; RefNet then takes the newest manifest in the store as the newest."
            raise RefnetError(f"{path} cannot be used: {error}", hint) from error
        except OSError as error:
            raise RefnetError(
                f"{path} cannot be read: {error.strerror}", "Give it to this user (0600)."
            ) from error

    def accepted(self) -> tuple[tuple[Gap, ...], tuple[Gap, ...], Head]:
        """The gaps, the gaps that remain after accepting the store as it is, and the head after that."""
        manifests = [one.signed for one in self.contents().copies]
        head = accepted(manifests, self.name, self.head())
        return self.contents().gaps, gaps(manifests, self.name, head), head

    def keep_head(self, head: Head) -> None:
        """Record the last manifest sent, durably."""
        path = self.home / "head.json"
        make_folder(self.home)
        with explained(path):
            replace_file(path, head.to_json().encode())

    def sending(self) -> frozenset[str]:
        """Ids of copies that runs of this machine began but did not finish."""
        return begun(self.home / "sending")

    def _copy(self, signed: Signed) -> Copy:
        path = self._evidence(signed)
        known = evidence_in(path, signed.document.sent) if path.exists() else ()
        return Copy(signed.document.manifest, known, self._marks(signed), signed=signed)

    def keep_marks(self, entry: Entry, data: bytes) -> None:
        """Store the marks of a copy durably; b"": no marks."""
        path = self._marks_file(_as_copy(entry).signed)
        make_folder(path.parent)
        with explained(path):
            replace_file(path, data) if data else path.unlink(missing_ok=True)
        sync_folder(path.parent)

    def _marks(self, signed: Signed) -> Marks:
        path = self._marks_file(signed)
        try:
            return Marks.from_file(read_regular(path, MARKS_BYTES, owner=os.geteuid()))
        except FileNotFoundError:
            return Marks()
        except (OSError, ValueError) as error:
            return Marks(unreadable=str(error))

    def _marks_file(self, signed: Signed) -> Path:
        return self.home / "marks" / f"{signed.sha256}.json"

    def _evidence(self, signed: Signed) -> Path:
        return self.home / "evidence" / f"{signed.sha256}.jsonl"


def _as_copy(entry: Entry) -> Copy:
    if not isinstance(entry, Copy):
        raise TypeError("not an entry of a remote store")
    return entry
