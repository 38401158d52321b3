"""Encrypt an artifact in pieces, sign its manifest, and send both to a remote store.

Order: each piece, after its line in the journal; the manifest, after it is written to a file here; then the head. So a
crash at any point leaves a copy that the next run continues, and the store shows it completely or not at all. The
artifact is compared with its own manifest while it is read, before anything is published.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock
from typing import BinaryIO

from xxhash import xxh3_128_hexdigest

from refnet.catalog.artifact import OpenArtifact, Progress
from refnet.catalog.manifest import Entry, Manifest
from refnet.catalog.remote import (
    DATA,
    MANIFEST_OBJECT_BYTES,
    MOST_PIECES,
    NAMESPACE,
    PIECE_BYTES,
    Copy,
    Piece,
    PieceName,
    RemoteManifest,
    Signed,
    evidence_to_send,
    lengths,
)
from refnet.catalog.remote_state import copy_of, newest, ranges
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.store import encryption
from refnet.store.buckets.bucket import BucketError, BucketFailure, in_background
from refnet.store.encryption import Recipient
from refnet.store.keys import MachineKeys
from refnet.store.remote import RemoteStore
from refnet.store.remote_pieces import fetch
from refnet.store.remote_records import SendingJournal, Sent, completed

#: While nothing ends, progress is reported again after this time: a piece takes 40 s on a slow line.
_REPORTED_SECONDS = 1.0
#: Requests with pieces at once. Each has 16 MiB in memory, and its bucket may have them once more.
_AT_ONCE = 3


#: The pieces of an artifact, and those of its list of files.
_BothPieces = tuple[tuple[Piece, ...], tuple[Piece, ...]]


@dataclass(frozen=True)
class Encrypter:
    """Encrypts copies to the recipients, and signs them with this machine's keys."""

    recipients: tuple[Recipient, ...]
    keys: MachineKeys

    @property
    def digest(self) -> str:
        """Digest of the recipients."""
        return hashlib.sha256("\n".join(sorted(one.text for one in self.recipients)).encode()).hexdigest()

    def piece(self, data: bytes) -> bytes:
        return encryption.encrypt(data, self.recipients)

    def manifest(self, line: bytes) -> tuple[bytes, bytes]:
        """Sign a manifest's line; return the plaintext, and the ciphertext for the recipients and this machine."""
        plaintext = line + self.keys.sign(line, NAMESPACE).encode("ascii")
        return plaintext, encryption.encrypt(plaintext, (*self.recipients, self.keys.catalog().recipient))


@dataclass(frozen=True)
class SentCopy:
    """The copy of an artifact."""

    copy: Copy
    #: It was sent now; otherwise it was there already.
    is_new: bool
    #: The other copies in the store.
    others: tuple[Copy, ...]


@dataclass(frozen=True)
class Sender:
    """Sends artifacts to one store."""

    store: RemoteStore
    encrypter: Encrypter
    now: Callable[[], datetime]

    def send(self, artifact: OpenArtifact, entry: Entry, progress: Progress) -> SentCopy:
        """Send `artifact` and publish it, unless its copy is there already.

        RefnetError (DAMAGED), before anything is published, if it does not match its manifest.
        """

        def pieces(journal: SendingJournal) -> _BothPieces:
            found = _Pieces(self, journal, progress)
            listed = found.send_list(artifact.packed_files())
            with artifact.open() as reader:
                return found.send(entry.manifest, reader), listed

        return self._sent(entry, self.encrypter.digest, pieces)

    def send_copy(self, origin: RemoteStore, copy: Copy, progress: Progress) -> SentCopy:
        """Send the encrypted copy of the store `origin` unchanged, and publish it, unless a copy exists here already.

        Needs no recovery key; recipients stay the same. RefnetError (DAMAGED) if a piece does not match its record.
        """

        def pieces(journal: SendingJournal) -> _BothPieces:
            found = _Pieces(self, journal, progress, encrypted=True)
            return found.send_encrypted(origin, copy)

        return self._sent(copy, f"as in {origin.name}: {copy.signed.sha256}", pieces)

    def _sent(self, entry: Entry, of: str, send: Callable[[SendingJournal], _BothPieces]) -> SentCopy:
        """Send the pieces of `entry` by `send`, and publish them; `of`: a journal of others is not continued."""
        with self.store.alone(seconds=None):
            self._finish()
            contents = self.store.contents()
            if there := copy_of(contents.copies, entry.manifest):
                return SentCopy(there, False, tuple(one for one in contents.copies if one is not there))
            journal = SendingJournal.open(self.store.home / "sending", entry.manifest, of)
            found, listed = send(journal)
            manifests = [one.signed for one in contents.copies]
            signed = self._complete(journal, self._document(entry, journal, (found, listed), manifests))
            return SentCopy(Copy(signed.document.manifest, signed=signed), True, contents.copies)

    def _document(
        self,
        entry: Entry,
        journal: SendingJournal,
        pieces: _BothPieces,
        manifests: Sequence[Signed],
    ) -> RemoteManifest:
        """Manifest of the copy, with the counter after those in the store and those that this machine sent."""
        signer, head = self.encrypter.keys.signer(), self.store.records.head()
        last = newest(manifests, signer.fingerprint, self.store.name)
        counter, previous = (head.counter, head.sha256) if head.signer == signer.fingerprint else (0, "")
        if last and last.document.counter > counter:
            counter, previous = last.document.counter, last.sha256
        own = (one.document for one in manifests if one.signer == signer.fingerprint)
        present = ranges([counter + 1, *(one.counter for one in own if one.store == self.store.name)])
        return RemoteManifest(
            journal.id, self.store.name, entry.manifest, evidence_to_send(entry), *pieces,
            signer.line, counter + 1, previous, present, self.now(),
        )  # fmt: skip

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
                f"the manifest of {document.manifest.name} is too large", "Report it with `refnet show`."
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
                journal.remove()  # something else took its name: the next run sends it under another
            raise
        self.store.records.keep_head(self.store.records.head().after(signed))
        journal.remove()
        return signed

    def _finish(self) -> None:
        """Publish copies whose manifest an interrupted run made."""
        for journal, name, data in completed(self.store.home / "sending"):
            try:
                self._publish(journal, name, data)
            except ValueError:  # other keys by now: it is sent again as a whole
                journal.remove()


