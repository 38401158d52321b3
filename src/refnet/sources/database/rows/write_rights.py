"""Finds the rights that a role lacks for restoring rows into live tables, and the SQL that grants them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from refnet.core.errors import RefnetError
from refnet.sources.database.admin_session import Session
from refnet.sources.database.rows.table_layout import TableLayout
from refnet.sources.database.sql_text import Codec
from refnet.sources.restore_options import Mode

#: The locks of a restore need one of these rights.
_TO_LOCK = b"UPDATE, DELETE, TRUNCATE"


def check(session: Session, codec: Codec, layouts: Sequence[TableLayout], mode: Mode) -> None:
    """Raise RefnetError with the needed grants if the role of `session` may not restore rows into `layouts`."""
    missing = [
        (name, grant)
        for name, grant, rights in _needed(layouts, mode)
        if codec.rows(session, _question(name, rights)) != [(True,)]
    ]
    if missing:
        ((role, database),) = codec.rows(
            session, "SELECT quote_ident(current_user), current_database()::text"
        )
        names = ", ".join(codec.decode(name) for name, _ in missing)
        grants = "; ".join(f"GRANT {grant} {codec.decode(name)} TO {role}" for name, grant in missing)
        raise RefnetError(
            f"the role {role} may not restore rows in {database}: rights are missing on {names}",
            f"{grants}; or restore as the owner of the tables.",
        )


def _needed(layouts: Sequence[TableLayout], mode: Mode) -> Iterator[tuple[bytes, str, tuple[bytes, ...]]]:
    """Yield tables and sequences, the rights to grant, and the rights to check."""
    written = {layout.name for layout in layouts}
    write = {Mode.MERGE: "UPDATE"}.get(mode, "DELETE")
    to_write = _TO_LOCK if mode is Mode.MISSING else write.encode()
    for name in sorted(written):
        yield name, f"SELECT, INSERT, {write} ON", (b"SELECT", b"INSERT", to_write)
    joined = {table for one in layouts for key in one.foreign for table in (key.referring, key.other)}
    for name in sorted({table.removeprefix(b"ONLY ") for table in joined} - written):
        yield name, "SELECT, UPDATE ON", (_TO_LOCK,)
    for name in sorted({sequence.name for layout in layouts for sequence in layout.sequences}):
        yield name, "SELECT, UPDATE ON SEQUENCE", (b"SELECT", b"UPDATE")


def _question(name: bytes, rights: Sequence[bytes]) -> bytes:
    """Return the query whose answer is true if the role has each of the `rights`."""
    table = b"'" + name.replace(b"'", b"''") + b"'::regclass"
    each = (b"pg_catalog.has_table_privilege(%b, '%b')" % (table, one) for one in rights)
    return b"SELECT " + b" AND ".join(each)
