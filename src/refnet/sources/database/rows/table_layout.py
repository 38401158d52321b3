"""Reads the layout of a live table for a restore of its rows: columns, keys, triggers, sequences.

Its columns are compared with those of the artifact's definition of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from refnet.core.errors import Exit, RefnetError
from refnet.sources.database import sql_text
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.definitions import Definition, Name, What
from refnet.sources.database.sql_text import IDENT, Codec
from refnet.sources.restore_options import Mode

_TABLE = """
SELECT c.oid::int8, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
"""
_COLUMNS = """
SELECT attname::text, attidentity = 'a', attnotnull AND NOT atthasdef AND attidentity = '' FROM pg_attribute
WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
#: The key's columns and their equality operators, which need not be the type's default.
_KEY = """
SELECT a.attname::text, on_.nspname::text, o.oprname::text
FROM pg_index i CROSS JOIN unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY k(attnum, class, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
JOIN pg_opclass c ON c.oid = k.class JOIN pg_am am ON am.oid = c.opcmethod AND am.amname = 'btree'
JOIN pg_amop s ON s.amopfamily = c.opcfamily AND s.amopstrategy = 3
              AND s.amoplefttype = c.opcintype AND s.amoprighttype = c.opcintype
JOIN pg_operator o ON o.oid = s.amopopr JOIN pg_namespace on_ ON on_.oid = o.oprnamespace
WHERE i.indrelid = %s::oid AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place
"""
#: Foreign keys from and to the table or a table that it is a partition of.
_FOREIGN = """
WITH family AS (SELECT %(oid)s::oid AS oid UNION SELECT relid FROM pg_partition_ancestors(%(oid)s::oid))
SELECT c.conname::text, c.conrelid IN (SELECT oid FROM family), c.confrelid IN (SELECT oid FROM family),
       fn.nspname::text, f.relname::text, f.relkind::text, pn.nspname::text, p.relname::text, p.relkind::text,
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.i),
       ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY k.i),
       ARRAY(SELECT n.nspname::text FROM unnest(c.conpfeqop) WITH ORDINALITY k(n, i)
             JOIN pg_operator o ON o.oid = k.n JOIN pg_namespace n ON n.oid = o.oprnamespace ORDER BY k.i),
       ARRAY(SELECT o.oprname::text FROM unnest(c.conpfeqop) WITH ORDINALITY k(n, i)
             JOIN pg_operator o ON o.oid = k.n ORDER BY k.i),
       c.confdeltype::text NOT IN ('a', 'r'), c.convalidated, c.condeferrable
FROM pg_constraint c JOIN pg_class f ON f.oid = c.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
JOIN pg_class p ON p.oid = c.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.contype = 'f' AND c.conparentid = 0
  AND (c.conrelid IN (SELECT oid FROM family) OR c.confrelid IN (SELECT oid FROM family))
ORDER BY c.oid
"""
_TRIGGERS = """
SELECT t.tgname::text, t.tgenabled::text FROM pg_trigger t
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
  AND t.tgrelid IN (SELECT %(oid)s::oid UNION SELECT relid FROM pg_partition_tree(%(oid)s::oid)) ORDER BY 1
"""
_RULES = (
    "SELECT rulename::text FROM pg_rewrite WHERE ev_class = %s::oid AND ev_type <> '1' AND ev_enabled <> 'D'"
)
#: Keys and exclusions that PostgreSQL checks by a trigger, which session_replication_role disables as well.
_DEFERRABLE = """
SELECT c.conname::text, c.contype::text,
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.i)
FROM pg_constraint c
WHERE c.conrelid = %s::oid AND c.contype IN ('p', 'u', 'x') AND c.condeferrable ORDER BY 1
"""
_SEQUENCES = """
SELECT n.nspname::text, s.relname::text, a.attname::text, q.seqincrement > 0
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %s::oid
  AND d.deptype IN ('a', 'i') ORDER BY 1, 2
"""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key from or to the table. Names are quoted."""

    name: str
    #: It refers from the table to another one, or to the table itself.
    out: bool
    #: It refers to the table.
    into: bool
    #: The referring table, with ONLY unless it is partitioned.
    referring: bytes
    #: The table that it refers to, in the same way.
    other: bytes
    #: Of the referring table.
    columns: tuple[bytes, ...]
    other_columns: tuple[bytes, ...]
    #: Equality operators: other column, operator, referring column.
    operators: tuple[bytes, ...]
    #: A deletion in the other table changes referring rows.
    cascades: bool
    valid: bool
    deferrable: bool

    @property
    def id(self) -> tuple[str, bytes, bytes]:
        """Its identity, equal for both of its tables."""
        return self.name, self.referring, self.other


@dataclass(frozen=True)
class DeferrableKey:
    """A key or an exclusion constraint that may be checked at the end of a transaction."""

    name: str
    #: It is an exclusion constraint.
    excludes: bool
    #: Quoted.
    columns: tuple[bytes, ...]


@dataclass(frozen=True)
class OwnedSequence:
    """A sequence of a column of the table. Names are quoted."""

    name: bytes
    column: bytes
    ascending: bool


@dataclass(frozen=True)
class TableLayout:
    """A live table. Names in bytes are quoted, for SQL."""

    #: `schema.name`, for display.
    qualified: str
    name: bytes
    #: `name`, with ONLY unless the table is partitioned.
    only: bytes
    #: The temporary table for the artifact's rows.
    stage: bytes
    #: Without generated columns.
    columns: tuple[str, ...]
    #: Those of them that an UPDATE cannot set: identities that are always generated.
    fixed: frozenset[str]
    #: Those that every new row must give a value.
    required: frozenset[str]
    #: The primary key: column, equality operator.
    key: tuple[tuple[bytes, bytes], ...]
    foreign: tuple[ForeignKey, ...]
    deferrable: tuple[DeferrableKey, ...]
    #: Name, pg_trigger.tgenabled.
    triggers: tuple[tuple[str, str], ...]
    rules: tuple[str, ...]
    sequences: tuple[OwnedSequence, ...]

    def of_columns(self, recorded: tuple[str, ...], mode: Mode) -> TableLayout:
        """The layout with only the `recorded` columns; added rows get defaults in the others.

        RefnetError if a column is missing, a new row needs more, or replaced rows would lose other columns' values.
        """
        extra, missing = set(self.columns) - set(recorded), set(recorded) - set(self.columns)
        if extra - self.required and not missing and mode is Mode.REPLACE:
            raise RefnetError(
                f"{self.qualified} has other columns than the artifact: {', '.join(sorted(extra))}",
                "--mode merge changes rows and keeps what these columns contain; nothing was changed.",
            )
        extra &= self.required
        if differing := sorted(extra | missing):
            raise refused(self.qualified, f"has other columns than the artifact: {', '.join(differing)}")
        return replace(self, columns=tuple(one for one in self.columns if one in recorded))

    def check(self, mode: Mode) -> None:
        """Raise RefnetError if rows cannot be restored: no key, rules, triggers that always fire."""
        if not self.key and mode is not Mode.REPLACE:
            raise RefnetError(
                f"{self.qualified} has no primary key, so its rows cannot be matched",
                "--mode replace restores all of its rows; nothing was changed.",
                Exit.USAGE,
            )
        if excluding := [one.name for one in self.deferrable if one.excludes]:
            raise refused(
                self.qualified,
                f"has deferrable exclusion constraints, which RefNet cannot check: {', '.join(excluding)}",
            )
        if self.rules:
            raise refused(
                self.qualified, f"has rules that would change what is written: {', '.join(self.rules)}"
            )
        if always := [name for name, fires in self.triggers if fires in {"A", "R"}]:
            raise refused(self.qualified, f"has triggers that always fire: {', '.join(always)}")

    def check_side_effects(self, *, deletes: bool) -> None:
        """Raise RefnetError if writing rows has side effects that only session_replication_role prevents."""
        if self.triggers:
            names = ", ".join(name for name, _ in self.triggers)
            raise _needs_superuser(self.qualified, f"the triggers {names} would fire")
        if deletes and (cascading := [key.name for key in self.foreign if key.into and key.cascades]):
            raise _needs_superuser(self.qualified, f"deleting rows would cascade by {', '.join(cascading)}")


def refused(table: str, why: str) -> RefnetError:
    """Error: the table's rows cannot be restored."""
    return RefnetError(
        f"{table} {why}",
        "Restore the complete database instead; nothing was changed.",
    )


