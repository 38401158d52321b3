-- Rows that a dump can spoil.
CREATE SCHEMA v;
CREATE TABLE v.texts (id int PRIMARY KEY, v text);
INSERT INTO v.texts VALUES (1, ''), (2, NULL), (3, '\.'), (4, '\N'), (5, E'\\.\n\\.\n'), (6, E'a\rb\r\nc\n'), (7, E'\t\b\f\v'),
    (8, '\'), (9, '\\\'), (10, E'\x01\x02\x7f'), (11, E'\u0085\u2028\u2029\ufeff\u200b'), (12, '日本語 é 🙂 ' || chr(1114111)),
    (13, 'COPY v.texts (id, v) FROM stdin;'), (14, E'\\.\n\n--\n-- Data for Name: texts; Type: TABLE DATA; Schema: v; Owner: x\n--\n\nCOPY v.texts (id, v) FROM stdin;\n1\tx\n\\.\n'),
    (15, '\! touch pwned'), (16, '\unrestrict x'), (17, E'\\N\tx'), (18, ' '), (19, E'\n'), (20, E'\r'), (21, 'null'), (22, repeat('é', 100000)),
    (23, '"quoted","csv"'), (24, $$'; DROP TABLE v.texts; --$$), (25, '\x41'), (26, '-- refnet-index {"members":[]}');
CREATE TABLE v.only_text (v text);
INSERT INTO v.only_text VALUES (''), (NULL), ('\.'), (E'\n\\.\n'), ('\N');
CREATE TABLE v.odd_column ("v) FROM stdin;
\. 1" int, "x"", y" text);
INSERT INTO v.odd_column VALUES (1, 'one'), (2, '\.');
CREATE TABLE v.bytes (id int, b bytea);
INSERT INTO v.bytes SELECT 1, string_agg(decode(lpad(to_hex(i), 2, '0'), 'hex'), '' ORDER BY i) FROM generate_series(0, 255) i;
INSERT INTO v.bytes VALUES (2, ''), (3, NULL), (4, '\x00'), (5, '\x5c2e0a');
CREATE TABLE v.numbers (r real, d float8, n numeric, n2 numeric(10, 3), m money, s smallint, i int, b bigint);
INSERT INTO v.numbers VALUES ('NaN', 'NaN', 'NaN', 'NaN', '-92233720368547758.08', -32768, -2147483648, -9223372036854775808),
    ('Infinity', '-Infinity', 'Infinity', 12.345, '0.01', 32767, 2147483647, 9223372036854775807),
    ('-0', '-0', 0.000, -0.001, '-0.01', 0, 0, 0), (1e-45, 5e-324, 1e-1000, 1, '1', 1, 1, 1),
    (3.4028235e38, 1.7976931348623157e308, 10::numeric ^ 500, 1, '1234567.89', 1, 1, 1),
    (0.1, 0.1, 0.10, 0.1, '0.1', 1, 1, 1), (1.1754942e-38, 0.30000000000000004, -1.000000, 1, '1', 1, 1, 1), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE v.times (d date, t time, tt timetz, ts timestamp, tz timestamptz, i interval);
INSERT INTO v.times VALUES ('infinity', '24:00', '24:00+14:59', 'infinity', '-infinity', '-178000000 years'),
    ('-infinity', '00:00', '00:00-15:59', '-infinity', 'infinity', '1 mon -1 day +00:00:00.000001'),
    ('4713-01-01 BC', '23:59:59.999999', '12:00:00.5+05:30', '4713-01-01 00:00:00 BC', '0044-03-15 12:00:00+00 BC', '-1 year -2 mons +3 days -04:05:06.789'),
    ('5874897-12-31', '12:00', '12:00+00', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', '00:00:00'),
    ('0001-12-31 BC', '12:00', '12:00+00', '1900-01-01 00:00:00.1', '1883-11-18 12:03:58-04:56:02', '1 year 1 day -1 second');
\if :since17
    INSERT INTO v.times (i) VALUES ('infinity'), ('-infinity');
\endif
CREATE TABLE v.composites (p kinds.pair, ps kinds.pair[], n kinds.nested, pct kinds.percent, w kinds.words, m kinds.mood, ms kinds.mood[], b kinds.base);
INSERT INTO v.composites VALUES ((1, 'a"b\c,(d)', 'ok'), ARRAY[(2, NULL, 'sad'), (NULL, '', '')]::kinds.pair[], ((3, E'\n\t', NULL), ARRAY[]::kinds.pair[]), 99.99, '{a,b}', 'it''s "odd"', '{sad,"",NULL}', 'base \ "'),
    (NULL, NULL, ROW(NULL, NULL), 0, NULL, NULL, NULL, NULL);
CREATE TABLE v.arrays (i int[], t text[], b bytea[], n numeric[][], box box[], d date[]);
INSERT INTO v.arrays VALUES ('{}', '{}', '{}', '{}', '{}', '{}'), ('[-2:0]={1,NULL,3}', ARRAY['NULL', NULL, '', 'a,b', '"', '\', '{}', E'\n'], ARRAY['\x00ff'::bytea, ''], '{{1,NaN},{NULL,2}}', '{(1,1),(0,0);(2,2),(1,1)}', '{infinity,"0044-03-15 BC"}');
CREATE TABLE v.ranges (i int4range, n numrange, ts tsrange, tz tstzrange, d daterange, f kinds.float_range, im int4multirange, fm kinds.many_floats);
INSERT INTO v.ranges VALUES ('empty', '(,)', '["2020-01-01 00:00:00",infinity]', '(,"2020-01-01 00:00:00+00"]', '[2020-01-01,)', '[-Infinity,1.5)', '{}', '{[1,2),(3,4]}'),
    ('[1,5]', '[1.0,2.00)', NULL, NULL, NULL, 'empty', '{[1,2),[5,9)}', '{(,)}');
CREATE TABLE v.shapes (p point, l line, s lseg, b box, pa path, pg polygon, c circle);
INSERT INTO v.shapes VALUES ('(NaN,Infinity)', '{1,-0,3}', '[(0,0),(1e300,1)]', '((1,1),(-1,-1))', '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))', '<(1,1),0>');
CREATE TABLE v.json (j json, b jsonb, p jsonpath);
INSERT INTO v.json VALUES ('{"a":  1, "a": 2, "u": "\u0000\ud83d\ude00"}', '{"b": [1, 1.10, 1e400, null, "\\\"\n\t"], "é": {}}', '$."a b"[*] ? (@ > 1)'), ('null', 'null', NULL);
CREATE TABLE v.network (i inet, c cidr, m macaddr, m8 macaddr8, u uuid, b bit(5), vb varbit, l pg_lsn, x xid8);
INSERT INTO v.network VALUES ('::ffff:1.2.3.4/96', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', B'10101', B'', 'FFFFFFFF/FFFFFFFF', '18446744073709551615');
CREATE TABLE v.system (o oid, c "char", n name, r regclass, f regproc, p regprocedure, ty regtype, ro regrole, ns regnamespace, ov oidvector, iv int2vector, td tid, sn pg_snapshot);
INSERT INTO v.system VALUES (4294967295, '\', repeat('n', 63), 't.tree', 'code.standard', 'code.standard(int)', 'kinds.pair', '"Rôle ""dq"" ''sq'' \ $$;--"', 'kinds', '1 2 3', '1 -2', '(1,2)', '10:20:10,14'), (0, '', '', NULL, NULL, NULL, NULL, NULL, NULL, '', '', NULL, NULL);
CREATE TABLE v.padded (c char(5), vc varchar(3), one char);
INSERT INTO v.padded VALUES ('ab', 'é', ' '), ('', '', '');
CREATE TABLE v.searched (v tsvector, q tsquery, c tsvector GENERATED ALWAYS AS (to_tsvector('kinds.search', 'running dogs')) STORED);
INSERT INTO v.searched VALUES ($$'a b':1A,2 'it''s' '\\'$$, $$'a' & !'b':* <2> 'c'$$);
\if :has_xml
    CREATE TABLE v.xml (x xml);
    INSERT INTO v.xml VALUES ('<a b="c">é<!-- \. --></a>'), ('text'), ('<?xml version="1.0"?><a/>');
\endif
-- Wide rows, in TOAST and not; the last as large as a row gets here.
CREATE TABLE v.wide (id int PRIMARY KEY, b bytea, t text);
ALTER TABLE v.wide ALTER b SET STORAGE EXTERNAL;
INSERT INTO v.wide SELECT n, decode(repeat(md5(n::text), n * 1000), 'hex'), repeat('wide ', n) FROM generate_series(1, 5) n;
INSERT INTO v.wide SELECT 6, decode(repeat(md5('six'), 6 * 65536), 'hex'), 'a row of 6 MiB, 12 in COPY''s text';
