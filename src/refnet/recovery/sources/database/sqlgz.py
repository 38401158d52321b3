"""The artifact of a database: one plain .sql.gz that is a chain of gzip members (RFC 1952).

`zcat FILE | psql` reads it like any dump. The last SQL member is followed by the index, JSON in `--` comments,
and by the footer, an empty member of fixed length whose FEXTRA field (RFC 1952, 2.3.1.1) says where the index
is and what the SHA-256 of everything before the footer is. Readers that do not know them skip both.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO, cast

from isal import isal_zlib

from refnet.errors import Exit, RefnetError

#: The first line of every artifact: a file that begins so and has no footer was cut short.
FIRST_LINE = b"-- RefNet database artifact, format 1\n"
#: Of ISA-L's levels 0 to 3. Measured on text: 2 costs no more than 1 and is 3 % smaller; 3 costs 15 % more.
LEVEL = 2
CHUNK = 1 << 18

INFLATE_ERROR: type[Exception] = cast("type[Exception]", isal_zlib.error)

_INDEX_PREFIX = "-- refnet-index "
_INDEX_WIDTH = 8000
_EXTRA = struct.Struct("<2sHBQQ32s")  # subfield id, its length, format, index offset, index length, SHA-256
_EXTRA_ID = b"RN"
_HEAD = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", _EXTRA.size)
_TAIL = b"\x03\x00" + b"\0" * 8
FOOTER_LENGTH = len(_HEAD) + _EXTRA.size + len(_TAIL)


class Kind(StrEnum):
    """What a member holds."""

    PRE = "pre-data"
    BLOCK = "block"  # one complete COPY … FROM stdin of a table that RefNet copied itself
    DATA = "data"  # pg_dump's own data section, cut at the tables' boundaries
    POST = "post-data"


@dataclass(frozen=True)
class Member:
    """A gzip member: `offset` and `length` in the file, `raw` its inflated length, all in bytes.

    `table` is the place of its table in Index.tables. `rows` and `digest` (content digest, hex) are those of
    this member alone.
    """

    offset: int
    length: int
    raw: int
    kind: Kind
    table: int | None = None
    rows: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its rows and the content digest (hex, 32 digits) over `columns`, in that order.

    `blocks`: copied by RefNet in blocks, else it stands in pg_dump's data section. `root`: read through a
    partitioned table rather than ONLY. `raw`: bytes of its COPY text. `oid` and `keys` (its indexes and its
    primary, unique and exclusion constraints) are the source's, as the table of contents names them.
    `foreign_keys`: oid of each → oid of the table that it refers to.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    blocks: bool = False
    root: bool = False
    rows: int = 0
    raw: int = 0
    digest: str = ""
    oid: int = 0
    keys: tuple[int, ...] = ()
    foreign_keys: dict[str, int] = field(default_factory=dict)

    @property
    def qualified(self) -> str:
        """`schema.name`, for people."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Index:
    """Everything that a restore, a proof and a person want to know without reading the data.

    `database`: encoding, locale, owner, settings, privileges, comment, as `state.py` reads them. `roles`,
    `tablespaces`, `extensions`: what the database needs. `sequences`: [its quoted name, last_value, is_called].
    `large_objects`: [oid, bytes, digest]. `archive`: pg_dump's custom format of the schema alone.
    `foreign_views`: [oid, name] of the materialized views whose REFRESH reads foreign tables.
    """

    database: dict[str, Any]
    server: dict[str, Any]
    snapshot: str
    encoding: str
    restrict_key: str
    archive: bytes
    members: tuple[Member, ...] = ()
    tables: tuple[Table, ...] = ()
    sequences: tuple[tuple[str, int, bool], ...] = ()
    large_objects: tuple[tuple[int, int, str], ...] = ()
    roles: tuple[dict[str, Any], ...] = ()
    tablespaces: tuple[str, ...] = ()
    extensions: tuple[dict[str, Any], ...] = ()
    foreign_views: tuple[tuple[int, str], ...] = ()
    partial: bool = False
    unchecked: tuple[str, ...] = ()

    def to_text(self) -> bytes:
        """The index as SQL comments, ASCII."""
        values = {**asdict(self), "archive": base64.b64encode(self.archive).decode()}
        text = json.dumps(values, ensure_ascii=True, separators=(",", ":"))
        lines = (text[at : at + _INDEX_WIDTH] for at in range(0, len(text), _INDEX_WIDTH))
        return "".join(f"{_INDEX_PREFIX}{line}\n" for line in lines).encode("ascii")

    @classmethod
    def from_text(cls, text: bytes) -> Index:
        """The index in those comments; ValueError, KeyError or TypeError where it is none."""
        lines = text.decode("ascii").splitlines()
        values = json.loads("".join(line.removeprefix(_INDEX_PREFIX) for line in lines))
        values["archive"] = base64.b64decode(values["archive"], validate=True)
        values["members"] = tuple(Member(**{**m, "kind": Kind(m["kind"])}) for m in values["members"])
        values["tables"] = tuple(
            Table(**{**t, "columns": tuple(t["columns"]), "keys": tuple(t["keys"])}) for t in values["tables"]
        )
        for name in ("sequences", "large_objects", "foreign_views"):
            values[name] = tuple(tuple(row) for row in values.get(name, ()))
        for name in ("roles", "tablespaces", "extensions", "unchecked"):
            values[name] = tuple(values[name])
        return cls(**values)

    def blocks_of(self, number: int) -> tuple[Member, ...]:
        """The members that hold the blocks of table `number`."""
        return tuple(m for m in self.members if m.kind is Kind.BLOCK and m.table == number)

    def members_of(self, kind: Kind) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.kind is kind)


