CREATE SCHEMA parts;
CREATE TABLE parts.ranges (id int, at date NOT NULL, v text, UNIQUE (id, at, v)) PARTITION BY RANGE (at);
CREATE TABLE parts.ranges_old PARTITION OF parts.ranges FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE parts.ranges_2020 PARTITION OF parts.ranges FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY LIST (v);
CREATE TABLE parts.ranges_2020_a PARTITION OF parts.ranges_2020 FOR VALUES IN ('a', NULL);
CREATE TABLE parts.ranges_2020_rest PARTITION OF parts.ranges_2020 DEFAULT PARTITION BY HASH (id);
CREATE TABLE parts.ranges_2020_rest_0 PARTITION OF parts.ranges_2020_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts.ranges_2020_rest_1 PARTITION OF parts.ranges_2020_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE parts.ranges_default PARTITION OF parts.ranges DEFAULT;
INSERT INTO parts.ranges SELECT i, date '2019-06-01' + i * 10, chr(97 + i % 3) FROM generate_series(1, 100) i;
CREATE INDEX ON parts.ranges (v);
CREATE INDEX only_here ON ONLY parts.ranges_2020 (id, v);
COMMENT ON TABLE parts.ranges_2020_a IS 'a leaf';

-- By hash on an enum: a leaf's rows hash differently after a restore, so COPY into a leaf fails.
CREATE TABLE parts.by_mood (m kinds.mood, id int, v text) PARTITION BY HASH (m);
CREATE TABLE parts.by_mood_0 PARTITION OF parts.by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE parts.by_mood_1 PARTITION OF parts.by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE parts.by_mood_2 PARTITION OF parts.by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO parts.by_mood SELECT (enum_range(NULL::kinds.mood))[1 + i % 6], i, 'mood' || i FROM generate_series(1, 60) i;
-- The same one level down, below a list.
CREATE TABLE parts.nested_mood (k int, m kinds.mood, v text) PARTITION BY LIST (k);
CREATE TABLE parts.nested_mood_1 PARTITION OF parts.nested_mood FOR VALUES IN (1) PARTITION BY HASH (m);
CREATE TABLE parts.nested_mood_1_0 PARTITION OF parts.nested_mood_1 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts.nested_mood_1_1 PARTITION OF parts.nested_mood_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE parts.nested_mood_2 PARTITION OF parts.nested_mood FOR VALUES IN (2);
INSERT INTO parts.nested_mood SELECT 1 + i % 2, (enum_range(NULL::kinds.mood))[1 + i % 6], 'n' || i FROM generate_series(1, 30) i;

-- A leaf that was attached, with dropped columns and another order; one that was detached.
CREATE TABLE parts.lists (k text, n int, w text) PARTITION BY LIST (k);
CREATE TABLE parts.lists_x (gone int, w text, n int, k text);
ALTER TABLE parts.lists_x DROP COLUMN gone;
INSERT INTO parts.lists_x VALUES ('w', 1, 'x');
ALTER TABLE parts.lists ATTACH PARTITION parts.lists_x FOR VALUES IN ('x');
CREATE TABLE parts.lists_y PARTITION OF parts.lists FOR VALUES IN ('y', 'it''s "odd"');
INSERT INTO parts.lists VALUES ('y', 2, 'w'), ('it''s "odd"', 3, 'w');
CREATE TABLE parts.lists_z PARTITION OF parts.lists FOR VALUES IN ('z');
INSERT INTO parts.lists VALUES ('z', 4, 'w');
ALTER TABLE parts.lists DETACH PARTITION parts.lists_z;
CREATE TABLE parts.nothing_below (a int) PARTITION BY RANGE (a);
CREATE TABLE parts.by_expression (a int, b int) PARTITION BY RANGE ((a + b), lower(a::text));
CREATE TABLE parts.by_expression_1 PARTITION OF parts.by_expression FOR VALUES FROM (0, MINVALUE) TO (1000, MAXVALUE);
INSERT INTO parts.by_expression SELECT i, i FROM generate_series(1, 10) i;
CREATE TABLE parts.refers (id int, at date, v text, FOREIGN KEY (id, at, v) REFERENCES parts.ranges (id, at, v)) PARTITION BY HASH (id);
CREATE TABLE parts.refers_0 PARTITION OF parts.refers FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO parts.refers SELECT id, at, v FROM parts.ranges WHERE id < 10;
\if :since17
    CREATE TABLE parts.identity (id int GENERATED ALWAYS AS IDENTITY, k int) PARTITION BY LIST (k);
    CREATE TABLE parts.identity_1 PARTITION OF parts.identity FOR VALUES IN (1);
    INSERT INTO parts.identity (k) VALUES (1), (1);
\endif
