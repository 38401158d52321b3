"""Copies in a remote store: the names of their objects, and the signed manifest that publishes each.

The objects of a machine lie below the id of its catalog key. Its pieces, `KEY/pieces/HASH-RANDOM.age`, are shared by its
copies: the manifest of each, `KEY/manifests/TIME_SOURCE_ID.age`, says which ranges of which pieces are the artifact. Its
plaintext is gzip of one line of JSON and the armored signature of that line, its end included. Nothing here is trusted by
its name: what the signed line says counts, and the names must agree with it.

Format 1, which is still read, shares nothing: pieces `data/ID/NUMBER-RANDOM.age` with the next 16 MiB of the artifact each,
`data/ID/files-NUMBER-RANDOM.age` of its list of files, and `manifests/TIME_SOURCE_ID.age`, not compressed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, Self

from refnet.catalog.artifact import MOST_LIST_BYTES
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.object_names import ANY_PIECE, ID, ManifestName, PieceName
from refnet.catalog.source_name import LOCAL, read_file_name
from refnet.core import checked
from refnet.core.records import Layout, Most, Needed, Rare, Record

#: The newest format of remote manifests that is read, and written.
FORMAT = 2
#: What a signature of a manifest is for.
NAMESPACE = "refnet-manifest"
#: The most bytes in a piece; in format 1 each has as many, and the last one the rest.
PIECE_BYTES = 16 << 20
#: Limits: of pieces (about 800 GiB; in format 1 1.5 TiB), of ranges, of a manifest's plaintext, of a manifest's object, of what encryption adds.
MOST_PIECES = 100_000
MOST_RANGES = 100_000
MANIFEST_BYTES = 40 << 20
MANIFEST_OBJECT_BYTES = MANIFEST_BYTES + (1 << 20)
MOST_ADDED = 64 << 10
#: The largest counter: every reader of JSON has such integers.
MOST_COUNTER = (1 << 53) - 1
#: Lines of evidence that are sent with a copy.
MOST_EVIDENCE = 100
#: So many machines, one after another, may have taken a copy over.
MOST_REPLACED = 100
_GZIP = b"\x1f\x8b"


class CopyLevel(StrEnum):
    """How deeply a copy was checked in its store; each level includes the previous ones."""

    #: Published there.
    SENT = "sent"
    #: Every piece was read back from there within 30 days, and its SHA-256 compared.
    FETCHED = "fetched"
    #: Restored with the recovery key, and compared.
    PROVEN = "proven"


_IN_PIECE, _OBJECT_BYTES = checked.integer(1, PIECE_BYTES), checked.integer(1, PIECE_BYTES + MOST_ADDED)


@dataclass(frozen=True, slots=True, weakref_slot=True)  # a store may have 100,000
class Piece(Record):
    """A piece, as recorded in the manifest: those of a machine name most of them again."""

    LAYOUT = Layout(more=True, shared=True)

    name: Annotated[str, checked.text(100, like=ANY_PIECE)]
    #: Of the object, in bytes.
    size: Annotated[int, _OBJECT_BYTES]
    #: Of the object, in hex.
    sha256: Annotated[str, checked.text(64, shortest=64, like="[0-9a-f]*")]
    #: The id of the object's version; "" where the bucket has no versions.
    version: Needed[Annotated[str, checked.text(1024, like="[!-~]*")]] = ""
    #: Of its plaintext, in bytes; 0 in format 1, where its place says it.
    plain: Rare[Annotated[int, _IN_PIECE]] = 0


class Range(NamedTuple):
    """A part of a piece."""

    #: Its number in the manifest, from 0.
    piece: int
    #: In its plaintext, in bytes.
    start: int
    length: int


def lengths(size: int) -> list[int]:
    """Bytes per piece for an artifact of `size` bytes; an empty artifact has one empty piece."""
    full, rest = divmod(size, PIECE_BYTES)
    return [PIECE_BYTES] * full + ([rest] if rest or not full else [])


def _manifest(value: Any) -> Manifest:
    manifest = Manifest.from_json(json.dumps(checked.free(value, deepest=12), ensure_ascii=False))
    if read_file_name(manifest.name) is None:
        raise ValueError("not the name of an artifact")
    return manifest


def _evidence(value: Any) -> Evidence:
    return Evidence.from_json(json.dumps(checked.free(value), ensure_ascii=False))


def _ranges(value: Any) -> tuple[tuple[int, int], ...]:
    ranges = tuple(_RANGES(value))
    ends = [end for one in ranges for end in one]
    if ends != sorted(ends) or any(before[1] >= after[0] for before, after in pairwise(ranges)):
        raise ValueError("not ranges in order")
    return ranges


_PARTS = checked.each(
    checked.row(
        checked.integer(0, MOST_PIECES), checked.integer(0, PIECE_BYTES), checked.integer(1, PIECE_BYTES)
    ),
    MOST_RANGES,
)


def _parts(value: Any) -> tuple[Range, ...]:
    return tuple(Range(*one) for one in _PARTS(value))


class Replaced(NamedTuple):
    """A manifest of a copy of another machine, over whose pieces this machine wrote a new one."""

    #: The name of its object.
    object: str
    #: The fingerprint of its signer.
    signer: str
    counter: int


_COUNTER = checked.integer(1, MOST_COUNTER)
_RANGES = checked.each(checked.row(_COUNTER, _COUNTER), 100_000)
_REPLACED = checked.each(
    checked.row(checked.text(400), checked.text(100, like="SHA256:[A-Za-z0-9+/]+"), _COUNTER), MOST_REPLACED
)


def _replaced(value: Any) -> tuple[Replaced, ...]:
    return tuple(Replaced(*one) for one in _REPLACED(value))


@dataclass(frozen=True)
class RemoteManifest(Record):
    """The document that publishes a copy."""

    LAYOUT = Layout(longest=MANIFEST_BYTES, more=True, format=FORMAT, reads=f"formats up to {FORMAT}")

    id: Annotated[str, checked.text(32, like=ID)]
    #: The name of the store when it was sent.
    store: Annotated[str, checked.text(1000, errors="strict")]
    #: Of the artifact, as it is in the backup folder.
    manifest: Annotated[Manifest, _manifest]
    #: Lines of the artifact's evidence when it was sent: its last proof, and what accepted that it shrank.
    evidence: Annotated[tuple[Annotated[Evidence, _evidence], ...], Most(MOST_EVIDENCE)]
    #: Of the artifact and its list of files; in format 1 of the artifact, in order.
    pieces: Annotated[tuple[Piece, ...], Most(MOST_PIECES)]
    #: Of its list of files, in order; only in format 1.
    files: Annotated[tuple[Piece, ...], Most(MOST_LIST_BYTES // PIECE_BYTES + 1)]
    #: The public key that signs, as OpenSSH writes it.
    signer: Annotated[str, checked.text(200, like="ssh-ed25519 [A-Za-z0-9+/=]+")]
    #: One more than that of the signer's manifest before it in this store.
    counter: Annotated[int, _COUNTER]
    #: The SHA-256 (hex) of the plaintext of that manifest; "" for the first.
    previous: Annotated[str, checked.text(64, like="([0-9a-f]{64})?")]
    #: The signer's counters in the store when it was sent, as ranges, its own included.
    present: Annotated[tuple[tuple[int, int], ...], _ranges]
    sent: datetime
    #: The id of the machine's catalog key, the folder of its objects; "" in format 1.
    key: Rare[Annotated[str, checked.text(32, like=ID)]] = ""
    #: A digest of the recipients of the pieces; "" in format 1.
    recipients: Rare[Annotated[str, checked.text(64, like="[0-9a-f]{64}")]] = ""
    #: The ranges of pieces that are the artifact, and its list of files, in order; () in format 1.
    ranges: Rare[Annotated[tuple[Range, ...], _parts]] = ()
    list_ranges: Rare[Annotated[tuple[Range, ...], _parts]] = ()
    #: How its list of files is written: 0 as in the backup folder, 1 as by `list_coding.py`.
    list_coding: Rare[Annotated[int, checked.integer(0, 1)]] = 0
    #: The earlier manifests of this copy, of machines that are gone, if it was taken over; they stay until it is pruned.
    replaces: Rare[Annotated[tuple[Replaced, ...], _replaced]] = ()

    @property
    def object(self) -> str:
        """The name of the manifest's object."""
        return ManifestName(self.sent, str(self.manifest.source), self.id, self.key).named()

    @property
    def plain_lengths(self) -> list[int]:
        """Bytes in each of `pieces`, in either format."""
        return [one.plain for one in self.pieces] if self.key else lengths(self.manifest.size)

    @property
    def artifact_parts(self) -> tuple[Range, ...]:
        """The ranges of `pieces` that are the artifact, in either format."""
        if self.key:
            return self.ranges
        parts = enumerate(lengths(self.manifest.size))
        return tuple(Range(number, 0, length) for number, length in parts if length)

    @property
    def objects(self) -> tuple[Piece, ...]:
        """Pieces of the list of files, then of the artifact."""
        return (*self.files, *self.pieces)

    @property
    def size(self) -> int:
        """Stored size of all pieces, in bytes."""
        return sum(one.size for one in self.objects)

    def same_content(self, other: RemoteManifest) -> bool:
        """Whether both publish the same artifact, in the same ranges of the same pieces."""
        mine, its = ((one.manifest, one.pieces, one.ranges, one.list_ranges) for one in (self, other))
        return mine == its

    def to_line(self) -> bytes:
        """The signed line: canonical ASCII JSON, with a newline."""
        written = {
            "format": FORMAT if self.key else 1,
            "manifest": json.loads(self.manifest.to_json()),
            "evidence": [json.loads(line.to_json()) for line in self.evidence],
        }
        line = json.dumps(self.values() | written, sort_keys=True, separators=(",", ":"))
        return line.encode("ascii") + b"\n"

    @classmethod
    def from_values(cls, values: Any) -> Self:
        found = super().from_values(values)
        if (values["format"] == 1) is bool(found.key):
            raise ValueError("fields of different formats")
        return found

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Parse the signed line; ValueError if malformed or inconsistent."""
        try:
            found = cls.from_json(line)
            (_check_shared if found.key else _check_pieces)(found)
        except ValueError as error:
            raise ValueError(f"not a manifest of a copy: {error}") from None
        return found


@dataclass(frozen=True)
class Signed:
    """A manifest of a copy, with name and digests of its object."""

    document: RemoteManifest
    #: The SHA-256 (hex) of its plaintext: the line and the signature.
    sha256: str
    #: The fingerprint of its signer.
    signer: str
    #: Of its object in a listing, in bytes; 0: it was not listed.
    size: int = field(default=0, compare=False)

    @classmethod
    def read(cls, plaintext: bytes, name: str, verify: Callable[[bytes, str], tuple[str, str]]) -> Self:
        """Parse the plaintext of the object `name`; ValueError if malformed or unsigned.

        verify: returns the public key and the fingerprint that signed a message (an armored signature is its second
            argument); ValueError. The signature is checked before the document is read.
        """
        line, end, signature = unpacked(plaintext).partition(b"\n")
        if not end or not signature.isascii():
            raise ValueError("not a signed manifest")
        key, fingerprint = verify(line + end, signature.decode("ascii"))
        document = RemoteManifest.from_line(line + end)
        if document.signer != key:
            raise ValueError("signed by another key than it names")
        if document.object != name:
            raise ValueError("of another copy than its name says")
        return cls(document, hashlib.sha256(plaintext).hexdigest(), fingerprint)


@dataclass(frozen=True, kw_only=True)
class Copy(Entry):
    """A copy in a remote store. `evidence`: this machine's checks of the copy."""

    signed: Signed
    #: It was read back, but when it was listed some piece had not been for 30 days.
    stale: bool = False

    @property
    def document(self) -> RemoteManifest:
        return self.signed.document

    @property
    def id(self) -> str:
        return self.document.id

    @property
    def object(self) -> str:
        """The name of the manifest's object."""
        return self.document.object

    @property
    def copy_level(self) -> CopyLevel:
        """Deepest level. Without a proof it ends when a piece was not read back for too long."""
        if self.proven:
            return CopyLevel.PROVEN
        return CopyLevel.FETCHED if self.was_fetched and not self.stale else CopyLevel.SENT

    @property
    def was_fetched(self) -> bool:
        """Whether it was read back at any time, and no later check failed."""
        passed = any(line.outcome is Outcome.PASSED for line in self.evidence)
        return passed and not self.damaged and not self.standing.unknown

    @property
    def proven_before(self) -> bool:
        """Whether its artifact was proven before it was encrypted into the backup folder, and every object was read back."""
        here = self.document.store == LOCAL and self.was_fetched and not self.proven
        return here and bool(_proofs(self.document.evidence))

    @property
    def earlier(self) -> tuple[Evidence, ...]:
        return self.document.evidence

    @property
    def state(self) -> str:
        """State for display: `damaged`, or the level."""
        return "damaged" if self.damaged else self.copy_level.value

    @property
    def row_digests(self) -> str:
        """Digests of its tables from the proof on the sending machine; signed."""
        recorded = Entry(self.manifest, self.document.evidence).row_digests
        return "" if self.damaged else recorded


