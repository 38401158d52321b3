-- Odd names for schemas, tables, columns, indexes and sequences; each table small and, in a schema of its own, over 1 MB.
CREATE TEMPORARY TABLE odd (n serial, name name);
INSERT INTO odd (name) SELECT v FROM unnest(ARRAY['with space', 'dot.dot', E'new\nline', 'back\slash', E'tab\there', '"dq"', '''sq''', 'semi;colon', '--dash',
    '$$', '$a$', '日本語', 'é', 'Select', 'user', 'table', repeat('x', 62) || 'é', repeat('長', 21), '\.', '\N', '%s%d%', '{brace}', ':colon', ':"v"',
    '*star?', '[a-z]|(x)+^$', 'UPPER lower', ' leading', 'trailing ', '/slash/..', E'carriage\rreturn', '🙂', '\restrict x', '/* c */', 'COPY x FROM stdin;',
    '\! touch pwned', E'x\n\\.\n-- Data for Name: y; Type: TABLE DATA', 'public', 'a"."b', E'\x01', '1', '@', '#', 'a,b', '=eq=', '~', '`', '&amp;']) v;
DO $$
DECLARE o record;
BEGIN
    FOR o IN SELECT n, name FROM odd LOOP
        EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', o.name);
        EXECUTE format('CREATE TABLE %1$I.%1$I (id serial, %1$I text, CONSTRAINT %1$I CHECK (%1$I IS NOT NULL))', o.name);
        EXECUTE format('INSERT INTO %1$I.%1$I (%1$I) VALUES (%1$L), (''second'')', o.name);
        EXECUTE format('COMMENT ON TABLE %1$I.%1$I IS %1$L', o.name);
        EXECUTE format('CREATE TABLE %1$I.big (%1$I text, id int) WITH (fillfactor = 10)', o.name);
        EXECUTE format('ALTER TABLE %1$I.big ALTER %1$I SET STORAGE PLAIN', o.name);
        EXECUTE format('INSERT INTO %1$I.big SELECT repeat(%1$L, 1 + 700 / octet_length(%1$L)), i FROM generate_series(1, 140) i', o.name);
    END LOOP;
END $$;
DROP TABLE odd;
CREATE SCHEMA "own'er ""x""" AUTHORIZATION "Rôle ""dq"" 'sq' \ $$;--";
CREATE TABLE "own'er ""x"""."of it" (id serial PRIMARY KEY, v text);
INSERT INTO "own'er ""x"""."of it" (v) VALUES ('owned by an odd role');
ALTER TABLE "own'er ""x"""."of it" OWNER TO "Rôle ""dq"" 'sq' \ $$;--";
GRANT ALL ON "own'er ""x"""."of it" TO "役割 with.dot" WITH GRANT OPTION;
GRANT USAGE ON SCHEMA "own'er ""x""" TO "select";
CREATE TYPE "own'er ""x"""."type, odd" AS ENUM ('a "b"', E'new\nline');
CREATE TABLE "own'er ""x"""."uses" (v "own'er ""x"""."type, odd"[]);
INSERT INTO "own'er ""x"""."uses" VALUES (ARRAY[E'new\nline', 'a "b"']::"own'er ""x"""."type, odd"[]);
CREATE VIEW "own'er ""x"""."view
of it" AS SELECT * FROM "own'er ""x"""."of it";
CREATE FUNCTION "own'er ""x"""."fun(c"("a b" int) RETURNS int LANGUAGE sql AS 'SELECT $1';
