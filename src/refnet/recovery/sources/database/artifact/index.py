"""The index of a database artifact: what is in it, as SQL comments, and its strict reading.

The index may be a forgery: nothing of it is taken over that has not exactly the type, the range and the words that
a backup writes. What it says of the database is compared with the database's own catalog, never believed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from refnet.recovery.model.checked import Check, inside
from refnet.recovery.sources.database.artifact import index_values
from refnet.recovery.sources.database.artifact.index_values import Kind
from refnet.recovery.sources.database.artifact.json_pieces import JsonPieces

_PREFIX = b"-- refnet-index "
_WIDTH = 8000
#: Bytes of an entry of a list, and of any value but the archive: 1600 long names escaped, and more.
_LONGEST = 4 << 20
#: Bytes of the archive in base64: the definitions of about a million tables.
_LONGEST_ARCHIVE = 512 << 20


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
        text = json.dumps(values, ensure_ascii=True, separators=(",", ":")).encode("ascii")
        lines = (text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH))
        return b"".join(_PREFIX + line + b"\n" for line in lines)

    @classmethod
    def from_text(cls, text: bytes) -> Index:
        """The index in those comments; ValueError says what is wrong with it."""
        return cls.from_pieces([text])

    @classmethod
    def from_pieces(cls, pieces: Iterable[bytes]) -> Index:
        """The index in those comments, which come in pieces; ValueError says what is wrong with it."""
        index = cls(**_values(JsonPieces(_unwrapped(pieces))))
        _agree(index)
        return index

    def blocks_of(self, number: int) -> tuple[Member, ...]:
        """The members that hold the blocks of table `number`."""
        return tuple(m for m in self.members if m.kind is Kind.BLOCK and m.table == number)

    def members_of(self, kind: Kind) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.kind is kind)


def programs_major(index: Index, server: int) -> int:
    """The major of the programs that a server of `server` and the kept schema, by its own pg_dump, both need."""
    return max(server, int(str(index.server["pg_dump"]).split(".")[0]))


#: The parts of an index that are lists of any length: what each entry becomes, and what no two of them share.
_LISTS: dict[str, tuple[Check, Callable[[Any], Any]]] = {
    "members": (lambda value: Member(**index_values.member(value)), lambda member: member.offset),
    "tables": (lambda value: Table(**index_values.table(value)), lambda table: (table.schema, table.name)),
    **index_values.ENTRIES,
}
#: What artifacts of older versions lack.
_YOUNGER = frozenset({"foreign_views"})


def _unwrapped(pieces: Iterable[bytes]) -> Iterator[str]:
    """The JSON in the comments, in pieces."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _WIDTH + len(_PREFIX) or not all(line.startswith(_PREFIX) for line in lines):
            raise ValueError("a line that is no part of it")
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
            raise ValueError("a key that is not known")
    text.end()
    known = _LISTS.keys() | index_values.ONES.keys()
    if missing := sorted(known - _YOUNGER - values.keys()):
        raise ValueError(f"no {missing[0]}")
    return values


def _entries(key: str, values: Iterable[Any]) -> Iterator[Any]:
    """The entries of a list. As no two are alike, a small file cannot hold so many that they fill the memory."""
    check, identity = _LISTS[key]
    seen: set[Any] = set()
    for value in values:
        entry = inside(key, check, value)
        if identity(entry) in seen:
            raise ValueError(f"{key}: one comes twice")
        seen.add(identity(entry))
        yield entry


def _agree(index: Index) -> None:
    """ValueError where the parts of the index contradict each other."""
    if index.encoding != index.database["encoding"]:
        raise ValueError("two encodings")
    at = 0
    for member in index.members:
        if member.offset != at:
            raise ValueError(f"members: there is a gap at byte {at}")
        at += member.length
        _check_table_of(member, index.tables)


def _check_table_of(member: Member, tables: tuple[Table, ...]) -> None:
    """Rows in blocks belong to a table that is copied so; the schema's text belongs to none."""
    if member.table is None:
        fits = member.kind is not Kind.BLOCK and member.rows == 0
    else:
        fits = member.table < len(tables) and member.kind in {Kind.BLOCK, Kind.DATA}
        fits = fits and (member.kind is Kind.DATA or tables[member.table].blocks)
    if not fits:
        raise ValueError(f"members: the one at byte {member.offset} belongs to no such table")
