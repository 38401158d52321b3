"""The names, types, extensions, settings and attributes that random databases are made of."""

from __future__ import annotations

#: Names of all kinds; a number makes them unique.
NAMES = (
    "plain", "With Space", 'dq"dq', "it's", "dot.dot", "semi;colon", "back\\slash", "日本語", "select", "UPPER", "new\nline",
    "--dash", "$$", "é" * 10, "x" * 50, "%s", "{b}", "\\.", "/* c */",
)  # fmt: skip
#: A type, and an expression over `i` that gives its values, awkward ones included.
TYPES = (
    ("int", "i"), ("bigint", "9223372036854775807 - i"), ("smallint", "(i % 100)::smallint"), ("oid", "i::oid"),
    ("numeric", "CASE i % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN 1.0 WHEN 2 THEN 1.00 WHEN 3 THEN -0.000 ELSE i / 7.0 END"),
    ("numeric(12,3)", "i * 1.125"), ("real", "(CASE i % 4 WHEN 0 THEN '-0' WHEN 1 THEN 'NaN' ELSE (i / 3.0)::text END)::real"),
    ("float8", "CASE i % 5 WHEN 0 THEN '-0' WHEN 1 THEN 'Infinity' WHEN 2 THEN 1.4142135623730951 ELSE sin(i) * 1e-300 END"),
    ("text", ("CASE i % 7 WHEN 0 THEN '' WHEN 1 THEN NULL WHEN 2 THEN '\\.' WHEN 3 THEN E'a\\tb\\nc\\\\d\\r' WHEN 4 THEN '日本語 🙂' "
             "WHEN 5 THEN E'\\x01' ELSE repeat(md5(i::text), 1 + i % 90) END")),
    ("varchar(40)", "left(md5(i::text), i % 40)"), ("char(9)", "left(md5(i::text), i % 9)"), ('"char"', 'chr(65 + i % 26)::"char"'),
    ("name", "'n' || i"), ("boolean", "i % 3 = 0"), ("bytea", "decode(md5(i::text), 'hex') || '\\x00ff'"), ("uuid", "md5(i::text)::uuid"),
    ("date", "CASE i % 4 WHEN 0 THEN '-infinity' WHEN 1 THEN '0044-03-15 BC' ELSE '2000-01-01'::date + i END::date"),
    ("timestamptz", "CASE i % 3 WHEN 0 THEN 'infinity' ELSE '1900-01-01 00:00:00.123456+00'::timestamptz + i * interval '1000 days' END"),
    ("timestamp", "'2000-02-29'::timestamp + i * interval '1.000001 s'"), ("time", "'23:59:59.999999'::time - i * interval '1 s'"),
    ("timetz", "'10:00+05:30'::timetz"), ("interval", "make_interval(years => i, months => -i, days => i, secs => i * 1.5)"),
    ("money", "(i * 1.01)::numeric::money"), ("json", "'{\"a\" : 1, \"a\":2}'::json"), ("jsonb", "jsonb_build_object('k', i, 'f', 1.10)"),
    ("inet", "'10.0.0.0'::inet + i"), ("cidr", "'10.1.0.0/16'::cidr"), ("macaddr", "'08:00:2b:01:02:03'::macaddr"),
    ("bit(5)", "(i % 32)::bit(5)"), ("varbit", "B'101'::varbit"), ("point", "point(i, -i / 3.0)"), ("box", "box(point(0, 0), point(i, i))"),
    ("polygon", "'((0,0),(1,1),(2,0))'::polygon"), ("path", "'[(0,0),(1,1)]'::path"), ("circle", "circle(point(i, i), 1.5)"),
    ("lseg", "'[(0,0),(1,1)]'::lseg"), ("line", "'{1,2,3}'::line"), ("tsvector", "to_tsvector('simple', 'a b c ' || i)"),
    ("tsquery", "'a & !b'::tsquery"), ("xml", "'<a>x</a>'::xml"), ("int[]", "CASE i % 3 WHEN 0 THEN '[-1:1]={1,NULL,3}' ELSE ARRAY[i, i + 1] END::int[]"),
    ("text[]", "ARRAY['a,b', 'q\"', NULL, '', 'NULL', '{}']"), ("int[][]", "ARRAY[[1,2],[3,i]]"), ("int4range", "int4range(i, i + 5)"),
    ("tstzrange", "tstzrange('2000-01-01', NULL, '(]')"), ("nummultirange", "nummultirange(numrange(i, i + 1), numrange(i + 3, NULL))"),
    ("pg_lsn", "'16/B374D848'::pg_lsn"), ("txid_snapshot", "'10:20:10,14,15'::txid_snapshot"), ("jsonpath", "'$.a[*] ? (@ > 1)'::jsonpath"),
    ("regclass", "'pg_class'::regclass"), ("regtype", "'int'::regtype"), ("hstore", "hstore('k' || i, NULL)"), ("citext", "'MiXed' || i"),
    ("ltree", "('a.b.n' || i)::ltree"), ("cube", "cube(ARRAY[i, 2.5])"), ("isn.isbn", "NULL"), ("seg", "'1.0 .. 2.00'::seg"),
)  # fmt: skip
EXTENSIONS = (
    "hstore", "citext", "ltree", "cube", "seg", "pg_trgm", "btree_gist", "btree_gin", "intarray", "pgcrypto", "unaccent",
    "uuid-ossp", "fuzzystrmatch", "tablefunc", "earthdistance", "dict_int", "file_fdw", "postgres_fdw", "lo", "pg_stat_statements",
)  # fmt: skip
SETTINGS = (
    "extra_float_digits = 0", "datestyle = 'German, DMY'", "intervalstyle = 'iso_8601'", "bytea_output = 'escape'",
    "default_transaction_read_only = on", "statement_timeout = '60s'", "search_path = 'nowhere'", "timezone = 'Asia/Kathmandu'",
    "row_security = off", "quote_all_identifiers = on", "array_nulls = off", "lc_monetary = 'C'", "work_mem = '3MB'",
    "standard_conforming_strings = off", "default_transaction_isolation = 'serializable'", "client_min_messages = 'error'",
    "check_function_bodies = off", "default_table_access_method = 'heap'", "session_replication_role = 'origin'",
    "enable_seqscan = off", "my.setting = 'it''s'", "default_toast_compression = 'pglz'", "xmloption = 'document'",
)  # fmt: skip
ATTRIBUTES = (
    "LOGIN", "NOINHERIT", "CREATEDB", "CREATEROLE", "BYPASSRLS", "REPLICATION", "SUPERUSER", "CONNECTION LIMIT 3",
    "VALID UNTIL '2100-01-01 12:00:00+02'", "VALID UNTIL 'infinity'", "PASSWORD 'secret'",
)  # fmt: skip