def evidence_to_send(entry: Entry) -> tuple[Evidence, ...]:
    """Evidence sent with a copy; for a copy, also what it arrived with."""
    earlier = entry.document.evidence if isinstance(entry, Copy) and not entry.damaged else ()
    lines = (*earlier, *entry.evidence)
    accepted = {bool(one.objects): one for one in lines if one.accepts}  # the last of each kind
    return (*(_proofs(lines)[-1:] if entry.proven or earlier else ()), *accepted.values())


def _proofs(lines: Iterable[Evidence]) -> list[Evidence]:
    return [one for one in lines if one.level is Level.PROVEN and one.outcome is Outcome.PASSED]


def packed(plaintext: bytes) -> bytes:
    """The plaintext of a manifest, compressed: digests in hex take twice their bytes."""
    return gzip.compress(plaintext, 6, mtime=0)


def unpacked(plaintext: bytes) -> bytes:
    """The plaintext of a manifest in either format; ValueError if it is damaged, or too large."""
    if not plaintext.startswith(_GZIP):
        return plaintext
    inflater = zlib.decompressobj(31)
    try:
        found = inflater.decompress(plaintext, MANIFEST_BYTES)
    except zlib.error as error:
        raise ValueError(f"not a manifest of a copy: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise ValueError("not a manifest of a copy: it is cut short, too large, or has something behind it")
    return found


def _check_shared(found: RemoteManifest) -> None:
    """Raise ValueError if a piece lies elsewhere, or the ranges are not an artifact of its size."""
    if found.files or not found.recipients:
        raise ValueError("fields of different formats")
    below = f"{found.key}/"
    for one in found.replaces:
        named = ManifestName.read(one.object)
        if not named or (named.key, named.source) != (found.key, str(found.manifest.source)):
            raise ValueError("it replaces what is no manifest of its copy")
    for piece in found.pieces:
        if not piece.name.startswith(below):
            raise ValueError("a piece of another machine")
        if not piece.plain < piece.size <= piece.plain + MOST_ADDED:
            raise ValueError("a piece of another size")
    if len({piece.name for piece in found.pieces}) != len(found.pieces):
        raise ValueError("a piece twice")
    parts = (*found.ranges, *found.list_ranges)
    if any(one.piece >= len(found.pieces) for one in parts):
        raise ValueError("a range of a piece that is not there")
    if any(one.start + one.length > found.pieces[one.piece].plain for one in parts):
        raise ValueError("a range that goes beyond its piece")
    if {one.piece for one in parts} != {*range(len(found.pieces))}:
        raise ValueError("a piece without a range")
    if sum(one.length for one in found.ranges) != found.manifest.size:
        raise ValueError("ranges of another size than the artifact's")
    if bool(found.list_ranges) != (found.manifest.files_sha256 is not None):
        raise ValueError("a list of files without pieces, or pieces without it")
    if sum(one.length for one in found.list_ranges) > MOST_LIST_BYTES:
        raise ValueError("a list of files that is too large")


def _check_pieces(found: RemoteManifest) -> None:
    """Raise ValueError if pieces belong to another copy, are out of order, or have the wrong total size."""
    plain = any(one.plain for one in found.objects)
    if found.recipients or found.ranges or found.list_ranges or found.replaces or plain:
        raise ValueError("fields of different formats")
    for pieces, files in ((found.pieces, False), (found.files, True)):
        for number, piece in enumerate(pieces):
            if PieceName.read(piece.name) != PieceName(found.id, number, files):
                raise ValueError("a piece of another copy, or in another place")
    if len(found.pieces) != max(1, -(-found.manifest.size // PIECE_BYTES)):
        raise ValueError("not as many pieces as its size needs")
    parts = lengths(found.manifest.size)
    if any(
        not part < piece.size <= part + MOST_ADDED for part, piece in zip(parts, found.pieces, strict=True)
    ):
        raise ValueError("a piece of another size")
    if bool(found.files) != (found.manifest.files_sha256 is not None):
        raise ValueError("a list of files without pieces, or pieces without it")
    listed = [PIECE_BYTES] * (len(found.files) - 1) if found.files else []
    full = all(
        part < piece.size <= part + MOST_ADDED for part, piece in zip(listed, found.files, strict=False)
    )
    if not full or any(piece.size > PIECE_BYTES + MOST_ADDED for piece in found.files):
        raise ValueError("a piece of the list of files of another size")
