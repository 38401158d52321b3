"""Sends an artifact to a remote store: its pieces, its signed manifest, then the head.

Each piece is sent after its line in the journal; the manifest, after it is written to a file here. So a crash at any point
leaves a copy that the next run continues, and the store shows it completely or not at all. The artifact is compared with
its own manifest while it is read, before anything is published.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain

from refnet.catalog.artifact import OpenArtifact, Progress
from refnet.catalog.manifest import Entry, Manifest
from refnet.catalog.object_names import PIECES, ManifestName
from refnet.catalog.remote import (
    MANIFEST_OBJECT_BYTES,
    Copy,
    Piece,
    RemoteManifest,
    Replaced,
    Signed,
    evidence_to_send,
)
from refnet.catalog.remote_state import copy_of, newest, ranges
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import make_folder
from refnet.settings import Settings
from refnet.store import leases, settings_copies
from refnet.store.buckets.bucket import BucketError, BucketFailure, Locks, Stored, in_background
from refnet.store.buckets.opening import locks_of
from refnet.store.copy_checks import Looked, look_back
from refnet.store.encryption import Recipient
from refnet.store.keys import MachineKeys
from refnet.store.known_blocks import KnownBlocks, PieceCuts
from refnet.store.lock_extension import Extended, extend
from refnet.store.remote import RemoteStore
from refnet.store.remote_records import SendingJournal, completed
from refnet.store.sending_pieces import Content, Encrypter, PieceSender
from refnet.store.store_check import last_checks

#: Sends a copy; it may share the given pieces, by name.
_Send = Callable[[SendingJournal, Mapping[str, Piece]], Content]


@dataclass(frozen=True)
class SentCopy:
    """The copy of an artifact."""

    copy: Copy
    #: It was sent now; otherwise it was there already.
    is_new: bool
    #: The other copies in the store.
    others: tuple[Copy, ...]
    #: Pieces of them that the store does not list with their size, by name.
    unlisted: frozenset[str] = frozenset()
    #: Why locks of pieces were not extended, so that these were sent again; "": all were, or none had to be.
    not_extended: str = ""
    #: The settings files that were listed, by name of their object.
    settings: frozenset[str] = frozenset()
    #: What was found in a sample of `others`, if the sender takes one.
    looked: Future[Looked] | None = None

    @property
    def shared(self) -> int:
        """Bytes of its pieces that other copies in the store have too."""
        theirs = {piece.name for one in self.others for piece in one.document.pieces}
        return sum(one.size for one in self.copy.document.objects if one.name in theirs)

    @property
    def sent(self) -> int:
        """Bytes of its other pieces."""
        return self.copy.document.size - self.shared


@dataclass(frozen=True)
class Sharing:
    """Which pieces in a store a new copy may share."""

    #: Those of copies that are younger.
    age: timedelta = timedelta(days=90)
    #: For how long the store locks a new object; zero: not, or unknown. Less than half of it may be over.
    lock: timedelta = timedelta()
    #: Extends the locks of the others; None: they are sent again.
    locks: Locks | None = None


@dataclass(frozen=True)
class _Shared:
    """Pieces in a store that a new copy may share."""

    #: By name.
    usable: Mapping[str, Piece]
    #: Names of those whose lock must be extended first.
    expiring: frozenset[str] = frozenset()
    #: Names of the pieces of this machine's copies that the store does not list with their size.
    unlisted: frozenset[str] = frozenset()
    #: It is not earlier by the clock of the store's server; None: that is not known.
    since: datetime | None = None
    #: The settings files that were listed with them, by name of their object.
    settings: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sender:
    """Sends artifacts to one store."""

    store: RemoteStore
    encrypter: Encrypter
    now: Callable[[], datetime]
    sharing: Sharing = Sharing()
    #: Read back a sample of the older copies, while one is sent.
    samples: bool = False

    def send(self, artifact: OpenArtifact, entry: Entry, progress: Progress) -> SentCopy:
        """Send `artifact` and publish it, unless its copy is there already.

        RefnetError (DAMAGED), before anything is published, if it does not match its manifest.
        """

        def content(journal: SendingJournal, usable: Mapping[str, Piece]) -> Content:
            blocks = KnownBlocks(self.store.home / "blocks" / entry.source, self.encrypter.cutting)
            found = PieceSender(self.store, self.encrypter, journal, progress)
            found.share(usable, blocks.read(usable))
            sent = found.send(entry.manifest, artifact)
            blocks.write(found.places)
            PieceCuts.of(self.store.home).add(found.cuts)
            return sent

        return self._sent(entry, self.encrypter.digest, content, progress)

    def send_copy(self, origin: RemoteStore, copy: Copy, progress: Progress) -> SentCopy:
        """Send the encrypted copy of the store `origin` unchanged, and publish it, unless a copy exists here already.

        Needs no recovery key; recipients stay the same. RefnetError (DAMAGED) if a piece does not match its record.
        """

        def content(journal: SendingJournal, usable: Mapping[str, Piece]) -> Content:
            found = PieceSender(self.store, self.encrypter, journal, progress)
            found.share(usable, {})
            return found.send_encrypted(origin, copy)

        recipients = copy.document.recipients or copy.signed.sha256  # in format 1 they are not known
        return self._sent(copy, recipients, content, progress)

    def _sent(self, entry: Entry, recipients: str, send: _Send, progress: Progress) -> SentCopy:
        """Publish what `send` sends of `entry`; it may share the given pieces, all for `recipients` (a digest)."""
        bucket, key = self.store.bucket, self.encrypter.key
        with self.store.alone(seconds=None):
            leases.end_killed(self.store.home, self.store.create)
            self._finish()
            contents = self.store.contents()
            if there := copy_of(contents.copies, entry.manifest):
                return SentCopy(there, False, tuple(one for one in contents.copies if one is not there))
            journal = SendingJournal.open(self.store.home / "sending", entry.manifest, recipients)
            if journal.continues and not leases.is_young(bucket, key, journal.id, self.now()):
                leases.end_lease(bucket, key, journal.id)
                journal = journal.renewed()
            leases.lease(bucket, key, journal.id)
            looked = in_background(look_back, self.store, contents.copies) if self.samples else None
            with self._ending_lease(journal):
                shared = self._shared(contents.copies, journal, recipients)
                content, refusal = self._same(entry.manifest, contents.copies, shared.usable), ""
                if content is None or any(one.name in shared.expiring for one in content.pieces):
                    content = content or send(journal, shared.usable)
                    content, refusal = self._locked(content, shared, partial(send, journal), progress)
                    now = min(self.now(), shared.since or self.now())
                    leases.require_no_prune(bucket, key, self.store.name, now)
                    leases.require_open(bucket, key, journal.id, self.store.name)
                # else the list of what is shared, after which nothing was sent, showed both
                manifests = [one.signed for one in contents.copies]
                document = self._document(entry, journal, content, recipients, manifests)
                signed = self._complete(journal, document)
            copy = Copy(signed.document.manifest, signed=signed)
            return SentCopy(copy, True, contents.copies, shared.unlisted, refusal, shared.settings, looked)

    @contextmanager
    def _ending_lease(self, journal: SendingJournal) -> Iterator[None]:
        """End the lease of a copy of a damaged artifact: no later run continues it."""
        try:
            yield
        except RefnetError as error:
            if error.code is Exit.DAMAGED:
                with suppress(BucketError):
                    leases.end_lease(self.store.bucket, self.encrypter.key, journal.id)
            raise

    def _same(
        self, manifest: Manifest, copies: Sequence[Copy], usable: Mapping[str, Piece]
    ) -> Content | None:
        """What a copy of the same bytes consists of, if all its pieces may be shared: nothing has to be read.

        Its sender compared them with the SHA-256 of the artifact.
        """
        wanted, signer = _bytes_of(manifest), self.encrypter.keys.signer().fingerprint
        for one in copies:
            found = one.document
            shared = bool(found.pieces) and all(usable.get(piece.name) == piece for piece in found.pieces)
            if one.signed.signer == signer and _bytes_of(one.manifest) == wanted and shared:
                return Content(found.pieces, found.ranges, found.list_ranges, found.list_coding)
        return None

    def _locked(
        self,
        content: Content,
        shared: _Shared,
        send: Callable[[Mapping[str, Piece]], Content],
        progress: Progress,
    ) -> tuple[Content, str]:
        """`content` after the locks of its pieces were extended; if the server refuses, of newly sent pieces, and why."""
        due = [one for one in content.pieces if one.name in shared.expiring]
        if not due or not self.sharing.locks:
            return content, ""
        records, now, step = self.store.records, self.now(), f"extend locks in {self.store.name}"
        found: Extended = extend(self.sharing.locks, due, now, self.sharing.lock, partial(progress, step))
        records.keep_locked_until({**records.locked_until(now), **found.until})
        lost = shared.expiring - found.until.keys()
        if all(one.name not in lost for one in content.pieces):
            return content, ""
        there = {**shared.usable, **{one.name: one for one in content.pieces}}
        return send({name: one for name, one in there.items() if name not in lost}), found.refusal

    def _shared(self, copies: Sequence[Copy], journal: SendingJournal, recipients: str) -> _Shared:
        """Pieces in the store that a new copy may share: of this machine's copies, or sent by an earlier run.

        A signer that is not trusted any more, other recipients, a copy that is damaged or old, a lock of which more than
        half is over and that cannot be extended: these pieces are sent again.
        """
        key, named = self.encrypter.key, [*self._named(copies, recipients), *journal.pieces.values()]
        if not named:
            return _Shared({})
        doubtful = {piece.name for one in copies if one.damaged for piece in one.document.pieces}
        own = [one.document.pieces for one in copies if one.document.key == key]
        wanted = {one.name: one for one in (*chain.from_iterable(own), *named)}
        there, expiring, runs = set[str](), set[str](), list[Stored]()
        lock, now = self.sharing.lock, self.now()
        extended = self.store.records.locked_until(now) if lock else {}
        latest = datetime.min.replace(tzinfo=UTC)
        for one in self.store.bucket.listed(f"{key}/"):  # in the order of their names: intents, then pieces
            latest = max(latest, one.modified)  # that of the lease, unless an earlier run created it
            if not one.name.startswith(f"{key}/{PIECES}"):
                runs.append(one)
                continue
            piece = wanted.get(one.name)
            if piece and piece.size == one.size:
                there.add(piece.name)
            if piece and lock and extended.get(one.name, one.modified + lock) < now + lock / 2:
                expiring.add(piece.name)
        # A prune that did not see the lease may delete what was listed.
        leases.require_no_intent(runs, self.store.name, min(now, latest))
        leases.require_no_end(runs, key, journal.id, self.store.name)
        every = chain.from_iterable(own)
        unlisted = frozenset(
            one.name for one in every if one.name not in there or wanted[one.name].size != one.size
        )
        # Without its id, no version can be locked.
        lost = {
            one.name for one in named if one.name in expiring and not (self.sharing.locks and one.version)
        }
        unusable = doubtful | lost
        usable = {one.name: one for one in named if one.name in there and one.name not in unusable}
        settings = frozenset(
            one.name for one in runs if one.name.startswith(f"{key}/{settings_copies.PREFIX}")
        )
        return _Shared(usable, frozenset(expiring), unlisted, latest, settings)

    def _named(self, copies: Sequence[Copy], recipients: str) -> Iterator[Piece]:
        """Yield the pieces of copies that this machine sent here for `recipients`, and that are young enough."""
        wanted = (self.encrypter.key, self.encrypter.keys.signer().fingerprint, self.store.name, recipients)
        for one in copies:
            found = one.document
            young = self.now() - found.sent < self.sharing.age
            if young and (found.key, one.signed.signer, found.store, found.recipients) == wanted:
                yield from found.pieces

    def _document(
        self,
        entry: Entry,
        journal: SendingJournal,
        content: Content,
        recipients: str,
        manifests: Sequence[Signed],
    ) -> RemoteManifest:
        """Manifest of the copy, with the counter after those in the store and those that this machine sent."""
        document = RemoteManifest(
            journal.id, self.store.name, entry.manifest, evidence_to_send(entry), content.pieces, (),
            "", 1, "", (), self.now(),
            self.encrypter.key, recipients, content.ranges, content.list_ranges, content.list_coding,
        )  # fmt: skip
        return self._in_order(document, manifests)

    def _in_order(self, document: RemoteManifest, manifests: Sequence[Signed]) -> RemoteManifest:
        """`document` as this machine's next manifest, after `manifests`, those in the store."""
        signer, head = self.encrypter.keys.signer(), self.store.records.head()
        last = newest(manifests, signer.fingerprint, self.store.name)
        counter, previous = (head.counter, head.sha256) if head.signer == signer.fingerprint else (0, "")
        if last and last.document.counter > counter:
            counter, previous = last.document.counter, last.sha256
        own = (one.document for one in manifests if one.signer == signer.fingerprint)
        present = ranges([counter + 1, *(one.counter for one in own if one.store == self.store.name)])
        return replace(document, signer=signer.line, counter=counter + 1, previous=previous, present=present)

    def take_over(self, copies: Sequence[Copy]) -> None:
        """Write the manifests of `copies` again, which another machine signed, as this machine's over the same pieces.

        The store is locked by the caller. The earlier manifests stay: these name them.
        """
        records = self.store.records
        head, manifests = records.head(), [one.signed for one in self.store.contents().copies]
        keys = {one.document.key for one in copies}
        records.keep_head(replace(head, taken=tuple(sorted({*head.taken, *keys}))))
        for one in copies:
            old = one.document
            earlier = (Replaced(old.object, one.signed.signer, old.counter), *old.replaces)
            journal = SendingJournal(self.store.home / "sending" / one.name, secrets.token_hex(16))
            make_folder(journal.path.parent)
            document = replace(old, id=journal.id, store=self.store.name, replaces=earlier)
            manifests.append(self._complete(journal, self._in_order(document, manifests)))

    def _complete(self, journal: SendingJournal, document: RemoteManifest) -> Signed:
        line = document.to_line()
        try:
            RemoteManifest.from_line(line)
        except ValueError as error:
            journal.remove()
            raise RefnetError(
                f"the copy of {document.manifest.name} to {self.store.name} has no valid manifest: {error}",
                f"Another program wrote in {self.store.home}, or another machine signs with this machine's key: see docs/offsite.md.",
                Exit.DAMAGED,
            ) from None
        _, data = self.encrypter.manifest(line)
        if len(data) > MANIFEST_OBJECT_BYTES:
            raise RefnetError(
                f"the copy of {document.manifest.name} needs a manifest of more than {MANIFEST_OBJECT_BYTES >> 20} MiB",
                "Split the source into several, for example by folders: each has artifacts of its own.",
            )
        journal.complete(document.object, data)
        return self._publish(journal, document.object, data)

    def _publish(self, journal: SendingJournal, name: str, data: bytes) -> Signed:
        """Send the manifest, and record it as the newest; the same bytes may be there already. ValueError: not of this run."""
        signed = self.store.manifests.parse(data, name)
        if (signed.signer, signed.document.store) != (
            self.encrypter.keys.signer().fingerprint,
            self.store.name,
        ):
            raise ValueError("not a manifest of this machine for this store")
        try:
            self.store.bucket.put(name, data)
        except BucketError as error:
            if error.kind is BucketFailure.EXISTS:
                journal.reopen()  # something else took its name: the next run sends it under another
            raise
        self.store.records.keep_head(self.store.records.head().after(signed))
        journal.remove()
        return signed

    def _finish(self) -> None:
        """Publish copies whose manifest an interrupted run made, unless a prune may have deleted their pieces."""
        for journal, name, data in completed(self.store.home / "sending"):
            named = ManifestName.read(name)
            if named and named.key:
                pruned = leases.open_intents(self.store.bucket, named.key)
                if pruned or leases.has_ended(self.store.bucket, named.key, journal.id):
                    journal.reopen()
                    continue
            try:
                self._publish(journal, name, data)
            except ValueError:  # other keys by now: it is sent again as a whole
                if named and named.key:
                    leases.end_lease(self.store.bucket, named.key, journal.id)
                journal.remove()


def _bytes_of(manifest: Manifest) -> tuple[int, str, str | None]:
    return manifest.size, manifest.sha256, manifest.files_sha256


def sender_to(store: RemoteStore, settings: Settings, now: Callable[[], datetime]) -> Sender:
    """Return what sends copies to `store`; RefnetError (USAGE) without recipients, or without this machine's keys."""
    keys = MachineKeys.in_home(settings.home)
    encrypter = Encrypter(tuple(map(Recipient, settings.recipients())), keys)
    keys.signer()
    keys.catalog()
    return Sender(store, encrypter, now, _sharing(store, settings))


def _sharing(store: RemoteStore, settings: Settings) -> Sharing:
    """What copies to `store` share. A new object is locked as the settings ask for, or the last check saw."""
    own = settings.every_store.get(store.name)
    if own is None:
        return Sharing()
    check = last_checks(settings.home / "remote", {store.name: own})[store.name]
    lock = max(timedelta(days=own.lock or 0), timedelta(seconds=check.lock_seconds if check else 0))
    return Sharing(timedelta(days=own.share_for), lock, locks_of(own) if own.extend_locks else None)
