"""Creates missing tables with everything that belongs to them, in the caller's transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import errors

from refnet.catalog.artifact import Progress
from refnet.core.errors import Exit, RefnetError
from refnet.sources.database import server_errors, sql_text
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.definitions import Definition, Name, What
from refnet.sources.database.artifact.index import Table
from refnet.sources.database.artifact.index_values import schema_and_name
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.artifact.table_definitions import TableDefinitions
from refnet.sources.database.dump.pgdump import refuses_lz4
from refnet.sources.database.plan.table_plan import Creation
from refnet.sources.database.restore import table_facts
from refnet.sources.database.restore.table_facts import LiveObjects
from refnet.sources.database.rows import staged_rows
from refnet.sources.database.rows.staged_rows import Recorded
from refnet.sources.database.sql_text import Codec

_LZ4 = re.compile(rb" SET COMPRESSION lz4\Z")
_KEY = re.compile(rb".*?ADD CONSTRAINT .*? (FOREIGN KEY .*)", re.DOTALL)
#: What needs a tablespace or an access method, both of which are settings.
_PLACED = frozenset({What.TABLE, What.KEY, What.INDEX})
_PLACE = """
SELECT pg_catalog.set_config('default_tablespace', %s, true),
       pg_catalog.set_config('default_table_access_method', coalesce(nullif(%s, ''), 'heap'), true)
