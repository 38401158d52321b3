"""Encrypts and sends the pieces of a copy, a few at a time; what the store has already is not sent again."""

from __future__ import annotations

import hashlib
import io
import secrets
from array import array
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from threading import Lock
from typing import BinaryIO

from refnet.catalog.artifact import OpenArtifact, Progress
from refnet.catalog.manifest import Manifest
from refnet.catalog.object_names import SharedName, key_id
from refnet.catalog.remote import (
    MOST_PIECES,
    MOST_RANGES,
    NAMESPACE,
    PIECE_BYTES,
    Copy,
    Piece,
    Range,
    packed,
)
from refnet.core.errors import Exit, RefnetError
from refnet.store import encryption, list_coding
from refnet.store.age import plain_size
from refnet.store.buckets.bucket import in_background
from refnet.store.cutting import Cutting, fits
from refnet.store.encryption import Recipient
from refnet.store.keys import MachineKeys
from refnet.store.known_blocks import Place
from refnet.store.remote import RemoteStore
from refnet.store.remote_pieces import fetch
from refnet.store.remote_records import SendingJournal

#: While nothing ends, progress is reported again after this time: a piece takes 40 s on a slow line.
_REPORTED_SECONDS = 1.0
#: Requests with pieces at once. Each has up to 16 MiB in memory, and its bucket may have them once more.
_AT_ONCE = 3
#: A list of files of so many bytes is encoded while the artifact is read; a longer one before it, as both take memory.
_MOST_BESIDE = 16 << 20


@dataclass(frozen=True)
class Encrypter:
    """Encrypts copies to the recipients, and signs them with this machine's keys."""

    recipients: tuple[Recipient, ...]
    keys: MachineKeys

    @property
    def digest(self) -> str:
        """Digest of the recipients."""
        return hashlib.sha256("\n".join(sorted(one.text for one in self.recipients)).encode()).hexdigest()

    @property
    def key(self) -> str:
        """Folder of this machine's objects: the id of its catalog key."""
        return key_id(self.keys.catalog().recipient.text)

    @property
    def cutting(self) -> Cutting:
        return Cutting.of(self.keys.catalog().revealed())

    def piece(self, data: bytes) -> bytes:
        return encryption.encrypt(data, self.recipients)

    def manifest(self, line: bytes) -> tuple[bytes, bytes]:
        """Sign a manifest's line; return the plaintext, and the ciphertext for the recipients and this machine."""
        plaintext = packed(line + self.keys.sign(line, NAMESPACE).encode("ascii"))
        return plaintext, encryption.encrypt(plaintext, (*self.recipients, self.keys.catalog().recipient))


@dataclass(frozen=True)
class Content:
    """What a copy consists of."""

    pieces: tuple[Piece, ...]
    #: The ranges of `pieces` that are the artifact, and its list of files.
    ranges: tuple[Range, ...]
    list_ranges: tuple[Range, ...] = ()
    #: How the list is written, see RemoteManifest.
    list_coding: int = 0