def _needs_superuser(table: str, why: str) -> RefnetError:
    return RefnetError(
        f"{table} cannot be restored by this role: {why}",
        "Restore it as a superuser (or GRANT SET ON PARAMETER session_replication_role); nothing was changed.",
    )


def read(session: Session, codec: Codec, schema: str, name: str, number: int = 0) -> TableLayout:
    """Read the layout of a live table; RefnetError if it does not exist. `number`: for its staging table."""
    found = codec.rows(session, _TABLE, (schema, name))
    if not found:
        raise RefnetError(
            f"the live database has no table {schema}.{name}",
            "Create it as it was, or restore the complete database.",
            Exit.USAGE,
        )
    ((oid, kind),) = found

    def rows(query: str, values: Any = (oid,)) -> list[tuple[Any, ...]]:
        return codec.rows(session, query, values)

    quoted, columns = codec.quoted, rows(_COLUMNS)
    return TableLayout(
        qualified=f"{schema}.{name}",
        name=quoted(schema, name),
        only=_only(codec, schema, name, kind),
        stage=b"pg_temp.refnet_stage_%d" % number,
        columns=tuple(name for name, _, _ in columns),
        fixed=frozenset(name for name, fixed, _ in columns if fixed),
        required=frozenset(name for name, _, required in columns if required),
        key=tuple((quoted(column), _operator(codec, space, op)) for column, space, op in rows(_KEY)),
        foreign=tuple(_foreign_key(codec, row) for row in rows(_FOREIGN, {"oid": oid})),
        deferrable=tuple(
            DeferrableKey(name, kind == "x", tuple(quoted(column) for column in columns))
            for name, kind, columns in rows(_DEFERRABLE)
        ),
        triggers=tuple((name, fires) for name, fires in rows(_TRIGGERS, {"oid": oid})),
        rules=tuple(row[0] for row in rows(_RULES)),
        sequences=tuple(OwnedSequence(quoted(s, n), quoted(c), up) for s, n, c, up in rows(_SEQUENCES)),
    )


