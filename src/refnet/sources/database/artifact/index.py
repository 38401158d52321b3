"""The index of a database artifact: its contents, as SQL comments, and its strict parser.

The index may be forged: the parser accepts only the types, ranges and words that a backup writes. Its facts about
the database are compared with the database's own catalog, never trusted.

A parser of complete texts needs up to 24 bytes per byte of `[],[],`, so a small file could fill the memory. So the JSON
is parsed one value at a time: each is short, and is checked and converted before the next one is read.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from refnet.catalog.artifact import Made
from refnet.core.checked import Check, inside
from refnet.sources.database.artifact import index_values
from refnet.sources.database.artifact.index_values import MemberKind

_PREFIX = b"-- refnet-index "
_WIDTH = 8000
#: Limit of a list's entry, and of any value but the archive, in characters: enough for 1600 long names.
_LONGEST = 4 << 20
#: Limit of the archive in base64: the definitions of about a million tables.
_LONGEST_ARCHIVE = 512 << 20


#: Digits of a content digest.
DIGEST = 32


@dataclass(frozen=True)
class Member:
    """A gzip member. Lengths are in bytes."""

    #: Offset and length in the file.
    offset: int
    length: int
    #: Inflated length.
    raw: int
    kind: MemberKind
    #: The position of its table in Index.tables.
    table: int | None = None
    rows: int = 0
    #: XXH3 of its text, 32 hex digits; "": not recorded.
    text: str = ""


@dataclass(frozen=True)
class Table:
    """A table with rows in the artifact. Oids are those of the source, as in the archive's table of contents."""

    schema: str
    name: str
    #: In the order of the digest.
    columns: tuple[str, ...]
    #: Copied by RefNet in blocks; else its rows are in pg_dump's data section.
    blocks: bool = False
    #: Read through a partitioned table rather than ONLY.
    root: bool = False
    rows: int = 0
    #: Bytes of its COPY text.
    raw: int = 0
    #: Content digest, 32 hex digits; "": a dump does not compute it any more, see `row_digests`.
    digest: str = ""
    oid: int = 0
    #: Its indexes, and its primary, unique and exclusion constraints.
    keys: tuple[int, ...] = ()
    #: Oid of each → oid of the table that it refers to.
    foreign_keys: dict[str, int] = field(default_factory=dict)
    #: The digests of its rows, and of its stored generated columns, by the source; "": it did not digest them.
    source: str = ""
    generated: str = ""

    @property
    def qualified(self) -> str:
        """`schema.name`, for people."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Index:
    """Everything that a restore or proof needs before it reads the data."""

    #: Encoding, locale, owner, settings, privileges, comment, as `metadata.database` returns them.
    database: dict[str, Any]
    #: As `metadata.server` returns it, and the version of pg_dump.
    server: dict[str, Any]
    #: The moment of the snapshot, ISO 8601.
    snapshot: str
    encoding: str
    #: The key of the `\\restrict` pair in the schema's text.
    restrict_key: str
    #: The schema in pg_dump's custom format.
    archive: bytes
    members: tuple[Member, ...] = ()
    tables: tuple[Table, ...] = ()
    #: Quoted name, last_value, is_called.
    sequences: tuple[tuple[str, int, bool], ...] = ()
    #: Oid, bytes, digest.
    large_objects: tuple[tuple[int, int, str], ...] = ()
    #: Dependencies of the database.
    roles: tuple[dict[str, Any], ...] = ()
    tablespaces: tuple[str, ...] = ()
    extensions: tuple[dict[str, Any], ...] = ()
    #: Oid and name of the materialized views whose REFRESH reads foreign tables.
    foreign_views: tuple[tuple[int, str], ...] = ()
    #: Schema, name, rows and digest of the materialized views, as the source had them: a restore refreshes them.
    views: tuple[tuple[str, str, int, str], ...] = ()
    #: Only some tables were backed up.
    partial: bool = False
    #: A sentence for each thing that the artifact does not contain.
    unchecked: tuple[str, ...] = ()

    def to_text(self) -> bytes:
        """Return the index as SQL comments, ASCII."""
        values = _fields(self) | {
            "archive": base64.b64encode(self.archive).decode(),
            "members": [_fields(member) for member in self.members],
            "tables": [_fields(table) for table in self.tables],
        }
        if not self.views:
            del values["views"]
        for table in values["tables"]:
            for rare in ("source", "generated"):
                if not table[rare]:
                    del table[rare]
        text = json.dumps(values, ensure_ascii=True, separators=(",", ":")).encode("ascii")
        lines = (text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH))
        return b"".join(_PREFIX + line + b"\n" for line in lines)

    @classmethod
    def from_pieces(cls, pieces: Iterable[bytes]) -> Index:
        """Parse the index from SQL comments in pieces; ValueError says what is wrong."""
        index = cls(**_values(JsonPieces(_unwrapped(pieces))))
        _agree(index)
        return index

    @property
    def digests(self) -> str:
        """Digests of all tables, in order; "" if one is unknown."""
        digests = [table.digest for table in self.tables]
        return "".join(digests) if all(digests) else ""

    def with_digests(self, digests: str) -> Index:
        """The index with these digests."""
        each = (digests[at : at + DIGEST] for at in range(0, len(digests), DIGEST))
        tables = (replace(table, digest=one) for table, one in zip(self.tables, each, strict=True))
        return replace(self, tables=tuple(tables))

    def blocks_of(self, number: int) -> tuple[Member, ...]:
        """Return the blocks of table `number`."""
        return tuple(self._blocks.get(number, ()))

    @cached_property
    def _blocks(self) -> dict[int, list[Member]]:
        found: dict[int, list[Member]] = {}
        for member in self.members:
            if member.kind is MemberKind.BLOCK and member.table is not None:
                found.setdefault(member.table, []).append(member)
        return found

    def members_of(self, kind: MemberKind) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.kind is kind)

    def made(self) -> Made:
        """Description of the artifact for its manifest."""
        return Made(
            created=datetime.fromisoformat(self.snapshot),
            details={
                "database": self.database["name"],
                "server_version": self.server["version"],
                "system_identifier": self.server["system_identifier"],
                "tables": len(self.tables),
                "rows": sum(table.rows for table in self.tables),
                "raw_bytes": sum(member.raw for member in self.members),
            },
            unchecked=self.unchecked,
            partial=self.partial,
        )

    def programs_major(self, server: int) -> int:
        """Major version of the programs for a server of major `server` and the archive of the schema."""
        return max(server, int(str(self.server["pg_dump"]).split(".")[0]))


#: The parts of an index that are lists of any length: the parser of an entry, and the key that identifies it.
_LISTS: dict[str, tuple[Check, Callable[[Any], Any]]] = {
    "members": (lambda value: Member(**index_values.member(value)), lambda member: member.offset),
    "tables": (lambda value: Table(**index_values.table(value)), lambda table: (table.schema, table.name)),
    **index_values.ENTRIES,
}
#: Artifacts of older versions do not have them.
_OPTIONAL = frozenset({"foreign_views", "views"})


def _unwrapped(pieces: Iterable[bytes]) -> Iterator[str]:
    """Yield the JSON in the comments, in pieces."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _WIDTH + len(_PREFIX) or not all(line.startswith(_PREFIX) for line in lines):
            raise ValueError("a line does not belong to it")
        yield b"".join(line[len(_PREFIX) :] for line in lines).decode("ascii")
    if rest:
        raise ValueError("its last line has no end")


