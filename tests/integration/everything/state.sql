-- What belongs to the database itself, and default privileges.
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO everything_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE everything_owner IN SCHEMA owned GRANT ALL ON SEQUENCES TO "select" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE everything_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO "役割 with.dot";
COMMENT ON SCHEMA public IS 'a public schema with a comment of its own';
SELECT current_database() AS db \gset
ALTER DATABASE :"db" OWNER TO everything_owner;
REVOKE TEMPORARY ON DATABASE :"db" FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE :"db" TO "Rôle ""dq"" 'sq' \ $$;--" WITH GRANT OPTION;
COMMENT ON DATABASE :"db" IS 'everything, isn''t it? \ $$';
ALTER DATABASE :"db" CONNECTION LIMIT 77;
-- Each of these changes what a careless reader sees, or kills it.
ALTER DATABASE :"db" SET datestyle = 'SQL, DMY';
ALTER DATABASE :"db" SET intervalstyle = 'sql_standard';
ALTER DATABASE :"db" SET timezone = 'Asia/Tokyo';
ALTER DATABASE :"db" SET bytea_output = 'escape';
ALTER DATABASE :"db" SET extra_float_digits = -15;
ALTER DATABASE :"db" SET search_path = code, "dot.dot", '$user';
ALTER DATABASE :"db" SET row_security = on;
ALTER DATABASE :"db" SET quote_all_identifiers = on;
ALTER DATABASE :"db" SET enable_tidscan = off;
ALTER DATABASE :"db" SET standard_conforming_strings = off;
ALTER DATABASE :"db" SET escape_string_warning = off;
ALTER DATABASE :"db" SET array_nulls = off;
ALTER DATABASE :"db" SET transform_null_equals = on;
ALTER DATABASE :"db" SET default_transaction_isolation = 'serializable';
ALTER DATABASE :"db" SET xmloption = 'document';
ALTER DATABASE :"db" SET statement_timeout = '200ms';
ALTER DATABASE :"db" SET lock_timeout = '100ms';
ALTER DATABASE :"db" SET idle_in_transaction_session_timeout = '150ms';
ALTER DATABASE :"db" SET my.setting = E'odd ''value'' \\ with\nlines';
ALTER ROLE everything_login IN DATABASE :"db" SET statement_timeout = '1s';
ALTER ROLE "Rôle ""dq"" 'sq' \ $$;--" IN DATABASE :"db" SET search_path = "a"".""b", public;
