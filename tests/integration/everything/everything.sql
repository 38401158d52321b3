-- A database with every kind of object that pg_dump knows, for psql of the server's major (14 to 18).
-- Run cluster.sql first, once a cluster. With `-v portable=1`, what another build of PostgreSQL may lack is left out.
\set QUIET on
\set ON_ERROR_STOP on
\if :{?portable}
\else
    \set portable 0
\endif
SET client_min_messages = warning;
SET client_encoding = 'UTF8';
SELECT current_setting('server_version_num')::int >= 150000 AS since15,
       current_setting('server_version_num')::int >= 160000 AS since16,
       current_setting('server_version_num')::int >= 170000 AS since17,
       current_setting('server_version_num')::int >= 180000 AS since18,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS has_vector,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') AS has_trgm,
       NOT :portable::bool AND EXISTS (SELECT FROM pg_collation WHERE collname = 'en-x-icu') AS has_icu,
       NOT :portable::bool AND EXISTS (SELECT FROM pg_config WHERE setting LIKE '%--with-libxml%') AS has_xml,
       NOT :portable::bool AND EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression'
                                       AND 'lz4' = ANY (enumvals)) AS has_lz4
\gset
\ir types.sql
\ir tables.sql
\ir partitions.sql
\ir code.sql
\ir values.sql
\ir names.sql
\ir outside.sql
\ir big.sql
\ir state.sql