def _values(text: JsonPieces) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in text.keys():  # noqa: SIM118  # not a dict: it reads on
        if key in _LISTS:
            values[key] = tuple(_entries(key, text.items(_LONGEST)))
        elif key in index_values.ONES:
            longest = _LONGEST_ARCHIVE if key == "archive" else _LONGEST
            values[key] = inside(key, index_values.ONES[key], text.value(longest))
        else:
            raise ValueError("an unknown key")
    text.end()
    known = _LISTS.keys() | index_values.ONES.keys()
    if missing := sorted(known - _OPTIONAL - values.keys()):
        raise ValueError(f"{missing[0]} is missing")
    return values


def _entries(key: str, values: Iterable[Any]) -> Iterator[Any]:
    """Yield the entries of a list, which must be distinct: otherwise a small file could fill the memory."""
    check, identity = _LISTS[key]
    seen: set[Any] = set()
    for value in values:
        entry = inside(key, check, value)
        if identity(entry) in seen:
            raise ValueError(f"{key}: an entry repeats")
        seen.add(identity(entry))
        yield entry


def _agree(index: Index) -> None:
    """Raise ValueError if the index is inconsistent."""
    if index.encoding != index.database["encoding"]:
        raise ValueError("two encodings")
    at = 0
    for member in index.members:
        if member.offset != at:
            raise ValueError(f"members: there is a gap at byte {at}")
        at += member.length
        _check_table_of(member, index.tables)