class PieceSender:
    """Sends the pieces of one copy."""

    def __init__(
        self, store: RemoteStore, encrypter: Encrypter, journal: SendingJournal, progress: Progress
    ) -> None:
        self._bucket, self._name = store.bucket, store.name
        self._encrypter, self._key, self._cutting = encrypter, encrypter.key, encrypter.cutting
        self._journal, self._progress = journal, progress
        #: By the hash of the plaintext: pieces in the store that the copy may share.
        self._known: dict[str, Piece] = {}
        #: By hash: blocks in the store, and those pieces by name.
        self._stored: Mapping[bytes, Place] = {}
        self._usable: Mapping[str, Piece] = {}
        #: By hash: the hash of the block that followed it in an earlier artifact.
        self._next: Mapping[bytes, bytes] = {}
        #: By hash: the blocks of the copy.
        self._blocks: dict[bytes, Range] = {}
        #: The pieces of the copy, by number; None: it is being filled or sent.
        self._pieces: list[Piece | None] = []
        self._numbers: dict[str, int] = {}
        #: The piece that is being filled and its size; the hashes of its blocks, and its number.
        self._open, self._open_size = memoryview(bytearray(PIECE_BYTES)), 0
        self._open_hashes, self._open_number = bytearray(), 0
        #: The lengths of its blocks; and those of the pieces before it, by the hash in their names.
        self._open_lengths, self.cuts = array("I"), dict[str, Sequence[int]]()
        #: The number of each piece that is being sent, and the bytes that it counts for progress.
        self._in_flight: dict[Future[Piece], tuple[int, int]] = {}
        self._alone = Lock()
        #: A request failed, so the copy ends.
        self._failed = False
        #: Bytes of the copy that are in the store, and of all of it; 0: they are not reported.
        self._done = self._total = 0

    def share(self, usable: Mapping[str, Piece], stored: Mapping[bytes, Place]) -> None:
        """Let the copy share the pieces `usable` (by name) in the store; `stored`: the blocks in them, by hash."""
        self._usable, self._stored, self._next = usable, stored, dict(pairwise(stored))
        self._known = {name.hash: one for one in usable.values() if (name := SharedName.read(one.name))}

    def send(self, manifest: Manifest, artifact: OpenArtifact) -> Content:
        """Send an artifact and its list of files; RefnetError (DAMAGED) if its bytes do not match `manifest`."""
        text = artifact.files() or b""
        encoding = in_background(list_coding.encode, text)
        if len(text) > _MOST_BESIDE:
            wait([encoding])
        with artifact.open() as reader:
            found = self._send_artifact(manifest, reader)
        coded = encoding.result() if text else None
        data = coded or artifact.packed_files() or b""
        self._total += len(data)
        listed = self._ranges(self._cutting.blocks(io.BytesIO(data)))
        self._wait(0)
        return self._content(found, listed, int(coded is not None))

    def _send_artifact(self, manifest: Manifest, reader: BinaryIO) -> tuple[Range, ...]:
        self._done, self._total = 0, manifest.size
        sha, size = hashlib.sha256(), 0

        def digest(read: memoryview) -> None:
            nonlocal size
            sha.update(read)
            size += len(read)

        with closing(self._cutting.blocks(reader, digest, self._likely)) as blocks:
            found = self._ranges(blocks)
        if (sha.hexdigest(), size) != (manifest.sha256, manifest.size):
            self._wait(0)
            self._journal.remove()
            raise RefnetError(
                f"{manifest.name} is damaged: its bytes do not match its manifest",
                f"It is not copied. Check it: `refnet verify {manifest.name}`.",
                Exit.DAMAGED,
            )
        return found

    def send_encrypted(self, origin: RemoteStore, copy: Copy) -> Content:
        """Send the pieces of `copy` unchanged from the store `origin`."""
        what, document = f"{copy.name} in {origin.name}", copy.document
        there = {one.sha256: one for one in self._usable.values()}
        self._done, self._total = 0, document.size
        for piece in (*document.pieces, *document.files):
            number = len(self._pieces)
            if known := there.get(piece.sha256):
                self._pieces.append(known)
                self._done += piece.size
            else:
                self._pieces.append(None)
                data = fetch(origin.bucket, piece, what)
                named = SharedName.read(piece.name)
                if named is None or named.key != self._key:
                    named = SharedName(self._key, self._cutting.hash(data).hex())
                sent = Piece(
                    named.named(secrets.token_hex(8)), piece.size, piece.sha256, plain=plain_size(data)
                )
                self._wait(_AT_ONCE - 1)
                self._in_flight[in_background(self._put, sent, data)] = (number, piece.size)
            self._report()
        self._wait(0)
        files = enumerate(self._pieces[len(document.pieces) :], len(document.pieces))
        listed = document.list_ranges or tuple(Range(n, 0, one.plain) for n, one in files if one)
        return self._content(document.artifact_parts, listed, document.list_coding)

    @property
    def places(self) -> dict[bytes, Place]:
        """By hash: the blocks of the copy in the store."""
        pieces = self._pieces
        return {
            hash_: Place(piece.name, one.start, one.length)
            for hash_, one in self._blocks.items()
            if (piece := pieces[one.piece])
        }

    def _likely(self, hash_: bytes) -> tuple[bytes, int]:
        """Hash and length of the block that followed the one with that hash in an earlier artifact; its length is 0 if none did."""
        following = self._next.get(hash_, b"")
        return following, self._stored[following].length if following else 0

    def _ranges(self, blocks: Iterable[tuple[memoryview, bytes]]) -> tuple[Range, ...]:
        """Begin to send blocks, given with their hashes, but for those in the store; return their ranges."""
        found: list[Range] = []
        for block, hash_ in blocks:
            one = self._placed(hash_, block, reuse=len(found) < MOST_RANGES // 4)
            last = found[-1] if found else None
            if last and last.piece == one.piece and last.start + last.length == one.start:
                found[-1] = last._replace(length=last.length + one.length)
            else:
                found.append(one)
            self._report()
        self._flush()
        return tuple(found)

    def _placed(self, hash_: bytes, block: memoryview, *, reuse: bool) -> Range:
        """The range of a block, which is added to the open piece if the store does not have it."""
        if known := self._blocks.get(hash_) if reuse else None:
            self._done += len(block)
            return known
        stored = self._stored.get(hash_) if reuse else None
        if stored and stored.length == len(block):
            number = self._number(self._usable[stored.piece])
            self._blocks[hash_] = found = Range(number, stored.start, stored.length)
            self._done += len(block)
            return found
        if not fits(self._open_size, len(block)):
            self._flush()
        if not self._open_size:
            self._require_room()
            self._open_number = len(self._pieces)
            self._pieces.append(None)
        self._blocks[hash_] = found = Range(self._open_number, self._open_size, len(block))
        self._open[self._open_size : self._open_size + len(block)] = block
        self._open_size += len(block)
        self._open_hashes += hash_
        self._open_lengths.append(len(block))
        if self._cutting.ends_piece(self._open_size, hash_, len(block)):
            self._flush()
        return found

    def _require_room(self) -> None:
        """RefnetError if the copy has as many pieces as a manifest can name."""
        if len(self._pieces) >= MOST_PIECES:
            raise RefnetError(
                f"{self._journal.path.name} is too large for {self._name}: a copy has at most {MOST_PIECES:,} pieces, about 800 GiB",
                "Split the source into several, for example by folders: each has artifacts of its own.",
            )

    def _number(self, piece: Piece) -> int:
        """Number of a piece in the store."""
        found = self._numbers.get(piece.name)
        if found is None:
            found = self._numbers[piece.name] = len(self._pieces)
            self._pieces.append(piece)
        return found

    def _flush(self) -> None:
        """Send the open piece, unless the store has it."""
        if not self._open_size:
            return
        size, self._open_size = self._open_size, 0
        hashes, self._open_hashes = bytes(self._open_hashes), bytearray()
        name = SharedName(self._key, self._cutting.hash(hashes).hex())
        self.cuts[name.hash], self._open_lengths = self._open_lengths, array("I")
        known = self._known.get(name.hash)
        if known and known.plain == size:
            self._pieces[self._open_number] = known
            self._done += size
            return
        self._wait(_AT_ONCE - 1)
        sending = in_background(self._encrypted, name, [bytes(self._open[:size])])
        self._in_flight[sending] = (self._open_number, size)

    def _encrypted(self, name: SharedName, data: list[bytes]) -> Piece:
        """Encrypt and send a piece; `data`: its plaintext, which is taken out of the list: it may go before the object is sent."""
        plain = len(data[0])
        encrypted = self._encrypter.piece(data.pop())
        sha256 = hashlib.sha256(encrypted).hexdigest()
        return self._put(
            Piece(name.named(secrets.token_hex(8)), len(encrypted), sha256, plain=plain), encrypted
        )

    def _put(self, piece: Piece, data: bytes) -> Piece:
        """Create the object of a piece, after its line in the journal; return the piece with its version."""
        if self._failed:
            raise CancelledError
        self._add(piece)
        if version := self._bucket.put(piece.name, data):
            piece = replace(piece, version=version)
            self._add(piece)
        return piece

    def _add(self, piece: Piece) -> None:
        with self._alone:
            self._journal.add(piece)

    def _wait(self, most: int) -> None:
        """Wait until at most `most` requests are in flight; raise the error of a failed request: then no other begins."""
        while len(self._in_flight) > most:
            for one in wait(self._in_flight, _REPORTED_SECONDS, FIRST_COMPLETED).done:
                number, counts = self._in_flight.pop(one)
                self._failed = one.exception() is not None
                self._pieces[number] = one.result()
                self._done += counts
            self._report()

    def _report(self) -> None:
        if self._total:
            self._progress(f"copy to {self._name}", self._done, self._total)

    def _content(self, ranges: Iterable[Range], list_ranges: Iterable[Range], list_coding: int) -> Content:
        """The copy's pieces, each once, in the order of their use."""
        pieces: dict[str, Piece] = {}
        numbers: dict[str, int] = {}

        def moved(one: Range) -> Range:
            piece = self._pieces[one.piece]
            assert piece is not None  # noqa: S101  # all were awaited
            pieces.setdefault(piece.name, piece)
            return one._replace(piece=numbers.setdefault(piece.name, len(numbers)))

        found, listed = tuple(map(moved, ranges)), tuple(map(moved, list_ranges))
        return Content(tuple(pieces.values()), found, listed, list_coding)
