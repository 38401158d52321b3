"""A shelf of papers that refer to each other, and the restore of some of its tables."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg.conninfo import make_conninfo

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump import parallel_dump as dumping
from refnet.sources.database.plan.table_plan import TablePlan, TableSelection
from refnet.sources.database.restore.tables_in_place import staged
from refnet.sources.database.workers import Workers
from refnet.sources.restore_options import Mode

SHELF = """
CREATE TABLE papers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL UNIQUE, year int,
                     decade int GENERATED ALWAYS AS (year / 10) STORED, extra json);
CREATE TABLE citations (citing bigint REFERENCES papers ON DELETE CASCADE, cited bigint REFERENCES papers,
                        PRIMARY KEY (citing, cited));
CREATE TABLE "odd ""one
" (a int PRIMARY KEY, b text);
INSERT INTO papers (title, year, extra) SELECT 'paper ' || i, 1950 + i % 70, '{"a": 1}' FROM generate_series(1, 100) i;
INSERT INTO citations SELECT i, i % 100 + 1 FROM generate_series(1, 100) i;
INSERT INTO "odd ""one
" VALUES (1, E'\\\\.\\n'), (2, 'COPY public.papers (id) FROM stdin;');
"""


def reader(target: Target, binaries: Binaries, tables: tuple[str, ...] = ()) -> Reader:
    out = io.BytesIO()
    dumping.dump(target, out, Workers(binaries, 2), tables)
    return Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(out.getvalue()))


def restore(target: Target, source: Reader, table: str, mode: str) -> TablePlan:
    (plan,) = restore_all(target, source, [table], mode)
    return plan


def restore_all(target: Target, source: Reader, tables: list[str], mode: str) -> tuple[TablePlan, ...]:
    with staged(target, source, TableSelection(tuple(tables), Mode(mode))) as work:
        work.apply()
        return work.plans


def answer(target: Target, question: str) -> list[tuple[Any, ...]]:
    with target.connect() as session:
        return session.execute(question).fetchall()


@contextmanager
def ordinary(
    shelf: Target, server: Cluster, tables: tuple[str, ...] = ("papers", "citations")
) -> Iterator[Target]:
    """The shelf as its owner without any other right sees it."""
    with server.target().connect() as admin:
        admin.execute("CREATE ROLE plain LOGIN")
        with shelf.connect() as session:
            for table in tables:
                session.execute(f"ALTER TABLE {table} OWNER TO plain")
            session.execute(f"GRANT TEMPORARY, CREATE ON DATABASE {shelf.name} TO plain")
        try:
            yield Target(make_conninfo(shelf.conninfo, user="plain"), own=True)
        finally:
            with shelf.connect() as session:
                session.execute("REASSIGN OWNED BY plain TO refnet; DROP OWNED BY plain")
            admin.execute("DROP ROLE plain")