def programs_major(index: Index, server: int) -> int:
    """The major of the programs that a server of `server` and the kept schema, by its own pg_dump, both need."""
    return max(server, int(str(index.server["pg_dump"]).split(".")[0]))


def compress(pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """One gzip member of `pieces`, and how many bytes they were."""
    deflater = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, 31)
    parts, raw = [], 0
    for piece in pieces:
        parts.append(deflater.compress(piece))
        raw += len(piece)
    parts.append(deflater.flush())
    return b"".join(parts), raw


class Writer:
    """Appends members to a file, then the index and the footer."""

    def __init__(self, out: BinaryIO) -> None:
        """`out` may have `digest_so_far`, the SHA-256 of what it was given; it is not computed again then."""
        self._out = out
        self._sha256 = hashlib.sha256()
        self._digest_of_out: Callable[[], bytes] | None = getattr(out, "digest_so_far", None)
        self._offset = 0
        self.members: list[Member] = []

    def add(
        self,
        packed: bytes,
        raw: int,
        kind: Kind,
        *,
        table: int | None = None,
        rows: int = 0,
        digest: str = "",
    ) -> None:
        """Append one finished gzip member."""
        self.members.append(Member(self._offset, len(packed), raw, kind, table, rows, digest))
        self._append(packed)

    def finish(self, index: Index) -> None:
        """Append `index` (which holds this writer's members) and the footer."""
        at = self._offset
        packed, _ = compress([index.to_text()])
        self._append(packed)
        sha256 = self._digest_of_out() if self._digest_of_out else self._sha256.digest()
        extra = _EXTRA.pack(_EXTRA_ID, _EXTRA.size - 4, 1, at, len(packed), sha256)
        self._out.write(_HEAD + extra + _TAIL)

    def _append(self, packed: bytes) -> None:
        self._out.write(packed)
        if not self._digest_of_out:
            self._sha256.update(packed)
        self._offset += len(packed)


class Foreign(Exception):  # noqa: N818  # not an error: a dump that RefNet did not make
    """The file has no footer and does not begin as RefNet's artifacts do."""


class Reader:
    """An artifact that can be read in part and by several threads: `open` gives each a file of its own."""

    def __init__(self, name: str, opener: Callable[[], BinaryIO]) -> None:
        """Read footer and index. Foreign: not RefNet's; RefnetError (DAMAGED): RefNet's, but broken."""
        self.name = name
        self.open = opener
        with opener() as file:
            self.index_offset, index_length, self.sha256 = self._footer(file)
            file.seek(self.index_offset)
            try:
                self.index = Index.from_text(b"".join(_inflate(file, index_length)))
            except (ValueError, KeyError, TypeError, EOFError, INFLATE_ERROR) as error:
                raise damaged(name, f"its index cannot be read ({type(error).__name__})") from error

    def _footer(self, file: BinaryIO) -> tuple[int, int, bytes]:
        size = file.seek(0, 2)
        file.seek(max(0, size - FOOTER_LENGTH))
        footer = file.read()
        if size > FOOTER_LENGTH and footer.startswith(_HEAD) and footer.endswith(_TAIL):
            name, length, version, offset, index_length, sha256 = _EXTRA.unpack(
                footer[len(_HEAD) : -len(_TAIL)]
            )
            whole = offset + index_length + FOOTER_LENGTH == size
            if name == _EXTRA_ID and length == _EXTRA.size - 4 and version == 1 and whole:
                return offset, index_length, sha256
        file.seek(0)
        if self._begins_as_ours(file):
            raise damaged(self.name, "its footer is missing or wrong, so it was cut short or changed")
        raise Foreign(self.name)

    @staticmethod
    def _begins_as_ours(file: BinaryIO) -> bool:
        try:
            first = isal_zlib.decompressobj(31).decompress(file.read(4096), len(FIRST_LINE))
        except INFLATE_ERROR:
            return False
        return bool(first == FIRST_LINE)

    def text(self, kind: Kind) -> bytes:
        """All that the members of `kind` hold, inflated: for the schema's, which are small."""
        return b"".join(piece for member in self.index.members_of(kind) for piece in self.raw(member))

    def raw(self, member: Member) -> Iterator[bytes]:
        """The inflated bytes of `member`, in pieces; RefnetError (DAMAGED) where they do not inflate to `raw`."""
        with self.open() as own:
            own.seek(member.offset)
            try:
                length = 0
                for piece in _inflate(own, member.length):
                    length += len(piece)
                    yield piece
            except (EOFError, INFLATE_ERROR) as error:
                raise damaged(
                    self.name, f"the member at byte {member.offset} does not inflate ({error})"
                ) from error
            if length != member.raw:
                raise damaged(
                    self.name,
                    f"the member at byte {member.offset} holds {length} bytes where {member.raw} were written",
                )


def _inflate(file: BinaryIO, length: int) -> Iterator[bytes]:
    """The one gzip member in the next `length` bytes of `file`; EOFError where it ends early or late."""
    inflater = isal_zlib.decompressobj(31)
    left = length
    while left:
        packed = file.read(min(CHUNK, left))
        if not packed:
            raise EOFError("the file ends within it")
        left -= len(packed)
        while packed or inflater.unconsumed_tail:
            piece = inflater.decompress(packed, 4 * CHUNK)
            packed = inflater.unconsumed_tail
            if piece:
                yield piece
            elif not packed or inflater.eof:
                break
    if not inflater.eof or inflater.unused_data:
        raise EOFError("it ends early or is followed by other bytes")


def damaged(name: str, what: str) -> RefnetError:
    """The error of an artifact whose bytes are not those that were written."""
    return RefnetError(
        f"{name} is damaged: {what}",
        "Take another artifact (`refnet list`); restore nothing from this one.",
        Exit.DAMAGED,
    )
