"""Random databases, made from a seed by plain SQL: PostgreSQL refuses some statements, and the rest is the database.

Nothing here knows RefNet. The same seed gives the same statements.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from tests.judges.ingredients import ATTRIBUTES, EXTENSIONS, NAMES, SETTINGS, TYPES


@dataclass
class Scribe:
    """Writes the statements of one seed."""

    seed: int
    random: random.Random = field(init=False)
    roles: list[str] = field(default_factory=list)
    schemas: list[str] = field(default_factory=lambda: ["public"])
    #: Quoted names of types, with an expression for their values.
    types: list[tuple[str, str]] = field(default_factory=list)
    #: Quoted name of a table → its columns: name (quoted), type, expression.
    tables: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    #: Populated materialized views.
    views: list[str] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    @property
    def prefix(self) -> str:
        """What the names of all its roles begin with."""
        return f"j{self.seed}_"

    def global_statements(self) -> Iterator[str]:
        """Statements for roles, their memberships and settings."""
        for _ in range(self.random.randint(1, 6)):
            name = quoted(f"{self.prefix}{self._plain_name()}")
            powers = " ".join(self.random.sample(ATTRIBUTES, self.random.randint(0, 4)))
            yield f"CREATE ROLE {name} {powers}"
            self.roles.append(name)
        for _ in range(self.random.randint(0, 6)):
            options = [f"ADMIN {self._flag()}", f"INHERIT {self._flag()}", f"SET {self._flag()}"]
            given = ", ".join(self.random.sample(options, self.random.randint(1, 3)))
            yield f"GRANT {self._role()} TO {self._role()} WITH {given}"
        for _ in range(self.random.randint(0, 3)):
            yield f"ALTER ROLE {self._role()} SET {self.random.choice(SETTINGS)}"
        if self._maybe(0.3):
            yield f"COMMENT ON ROLE {self._role()} IS 'it''s a role'"
        if self._maybe(0.2):
            yield f"GRANT pg_read_all_data TO {self._role()}"

    def statements(self) -> Iterator[str]:
        """Statements for the contents of the database."""
        for extension in self.random.sample(EXTENSIONS, self.random.randint(0, 4)):
            where = f" SCHEMA {self.random.choice(self.schemas)}" if self._maybe(0.3) else ""
            yield f"CREATE EXTENSION {quoted(extension)}{where} CASCADE"
        for _ in range(self.random.randint(0, 3)):
            name = self._name()
            yield f"CREATE SCHEMA {name} AUTHORIZATION {self._role()}"
            self.schemas.append(name)
        makers = self._makers()
        for _ in range(self.random.randint(8, 40)):
            yield from self.random.choice(makers)()
        for name in self.views:  # a restore fills them anew
            yield f"REFRESH MATERIALIZED VIEW {name}"

    def database_statements(self, name: str) -> Iterator[str]:
        """Statements for the database itself: owner, settings, privileges."""
        database = quoted(name)
        if self._maybe(0.4):
            yield f"ALTER DATABASE {database} OWNER TO {self._role()}"
        for _ in range(self.random.randint(0, 4)):
            yield f"ALTER DATABASE {database} SET {self.random.choice(SETTINGS)}"
        if self._maybe(0.3):
            yield f"ALTER ROLE {self._role()} IN DATABASE {database} SET {self.random.choice(SETTINGS)}"
        if self._maybe(0.3):
            yield f"GRANT CREATE, TEMPORARY ON DATABASE {database} TO {self._role()} WITH GRANT OPTION"
        if self._maybe(0.2):
            yield f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC"
        if self._maybe(0.3):
            yield f"COMMENT ON DATABASE {database} IS E'a\\nb ''c'''"
        if self._maybe(0.2):
            yield f"ALTER DATABASE {database} CONNECTION LIMIT 50"

    def _makers(self) -> list[Callable[[], Iterator[str]]]:
        few = [
            self._type,
            self._function,
            self._view,
            self._partitions,
            self._inheritance,
            self._large_object,
            self._outside,
        ]
        return [
            *few,
            *[self._table] * 5,
            *[self._on_table] * 6,
            *[self._security] * 2,
            self._sequence,
            self._event_trigger,
        ]

    def _type(self) -> Iterator[str]:
        name = self._qualified()
        kind = self.random.choice(("enum", "composite", "domain", "range", "collation"))
        if kind == "enum":
            yield f"CREATE TYPE {name} AS ENUM ('a', 'it''s', '日本')"
            self.types.append((name, f"(ARRAY['a', 'it''s', '日本'])[1 + i % 3]::{name}"))
        elif kind == "composite":
            yield f"CREATE TYPE {name} AS (a int, b text)"
            self.types.append((name, f"ROW(i, 'x,\"y')::{name}"))
        elif kind == "domain":
            yield f"CREATE DOMAIN {name} AS int DEFAULT 3 CONSTRAINT positive CHECK (VALUE >= 0)"
            self.types.append((name, "i"))
        elif kind == "range":
            yield f"CREATE TYPE {name} AS RANGE (subtype = float8, subtype_diff = float8mi)"
            self.types.append((name, f"{name}(i, i + 0.1)"))
        else:
            yield f"CREATE COLLATION {name} (provider = icu, locale = 'de-u-co-phonebk', deterministic = {self._flag()})"
        if self._maybe(0.3):
            yield f"ALTER {'DOMAIN' if kind == 'domain' else 'TYPE'} {name} OWNER TO {self._role()}"

    def _columns(self, most: int = 8) -> list[tuple[str, str, str]]:
        found = [
            self.random.choice((*TYPES, *self.types, *self.types))
            for _ in range(self.random.randint(0, most))
        ]
        return [(self._name(), kind, values) for kind, values in found]

    def _table(self) -> Iterator[str]:
        name, columns = self._qualified(), self._columns()
        parts = [f"{column} {kind}{self._of_column()}" for column, kind, _ in columns]
        if self._maybe(0.3):
            parts.append(
                f"{self._name()} bigint GENERATED {self.random.choice(('ALWAYS', 'BY DEFAULT'))} AS IDENTITY (START {self.random.randint(1, 99)})"
            )
        if self._maybe(0.3) and columns:
            parts.append(
                f"{self._name()} text GENERATED ALWAYS AS (COALESCE({columns[0][0]}::text, '') || '!') STORED"
            )
        if self._maybe(0.2):
            parts.append(f"{self._name()} serial")
        yield f"CREATE {'UNLOGGED ' if self._maybe(0.1) else ''}TABLE {name} ({', '.join(parts)})"
        self.tables[name] = columns
        yield from self._rows(name, columns)
        if self._maybe(0.2) and len(columns) > 1:
            yield f"ALTER TABLE {name} DROP COLUMN {columns[0][0]} CASCADE"
            self.tables[name] = columns[1:]
        if self._maybe(0.3):
            yield f"ALTER TABLE {name} OWNER TO {self.random.choice((self._role(), self._role(), 'pg_database_owner'))}"

    def _rows(self, name: str, columns: list[tuple[str, str, str]]) -> Iterator[str]:
        count = self.random.choice((0, 1, 3, 50, 200, 200, 4000))
        if not columns:
            yield f"INSERT INTO {name} DEFAULT VALUES"
            return
        names, values = ", ".join(one for one, _, _ in columns), ", ".join(one for _, _, one in columns)
        yield f"INSERT INTO {name} ({names}) SELECT {values} FROM generate_series(1, {count}) i"
        if self._maybe(0.2):
            yield f"DELETE FROM {name} WHERE ctid < '(1,1)'"

    def _of_column(self) -> str:
        return self.random.choice(
            (
                "",
                "",
                "",
                "",
                " NOT NULL",
                " DEFAULT NULL",
                ' COLLATE "C"',
                " STORAGE EXTERNAL",
                " COMPRESSION pglz",
            )
        )

    def _on_table(self) -> Iterator[str]:
        if not self.tables:
            return
        name = self.random.choice(list(self.tables))
        columns = self.tables[name] or [("ctid", "tid", "")]
        column, kind, _ = self.random.choice(columns)
        other, trigger = self.random.choice(list(self.tables)), self._name()
        also = self.random.choice(columns)[0]
        function = self.random.choice([*self.functions, "suppress_redundant_updates_trigger"])
        yield self.random.choice((
            f"CREATE INDEX {self._name()} ON {name} ({column})",
            f"CREATE INDEX ON {name} USING {self.random.choice(('gin', 'gist', 'brin', 'hash', 'spgist'))} ({column})",
            f"CREATE UNIQUE INDEX ON {name} ({column}) NULLS NOT DISTINCT",
            f"CREATE INDEX ON {name} (({column}::text)) INCLUDE ({also}) WHERE {column} IS NOT NULL",
            f"ALTER TABLE {name} ADD CONSTRAINT {self._name()} PRIMARY KEY ({column})",
            f"ALTER TABLE {name} ADD CONSTRAINT {self._name()} UNIQUE ({column}) DEFERRABLE INITIALLY DEFERRED",
            f"ALTER TABLE {name} ADD FOREIGN KEY ({column}) REFERENCES {other} NOT VALID",
            f"ALTER TABLE {name} ADD FOREIGN KEY ({column}) REFERENCES {name} ON DELETE SET NULL DEFERRABLE",
            f"ALTER TABLE {name} ADD CONSTRAINT {self._name()} CHECK ({column} IS NOT NULL OR true) NO INHERIT",
            f"ALTER TABLE {name} ADD CHECK ({column} IS NOT NULL) NOT VALID",
            f"CREATE STATISTICS {self._qualified()} ON {column}, {also} FROM {name}",
            f"ALTER TABLE {name} ALTER {column} SET STATISTICS 77, ALTER {column} SET (n_distinct = -0.5)",
            f"ALTER TABLE {name} SET (fillfactor = 60, autovacuum_enabled = off)",
            f"ALTER TABLE {name} REPLICA IDENTITY FULL",
            f"ALTER TABLE {name} CLUSTER ON nothing",
            f"COMMENT ON COLUMN {name}.{column} IS E'it''s\\n\\\\. {kind[:3]}'",
            f"COMMENT ON TABLE {name} IS ''' ; DROP'",
            f"CREATE TRIGGER {trigger} BEFORE UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION {function}()",
            f"ALTER TABLE {name} {self.random.choice(('DISABLE', 'ENABLE ALWAYS', 'ENABLE REPLICA'))} TRIGGER USER",
            f"CREATE RULE {self._name()} AS ON INSERT TO {name} DO INSTEAD NOTHING",
            f"ALTER TABLE {name} ADD COLUMN {self._name()} int DEFAULT 5",
            f"ALTER TABLE {name} ALTER {column} SET DEFAULT NULL",
            f"CREATE PUBLICATION {self._name()} FOR TABLE {name}",
        ))  # fmt: skip

    def _security(self) -> Iterator[str]:
        if not self.tables:
            return
        name = self.random.choice(list(self.tables))
        columns = self.tables[name]
        yield self.random.choice((
            f"GRANT {self.random.choice(('SELECT', 'INSERT, UPDATE', 'ALL', 'TRUNCATE'))} ON {name} TO {self._role()} WITH GRANT OPTION",
            f"GRANT SELECT ({columns[0][0] if columns else 'x'}) ON {name} TO {self._role()}",
            f"REVOKE ALL ON {name} FROM {self._role()}",
            f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY {self._name()} ON {name} FOR SELECT TO {self._role()} USING (current_user <> 'nobody')",
            f"CREATE POLICY {self._name()} ON {name} AS RESTRICTIVE USING (false)",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {self._role()} GRANT SELECT ON TABLES TO {self._role()}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {self.random.choice(self.schemas)} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
            f"GRANT USAGE ON SCHEMA {self.random.choice(self.schemas)} TO {self._role()}",
            f"REVOKE ALL ON SCHEMA {self.random.choice(self.schemas)} FROM PUBLIC",
            f"SECURITY LABEL ON TABLE {name} IS 'x'",
        ))  # fmt: skip

    def _function(self) -> Iterator[str]:
        name = self._qualified()
        yield self.random.choice((
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $b$ BEGIN RETURN NEW; END $b$",
            f"CREATE FUNCTION {name}(a int DEFAULT 1, VARIADIC b text[] DEFAULT '{{}}') RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT $1'",
            f"CREATE FUNCTION {name}(a int) RETURNS int IMMUTABLE LANGUAGE sql BEGIN ATOMIC SELECT a + 1; END",
            f"CREATE PROCEDURE {name}(INOUT a int) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $b$ BEGIN a := 1; END $b$",
            f"CREATE AGGREGATE {name}(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')",
        ))  # fmt: skip
        if self._maybe(0.3):
            yield f"ALTER ROUTINE {name} OWNER TO {self._role()}"
        self.functions.append(name)

    def _view(self) -> Iterator[str]:
        if not self.tables:
            return
        table, name = self.random.choice(list(self.tables)), self._qualified()
        kind = self.random.choice(("VIEW", "VIEW", "MATERIALIZED VIEW"))
        yield f"CREATE {kind} {name} AS SELECT *, 1 AS extra FROM {table}"
        if kind != "VIEW" and self._maybe(0.3):
            yield f"REFRESH MATERIALIZED VIEW {name} WITH NO DATA"
        elif kind != "VIEW":
            self.views.append(name)
        if self._maybe(0.3):
            yield f"CREATE VIEW {self._qualified()} WITH (security_barrier, security_invoker) AS TABLE {name}"
        if self._maybe(0.3):
            yield f"ALTER {kind} {name} OWNER TO {self._role()}"

    def _partitions(self) -> Iterator[str]:
        name, how = self._qualified(), self.random.choice(("RANGE", "LIST", "HASH"))
        yield f"CREATE TABLE {name} (a int NOT NULL, b text DEFAULT 'x', c numeric) PARTITION BY {how} (a)"
        bounds = {
            "RANGE": ("FOR VALUES FROM (MINVALUE) TO (50)", "FOR VALUES FROM (50) TO (100)", "DEFAULT"),
            "LIST": ("FOR VALUES IN (1, 2, 3)", "FOR VALUES IN (4)", "DEFAULT"),
            "HASH": tuple(f"FOR VALUES WITH (MODULUS 3, REMAINDER {n})" for n in range(3)),
        }[how]
        for bound in bounds:
            below = " PARTITION BY LIST (b)" if self._maybe(0.2) else ""
            part = self._qualified()
            yield f"CREATE TABLE {part} PARTITION OF {name} {bound}{below}"
            if below:
                yield f"CREATE TABLE {self._qualified()} PARTITION OF {part} DEFAULT"
        yield f"INSERT INTO {name} SELECT i, md5(i::text), i / 3.0 FROM generate_series(1, {self.random.choice((5, 300))}) i"
        if self._maybe(0.5):
            yield f"CREATE INDEX ON {name} (a, b)"
        if self._maybe(0.3):
            yield f"ALTER TABLE {name} ADD PRIMARY KEY (a, b)"
        self.tables[name] = [("a", "int", "i"), ("b", "text", "md5(i::text)")]

    def _inheritance(self) -> Iterator[str]:
        if not self.tables:
            return
        parent, child = self.random.choice(list(self.tables)), self._qualified()
        yield f"CREATE TABLE {child} (own int) INHERITS ({parent})"
        yield f"INSERT INTO {child} (own) SELECT generate_series(1, 20)"

    def _sequence(self) -> Iterator[str]:
        name = self._qualified()
        yield f"CREATE SEQUENCE {name} AS smallint INCREMENT -3 MAXVALUE 100 MINVALUE -100 CYCLE CACHE 2"
        yield f"SELECT nextval({_literal(name)}::regclass)"

    def _large_object(self) -> Iterator[str]:
        number = self.random.randint(20_000, 2_000_000)
        yield f"SELECT lo_from_bytea({number}, decode(repeat(md5('{number}'), {self.random.choice((0, 1, 200))}), 'hex'))"
        if self._maybe(0.5):
            yield f"ALTER LARGE OBJECT {number} OWNER TO {self._role()}"
        if self._maybe(0.3):
            yield f"GRANT SELECT ON LARGE OBJECT {number} TO {self._role()}"
        if self._maybe(0.3):
            yield f"COMMENT ON LARGE OBJECT {number} IS 'large'"

    def _event_trigger(self) -> Iterator[str]:
        function, name = self._qualified(), self._name()
        yield f"CREATE FUNCTION {function}() RETURNS event_trigger LANGUAGE plpgsql AS $b$ BEGIN NULL; END $b$"
        event = self.random.choice(
            ("ddl_command_start", "ddl_command_end", "sql_drop", "table_rewrite", "login")
        )
        yield f"CREATE EVENT TRIGGER {name} ON {event} EXECUTE FUNCTION {function}()"
        if self._maybe(0.3):
            yield f"ALTER EVENT TRIGGER {name} {self.random.choice(('DISABLE', 'ENABLE ALWAYS', 'ENABLE REPLICA'))}"

    def _outside(self) -> Iterator[str]:
        name = self._name()
        yield self.random.choice((
            f"CREATE FOREIGN DATA WRAPPER {name}",
            f"CREATE SERVER {name} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', dbname 'x y')",
            f"CREATE TEXT SEARCH CONFIGURATION {self._qualified()} (COPY = pg_catalog.english)",
            f"CREATE TEXT SEARCH DICTIONARY {self._qualified()} (TEMPLATE = simple)",
            "CREATE CAST (int AS point) WITH INOUT",
            f"CREATE OPERATOR {self.random.choice(self.schemas)}.=#= (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq, COMMUTATOR = OPERATOR(public.=#=))",
            f"CREATE PUBLICATION {name} FOR ALL TABLES WITH (publish = 'insert')",
            f"CREATE SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE)",
            f"CREATE CONVERSION {self._qualified()} FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
        ))  # fmt: skip

    def _plain_name(self) -> str:
        self._count += 1
        return f"{self.random.choice(NAMES)}{self._count}"

    def _name(self) -> str:
        return quoted(self._plain_name())

    def _qualified(self) -> str:
        return f"{self.random.choice(self.schemas)}.{self._name()}"

    def _role(self) -> str:
        return self.random.choice(self.roles) if self.roles else "CURRENT_USER"

    def _flag(self) -> str:
        return self.random.choice(("TRUE", "FALSE"))

    def _maybe(self, share: float) -> bool:
        return self.random.random() < share


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return sql.Identifier(name).as_string()


def _literal(text: str) -> str:
    return sql.Literal(text).as_string()


def run_accepted(session: psycopg.Connection[tuple[object, ...]], statements: Iterator[str]) -> int:
    """Run what the server accepts of `statements`, each on its own; return how many it did."""
    accepted = 0
    for statement in statements:
        try:
            session.execute(statement)  # type: ignore[call-overload]  # the judge's own text
            accepted += 1
        except psycopg.Error:
            continue
    return accepted
