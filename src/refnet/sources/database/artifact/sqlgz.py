"""The artifact of a database, written, read and checked: a plain .sql.gz of several gzip members (RFC 1952).

`zcat FILE | psql` reads it like any dump. After the SQL members come the index, JSON in `--` comments, and the
footer, an empty member of fixed length. The footer's FEXTRA field (RFC 1952, 2.3.1.1) contains the offset of the
index and the SHA-256 of everything before the footer. Other readers skip both.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, cast

from isal import isal_zlib
from xxhash import xxh3_128

from refnet.catalog.artifact import Finding, Progress, silent, stopped_by
from refnet.catalog.manifest import Outcome
from refnet.core.errors import Exit, RefnetError
from refnet.proof_run import Required
from refnet.sources.database.artifact.definitions import Name, parse
from refnet.sources.database.artifact.deflating import compress
from refnet.sources.database.artifact.index import Index, Member
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.sql_text import Codec

#: The first line of every artifact. A file with it and without a footer was cut short.
FIRST_LINE = b"-- RefNet database artifact, format 1\n"
#: Of a database that lacks this schema, which every new one has.
DROP_PUBLIC = b"DROP SCHEMA IF EXISTS public;\n"
CHUNK = 1 << 18
_PIECE = 1 << 20

INFLATE_ERROR: type[Exception] = cast("type[Exception]", isal_zlib.error)

#: Limit of one section of the schema's text, in bytes; a table takes about a kilobyte.
LONGEST_SCHEMA = 256 << 20
#: Limits of the inflated index: bytes that are always allowed, and bytes for each packed byte. An index of tables
#: that differ only by their numbers compresses about 25 times, one that is made to fill a disk 1000 times.
_INDEX_FLOOR = 16 << 20
_INDEX_EXPANSION = 40

_EXTRA = struct.Struct("<2sHBQQ32s")  # subfield id, its length, format, index offset, index length, SHA-256
_EXTRA_ID = b"RN"
_HEAD = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", _EXTRA.size)
_TAIL = b"\x03\x00" + b"\0" * 8
FOOTER_LENGTH = len(_HEAD) + _EXTRA.size + len(_TAIL)


def longest_index(packed: int) -> int:
    """Size limit of the decompressed index, for `packed` compressed bytes."""
    return _INDEX_FLOOR + _INDEX_EXPANSION * packed


class Writer:
    """Appends members to a file, then the index and the footer."""

    def __init__(self, out: BinaryIO) -> None:
        """`out` may provide `digest_so_far`, the SHA-256 of everything written; otherwise it is computed here."""
        self._out = out
        self._sha256 = hashlib.sha256()
        self._digest_of_out: Callable[[], bytes] | None = getattr(out, "digest_so_far", None)
        self._offset = 0
        self.members: list[Member] = []

    def add(
        self,
        packed: bytes,
        raw: int,
        kind: MemberKind,
        *,
        table: int | None = None,
        rows: int = 0,
        text: str = "",
    ) -> None:
        """Append one finished gzip member."""
        self.members.append(Member(self._offset, len(packed), raw, kind, table, rows, text))
        self._append(packed)

    def finish(self, index: Index) -> None:
        """Append `index`, which contains this writer's members, and the footer."""
        at = self._offset
        packed, raw = compress([index.to_text()])
        if raw > longest_index(len(packed)):
            raise RefnetError(
                f"the index of this artifact would be {raw:,} bytes, more than RefNet reads",
                "Back up fewer tables at once (`refnet backup SOURCE --table`), or drop those that are not needed.",
            )
        self._append(packed)
        sha256 = self._digest_of_out() if self._digest_of_out else self._sha256.digest()
        extra = _EXTRA.pack(_EXTRA_ID, _EXTRA.size - 4, 1, at, len(packed), sha256)
        self._out.write(_HEAD + extra + _TAIL)

    def _append(self, packed: bytes) -> None:
        self._out.write(packed)
        if not self._digest_of_out:
            self._sha256.update(packed)
        self._offset += len(packed)


