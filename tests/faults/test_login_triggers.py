"""A database whose login event trigger writes, as those of audits do: it finds its table by the search path."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest
from tests.command import Command, url_of
from tests.faults.conftest import Live

_AUDIT = """
CREATE TABLE audit (who text, at timestamptz DEFAULT now());
CREATE FUNCTION note_login() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$BEGIN INSERT INTO audit (who) VALUES (session_user); END$$;
CREATE EVENT TRIGGER note_login ON login EXECUTE FUNCTION note_login();
ALTER EVENT TRIGGER note_login ENABLE ALWAYS;
CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no DDL here'; END$$;
CREATE TABLE long AS SELECT i AS id, repeat('x', 400) AS pad FROM generate_series(1, 5000) i;
CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse();
"""


@pytest.fixture
def audited(live: Live) -> Live:
    live.run(_AUDIT)
    return live


def _logins(live: Live, database: str) -> int:
    with live.cluster.target(database).connect() as session:
        row = session.execute("SELECT count(*) FROM audit").fetchone()
    return int(row[0]) if row else -1


@pytest.mark.usefixtures("audited")
def test_reading_and_restoring_work_with_a_login_trigger_that_writes(refnet: Command, live: Live) -> None:
    refnet("backup", "database", "--no-prove").succeeds()
    drilled = refnet("drill", "database")
    drilled.succeeds()
    assert "proven" in drilled.out
    text = gzip.decompress(refnet.artifact().read_bytes()).decode()
    recorded = text.partition("COPY public.audit (")[2].partition("\n\\.\n")[0].count("\n")
    try:
        refnet("restore", "database", "--as", "beside").succeeds()
        assert _logins(live, "beside") == recorded
    finally:
        with live.cluster.target().connect() as admin:
            admin.execute("DROP DATABASE IF EXISTS beside WITH (FORCE)")
    refnet("restore", "database", "--table", "summaries", "--mode", "replace", "--force").succeeds()
    compared = refnet("diff", "database")
    assert compared.code == 4
    assert compared.err == ""
    assert "papers" not in compared.out
    refnet("restore", "database", "--force").succeeds()
    refnet("undo", "database", "--force").succeeds()


def test_a_read_only_role_backs_up_despite_a_login_trigger_that_writes(
    refnet: Command, audited: Live
) -> None:
    audited.run("SET event_triggers = off; CREATE ROLE clerk LOGIN; GRANT pg_read_all_data TO clerk")
    audited.run("SET event_triggers = off; GRANT SELECT ON LARGE OBJECT 4000000001 TO clerk")
    try:
        reader = replace(refnet, url=url_of(audited.target, user="clerk"))
        made = reader("backup", "database")
        made.succeeds()
        assert "proven" in made.out
        assert reader("diff", "database").err == ""
    finally:
        audited.run("SET event_triggers = off; DROP OWNED BY clerk; DROP ROLE clerk")


def test_a_login_trigger_that_refuses_is_named_with_what_helps(refnet: Command, audited: Live) -> None:
    audited.run("SET event_triggers = off; CREATE ROLE clerk LOGIN; GRANT pg_read_all_data TO clerk")
    audited.run("SET event_triggers = off; GRANT SELECT ON LARGE OBJECT 4000000001 TO clerk")
    audited.run(
        "SET event_triggers = off; CREATE OR REPLACE FUNCTION note_login() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'not at night'; END$$"
    )
    try:
        refnet("backup", "database", "--no-prove").succeeds()
        reader = replace(refnet, url=url_of(audited.target, user="clerk"))
        refused = reader("backup", "database")
        refused.fails(1, "an event trigger of live", "refuses the login of clerk: not at night")
        checked = reader("check").out
        assert "refuses the login of clerk: not at night" in checked
        statement = "GRANT SET ON PARAMETER event_triggers TO clerk"
        assert statement in refused.err
        assert statement in checked
        audited.run(f"SET event_triggers = off; {statement}")
        reader("backup", "database", "--no-prove").succeeds()
    finally:
        audited.run(
            "SET event_triggers = off; REVOKE SET ON PARAMETER event_triggers FROM clerk; DROP OWNED BY clerk; DROP ROLE clerk"
        )