"""


#: Privileges of others than the owner; "" is PUBLIC.
_DEFAULTS = """
SELECT DISTINCT n.nspname::text, c.relname::text, c.relkind::text, coalesce(r.rolname::text, '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN aclexplode(c.relacl) a
LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE c.relkind IN ('r', 'p', 'S') AND a.grantee <> c.relowner
"""


@dataclass(frozen=True)
class MissingTables:
    """The selected tables that are missing."""

    reader: Reader
    codec: Codec
    recorded: tuple[Recorded, ...]
    definitions: TableDefinitions
    live: LiveObjects
    #: What `finish` could not do, a sentence each.
    notes: list[str] = field(default_factory=list)

    def problems(self) -> tuple[RefnetError, ...]:
        """Problems that prevent their creation."""
        found = table_facts.needs(self.definitions, self.live, self.reader.index, self.codec)
        return tuple(found.problems())

    def creation(self, one: Recorded) -> Creation:
        """What is created for one table, for the plan."""
        tables = self.definitions.partitions((one.schema, one.name))
        return Creation(
            partitions=len(tables) - 1,
            objects=self.definitions.counts(tables),
            touches=tuple(self._touches(tables)),
        )

    def lost(self) -> tuple[str, ...]:
        """Sentences about what is not restored with them."""
        return table_facts.lost(self.definitions, self.live, self.codec)

    def _touches(self, tables: frozenset[Name]) -> Iterator[str]:
        """Sentences about live objects that the definitions of `tables` touch."""
        for one in (one for table in sorted(tables) for one in self.definitions.of_table.get(table, ())):
            if one.object in self.definitions.tables:
                yield from self._touched_by(one)
            elif one.what is What.FOREIGN_KEY:
                yield f"its foreign key {one.name} refers to {_text(one.object)}"
            elif one.what is What.ATTACH:
                yield f"{_text(one.table)} becomes a partition of {_text(one.object)}"
            elif one.what is What.TABLE and (parents := sql_text.inherited(one.text)):
                yield f"{_text(one.table)} inherits from {self.codec.decode(parents)}"

    def _touched_by(self, one: Definition) -> Iterator[str]:
        if one in self._returning() and (key := _KEY.fullmatch(one.text)):
            yield f"{_text(one.table)} gets its foreign key {one.name} back: {self.codec.decode(key[1])}"

    def joined(self) -> frozenset[Name]:
        """Return the live tables that are locked."""
        out = {d.object for d in self.definitions.chosen if d.what in {What.FOREIGN_KEY, What.ATTACH}}
        back = {one.table for one in self._returning()}
        return frozenset(name for name in (out | back) - self.definitions.tables if name)

    def _returning(self) -> tuple[Definition, ...]:
        return tuple(d for d in self.definitions.returning if d.table and self.live.has_table(d.table))

    def create(self, session: Session, progress: Progress) -> None:
        """Create the tables and load their rows; RefnetError if the rows differ from the artifact."""
        self._run_all(session, self.definitions.before)
        self._revoke_defaults(session)
        tables = self.reader.index.tables
        for number in sorted({number for one in self.recorded for number in one.parts}):
            if (tables[number].schema, tables[number].name) in self.definitions.tables:
                self._load(session, number, progress)
        self._set_sequences(session)

    def _revoke_defaults(self, session: Session) -> None:
        """Revoke default privileges of the live database on the new tables and sequences."""
        created = self.definitions.tables | self.definitions.sequences
        for schema, name, kind, role in self.codec.rows(session, _DEFAULTS):
            if (schema, name) in created:
                grantee = self.codec.quoted(role) if role else b"PUBLIC"
                target = (b"SEQUENCE " if kind == "S" else b"TABLE ") + self.codec.quoted(schema, name)
                session.execute(b"REVOKE ALL ON %b FROM %b" % (target, grantee))

    def finish(self, session: Session) -> None:
        """Create the entries after the rows; foreign keys of other tables last, each completely or not at all."""
        self._run_all(session, self.definitions.after)
        for one in self._returning():
            try:
                with session.transaction():
                    self._run(session, one)
            except errors.LockNotAvailable:
                raise
            except psycopg.Error as error:
                said = error.diag.message_detail or error.diag.message_primary or str(error)
                self.notes.append(f"foreign key {one.name} of {_text(one.table)} is not restored: {said}")
        for schema, name in sorted(self.definitions.tables):
            session.execute(b"ANALYZE " + self.codec.quoted(schema, name))

    def _run_all(self, session: Session, definitions: Sequence[Definition]) -> None:
        without = refuses_lz4(session, b";\n".join([*(one.text for one in definitions), b""]))
        for one in definitions:
            if not (without and _LZ4.search(one.text)):
                with _explained(one):
                    self._run(session, one)

    def _run(self, session: Session, one: Definition) -> None:
        """Run one statement; `binary` selects the protocol that rejects a second statement."""
        if one.what in _PLACED:
            session.execute(_PLACE, (one.tablespace, one.access_method))
        if one.grantor:
            session.execute(b"SET LOCAL ROLE " + self.codec.quoted(one.grantor))
        session.execute(one.text, binary=True)
        if one.grantor:
            session.execute("SET LOCAL ROLE NONE")

    def _load(self, session: Session, number: int, progress: Progress) -> None:
        """Load the rows of one table and compare them with what the artifact recorded."""
        table = self.reader.index.tables[number]
        name = self.codec.quoted(table.schema, table.name)
        one = Recorded(table.schema, table.name, (number,))
        expected = staged_rows.copy_rows(session, self.reader, one, name, progress)
        found = staged_rows.digest_of(
            session, self.codec, table.columns, name if table.root else b"ONLY " + name
        )
        if (found.rows, found.hex) != (table.rows, table.digest or expected.hex):
            raise _differs(table)

    def _set_sequences(self, session: Session) -> None:
        for name, value, called in self.reader.index.sequences:
            if schema_and_name(name) in self.definitions.sequences:
                quoted = self.codec.quoted(*schema_and_name(name))
                literal = b"'" + quoted.replace(b"'", b"''") + b"'"
                session.execute(
                    b"SELECT pg_catalog.setval(%b::regclass, %d, %b)"
                    % (literal, value, b"true" if called else b"false")
                )


@contextmanager
def _explained(one: Definition) -> Iterator[None]:
    """Turn the server's error about a statement into a RefnetError; lock errors are left to the caller."""
    try:
        yield
    except errors.LockNotAvailable:
        raise
    except psycopg.Error as error:
        what = f"creating {one.what} {one.name or _text(one.table or one.object)}"
        raise server_errors.of_server(error, what) from error


def _differs(table: Table) -> RefnetError:
    return RefnetError(
        f"the rows of {table.qualified} differ from those of the artifact after they were loaded",
        "Nothing was changed. Check the artifact with `refnet verify`.",
        Exit.DAMAGED,
    )


def _text(name: Name | None) -> str:
    return ".".join(name or ())
