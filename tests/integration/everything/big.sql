-- Tables over 1 MB of every shape, so that they are cut into ranges of ctid; and those that must not be. Few rows on
-- each page, as most of what a table costs is its rows.
CREATE SCHEMA big;
CREATE TABLE big.plain WITH (fillfactor = 10) AS SELECT i AS id, repeat(md5(i::text), 6) AS v, i % 10 AS k FROM generate_series(1, 600) i;
ALTER TABLE big.plain ADD PRIMARY KEY (id);
CREATE TABLE big.mostly_deleted WITH (fillfactor = 10) AS SELECT i AS id, repeat('d', 200) AS v FROM generate_series(1, 600) i;
DELETE FROM big.mostly_deleted WHERE id BETWEEN 100 AND 595 OR id = 1;
CREATE TABLE big.all_deleted WITH (fillfactor = 10) AS SELECT i AS id, repeat('d', 200) AS v FROM generate_series(1, 600) i;
DELETE FROM big.all_deleted;
CREATE TABLE big.updated WITH (fillfactor = 10) AS SELECT i AS id, repeat('old', 60) AS v FROM generate_series(1, 600) i;
UPDATE big.updated SET v = repeat('new', 60) WHERE id % 3 = 0;
DELETE FROM big.updated WHERE id % 7 = 0;
-- Few pages, many bytes.
CREATE TABLE big.toasted (id int, b bytea);
ALTER TABLE big.toasted ALTER b SET STORAGE EXTERNAL;
INSERT INTO big.toasted SELECT i, decode(repeat(md5(i::text), 3000), 'hex') FROM generate_series(1, 30) i;
CREATE TABLE big.generated (g text GENERATED ALWAYS AS (upper(v)) STORED, id int, v text, twice int GENERATED ALWAYS AS (id * 2) STORED) WITH (fillfactor = 10);
INSERT INTO big.generated (id, v) SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, 300) i;
CREATE TABLE big.only_generated (g text GENERATED ALWAYS AS (repeat('always the same ', 12)) STORED) WITH (fillfactor = 10);
DO $$ BEGIN FOR i IN 1..600 LOOP INSERT INTO big.only_generated DEFAULT VALUES; END LOOP; END $$;
CREATE TABLE big.no_columns () WITH (fillfactor = 10);
ALTER TABLE big.no_columns ADD COLUMN a text;
INSERT INTO big.no_columns SELECT repeat('a', 200) FROM generate_series(1, 600) i;
ALTER TABLE big.no_columns DROP COLUMN a;
CREATE UNLOGGED TABLE big.unlogged WITH (fillfactor = 10) AS SELECT i AS id, repeat(md5(i::text), 6) AS v FROM generate_series(1, 600) i;
CREATE TABLE big.other_method (id int, v text) USING heap2 WITH (fillfactor = 10);
INSERT INTO big.other_method SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, 600) i;
CREATE TABLE big.one_text (v text, gone text) WITH (fillfactor = 10);
INSERT INTO big.one_text SELECT CASE i % 4 WHEN 0 THEN '\.' WHEN 1 THEN E'\n' WHEN 2 THEN NULL ELSE '' END, repeat('x', 200) FROM generate_series(1, 600) i;
ALTER TABLE big.one_text DROP COLUMN gone;
CREATE TABLE big.duplicates WITH (fillfactor = 10) AS SELECT repeat('the same', 25) AS v FROM generate_series(1, 600);
CREATE TABLE big.dropped (a int, gone text, b text) WITH (fillfactor = 10);
INSERT INTO big.dropped SELECT i, 'gone', repeat(md5(i::text), 6) FROM generate_series(1, 600) i;
ALTER TABLE big.dropped DROP COLUMN gone, ADD COLUMN late int DEFAULT 5;
CREATE TABLE big.identity (id bigint GENERATED ALWAYS AS IDENTITY, v text) WITH (fillfactor = 10);
INSERT INTO big.identity (v) SELECT repeat(md5(i::text), 6) FROM generate_series(1, 600) i;
-- Inherited, in another order of columns; partitions by range and by a hash on an enum.
CREATE TABLE big.parent (a int, b text) WITH (fillfactor = 10);
CREATE TABLE big.child (c int, b text, a int) WITH (fillfactor = 10);
INSERT INTO big.child SELECT i, repeat(md5(i::text), 6), -i FROM generate_series(1, 600) i;
ALTER TABLE big.child INHERIT big.parent;
INSERT INTO big.parent SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, 600) i;
ALTER TABLE big.parent ADD COLUMN d int DEFAULT 4;
CREATE TABLE big.parted (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE big.parted_1 PARTITION OF big.parted FOR VALUES FROM (0) TO (601) WITH (fillfactor = 10);
CREATE TABLE big.parted_2 (v text, id int) WITH (fillfactor = 10);
ALTER TABLE big.parted ATTACH PARTITION big.parted_2 DEFAULT;
INSERT INTO big.parted SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, 1200) i;
CREATE TABLE big.by_mood (m kinds.mood, v text) PARTITION BY HASH (m);
CREATE TABLE big.by_mood_0 PARTITION OF big.by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 0) WITH (fillfactor = 10);
CREATE TABLE big.by_mood_1 PARTITION OF big.by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 1) WITH (fillfactor = 10);
INSERT INTO big.by_mood SELECT (enum_range(NULL::kinds.mood))[1 + i % 6], repeat(md5(i::text), 6) FROM generate_series(1, 1500) i;
-- Keys between big tables, both ways round.
ALTER TABLE big.plain ADD COLUMN peer int;
UPDATE big.plain SET peer = id WHERE id <= 400;
CREATE TABLE big.peer (id int PRIMARY KEY, plain int REFERENCES big.plain);
INSERT INTO big.peer SELECT i, i FROM generate_series(1, 400) i;
ALTER TABLE big.plain ADD FOREIGN KEY (peer) REFERENCES big.peer;
CREATE TABLE big.secured WITH (fillfactor = 10) AS SELECT i AS id, repeat(md5(i::text), 6) AS v FROM generate_series(1, 600) i;
ALTER TABLE big.secured OWNER TO everything_owner;
ALTER TABLE big.secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY few ON big.secured USING (id < 10);
CREATE TABLE big.triggered (id int, v text) WITH (fillfactor = 10);
INSERT INTO big.triggered SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, 600) i;
CREATE TRIGGER touches BEFORE INSERT ON big.triggered FOR EACH ROW EXECUTE FUNCTION code.touch();
ALTER TABLE big.triggered ENABLE ALWAYS TRIGGER touches;
CREATE RULE no_insert AS ON INSERT TO big.triggered DO INSTEAD NOTHING;
CREATE TABLE big.floats WITH (fillfactor = 10) AS SELECT i AS id, sin(i) AS f, (sin(i) * 1000)::numeric::money AS m, make_interval(secs => i * 1.5) AS iv,
    timestamptz '2000-01-01 00:00:00+00' + make_interval(hours => i) AS at, decode(md5(i::text), 'hex') AS b FROM generate_series(1, 1500) i;
\if :since18
    CREATE TABLE big.virtual (a int, v text GENERATED ALWAYS AS (md5(a::text)) VIRTUAL, b text) WITH (fillfactor = 10);
    INSERT INTO big.virtual (a, b) SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, 600) i;
\endif
