CREATE SCHEMA kinds;
COMMENT ON SCHEMA kinds IS 'types and what belongs to them';
CREATE SCHEMA owned AUTHORIZATION everything_owner;

CREATE TYPE kinds.mood AS ENUM ('sad', 'ok', 'happy', 'it''s "odd"', '');
ALTER TYPE kinds.mood ADD VALUE 'meh' BEFORE 'ok';
CREATE TYPE kinds.pair AS (a int, "B b" text, c kinds.mood);
ALTER TYPE kinds.pair ADD ATTRIBUTE gone int;
ALTER TYPE kinds.pair DROP ATTRIBUTE gone;
CREATE TYPE kinds.nested AS (p kinds.pair, ps kinds.pair[]);
COMMENT ON COLUMN kinds.pair."B b" IS 'an attribute';
CREATE TYPE kinds.shell;

CREATE FUNCTION kinds.float8_distance(float8, float8) RETURNS float8 IMMUTABLE LANGUAGE sql AS 'SELECT $1 - $2';
CREATE TYPE kinds.float_range AS RANGE (subtype = float8, subtype_diff = kinds.float8_distance,
    multirange_type_name = kinds.many_floats);
CREATE DOMAIN kinds.percent AS numeric(5, 2) DEFAULT 0 NOT NULL CHECK (VALUE >= 0) CONSTRAINT at_most CHECK (VALUE <= 100);
CREATE DOMAIN kinds.old_rule AS text;
CREATE TABLE kinds.holds_old_rule (v kinds.old_rule);
INSERT INTO kinds.holds_old_rule VALUES ('x'), ('longer than it may be');
ALTER DOMAIN kinds.old_rule ADD CONSTRAINT short CHECK (length(VALUE) < 5) NOT VALID;
CREATE DOMAIN kinds.word AS text COLLATE "C" CHECK (VALUE ~ '^[a-z]*$');
CREATE DOMAIN kinds.words AS kinds.word[];
COMMENT ON DOMAIN kinds.percent IS 'of a hundred';
COMMENT ON CONSTRAINT at_most ON DOMAIN kinds.percent IS 'no more';

-- A base type from functions that are there already.
CREATE TYPE kinds.base;
CREATE FUNCTION kinds.base_in(cstring) RETURNS kinds.base STRICT IMMUTABLE LANGUAGE internal AS 'textin';
CREATE FUNCTION kinds.base_out(kinds.base) RETURNS cstring STRICT IMMUTABLE LANGUAGE internal AS 'textout';
CREATE TYPE kinds.base (INPUT = kinds.base_in, OUTPUT = kinds.base_out, LIKE = text);

CREATE FUNCTION kinds.mood_number(kinds.mood) RETURNS int IMMUTABLE STRICT LANGUAGE sql
    AS $$ SELECT array_position(enum_range(NULL::kinds.mood), $1) $$;
CREATE CAST (kinds.mood AS int) WITH FUNCTION kinds.mood_number(kinds.mood) AS ASSIGNMENT;
CREATE CAST (kinds.base AS text) WITHOUT FUNCTION AS IMPLICIT;
COMMENT ON CAST (kinds.mood AS int) IS 'its place';

CREATE COLLATION kinds."C copy" FROM "C";
\if :has_icu
    CREATE COLLATION kinds.numeric_icu (provider = icu, locale = 'en-u-kn-true');
    CREATE COLLATION kinds.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE kinds.loosely (v text COLLATE kinds.loose PRIMARY KEY);
    INSERT INTO kinds.loosely VALUES ('Ab'), ('ac');
\endif
\if :since17
    CREATE COLLATION kinds.builtin (provider = builtin, locale = 'C.UTF-8');
\endif

CREATE TEXT SEARCH DICTIONARY kinds.plain (TEMPLATE = simple, stopwords = english);
CREATE TEXT SEARCH CONFIGURATION kinds.search (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION kinds.search ALTER MAPPING FOR asciiword WITH kinds.plain, english_stem;
CREATE TEXT SEARCH TEMPLATE kinds.template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH PARSER kinds.parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
    LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
COMMENT ON TEXT SEARCH CONFIGURATION kinds.search IS 'a search';

CREATE FUNCTION kinds.same_pair(kinds.pair, kinds.pair) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT ($1).a = ($2).a';
CREATE OPERATOR kinds.=== (FUNCTION = kinds.same_pair, LEFTARG = kinds.pair, RIGHTARG = kinds.pair,
    COMMUTATOR = OPERATOR(kinds.===), RESTRICT = eqsel, JOIN = eqjoinsel);
CREATE OPERATOR kinds.!!! (FUNCTION = kinds.mood_number, RIGHTARG = kinds.mood);
CREATE FUNCTION kinds.backward(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT btint4cmp($2, $1)';
CREATE OPERATOR FAMILY kinds.backwards USING btree;
CREATE OPERATOR CLASS kinds.int4_backwards FOR TYPE int4 USING btree FAMILY kinds.backwards AS
    OPERATOR 1 > , OPERATOR 2 >= , OPERATOR 3 = , OPERATOR 4 <= , OPERATOR 5 < , FUNCTION 1 kinds.backward(int, int);
CREATE AGGREGATE kinds.product(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '1', PARALLEL = safe);
CREATE AGGREGATE kinds.nth(ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal,
    FINALFUNC = mode_final, FINALFUNC_EXTRA);
CREATE CONVERSION kinds.odd FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
CREATE FUNCTION kinds.language_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE LANGUAGE plpgsql2 HANDLER kinds.language_handler;