def sender_to(store: RemoteStore, settings: Settings, now: Callable[[], datetime]) -> Sender:
    """Return what sends copies to `store`; RefnetError (USAGE) without recipients, or without this machine's keys."""
    keys = MachineKeys.in_home(settings.home)
    encrypter = Encrypter(tuple(map(Recipient, settings.recipients())), keys)
    keys.signer()
    keys.catalog()
    return Sender(store, encrypter, now)


class _Pieces:
    """The pieces of a copy being sent, with a few parallel requests."""

    def __init__(
        self, sender: Sender, journal: SendingJournal, progress: Progress, *, encrypted: bool = False
    ) -> None:
        """encrypted: the pieces are already encrypted."""
        self._bucket, self._name = sender.store.bucket, sender.store.name
        self._encrypt = bytes if encrypted else sender.encrypter.piece
        self._journal, self._progress = journal, progress
        listed = self._bucket.listed(f"{DATA}{journal.id}/") if journal.pieces else ()
        #: The pieces that an earlier run has sent.
        self._there = {one.name: one.size for one in listed}
        self._in_flight: set[Future[int]] = set()
        self._alone = Lock()
        #: Bytes of the artifact that are in the store, and of all of it; 0: they are not reported.
        self._done = self._total = 0

    def send(self, manifest: Manifest, reader: BinaryIO) -> tuple[Piece, ...]:
        """Send an artifact, and return its pieces; RefnetError (DAMAGED) if its bytes do not match `manifest`."""
        if manifest.size > MOST_PIECES * PIECE_BYTES:
            most = formatting.size(MOST_PIECES * PIECE_BYTES)
            raise RefnetError(
                f"{manifest.name} is too large for a remote store", f"A copy has at most {most}."
            )
        sha, size, found = hashlib.sha256(), 0, []
        self._done, self._total = 0, manifest.size
        for number, length in enumerate(lengths(manifest.size)):
            data = reader.read(length)
            sha.update(data)
            size += len(data)
            found.append(self._one(PieceName(self._journal.id, number), data))
            self._report()
        if size != manifest.size or reader.read(1) or sha.hexdigest() != manifest.sha256:
            self._journal.remove()
            raise RefnetError(
                f"{manifest.name} is damaged: its bytes do not match its manifest",
                f"It is not copied. Check it: `refnet verify {manifest.name}`.",
                Exit.DAMAGED,
            )
        return self._all(found)

    def send_list(self, packed: bytes | None) -> tuple[Piece, ...]:
        """Send the list of files `packed`, if there is one."""
        parts = [packed[at : at + PIECE_BYTES] for at in range(0, len(packed), PIECE_BYTES)] if packed else []
        return self._all(
            [self._one(PieceName(self._journal.id, n, True), part) for n, part in enumerate(parts)]
        )

    def send_encrypted(self, origin: RemoteStore, copy: Copy) -> _BothPieces:
        """Send the pieces of `copy` unchanged from the store `origin`; return those of the artifact, of the list of files."""
        what, document = f"{copy.name} in {origin.name}", copy.document
        self._done, self._total = 0, document.size
        names: list[list[PieceName]] = []
        for pieces, files in ((document.pieces, False), (document.files, True)):
            names.append([])
            for number, piece in enumerate(pieces):
                data = fetch(origin.bucket, piece, what)
                names[-1].append(self._one(PieceName(self._journal.id, number, files), data))
                self._report()
        return self._all(names[0]), self._all(names[1])

    def _one(self, name: PieceName, data: bytes) -> PieceName:
        """Begin to send a piece, unless an earlier run has."""
        plain, known = xxh3_128_hexdigest(data), self._journal.pieces.get((name.number, name.files))
        if known and known.plain == plain and self._there.get(known.piece.name) == known.piece.size:
            self._done += len(data)
            return name
        encrypted = self._encrypt(data)
        piece = Piece(name.named(secrets.token_hex(8)), len(encrypted), hashlib.sha256(encrypted).hexdigest())
        self._add(Sent(piece, plain))
        self._wait(_AT_ONCE - 1)
        self._in_flight.add(in_background(self._put, Sent(piece, plain), encrypted, len(data)))
        return name

    def _put(self, sent: Sent, data: bytes, size: int) -> int:
        """Create the object of a piece; return `size`, its plaintext size."""
        if version := self._bucket.put(sent.piece.name, data):
            self._add(replace(sent, piece=replace(sent.piece, version=version)))
        return size

    def _add(self, sent: Sent) -> None:
        with self._alone:
            self._journal.add(sent)

    def _wait(self, most: int) -> None:
        """Wait until at most `most` requests are in flight; raise the error of a failed request."""
        while len(self._in_flight) > most:
            done, self._in_flight = wait(self._in_flight, _REPORTED_SECONDS, FIRST_COMPLETED)
            self._done += sum(one.result() for one in done)
            self._report()

    def _report(self) -> None:
        if self._total:
            self._progress(f"copy to {self._name}", self._done, self._total)

    def _all(self, names: Sequence[PieceName]) -> tuple[Piece, ...]:
        self._wait(0)
        return tuple(self._journal.pieces[one.number, one.files].piece for one in names)
