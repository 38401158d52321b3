-- What lies outside every database: roles, their memberships, a tablespace. Running it again changes nothing.
\set QUIET on
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET client_encoding = 'UTF8';
SELECT current_setting('server_version_num')::int >= 150000 AS since15,
       current_setting('server_version_num')::int >= 160000 AS since16,
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'everything_owner') AS made
\gset
\if :made
    \q
\endif
CREATE ROLE everything_owner NOLOGIN CREATEROLE;
CREATE ROLE everything_reader NOLOGIN;
CREATE ROLE everything_login LOGIN PASSWORD 'role-secret-1' CONNECTION LIMIT 3 VALID UNTIL '2100-01-01 00:00:00+00';
CREATE ROLE "Rôle ""dq"" 'sq' \ $$;--" NOLOGIN;
CREATE ROLE "select" NOLOGIN BYPASSRLS;
CREATE ROLE "役割 with.dot" NOLOGIN;
COMMENT ON ROLE everything_reader IS 'reads, isn''t more';
GRANT everything_reader TO everything_login, "select";
GRANT "Rôle ""dq"" 'sq' \ $$;--" TO everything_owner WITH ADMIN OPTION;
\if :since16
    GRANT "役割 with.dot" TO everything_owner WITH INHERIT FALSE, SET TRUE;
\else
    GRANT "役割 with.dot" TO everything_owner;
\endif
ALTER ROLE everything_login SET work_mem = '5MB';
\if :since15
    SET allow_in_place_tablespaces = on;
    CREATE TABLESPACE "Täble ""space""" OWNER everything_owner LOCATION '';
\endif
