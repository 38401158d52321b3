"""A shop whose table `orders` has everything that a table can have, to be dropped and restored."""

from __future__ import annotations

import io
import re
import subprocess
from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump import parallel_dump as dumping
from refnet.sources.database.plan.table_plan import TablePlan, TableSelection
from refnet.sources.database.restore.tables_in_place import staged
from refnet.sources.database.workers import Workers
from refnet.sources.restore_options import Mode

ROLES = "CREATE ROLE app; CREATE ROLE reader; CREATE ROLE other"
SHOP = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'fired'; END$$;
CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql BEGIN ATOMIC SELECT $1 * 2; END;
CREATE TABLE customers (id serial PRIMARY KEY, name text);
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY (START 100) PRIMARY KEY, number serial,
    customer int NOT NULL REFERENCES customers ON DELETE CASCADE, m mood DEFAULT 'good', a int DEFAULT 5 CHECK (a > 0),
    double int GENERATED ALWAYS AS (a * 2) STORED, parent bigint REFERENCES orders DEFERRABLE INITIALLY DEFERRED,
    t text COLLATE "C", "odd ""; name" text) WITH (fillfactor = 70);
ALTER TABLE orders ALTER t SET STORAGE external, ALTER a SET STATISTICS 77, ALTER a SET (n_distinct = 5);
ALTER TABLE orders ADD CONSTRAINT once EXCLUDE USING btree (number WITH =);
CREATE INDEX orders_t ON orders (lower(t), twice(a)) WHERE a > 1;
CREATE INDEX sums ON orders ((a + 1)); ALTER INDEX sums ALTER COLUMN 1 SET STATISTICS 50;
CREATE UNIQUE INDEX orders_number ON orders (number);
ALTER TABLE orders REPLICA IDENTITY USING INDEX orders_number; ALTER TABLE orders CLUSTER ON orders_number;
CREATE STATISTICS both_of ON a, customer FROM orders; ALTER STATISTICS both_of SET STATISTICS 9;
CREATE TRIGGER stamped BEFORE INSERT OR UPDATE OF "odd ""; name" ON orders FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE CONSTRAINT TRIGGER later AFTER DELETE ON orders DEFERRABLE FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE RULE gone AS ON DELETE TO orders DO ALSO (NOTIFY x; DELETE FROM customers WHERE id = old.customer);
CREATE POLICY own ON orders FOR SELECT TO reader USING (t = current_user);
ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE orders FORCE ROW LEVEL SECURITY;
COMMENT ON TABLE orders IS 'it''s orders; yes'; COMMENT ON COLUMN orders."odd ""; name" IS 'odd';
COMMENT ON INDEX orders_t IS 'index'; COMMENT ON CONSTRAINT once ON orders IS 'constraint';
COMMENT ON CONSTRAINT orders_parent_fkey ON orders IS 'key'; COMMENT ON SEQUENCE orders_number_seq IS 'sequence';
COMMENT ON POLICY own ON orders IS 'policy'; COMMENT ON TRIGGER stamped ON orders IS 'trigger';
COMMENT ON RULE gone ON orders IS 'rule'; COMMENT ON STATISTICS both_of IS 'statistics';
ALTER TABLE orders DISABLE TRIGGER stamped;
INSERT INTO customers (name) VALUES ('Ann'), ('Bob');
INSERT INTO orders (customer, t, parent) SELECT 1 + i % 2, 'text ' || i, 100 FROM generate_series(1, 300) i;
"""
MORE = """
ALTER TABLE orders ENABLE ALWAYS TRIGGER stamped;
ALTER TABLE orders OWNER TO app; ALTER STATISTICS both_of OWNER TO app;
REVOKE DELETE ON orders FROM app; GRANT SELECT ON orders TO reader WITH GRANT OPTION;
GRANT UPDATE (a) ON orders TO reader; GRANT USAGE ON SEQUENCE orders_number_seq TO reader;
SET SESSION AUTHORIZATION reader; GRANT SELECT ON orders TO other; RESET SESSION AUTHORIZATION;
CREATE TABLE items (id int PRIMARY KEY, o bigint REFERENCES orders ON DELETE CASCADE);
INSERT INTO items VALUES (1, 100), (2, 101);
CREATE TABLE log (at date, what text DEFAULT 'x', PRIMARY KEY (at, what)) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE log_2 PARTITION OF log DEFAULT; CREATE INDEX ON log (what);
CREATE TRIGGER logged AFTER DELETE ON log FOR EACH ROW EXECUTE FUNCTION stamp();
INSERT INTO log SELECT '2026-01-01'::date + i FROM generate_series(0, 299) i;
CREATE TABLE base (x int); CREATE TABLE child (y int, CHECK (y > 0)) INHERITS (base); INSERT INTO child VALUES (1, 2);
CREATE TABLE loose (n int, t text); INSERT INTO loose VALUES (1, 'one'), (1, 'one'), (2, NULL);
CREATE SCHEMA old AUTHORIZATION app; COMMENT ON SCHEMA old IS 'old'; GRANT USAGE ON SCHEMA old TO reader;
CREATE UNLOGGED TABLE old.plain (i int); CREATE TABLE old."Cap.it" (LIKE base); INSERT INTO old."Cap.it" VALUES (7);
"""
#: What DROP … CASCADE takes along, and a restore of tables only names.
VIEWS = """
CREATE VIEW seen AS SELECT id, t FROM orders;
CREATE FUNCTION all_orders() RETURNS SETOF orders LANGUAGE sql AS 'SELECT * FROM public.orders';
"""


@dataclass(frozen=True)
class Shop:
    """The shop on one server, and its artifact."""

    cluster: Cluster
    target: Target
    artifact: bytes

    @property
    def reader(self) -> Reader:
        return Reader("shop_20261125_020000.sql.gz", lambda: io.BytesIO(self.artifact))

    def run(self, statements: str) -> None:
        """Change the shop; its triggers, which raise, do not fire."""
        with self.target.connect({"session_replication_role": "replica"}) as session:
            session.execute(statements)

    @cached_property
    def untouched(self) -> str:
        """What pg_dump makes of the shop as it was built; asked for before it is changed."""
        return self.dumped()

    def dumped(self) -> str:
        """What pg_dump makes of the shop: every definition and every row."""
        tool = self.cluster.binaries.tool("pg_dump")
        environment = self.target.environment()
        done = subprocess.run([tool, "--inserts"], env=environment, capture_output=True, check=True)
        return re.sub(r"\\(un)?restrict .*", "", done.stdout.decode())

    def restore(
        self, *names: str, mode: Mode | None = None, schemas: tuple[str, ...] = ()
    ) -> tuple[tuple[TablePlan, ...], tuple[str, ...]]:
        """Restore the tables; return the plans, and all notes."""
        with staged(self.target, self.reader, TableSelection(names, mode, schemas)) as work:
            notes = work.notes
            return work.plans, (*notes, *work.apply())


def build(cluster: Cluster) -> Shop:
    """Build the shop, and its artifact, and keep it as a template."""
    with cluster.target().connect() as admin:
        admin.execute(ROLES)
        admin.execute("CREATE DATABASE shop TEMPLATE template0")
    target, out = cluster.target("shop"), io.BytesIO()
    with target.connect() as session:
        for script in (SHOP, MORE, VIEWS):
            session.execute(script)
    dumping.dump(target, out, Workers(cluster.binaries, 2), ())
    with cluster.target().connect() as admin:
        admin.execute("ALTER DATABASE shop RENAME TO shop_template")
    return Shop(cluster, target, out.getvalue())


def fresh(shop: Shop) -> None:
    """Make the shop as it was."""
    with shop.cluster.target().connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        admin.execute(sql.SQL("CREATE DATABASE shop TEMPLATE shop_template STRATEGY FILE_COPY"))