def _check_table_of(member: Member, tables: tuple[Table, ...]) -> None:
    """Raise ValueError unless a block belongs to a table in blocks, and text of the schema to none."""
    if member.table is None:
        fits = member.kind is not MemberKind.BLOCK and member.rows == 0
    else:
        fits = member.table < len(tables) and member.kind in {MemberKind.BLOCK, MemberKind.DATA}
        fits = fits and (member.kind is MemberKind.DATA or tables[member.table].blocks)
    if not fits:
        raise ValueError(f"members: the one at byte {member.offset} has the wrong table")


def _fields(one: Index | Member | Table) -> dict[str, Any]:
    """Return the fields of a dataclass; asdict would copy what they contain, for each of thousands of tables."""
    return {each.name: getattr(one, each.name) for each in fields(one)}


_DECODER = json.JSONDecoder()
_NO_BLANK = re.compile(r"[^ \t\r\n]")
_LONGEST_KEY = 100


class JsonPieces:
    """A cursor over the JSON in `pieces`. Every method raises ValueError if the text is not as expected."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self._text = ""
        self._at = 0

    def value(self, longest: int) -> Any:
        """Return the next value; ValueError if it is longer than about `longest` characters."""
        self._skip_blanks()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            except ValueError:
                # It may continue in the next piece.
                if len(self._text) - self._at > longest or not self._more():
                    raise ValueError("it is not JSON, or a value is too long") from None
                continue
            if end == len(self._text) and self._more():
                continue  # a number may continue
            self._at = end
            return value

    def items(self, longest: int) -> Iterator[Any]:
        """Yield the elements of the list that comes next."""
        self._expect("[")
        if self._taken("]"):
            return
        while True:
            yield self.value(longest)
            if self._taken("]"):
                return
            self._expect(",")

    def keys(self) -> Iterator[str]:
        """Yield the keys of the object that comes next; the caller reads each one's value. ValueError if one repeats."""
        self._expect("{")
        seen: set[str] = set()
        if self._taken("}"):
            return
        while True:
            key = self.value(_LONGEST_KEY)
            if type(key) is not str or key in seen:
                raise ValueError("a key is not text or repeats")
            seen.add(key)
            self._expect(":")
            yield key
            if self._taken("}"):
                return
            self._expect(",")

    def end(self) -> None:
        """Raise ValueError if anything but blanks follows."""
        self._skip_blanks()
        if self._at < len(self._text):
            raise ValueError("something follows its end")

    def _more(self) -> bool:
        """Double the pending text, so that repeated attempts to parse a long value stay linear."""
        pending = self._text[self._at :]
        parts, size = [pending], 0
        for piece in self._pieces:
            parts.append(piece)
            size += len(piece)
            if size > len(pending):
                break
        self._text, self._at = "".join(parts), 0
        return size > 0

    def _skip_blanks(self) -> None:
        while self._at < len(self._text) or self._more():
            found = _NO_BLANK.search(self._text, self._at)
            self._at = found.start() if found else len(self._text)
            if found:
                return

    def _taken(self, character: str) -> bool:
        self._skip_blanks()
        if self._text[self._at : self._at + 1] != character:
            return False
        self._at += 1
        return True

    def _expect(self, character: str) -> None:
        if not self._taken(character):
            raise ValueError(f"{character} is missing")