def _foreign_key(codec: Codec, row: tuple[Any, ...]) -> ForeignKey:
    name, out, into, *tables, columns, others, spaces, operators, cascades, valid, deferrable = row
    return ForeignKey(
        name=name,
        out=out,
        into=into,
        referring=_only(codec, *tables[:3]),
        other=_only(codec, *tables[3:]),
        columns=tuple(codec.quoted(one) for one in columns),
        other_columns=tuple(codec.quoted(one) for one in others),
        operators=tuple(_operator(codec, s, o) for s, o in zip(spaces, operators, strict=True)),
        cascades=cascades,
        valid=valid,
        deferrable=deferrable,
    )


def _only(codec: Codec, schema: str, name: str, kind: str) -> bytes:
    return (b"" if kind == "p" else b"ONLY ") + codec.quoted(schema, name)


def _operator(codec: Codec, schema: str, name: str) -> bytes:
    return b"OPERATOR(" + codec.quoted(schema) + b"." + codec.encode(name) + b")"


_LIVE = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)::text, a.attnotnull,
       coalesce(pg_get_expr(d.adbin, d.adrelid), '')::text
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum
"""
_COLUMN = re.compile(rb"(%b) (.*)" % IDENT, re.DOTALL)
#: What follows a type, outside of brackets and quotes.
_AFTER_TYPE = re.compile(rb" (?:COLLATE|DEFAULT|NOT NULL|GENERATED|CONSTRAINT|CHECK) ?")
_PARENT = re.compile(rb"(%b)\.(%b)" % (IDENT, IDENT))
_DEFAULT = re.compile(rb" DEFAULT ")
_SET_DEFAULT = re.compile(rb"ALTER TABLE [^\n]*? ALTER COLUMN (%b) SET DEFAULT (.*)" % IDENT, re.DOTALL)


@dataclass(frozen=True)
class Column:
    """A column, as PostgreSQL writes it."""

    type: str
    required: bool
    #: "" where there is none.
    default: str


def column_differences(
    session: Session, codec: Codec, definitions: Sequence[Definition], table: Name
) -> tuple[str, ...]:
    """Sentences about column differences, except generated columns; empty without a definition."""
    if not (recorded := recorded_columns(definitions, table, codec)):
        return ()
    rows = codec.rows(session, _LIVE, table)
    return tuple(_differences(recorded, {name: Column(*rest) for name, *rest in rows}))


def _differences(recorded: dict[str, Column], live: dict[str, Column]) -> Iterator[str]:
    for name, column in recorded.items():
        now = live.get(name)
        if now is None:
            yield f"column {name} no longer exists"
            continue
        if now.type != column.type:
            yield f"column {name} is {now.type}, it was {column.type}: each value must fit unchanged"
        if now.required != column.required:
            what = "does not accept NULL, it did" if now.required else "accepts NULL, it did not"
            yield f"column {name} {what}"
        if now.default != column.default:
            yield f"column {name} has the default {now.default or 'NULL'}, it had {column.default or 'NULL'}"
    for name in live.keys() - recorded.keys():
        yield f"column {name} is new; rows that are added get its default"


def recorded_columns(definitions: Sequence[Definition], table: Name, codec: Codec) -> dict[str, Column]:
    """Columns of a table in the artifact's schema, including inherited, without generated ones."""
    of: dict[Name | None, list[Definition]] = {}
    for one in definitions:
        of.setdefault(one.table, []).append(one)
    found: dict[str, Column] = {}
    for one in (each for name in reversed(_lineage(of, table, codec)) for each in of.get(name, ())):
        if one.what is What.TABLE:
            for item in sql_text.items(one.text):
                if column := _column(item, codec):
                    found[column[0]] = column[1]
        elif one.what is What.OF_TABLE and (default := _SET_DEFAULT.fullmatch(one.text)):
            name = codec.unquoted(default[1])
            if name in found:
                found[name] = Column(found[name].type, found[name].required, codec.decode(default[2]))
    return found


