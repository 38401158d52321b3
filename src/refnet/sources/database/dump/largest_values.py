"""Explains tables that COPY cannot read: a row has at most 1 GB of text, in which bytea takes two characters a byte."""

from __future__ import annotations

import re

from refnet.core.errors import RefnetError
from refnet.core.formatting import size
from refnet.sources.database.dump.snapshot import OpenSnapshot, Relation

#: What the server says of such a row.
_TOO_LARGE = re.compile(r"invalid memory alloc request size|[Cc]annot enlarge string buffer|out of memory")
#: Bytes of the longest text of a row.
_LONGEST = 1 << 30
#: Characters of a row's text for each byte at most: where the length is known, and where a value may be compressed.
_PLAIN, _COMPRESSED = 2, 1024
#: Columns of any length; true: with a length in bytes, which is known without reading the value.
_COLUMNS = """
SELECT a.attname::text, a.atttypid IN ('bytea'::regtype, 'text'::regtype, 'varchar'::regtype), a.atttypid = 'bytea'::regtype
FROM pg_attribute a
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attlen = -1 ORDER BY attnum
"""


def explained(said: str, snapshot: OpenSnapshot, table: Relation) -> RefnetError | None:
    """Error that names the column with the largest value.

    None for other errors, or if memory is short for rows below the limit.
    """
    if not _TOO_LARGE.search(said):
        return None
    codec = snapshot.codec
    columns = snapshot.rows(_COLUMNS, table.oid)
    if not columns:
        return None
    measures = b", ".join(
        b"max(%b(%b))" % (b"octet_length" if measured else b"pg_column_size", codec.quoted(column))
        for column, measured, _ in columns
    )
    query = b"SELECT %b FROM ONLY %b" % (measures, codec.quoted(table.schema, table.name))
    sizes = [most or 0 for most in codec.rows(snapshot.control, query)[0]]
    found = list(zip(sizes, columns, strict=True))
    if sum(most * (_PLAIN if measured else _COMPRESSED) for most, (_, measured, _) in found) < _LONGEST:
        return None
    _, most, column = max(
        (most * (2 if is_bytea else 1), most, column) for most, (column, _, is_bytea) in found
    )
    return RefnetError(
        f"{table.schema}.{table.name} cannot be copied: a row has more than 1 GB as text; {column} has a value of {size(most)}",
        "Split such values into several rows, or store them as large objects (lo_from_bytea): no dump can contain them.",
    )
