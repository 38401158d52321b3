"""The databases that are measured: the shapes of data that users have, made up by the server from a seed.

Each is about 1.3 GB on disk at a scale of 1. `LONG` and `SKEWED` are networks of papers, the others plain SQL: `{seed}` is
the number of the command line, `{rows}` the scaled number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from benchmarks import build
from benchmarks.build import Built
from refnet.demo.sample import Shape
from refnet.postgres.cluster import Cluster

LONG, SKEWED = "long", "skewed"
SHORT, WIDE, BLOBS, TABLES, KEYED, BARE = "short", "wide", "blobs", "tables", "keyed", "bare"


@dataclass(frozen=True)
class Made:
    """A database made by SQL."""

    about: str
    #: The number of rows (of tables for `TABLES`) at a scale of 1.
    rows: int
    #: Statements with an empty line between them; each runs by itself.
    script: str


_VISIT = """SELECT g, g * 7919 % 1000003, g * 104729 % 1000003, (ARRAY['view', 'click', 'order', 'return'])[1 + g % 4],
    (hashint8extended(g, {seed}) % 1000) / 7.0, timestamptz '2020-01-01 00:00+00' + g * interval '13 s'
    FROM generate_series(1::bigint, {rows}) AS g"""
#: Words of text that compress like prose: about 3 to 1.
_PROSE = """(SELECT string_agg((ARRAY['the', 'network', 'of', 'citations', 'shows', 'a', 'method', 'result', 'between',
    'graph', 'and', 'model', 'data', 'which', 'learned', md5((g * 31 + w)::text)])
    [1 + abs(hashint8extended(g * 997 + w, {seed})) %% 16], ' ') FROM generate_series(1, %d) AS w)"""


def _wide(number: int) -> tuple[str, str]:
    """Return the column `number` of 300 and the expression of its value; half of the values are null."""
    empty = f"CASE WHEN hashint8extended(g * 300 + {number}, {{seed}}) % 2 = 0 THEN NULL ELSE "
    kind, value = (
        ("numeric", f"(hashint8extended(g + {number}, {{seed}}) % 10000000) / 100.0"),
        (
            "timestamptz",
            f"timestamptz '2020-01-01 00:00+00' + (g * {number + 1} % 99999999) * interval '1 s'",
        ),
        ("jsonb", f"jsonb_build_object('n', g % 1000, 'k', 'v{number}', 'on', g % 3 = 0)"),
        ("text", f"substr(md5((g * {number + 3})::text), 1, 12)"),
    )[number % 4]
    return f"c{number} {kind}", f"{empty}{value} END"


_WIDE = [_wide(number) for number in range(300)]

MADE: Mapping[str, Made] = {
    SHORT: Made(
        "10 million rows, no text longer than 100 bytes",
        8_000_000,
        f"""
CREATE TABLE visits (
    id bigint PRIMARY KEY, visitor bigint NOT NULL, page bigint NOT NULL, kind text NOT NULL, weight real, seen timestamptz
)

INSERT INTO visits {_VISIT}

CREATE TABLE visitors (id bigint PRIMARY KEY, name text NOT NULL, city text NOT NULL)

INSERT INTO visitors
SELECT g, 'Visitor ' || md5(g::text), 'City ' || g % 5000 FROM generate_series(1::bigint, {{rows}} / 4) AS g

CREATE INDEX ON visits (visitor)
""",
    ),
    WIDE: Made(
        "rows of 301 columns, half of them null: numeric, timestamptz, jsonb, text",
        180_000,
        f"""
CREATE TABLE wide (id bigint PRIMARY KEY, {", ".join(column for column, _ in _WIDE)})

INSERT INTO wide SELECT g, {", ".join(value for _, value in _WIDE)} FROM generate_series(1::bigint, {{rows}}) AS g

CREATE INDEX ON wide (c0)
""",
    ),
    BLOBS: Made(
        "bytea of 100 KB that do not compress, and large objects of 500 KB",
        8_000,
        """
CREATE TABLE blobs (id bigint PRIMARY KEY, content bytea NOT NULL)

ALTER TABLE blobs ALTER content SET STORAGE EXTERNAL

CREATE FUNCTION noise(seed bigint, pieces integer) RETURNS bytea LANGUAGE sql AS
    $$SELECT string_agg(sha256(int8send(seed * 100003 + piece)), NULL) FROM generate_series(1, pieces) AS piece$$

