-- What reaches outside the database, and what is stored apart: extensions, foreign servers, replication, large objects.
CREATE SCHEMA ext;
\if :has_trgm
    CREATE EXTENSION pg_trgm SCHEMA ext;
    COMMENT ON EXTENSION pg_trgm IS 'a comment of our own';
    CREATE TABLE ext.searched (id int, v text);
    INSERT INTO ext.searched SELECT i, md5(i::text) FROM generate_series(1, 200) i;
    CREATE INDEX by_trigram ON ext.searched USING gin (v ext.gin_trgm_ops);
\endif
\if :has_vector
    CREATE EXTENSION vector SCHEMA ext;
    CREATE TABLE ext.embedded (id int, e ext.vector(3), h ext.halfvec(2));
    INSERT INTO ext.embedded SELECT i, format('[%s,%s,%s]', i, -i, i / 7.0)::ext.vector, '[0.1,-0]' FROM generate_series(1, 200) i;
    CREATE INDEX by_distance ON ext.embedded USING hnsw (e ext.vector_l2_ops);
\endif
CREATE EXTENSION hstore;
CREATE EXTENSION citext SCHEMA ext;
CREATE TABLE ext.pairs (h hstore, c ext.citext UNIQUE);
INSERT INTO ext.pairs VALUES ('a=>1, "b c"=>NULL, "\"\\"=>""', 'CaSe');
GRANT EXECUTE ON FUNCTION hstore_to_json(hstore) TO everything_reader;

CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE ext.version (v text OPTIONS (force_not_null 'true')) SERVER files OPTIONS (filename 'PG_VERSION', format 'csv');
CREATE MATERIALIZED VIEW ext.from_file AS SELECT v FROM ext.version;
CREATE EXTENSION postgres_fdw;
CREATE SERVER "far away" TYPE 'pg' VERSION '1' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1', dbname 'it''s', connect_timeout '2');
CREATE USER MAPPING FOR everything_login SERVER "far away" OPTIONS (user 'u', password 'fdw-secret-2 ''\');
CREATE USER MAPPING FOR PUBLIC SERVER "far away" OPTIONS (user 'p', password 'fdw-secret-3');
CREATE FOREIGN TABLE ext.far (id int NOT NULL, v text COLLATE "C" DEFAULT 'd', CHECK (id > 0)) SERVER "far away" OPTIONS (schema_name 'x', table_name 'y');
CREATE MATERIALIZED VIEW ext.never_fetched AS SELECT * FROM ext.far WITH NO DATA;
GRANT USAGE ON FOREIGN SERVER "far away" TO everything_login;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO everything_owner;
COMMENT ON FOREIGN TABLE ext.far IS 'far';
COMMENT ON SERVER "far away" IS 'a server';
CREATE FOREIGN DATA WRAPPER nothing_behind OPTIONS (debug 'true');

CREATE PUBLICATION everything_all FOR ALL TABLES WITH (publish = 'insert, truncate');
CREATE PUBLICATION "some tables" FOR TABLE t.tree, ONLY t.parent WITH (publish_via_partition_root = true);
\if :since15
    CREATE PUBLICATION filtered FOR TABLE t.indexed (id, v) WHERE (id > 3);
    CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA code;
\endif
COMMENT ON PUBLICATION "some tables" IS 'some';
SET client_min_messages = error;
\if :portable
\else
CREATE SUBSCRIPTION "everything subscribes" CONNECTION 'host=192.0.2.1 dbname=x password=sub-secret-4' PUBLICATION p1, "P 2"
    WITH (connect = false, slot_name = NONE, enabled = false, create_slot = false);
\endif

SELECT lo_create(4000000001) AS empty \gset
SELECT lo_from_bytea(4000000002, '\x00ff5c2e0a') AS small \gset
SELECT lo_from_bytea(4000000003, decode(repeat(md5('large object'), 3 * 65536), 'hex')) AS large \gset
SELECT lo_from_bytea(70001, 'with holes') AS holes \gset
SELECT lo_put(70001, 100000, 'far end') \g /dev/null
ALTER LARGE OBJECT 4000000002 OWNER TO everything_owner;
GRANT SELECT ON LARGE OBJECT 4000000002 TO everything_reader WITH GRANT OPTION;
GRANT ALL ON LARGE OBJECT 4000000003 TO "Rôle ""dq"" 'sq' \ $$;--";
COMMENT ON LARGE OBJECT 4000000003 IS 'large, isn''t it';
