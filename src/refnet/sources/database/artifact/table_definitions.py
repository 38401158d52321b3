"""Chooses the definitions of missing tables, and what these require. Pure.

Only statements of these tables are chosen, and they change only objects that other chosen statements create. They touch
other tables in four ways, each named by the plan: a foreign key to it, a foreign key from it, a partition, inheritance.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from refnet.sources.database.artifact.definitions import Definition, Name, What
from refnet.sources.database.sql_text import IDENT, Codec

#: Strings (those that name a relation in full), and qualified names.
_MENTION = re.compile(
    rb"'(?P<text>(?:[^']|'')*+)'(?P<relation>::regclass)?"
    rb"|(?<![\w$.\x80-\xff])(?P<s>%b)\.(?P<n>%b)" % (IDENT, IDENT)
)
_QUALIFIED = re.compile(rb"(%b)\.(%b)" % (IDENT, IDENT))
_SWITCH = re.compile(
    rb"ALTER TABLE (?:ONLY )?(?:%b)\.(?:%b) (?:(?:ENABLE|DISABLE)(?: REPLICA| ALWAYS)? (?:TRIGGER|RULE) |ENABLE ROW)"
    % (IDENT, IDENT)
)
#: The statements that create what a table may need.
_CREATES = frozenset({What.TABLE, What.SEQUENCE, What.VIEW, What.FUNCTION, What.OTHER})
_OF_TABLE = frozenset(
    {What.TABLE, What.IDENTITY, What.KEY, What.INDEX, What.STATISTICS, What.TRIGGER, What.RULE, What.POLICY}
)
#: What a plan counts, in its order.
_COUNTED = {
    What.SEQUENCE: "sequence",
    What.KEY: "key",
    What.INDEX: "index",
    What.FOREIGN_KEY: "foreign key",
    What.TRIGGER: "trigger",
    What.RULE: "rule",
    What.POLICY: "policy",
    What.STATISTICS: "statistics object",
    What.GRANT: "privilege",
}


@dataclass(frozen=True)
class TableDefinitions:
    """The definitions of some tables, selected from a schema."""

    #: Of the complete schema.
    all: tuple[Definition, ...]
    #: The tables to create, partitions included.
    tables: frozenset[Name]
    #: The schemas to create.
    schemas: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def sequences(self) -> frozenset[Name]:
        """The sequences that belong to the tables and are created with them."""
        created = {one.object for one in self.all if one.what is What.SEQUENCE}
        owned = {d.object for d in self.all if d.what is What.OWNED and d.table in self.tables}
        identities = {d.object for d in self.all if d.what is What.IDENTITY and d.table in self.tables}
        return frozenset(name for name in (owned & created) | identities if name)

    @cached_property
    def relations(self) -> frozenset[Name]:
        """The indexes and sequences that are created with the tables."""
        kinds = {What.KEY, What.INDEX}
        indexes = {one.object for one in self.all if one.what in kinds and one.table in self.tables}
        return self.sequences | frozenset(name for name in indexes if name)

    @cached_property
    def _statistics(self) -> frozenset[Name]:
        found = (one for one in self.all if one.what is What.STATISTICS and one.table in self.tables)
        return frozenset(one.object for one in found if one.object)

    @cached_property
    def chosen(self) -> tuple[Definition, ...]:
        """Everything that belongs to the tables, in the order of the schema."""
        return tuple(one for one in self.all if self._belongs(one))

    def _belongs(self, one: Definition) -> bool:
        match one.what:
            case What.SCHEMA | What.OF_SCHEMA:
                return one.name in self.schemas
            case What.SEQUENCE:
                return one.object in self.sequences
            case What.OWNED:
                return one.object in self.sequences and one.table in self.tables
            case What.OF_OBJECT:
                of_statistics = one.text.startswith((b"ALTER STATISTICS", b"COMMENT ON STATISTICS"))
                return one.object in (self._statistics if of_statistics else self.relations)
            case What.INDEX_ATTACH:
                return {one.object, one.table} <= self.relations
            case What.OF_TABLE | What.GRANT:
                return one.table in self.tables or {one.table, one.object} & self.sequences != set()
            case What.FOREIGN_KEY | What.ATTACH:
                return one.table in self.tables
        return one.what in _OF_TABLE and one.table in self.tables

    @property
    def before(self) -> tuple[Definition, ...]:
        """Statements before the rows: schemas, tables, sequences, defaults, partitions of these tables."""
        return tuple(one for one in self.chosen if self._step(one) == 0)

    @property
    def after(self) -> tuple[Definition, ...]:
        """Statements after the rows; privileges last, as the restoring role may need those that are revoked."""
        return tuple(sorted((one for one in self.chosen if self._step(one)), key=self._step))

    def _step(self, one: Definition) -> int:
        if one.text.startswith(b"COMMENT "):
            return 5
        if one.what in {What.GRANT, What.OF_SCHEMA}:
            return 6 if b" ON " in one.text.partition(b"\n")[0] else 0
        if one.what is What.FOREIGN_KEY:
            return 3
        if one.what is What.ATTACH:
            return 0 if one.object in self.tables else 2  # finds the indexes that it needs
        if one.what in {What.TRIGGER, What.RULE, What.POLICY} or _SWITCH.match(one.text):
            return 4
        on_index = one.what in {What.KEY, What.INDEX, What.INDEX_ATTACH, What.STATISTICS}
        of_index = one.what is What.OF_OBJECT and one.object not in self.sequences
        refers = b" CLUSTER ON " in one.text or b" REPLICA IDENTITY " in one.text
        return int(on_index or of_index or (one.what is What.OF_TABLE and refers))

    @cached_property
    def returning(self) -> tuple[Definition, ...]:
        """The foreign keys from other tables to these."""
        return tuple(
            one
            for one in self.all
            if one.what is What.FOREIGN_KEY and one.object in self.tables and one.table not in self.tables
        )

    def of(self, what: What) -> tuple[Definition, ...]:
        """Statements of a kind that concern the tables, chosen or not."""
        return tuple(one for one in self.all if one.what is what and one.table in self.tables)

    def partitions(self, table: Name) -> frozenset[Name]:
        """`table` and the missing tables attached below it."""
        return below(self._children, [table]) & self.tables

    @cached_property
    def _children(self) -> dict[Name, list[Name]]:
        return children(self.all)

    @cached_property
    def of_table(self) -> dict[Name, list[Definition]]:
        """Chosen statements by table; a returning foreign key counts for the table that it refers to."""
        found: dict[Name, list[Definition]] = {}
        for one in (*self.chosen, *self.returning):
            name = one.table if one.table in self.tables else one.object
            found.setdefault(name or ("", ""), []).append(one)
        return found

    def counts(self, tables: Iterable[Name]) -> tuple[tuple[int, str], ...]:
        """Number of objects of each kind in `tables`, for a plan."""
        found: Counter[What] = Counter(
            What.SEQUENCE if one.what in {What.OWNED, What.IDENTITY} else one.what
            for table in tables
            for one in self.of_table.get(table, ())
            if one.table == table
        )
        return tuple((found[what], word) for what, word in _COUNTED.items() if found[what])

    def roles(self) -> frozenset[str]:
        return frozenset(role for one in self.chosen for role in one.roles)

    def owners(self) -> frozenset[str]:
        """Roles that the login must act as: owners and grantors."""
        named = {role for one in self.chosen if b" OWNER TO " in one.text for role in one.roles}
        return frozenset(named | {one.grantor for one in self.chosen if one.grantor})

    def tablespaces(self) -> frozenset[str]:
        made = {What.TABLE, What.KEY, What.INDEX}
        return frozenset(d.tablespace for d in self.chosen if d.what in made and d.tablespace)

    def needed(self, codec: Codec) -> dict[Name, Definition]:
        """Objects that the chosen statements name, and only other statements of the schema create."""
        created = {
            name: one for one in self.all if one.what in _CREATES and (name := one.table or one.object)
        }
        own = self.tables | self.sequences
        names = {name for one in self.chosen for name in mentions(one.text, codec)}
        return {name: created[name] for name in sorted(names) if name in created and name not in own}

    def named(self, codec: Codec) -> frozenset[Name]:
        """Qualified names in the chosen statements; some may be alias and column."""
        return frozenset(name for one in self.chosen for name in mentions(one.text, codec))

    def dependents(self, codec: Codec) -> Iterator[Definition]:
        """Yield the views and functions whose definitions name one of the tables."""
        for one in self.all:
            if one.what in {What.VIEW, What.FUNCTION} and not self.tables.isdisjoint(
                mentions(one.text, codec)
            ):
                yield one


def mentions(text: bytes, codec: Codec) -> Iterator[Name]:
    """Yield the qualified names in a statement."""
    for found in _MENTION.finditer(text):
        if found["s"]:
            yield codec.unquoted(found["s"]), codec.unquoted(found["n"])
        elif found["relation"] and (name := _QUALIFIED.fullmatch(found["text"].replace(b"''", b"'"))):
            yield codec.unquoted(name[1]), codec.unquoted(name[2])


def children(definitions: Iterable[Definition]) -> dict[Name, list[Name]]:
    """Partitioned table → attached tables."""
    found: dict[Name, list[Name]] = {}
    for one in definitions:
        if one.what is What.ATTACH and one.object and one.table:
            found.setdefault(one.object, []).append(one.table)
    return found


def below(attached: Mapping[Name, Sequence[Name]], tops: Iterable[Name]) -> frozenset[Name]:
    """`tops` and all tables attached below, each once: a forged schema may attach a table to itself."""
    found, todo = set(tops), list(tops)
    while todo:
        fresh = [name for name in attached.get(todo.pop(), ()) if name not in found]
        found.update(fresh)
        todo += fresh
    return frozenset(found)