INSERT INTO blobs SELECT g, noise({seed} * 1000000 + g, 3200) FROM generate_series(1::bigint, {rows}) AS g

SELECT count(lo_from_bytea(0, noise({seed} * 2000000 + g, 16000))) FROM generate_series(1::bigint, {rows} / 20) AS g
""",
    ),
    TABLES: Made(
        "3,000 tables of 100 rows, and a table of 200 partitions",
        3_000,
        """
DO $$ BEGIN FOR n IN 1 .. {rows} LOOP
    EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, name text NOT NULL, at timestamptz)', n);
    EXECUTE format('INSERT INTO t%s SELECT g, md5((g * %s + {seed})::text), timestamptz ''2026-01-01 00:00+00'' + g * interval ''1 s''
        FROM generate_series(1, 100) AS g', n, n);
    IF n % 500 = 0 THEN COMMIT; END IF;
END LOOP; END $$

CREATE TABLE parts (id bigint PRIMARY KEY, name text) PARTITION BY RANGE (id)

DO $$ BEGIN FOR n IN 0 .. 199 LOOP
    EXECUTE format('CREATE TABLE parts_%s PARTITION OF parts FOR VALUES FROM (%s) TO (%s)', n, n * 1000, (n + 1) * 1000);
END LOOP; END $$

INSERT INTO parts SELECT g, md5((g + {seed})::text) FROM generate_series(0, 199999) AS g
""",
    ),
    KEYED: Made(
        "one table with 90 % of everything, and its primary key on text",
        3_000_000,
        f"""
CREATE TABLE events (name text PRIMARY KEY, kind text NOT NULL, at timestamptz NOT NULL, note text)

INSERT INTO events
SELECT md5((g + {{seed}})::text) || '/' || g, 'kind ' || g % 50, timestamptz '2020-01-01 00:00+00' + g * interval '7 s',
    {_PROSE % 20}
FROM generate_series(1::bigint, {{rows}}) AS g

CREATE TABLE kinds (kind text PRIMARY KEY, note text)

INSERT INTO kinds SELECT 'kind ' || g, {_PROSE % 20} FROM generate_series(1::bigint, {{rows}} / 10) AS g
""",
    ),
    BARE: Made(
        "tables without any index",
        8_000_000,
        f"""
CREATE TABLE readings (sensor bigint, place bigint, page bigint, kind text, value real, at timestamptz)

INSERT INTO readings {_VISIT}

CREATE TABLE notes (id bigint, note text)

INSERT INTO notes SELECT g, {_PROSE % 40} FROM generate_series(1::bigint, {{rows}} / 16) AS g
""",
    ),
}
SHAPES = (LONG, SHORT, WIDE, BLOBS, TABLES, KEYED, BARE, SKEWED)


def build_shape(cluster: Cluster, name: str, shape: str, *, scale: float, seed: int) -> Built:
    """Create the database `name` of a `shape`, vacuumed and analyzed."""
    if shape in MADE:
        return _build_made(cluster, name, MADE[shape], scale, seed)
    if shape == SKEWED:
        return build.build(cluster, name, Shape(int(550_000 * scale), seed, references=0.2, dense=True))
    return build.build(
        cluster, name, Shape(int(380_000 * scale), seed, references=4.7, abstract=1300, dense=True)
    )


def _build_made(cluster: Cluster, name: str, made: Made, scale: float, seed: int) -> Built:
    build.fresh(cluster, name)
    with cluster.target(name).connect() as connection:
        script = made.script.replace("{seed}", str(seed)).replace("{rows}", str(int(made.rows * scale)))
        for statement in script.split("\n\n"):
            connection.execute(statement.encode())
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
        sizes, rows = _sizes(connection)
        (disk,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    return Built(rows, int(str(disk)), max(sizes) / sum(sizes))


def _sizes(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[list[int], int]:
    """Return the bytes of each table and of the large objects, and the rows of all tables as ANALYZE counted them."""
    tables = connection.execute(
        "SELECT pg_table_size(oid), greatest(reltuples, 0)::bigint FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT pg_table_size('pg_largeobject'), 0"
    ).fetchall()
    return [int(str(size)) for size, _ in tables], sum(int(str(rows)) for _, rows in tables)