class NotAnArtifact(Exception):  # noqa: N818  # not an error: perhaps a foreign dump
    """The file has neither RefNet's footer nor its first line."""


class Reader:
    """Reads parts of an artifact, in several threads: `open` returns a new file each time."""

    def __init__(self, name: str, opener: Callable[[], BinaryIO]) -> None:
        """Read footer and index. NotAnArtifact: a foreign file; RefnetError (DAMAGED): RefNet's, but damaged."""
        self.name = name
        self.open = opener
        with opener() as file:
            self.index_offset, index_length, self.sha256 = self._footer(file)
            file.seek(self.index_offset)
            try:
                pieces = _inflate(file, index_length, longest_index(index_length))
                self.index = Index.from_pieces(pieces)
            except (ValueError, EOFError, INFLATE_ERROR) as error:
                raise damaged(name, f"its index cannot be read: {error}") from error
        if sum(member.length for member in self.index.members) != self.index_offset:
            raise damaged(name, "its members do not end where its index begins")

    def _footer(self, file: BinaryIO) -> tuple[int, int, bytes]:
        size = file.seek(0, 2)
        file.seek(max(0, size - FOOTER_LENGTH))
        footer = file.read()
        if size > FOOTER_LENGTH and footer.startswith(_HEAD) and footer.endswith(_TAIL):
            name, length, version, offset, index_length, sha256 = _EXTRA.unpack(
                footer[len(_HEAD) : -len(_TAIL)]
            )
            complete = offset + index_length + FOOTER_LENGTH == size
            if name == _EXTRA_ID and length == _EXTRA.size - 4 and version == 1 and complete:
                return offset, index_length, sha256
        file.seek(0)
        if self._begins_as_ours(file):
            raise damaged(self.name, "its footer is missing or wrong: the file was cut short or changed")
        raise NotAnArtifact(self.name)

    @staticmethod
    def _begins_as_ours(file: BinaryIO) -> bool:
        try:
            first = isal_zlib.decompressobj(31).decompress(file.read(4096), len(FIRST_LINE))
        except INFLATE_ERROR:
            return False
        return bool(first == FIRST_LINE)

    def text(self, kind: MemberKind) -> bytes:
        """Return the text of a section of the schema; RefnetError (DAMAGED) if it is longer than LONGEST_SCHEMA."""
        members = self.index.members_of(kind)
        if sum(member.raw for member in members) > LONGEST_SCHEMA:
            raise damaged(self.name, f"its {kind} is longer than {LONGEST_SCHEMA:,} bytes")
        return b"".join(piece for member in members for piece in self.raw(member))

    def digests(self) -> tuple[bytes, bytes]:
        """Return the SHA-256 of everything before the footer, and of the complete file."""
        with self.open() as file:
            left = file.seek(0, 2) - FOOTER_LENGTH
            file.seek(0)
            sha256 = hashlib.sha256()
            while left and (piece := file.read(min(_PIECE, left))):
                sha256.update(piece)
                left -= len(piece)
            before_footer = sha256.digest()
            sha256.update(file.read())
            return before_footer, sha256.digest()

    def raw(self, member: Member) -> Iterator[bytes]:
        """Yield the decompressed bytes of `member`, at most `member.raw`; RefnetError (DAMAGED) if they changed."""
        with self.open() as own:
            own.seek(member.offset)
            length, text = 0, xxh3_128()
            try:
                for piece in _inflate(own, member.length, member.raw):
                    length += len(piece)
                    text.update(piece)
                    yield piece
            except (EOFError, INFLATE_ERROR) as error:
                raise damaged(
                    self.name, f"the member at byte {member.offset} does not inflate ({error})"
                ) from error
            if length != member.raw:
                raise damaged(
                    self.name,
                    f"the member at byte {member.offset} contains {length} bytes, {member.raw} were written",
                )
            if member.text and text.hexdigest() != member.text:
                raise damaged(
                    self.name,
                    f"the content of the member at byte {member.offset} differs from what was written",
                )


