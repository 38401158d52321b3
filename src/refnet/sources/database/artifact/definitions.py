"""Definitions in the text of a schema: what each statement creates or changes, and its table.

A statement is recognized by its complete beginning, as pg_dump writes it. The text may be forged, so statements that
could change something else are not recognized: an action after a comma, a foreign key within CREATE TABLE, IF NOT EXISTS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from refnet.sources.database import sql_text
from refnet.sources.database.sql_text import IDENT, Codec

#: Schema and name.
Name = tuple[str, str]


class What(StrEnum):
    """The kinds of statements."""

    SCHEMA = "schema"
    TABLE = "table"
    #: Creates a sequence; alone, or as an identity.
    SEQUENCE = "sequence"
    IDENTITY = "identity"
    #: Creates an index: as a constraint, or alone.
    KEY = "key"
    INDEX = "index"
    STATISTICS = "statistics object"
    #: Changes a table, or what belongs to it, alone.
    OWNED = "owned sequence"
    OF_TABLE = "setting of a table"
    OF_OBJECT = "setting of an object"
    OF_SCHEMA = "setting of a schema"
    TRIGGER = "trigger"
    RULE = "rule"
    POLICY = "policy"
    GRANT = "privilege"
    #: Connects two tables, or two indexes.
    FOREIGN_KEY = "foreign key"
    ATTACH = "partition"
    INDEX_ATTACH = "partition of an index"
    #: Not restored with a table, only named.
    PUBLICATION = "publication"
    LABEL = "security label"
    VIEW = "view"
    FUNCTION = "function"
    OTHER = "type"
    UNKNOWN = "unknown statement"


@dataclass(frozen=True)
class Definition:
    """A statement of the schema."""

    what: What
    text: bytes
    #: The table that it belongs to; of a foreign key the referring one, of a partition the partition.
    table: Name | None = None
    #: The object that it creates or changes; of a foreign key the table that it refers to, of a partition its parent.
    object: Name | None = None
    #: The name of a constraint, trigger, schema …, else "".
    name: str = ""
    #: The roles that it names.
    roles: tuple[str, ...] = ()
    #: `default_tablespace` and `default_table_access_method` that it needs, and the role that grants a privilege.
    tablespace: str = ""
    access_method: str = ""
    grantor: str = ""


def _q(prefix: str = "") -> bytes:
    """Return the pattern of a qualified name. `prefix` "t": of the table."""
    schema, name = f"{prefix}s".encode(), f"{prefix}n".encode()
    return rb"(?P<%b>%b)\.(?P<%b>%b)" % (schema, IDENT, name, IDENT)


_I = rb"(?:" + IDENT + rb")"
_LIST = rb"(?:PERIOD )?%b(?:, (?:PERIOD )?%b)*" % (_I, _I)
_ROLE = rb"(?P<role>" + _I + rb")"
_EVENT = rb"(?:INSERT|DELETE|TRUNCATE|UPDATE(?: OF %b(?:, %b)*)?)" % (_I, _I)
_RIGHT = rb"[A-Z]+(?: [A-Z]+)?(?:\(%b(?:, ?%b)*\))?" % (_I, _I)
_GRANT = rb"(?:GRANT|REVOKE(?: GRANT OPTION FOR)?) %b(?:, ?%b)* ON " % (_RIGHT, _RIGHT)
_TO = rb" (?:TO|FROM) " + _ROLE + rb"(?: WITH GRANT OPTION| CASCADE)?"
_SET_NULL = rb"(?:CASCADE|RESTRICT|NO ACTION|SET (?:NULL|DEFAULT)(?: ?\(%b\))?)" % _LIST
_ALTER = rb"ALTER TABLE (?:ONLY )?%b\s+" % _q("t")
_ACTION = (
    rb"(?:ADD CONSTRAINT %b (?:CHECK|NOT NULL)\b|ALTER COLUMN %b (?:SET (?:DEFAULT|STATISTICS|STORAGE|COMPRESSION|NOT NULL)\b"
    rb"|SET \()|CLUSTER ON |REPLICA IDENTITY |(?:ENABLE|DISABLE)(?: REPLICA| ALWAYS)? (?:TRIGGER|RULE) "
    rb"|(?:ENABLE|FORCE) ROW LEVEL SECURITY\Z|SET ACCESS METHOD )" % (_I, _I)
)
_OTHER = rb"TYPE|DOMAIN|AGGREGATE|PROCEDURE|COLLATION|OPERATOR CLASS|OPERATOR FAMILY|FOREIGN TABLE|TEXT SEARCH [A-Z]+"

#: The first that matches counts. Names: `ts.tn` the table, `s.n` the object, `name`, `role`.
_KNOWN: tuple[tuple[What, bytes], ...] = (
    (What.TABLE, rb"CREATE (?:UNLOGGED )?TABLE %b(?= )" % _q("t")),
    (What.FOREIGN_KEY, _ALTER + rb"ADD CONSTRAINT (?P<name>%b) FOREIGN KEY \(%b\) REFERENCES %b\(%b\)" % (_I, _LIST, _q(), _LIST)
     + rb"(?: MATCH FULL)?(?: ON (?:UPDATE|DELETE) %b){0,2}(?: DEFERRABLE)?(?: INITIALLY DEFERRED)?" % _SET_NULL
     + rb"(?: NOT ENFORCED)?(?: NOT VALID)?\Z"),
    (What.KEY, _ALTER + rb"ADD CONSTRAINT (?P<name>%b) (?:PRIMARY KEY|UNIQUE|EXCLUDE)\b" % _I),
    (What.IDENTITY, rb"ALTER TABLE %b ALTER COLUMN %b ADD GENERATED (?:ALWAYS|BY DEFAULT) AS IDENTITY \(\s*SEQUENCE NAME %b\s" % (_q("t"), _I, _q())),
    (What.OF_TABLE, rb"ALTER TABLE %b OWNER TO %b\Z" % (_q("t"), _ROLE)),
    (What.ATTACH, rb"ALTER TABLE ONLY %b ATTACH PARTITION %b (?:FOR VALUES|DEFAULT\Z)" % (_q(), _q("t"))),
    (What.OF_TABLE, _ALTER + _ACTION),
    (What.UNKNOWN, rb"ALTER TABLE (?:ONLY )?%b(?!\w)" % _q("t")),
    (What.SEQUENCE, rb"CREATE (?:UNLOGGED )?SEQUENCE %b\s" % _q()),
    (What.OWNED, rb"ALTER SEQUENCE %b OWNED BY %b\.%b\Z" % (_q(), _q("t"), _I)),
    (What.OF_OBJECT, rb"ALTER (?:SEQUENCE|STATISTICS) %b (?:OWNER TO %b|SET (?:LOGGED|UNLOGGED|STATISTICS [0-9]+))\Z" % (_q(), _ROLE)),
    (What.INDEX, rb"CREATE (?:UNIQUE )?INDEX (?P<name>%b) ON (?:ONLY )?%b USING " % (_I, _q("t"))),
    (What.INDEX_ATTACH, rb"ALTER INDEX (?P<ts>%b)\.(?P<tn>%b) ATTACH PARTITION %b\Z" % (_I, _I, _q())),
    (What.OF_OBJECT, rb"ALTER INDEX %b ALTER COLUMN [0-9]+ SET STATISTICS [0-9]+\Z" % _q()),
    (What.STATISTICS, rb"CREATE STATISTICS %b [^;]*? FROM %b\Z" % (_q(), _q("t"))),
    (What.TRIGGER, rb"CREATE (?:CONSTRAINT )?TRIGGER (?P<name>%b) (?:BEFORE|AFTER|INSTEAD OF) %b(?: OR %b)* ON %b\s" % (_I, _EVENT, _EVENT, _q("t"))),
    (What.RULE, rb"CREATE RULE (?P<name>%b) AS\s+ON (?:INSERT|UPDATE|DELETE) TO %b\s" % (_I, _q("t"))),
    (What.POLICY, rb"CREATE POLICY (?P<name>%b) ON %b(?: AS RESTRICTIVE)?(?: FOR [A-Z]+)?(?: TO (?P<role>%b(?:, %b)*))?(?= USING| WITH|\Z)" % (_I, _q("t"), _I, _I)),
    (What.OF_OBJECT, rb"COMMENT ON (?:INDEX|SEQUENCE|STATISTICS) %b IS " % _q()),
    (What.OF_TABLE, rb"COMMENT ON (?:TABLE %b|COLUMN %b\.%b) IS " % (_q("t"), _q("c"), _I)),
    (What.OF_TABLE, rb"COMMENT ON (?:CONSTRAINT|TRIGGER|RULE|POLICY) %b ON %b IS " % (_I, _q("t"))),
    (What.GRANT, _GRANT + rb"TABLE %b%b\Z" % (_q("t"), _TO)),
    (What.GRANT, _GRANT + rb"SEQUENCE %b%b\Z" % (_q(), _TO)),
    (What.PUBLICATION, rb"ALTER PUBLICATION (?P<name>%b) ADD TABLE (?:ONLY )?%b(?!\w)" % (_I, _q("t"))),
    (What.LABEL, rb"SECURITY LABEL FOR %b ON (?:TABLE|COLUMN) %b" % (_I, _q("t"))),
    (What.VIEW, rb"CREATE (?:MATERIALIZED )?VIEW %b\s" % _q()),
    (What.FUNCTION, rb"CREATE FUNCTION %b\(" % _q()),
    (What.OTHER, rb"CREATE (?:%b) %b(?!\w)" % (_OTHER, _q())),
    (What.SCHEMA, rb"CREATE SCHEMA (?P<name>%b)\Z" % _I),
    (What.OF_SCHEMA, rb"ALTER SCHEMA (?P<name>%b) OWNER TO %b\Z" % (_I, _ROLE)),
    (What.OF_SCHEMA, rb"COMMENT ON SCHEMA (?P<name>%b) IS " % _I),
    (What.OF_SCHEMA, _GRANT + rb"SCHEMA (?P<name>%b)%b\Z" % (_I, _TO)),
)  # fmt: skip
_SETTING = re.compile(rb"SET (default_tablespace|default_table_access_method) = (?:''|(%b))" % IDENT)
_AS = re.compile(rb"SET SESSION AUTHORIZATION (%b)" % IDENT)
_ONE = re.compile(IDENT)
#: Of CREATE TABLE and of the actions of ALTER TABLE, without what is within brackets and quotes.
_TABLE_OUTLINE = re.compile(
    rb"CREATE (?:UNLOGGED )?TABLE [^\s(,]+(?: OF [^\s(,]+)?(?: ?\(\))?"
    rb"(?:\s+(?:INHERITS|WITH|PARTITION BY (?:RANGE|LIST|HASH)) \(\))*"
)
_NO_COMMA = frozenset({What.OF_TABLE, What.KEY, What.IDENTITY, What.ATTACH, What.FOREIGN_KEY, What.OF_OBJECT})


def parse(text: bytes, codec: Codec) -> Iterator[Definition]:
    """Yield the known statements of a section of the schema, in its order."""
    settings = {b"default_tablespace": "", b"default_table_access_method": ""}
    grantor = ""
    for statement in sql_text.statements(text):
        if one := _SETTING.fullmatch(statement):
            settings[one[1]] = codec.unquoted(one[2]) if one[2] else ""
        elif one := _AS.fullmatch(statement):
            grantor = codec.unquoted(one[1])
        elif statement == b"RESET SESSION AUTHORIZATION":
            grantor = ""
        elif found := _known(statement):
            tablespace, access_method = settings.values()
            yield _definition(statement, *found, codec, (tablespace, access_method, grantor))


@cache
def _patterns() -> tuple[tuple[What, re.Pattern[bytes]], ...]:
    """Return _KNOWN compiled, at its first use: that takes 6 ms, and few commands need it."""
    return tuple((what, re.compile(pattern, re.DOTALL)) for what, pattern in _KNOWN)


def _known(statement: bytes) -> tuple[What, re.Match[bytes]] | None:
    if not statement.startswith((b"CREATE ", b"ALTER ", b"COMMENT ", b"GRANT ", b"REVOKE ", b"SECURITY ")):
        return None
    return next(((what, match) for what, one in _patterns() if (match := one.match(statement))), None)


def _definition(
    text: bytes, what: What, match: re.Match[bytes], codec: Codec, state: tuple[str, str, str]
) -> Definition:
    groups = match.groupdict()

    def name(prefix: str) -> Name | None:
        parts = groups.get(f"{prefix}s"), groups.get(f"{prefix}n")
        return (codec.unquoted(parts[0]), codec.unquoted(parts[1])) if parts[0] and parts[1] else None

    roles = tuple(codec.unquoted(one) for one in _ONE.findall(groups.get("role") or b"") if one != b"PUBLIC")
    tablespace, access_method, grantor = state
    table, own = name("t") or name("c"), codec.unquoted(groups["name"]) if groups.get("name") else ""
    created = (table[0], own) if table and what in {What.KEY, What.INDEX} else name("")
    return Definition(
        what if _is_alone(what, text) else What.UNKNOWN,
        text, table, created, own, (*roles, *([grantor] if grantor and what is What.GRANT else [])),
        tablespace, access_method, grantor if what is What.GRANT else "",
    )  # fmt: skip


def _is_alone(what: What, text: bytes) -> bool:
    """Whether a statement can change only its table."""
    try:
        if what is What.TABLE:
            outline, names = sql_text.flat(text), sql_text.bare(text)
            return bool(_TABLE_OUTLINE.fullmatch(outline)) and not re.search(
                rb"\bREFERENCES\b", names, re.IGNORECASE
            )
        return what not in _NO_COMMA or b"," not in sql_text.flat(text)
    except ValueError:
        return False


def of_text(texts: Iterable[bytes], codec: Codec) -> tuple[Definition, ...]:
    """Return the known statements of the sections of a schema."""
    return tuple(one for text in texts for one in parse(text, codec))
