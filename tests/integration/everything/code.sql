CREATE SCHEMA code;
CREATE FUNCTION code.odd(a int, b text DEFAULT 'it''s $$', VARIADIC c int[] DEFAULT ARRAY[1]) RETURNS TABLE (x int, "Y" text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = code, pg_temp SET work_mem = '3MB' COST 7 ROWS 3
    AS $body$ BEGIN RETURN QUERY SELECT a, $x$body \. $x$ || b; END; $body$;
CREATE FUNCTION code.standard(a int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE BEGIN ATOMIC SELECT a + 1; END;
CREATE PROCEDURE code.proceed(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; COMMIT; END $$;
CREATE FUNCTION code.other_language() RETURNS int LANGUAGE plpgsql2 AS $$ BEGIN RETURN 1; END $$;
CREATE FUNCTION code.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := 'triggered'; RETURN NEW; END $$;
CREATE FUNCTION code.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE FUNCTION code.comes_later() RETURNS SETOF t.tree LANGUAGE sql AS 'SELECT * FROM t.tree';
COMMENT ON FUNCTION code.standard(int) IS 'adds one';
COMMENT ON PROCEDURE code.proceed(int) IS 'proceeds';
REVOKE EXECUTE ON FUNCTION code.standard(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION code.standard(int) TO everything_reader;
ALTER FUNCTION code.touch() OWNER TO everything_owner;

-- Triggers: on, off, replica, always, deferred, with transition tables. Rows that they would change on a load.
CREATE TABLE code.triggered (id int, v text);
CREATE TRIGGER touches BEFORE INSERT OR UPDATE ON code.triggered FOR EACH ROW EXECUTE FUNCTION code.touch('an ''arg''');
ALTER TABLE code.triggered DISABLE TRIGGER touches;
INSERT INTO code.triggered VALUES (1, 'not triggered');
CREATE TRIGGER enabled BEFORE UPDATE OF v ON code.triggered FOR EACH ROW WHEN (NEW.id > 10) EXECUTE FUNCTION code.touch();
CREATE TRIGGER on_replica BEFORE INSERT ON code.triggered FOR EACH ROW EXECUTE FUNCTION code.touch();
ALTER TABLE code.triggered ENABLE REPLICA TRIGGER on_replica;
CREATE TRIGGER always BEFORE INSERT ON code.triggered FOR EACH ROW EXECUTE FUNCTION code.touch();
INSERT INTO code.triggered VALUES (2, 'x');
ALTER TABLE code.triggered ENABLE ALWAYS TRIGGER always;
CREATE FUNCTION code.nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER statement AFTER UPDATE ON code.triggered REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION code.nothing();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON code.triggered DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION code.nothing();
CREATE TRIGGER on_partitions AFTER INSERT ON parts.ranges FOR EACH ROW EXECUTE FUNCTION code.nothing();
ALTER TABLE parts.ranges_old DISABLE TRIGGER on_partitions;
COMMENT ON TRIGGER touches ON code.triggered IS 'a trigger';
CREATE EVENT TRIGGER everything_watches ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION code.watch();
CREATE EVENT TRIGGER everything_off ON sql_drop EXECUTE FUNCTION code.watch();
ALTER EVENT TRIGGER everything_off DISABLE;
COMMENT ON EVENT TRIGGER everything_off IS 'is off';

-- Rules.
CREATE TABLE code.ruled (id int, v text);
INSERT INTO code.ruled VALUES (1, 'one');
CREATE RULE no_insert AS ON INSERT TO code.ruled DO INSTEAD NOTHING;
CREATE RULE also AS ON UPDATE TO code.ruled WHERE NEW.id > 1 DO ALSO DELETE FROM code.triggered WHERE id = OLD.id;
CREATE RULE tells AS ON DELETE TO code.ruled DO ALSO NOTIFY "a channel";
ALTER TABLE code.ruled DISABLE RULE also;
COMMENT ON RULE no_insert ON code.ruled IS 'a rule';

-- Views, one below the other; with a key behind GROUP BY; of one another; recursive; with options.
CREATE VIEW code.plain AS SELECT id, v FROM t.indexed WHERE id > 5;
CREATE VIEW code.below WITH (security_barrier) AS SELECT p.id AS "The id", p.v FROM code.plain p WITH CASCADED CHECK OPTION;
CREATE VIEW code.grouped AS SELECT i.id, i.v, count(*) AS n FROM t.indexed i GROUP BY i.id;
CREATE RECURSIVE VIEW code.up (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM up WHERE n < 5;
CREATE VIEW code.defaulted AS SELECT * FROM t.dropped_columns;
ALTER VIEW code.defaulted ALTER COLUMN a SET DEFAULT 12;
CREATE VIEW code.no_columns AS SELECT;
CREATE VIEW code.circle_a AS SELECT 1 AS x;
CREATE VIEW code.circle_b AS SELECT x FROM code.circle_a;
CREATE OR REPLACE VIEW code.circle_a AS SELECT 1 AS x WHERE 1 IN (SELECT x FROM code.circle_b);
\if :since15
    CREATE VIEW code.invoked WITH (security_invoker = true) AS SELECT * FROM t.tree;
\endif
COMMENT ON VIEW code.plain IS 'a view';
COMMENT ON COLUMN code.plain.v IS 'a view''s column';

-- Materialized views on top of one another, in an order of names that is not the order of refreshing.
CREATE MATERIALIZED VIEW code.z_base AS SELECT v, count(*) AS n FROM t.indexed GROUP BY v;
CREATE MATERIALIZED VIEW code.a_top AS SELECT sum(n) AS total FROM code.z_base;
CREATE VIEW code.m_between AS SELECT total * 2 AS twice FROM code.a_top;
CREATE MATERIALIZED VIEW code.b_over_view AS SELECT twice FROM code.m_between;
CREATE MATERIALIZED VIEW code.not_populated AS SELECT * FROM t.tree WITH NO DATA;
CREATE MATERIALIZED VIEW code.behind_key AS SELECT i.id, i.v, count(*) AS n FROM t.indexed i GROUP BY i.id;
CREATE UNIQUE INDEX ON code.z_base (v);
CREATE INDEX ON code.not_populated (id);
COMMENT ON MATERIALIZED VIEW code.z_base IS 'the base';
GRANT SELECT ON code.z_base TO everything_reader;

-- Row-level security, forced.
CREATE TABLE code.secured (id int, who name, v text);
INSERT INTO code.secured VALUES (1, 'everything_reader', 'mine'), (2, 'nobody', 'hidden');
ALTER TABLE code.secured OWNER TO everything_owner;
ALTER TABLE code.secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON code.secured AS PERMISSIVE FOR SELECT TO everything_reader, "select" USING (who = current_user);
CREATE POLICY "no, never" ON code.secured AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (false) WITH CHECK (id > 0);
COMMENT ON POLICY own_rows ON code.secured IS 'a policy';
CREATE TABLE code.secured_for_nobody (id int);
INSERT INTO code.secured_for_nobody VALUES (1);
ALTER TABLE code.secured_for_nobody ENABLE ROW LEVEL SECURITY;