def _lineage(of: Mapping[Name | None, Sequence[Definition]], table: Name, codec: Codec) -> list[Name]:
    """`table` and its ancestors, each once: a forged schema may contain a cycle."""
    found = {table: None}
    waiting = [table]
    while waiting:
        for one in of.get(waiting.pop(), ()):
            if one.what is What.TABLE:
                for parts in _PARENT.finditer(sql_text.inherited(one.text)):
                    parent = codec.unquoted(parts[1]), codec.unquoted(parts[2])
                    waiting += [] if parent in found else [parent]
                    found[parent] = None
    return list(found)


def _column(item: bytes, codec: Codec) -> tuple[str, Column] | None:
    """Return name and column of an item in CREATE TABLE; None for a constraint or a generated column."""
    item = item.strip()
    parts, outline = _COLUMN.fullmatch(item), sql_text.outline(item)
    if not parts or parts[1] == b"CONSTRAINT" or b" GENERATED ALWAYS AS " in outline:
        return None
    start = parts.start(2)
    end = _AFTER_TYPE.search(outline, start)
    default = ""
    if begin := _DEFAULT.search(outline, start):
        stop = re.search(rb" (?:NOT NULL|CONSTRAINT|CHECK) ?", outline[begin.end() :])
        default = codec.decode(item[begin.end() : begin.end() + stop.start() if stop else None])
    kind = codec.decode(item[start : end.start() if end else None])
    return codec.unquoted(parts[1]), Column(kind, b" NOT NULL" in outline, default)