def _inflate(file: BinaryIO, length: int, longest: int) -> Iterator[bytes]:
    """Yield the content of the gzip member in the next `length` bytes of `file`.

    EOFError if it ends early or late, or is longer than `longest` bytes.
    """
    inflater = isal_zlib.decompressobj(31)
    left, allowed = length, longest
    while left:
        packed = file.read(min(CHUNK, left))
        if not packed:
            raise EOFError("the file ends before it")
        left -= len(packed)
        while packed or inflater.unconsumed_tail:
            piece = inflater.decompress(packed, 4 * CHUNK)
            packed = inflater.unconsumed_tail
            allowed -= len(piece)
            if allowed < 0:
                raise EOFError(f"it is longer than {longest} bytes")
            if piece:
                yield piece
            elif not packed or inflater.eof:
                break
    if not inflater.eof or inflater.unused_data:
        raise EOFError("it ends early or is followed by other bytes")


def damaged(name: str, what: str) -> RefnetError:
    """Error: the artifact's bytes changed since it was written."""
    return RefnetError(
        f"{name} is damaged: {what}",
        "Choose another artifact (`refnet list`); restore nothing from this one.",
        Exit.DAMAGED,
    )


def check_intact(
    reader: Reader, jobs: int, required: Required, progress: Progress = silent
) -> tuple[Finding, ...]:
    """Check every member's text, the SHA-256 in the footer, and that no required table is missing."""
    with ThreadPoolExecutor(1) as beside:  # hashing leaves the interpreter to the members
        digest = beside.submit(_digest, reader)
        return (_members(reader, jobs, progress), digest.result(), *_tables(reader, required))


def _members(reader: Reader, jobs: int, progress: Progress) -> Finding:
    index = reader.index
    what = f"{len(index.members)} members"
    done, total = 0, sum(member.raw for member in index.members)

    def read(member: Member) -> Finding | None:
        try:
            for _ in reader.raw(member):
                pass
        except (RefnetError, OSError) as error:
            return stopped_by(what, error)
        return None

    with ThreadPoolExecutor(jobs) as pool:
        for member, stopped in zip(index.members, pool.map(read, index.members), strict=True):
            if stopped:
                return stopped
            done += member.raw
            progress("reading the artifact", done, total)
    return Finding(what, Outcome.PASSED)


def _digest(reader: Reader) -> Finding:
    what = "digest in the footer"
    try:
        same = reader.digests()[0] == reader.sha256
    except (RefnetError, OSError) as error:
        return stopped_by(what, error)
    reason = "" if same else "the SHA-256 of the file differs from the one in its footer"
    return Finding(what, Outcome.PASSED if same else Outcome.FAILED, reason)


def _tables(reader: Reader, required: Required) -> Iterator[Finding]:
    index = reader.index
    yield from _required(reader, required)
    rows: Counter[int | None] = Counter()
    for member in index.members:
        rows[member.table] += member.rows
    for number, table in enumerate(index.tables):
        if rows[number] != table.rows:
            reason = f"its members contain {rows[number]} rows, the index says {table.rows}"
            yield Finding(f"table {table.qualified}", Outcome.FAILED, reason)


def _required(reader: Reader, required: Required) -> Iterator[Finding]:
    """Findings about required tables; partitioned tables have no rows and are looked up in the schema."""
    index = reader.index
    tables = {(table.schema, table.name): table.columns for table in index.tables}
    found = tuple(required.check(tables, index.database["name"]))
    if any(one.outcome is Outcome.FAILED for one in found):
        try:
            partitioned = dict.fromkeys(_partitioned(reader), ())
        except (RefnetError, OSError) as error:
            yield stopped_by("required tables", error)
            return
        found = tuple(required.check({**partitioned, **tables}, index.database["name"]))
    yield from found


def _partitioned(reader: Reader) -> Iterator[Name]:
    for one in parse(reader.text(MemberKind.PRE), Codec()):
        if one.table and one.text.startswith(b"CREATE TABLE ") and b"\nPARTITION BY " in one.text:
            yield one.table
