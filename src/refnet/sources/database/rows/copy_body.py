"""The rows of a table in a member of an artifact."""

from __future__ import annotations

import re
from collections.abc import Iterator

from refnet.sources.database.artifact.index import Member, Table
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import Reader, damaged
from refnet.sources.database.sql_names import COPY, LONGEST_COPY, Codec

_END = b"\\.\n"
_COPY_LINE = re.compile(rb"^" + COPY.pattern, re.MULTILINE)
#: Bytes of pg_dump's data section before the rows: it is cut after 8 MB of other statements.
_LONGEST_BEFORE = 32 << 20


def copy_body(
    reader: Reader, member: Member, codec: Codec, table: Table
) -> tuple[re.Match[bytes], Iterator[bytes]]:
    """Return the COPY statement of `table` in `member`, and its rows in pieces, without the line that ends them.

    A block begins with that statement. RefnetError (DAMAGED) if the member does not contain it or ends within the rows.
    """
    pieces, text = reader.raw(member), b""
    longest = LONGEST_COPY if member.kind is MemberKind.BLOCK else _LONGEST_BEFORE
    while not (statement := _statement(member, codec, table, text)):
        piece = next(pieces, b"")
        if not piece or len(text) > longest:
            raise damaged(
                reader.name, f"the member at byte {member.offset} contains no COPY of {table.qualified}"
            )
        text += piece
    return statement, _rows(reader, member, text[statement.end() :], pieces)


def _statement(member: Member, codec: Codec, table: Table, text: bytes) -> re.Match[bytes] | None:
    found = [COPY.match(text)] if member.kind is MemberKind.BLOCK else _COPY_LINE.finditer(text)
    return next((one for one in found if one and codec.names(one, table.schema, table.name)), None)


def _rows(reader: Reader, member: Member, first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    pending = first
    for piece in pieces:
        if len(piece) < len(_END):
            pending += piece
        else:
            yield pending
            pending = piece
    if not pending.endswith(_END):
        raise damaged(reader.name, f"the member at byte {member.offset} ends within a row")
    yield pending[: -len(_END)]
