"""What pg_dumpall writes of roles is read strictly; a restore creates what is missing and changes nothing else."""

from __future__ import annotations

import pytest

from refnet.sources.permitted import Permitted
from refnet.sources.roles.global_statements import NotGlobalsError, Statement, StatementKind, counted, read
from refnet.sources.roles.globals_artifact import without_weak_passwords
from refnet.sources.roles.globals_plan import LiveRoles, WantedRoles, decide

TEXT = r"""--
-- PostgreSQL database cluster dump
--

\restrict 0SIMrfN9mq9w

SET client_encoding = 'UTF8';

CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 3 PASSWORD 'SCRAM-SHA-256$4096:a==$b=:c=' VALID UNTIL '2030-01-01 00:00:00+00';
COMMENT ON ROLE app IS E'it''s \\ here;
-- no comment';
CREATE ROLE "odd;
na""me";
ALTER ROLE "odd;
na""me" WITH SUPERUSER INHERIT;
ALTER ROLE app SET search_path TO 'x y', 'public';
GRANT app TO "odd;
na""me" WITH ADMIN OPTION, INHERIT TRUE GRANTED BY postgres;
GRANT ALTER SYSTEM ON PARAMETER log_statement TO app WITH GRANT OPTION;
CREATE TABLESPACE fast OWNER app LOCATION '/srv/fast';
ALTER TABLESPACE fast SET (random_page_cost=2);
GRANT ALL ON TABLESPACE fast TO PUBLIC;

\unrestrict 0SIMrfN9mq9w
"""
ODD = 'odd;\nna"me'


def statements(text: str = TEXT) -> tuple[Statement, ...]:
    return tuple(read(text))


WANTED = WantedRoles("main-globals_1.sql.gz", "", statements())


def test_each_statement_names_what_it_is_about() -> None:
    kinds = [(one.kind, one.subject) for one in statements() if one.kind is not StatementKind.SESSION]
    assert kinds == [
        (StatementKind.ROLE, "app"),
        (StatementKind.ATTRIBUTES, "app"),
        (StatementKind.COMMENT, "app"),
        (StatementKind.ROLE, ODD),
        (StatementKind.ATTRIBUTES, ODD),
        (StatementKind.SETTING, "app"),
        (StatementKind.MEMBERSHIP, ODD),
        (StatementKind.PARAMETER, "app"),
        (StatementKind.TABLESPACE, "fast"),
        (StatementKind.OF_TABLESPACE, "fast"),
        (StatementKind.OF_TABLESPACE, "fast"),
    ]
    assert counted(statements()) == {"roles": 2, "memberships": 1, "tablespaces": 1, "passwords": 1}
    assert all("GRANTED" not in one.tokens for one in statements())


@pytest.mark.parametrize(
    "text",
    [
        "DROP ROLE app;",
        "CREATE ROLE app SUPERUSER;",
        "CREATE ROLE app; SELECT 1;",
        "ALTER ROLE app WITH LOGIN; COPY t TO PROGRAM 'id';",
        "\\! id\n",
        "\\restrict a; \\! id\n",
        "CREATE ROLE /* x */ app;",
        'CREATE ROLE U&"app";',
        "COMMENT ON ROLE app IS $$x$$;",
        "COMMENT ON ROLE app IS 'a' 'b';",
        "COMMENT ON ROLE app IS b'1';",
        "COMMENT ON ROLE app IS e'\\'';",
        "COMMENT ON ROLE app IS 'x",
        'CREATE ROLE "";',
        "CREATE ROLE a\0b;",
        "CREATE ROLE app",
        "create role app;",
        "ALTER ROLE app SET work_mem TO '1MB'; ;",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(NotGlobalsError):
        statements(text)


def test_a_text_of_too_many_words_is_refused_where_the_limit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refnet.sources.roles.global_statements.MOST_TOKENS", 100)
    with pytest.raises(NotGlobalsError, match="more than 100 words"):
        statements("ALTER ROLE app SET search_path TO 'a'" + ", 'a'" * 100 + ";")


def test_only_scram_verifiers_are_kept() -> None:
    weak = TEXT.replace("INHERIT;", "INHERIT PASSWORD 'md5abc';")
    text, dropped = without_weak_passwords(weak)
    assert dropped == (ODD,)
    assert text == TEXT


def test_a_missing_role_is_created_with_all_that_belongs_to_it() -> None:
    live = "CREATE ROLE postgres; CREATE TABLESPACE fast OWNER postgres LOCATION '/other';"
    plan = decide(WANTED, LiveRoles("db:5432", statements(live)), Permitted(everything=True))
    assert plan.create == ("app", ODD)
    assert not plan.tablespaces
    assert [one.kind for one in plan.statements] == [
        StatementKind.ROLE, StatementKind.ROLE, StatementKind.ATTRIBUTES, StatementKind.ATTRIBUTES, StatementKind.SETTING, StatementKind.COMMENT, StatementKind.MEMBERSHIP,
        StatementKind.PARAMETER,
    ]  # fmt: skip


def test_powers_need_a_word_of_their_own() -> None:
    plan = decide(WANTED, LiveRoles("db:5432", ()))
    assert [str(one) for one in plan.withheld] == [
        "app: may change log_statement by ALTER SYSTEM and grant that",
        r'"odd;\nna\"me": SUPERUSER',
        r'"odd;\nna\"me": member of app with ADMIN OPTION',
    ]
    assert "main-globals_1.sql.gz gives the role app powers" in plan.problems[0].message


def test_an_existing_role_is_left_as_it_is_and_named() -> None:
    live = tuple(one for one in statements() if one.kind is not StatementKind.SETTING)
    plan = decide(WANTED, LiveRoles("db:5432", live))
    assert plan.create == plan.statements == ()
    assert plan.differing == {"app": ("setting",)}


def test_a_missing_tablespace_is_named_with_its_folder() -> None:
    plan = decide(WANTED, LiveRoles("db:5432", ()))
    assert plan.tablespaces == {"fast": "/srv/fast"}
    assert any("not created: tablespace fast in /srv/fast" in line for line in plan.lines())


def test_options_of_memberships_are_compared_where_both_servers_have_them() -> None:
    wanted = statements(TEXT.replace("INHERIT TRUE", "INHERIT FALSE, SET FALSE"))
    assert decide(WantedRoles("a", "", wanted), LiveRoles("db", statements())).differing == {
        ODD: ("membership",)
    }
    old = statements(TEXT.replace(", INHERIT TRUE", ""))
    assert decide(WantedRoles("a", "", wanted), LiveRoles("db", old)).differing == {}


def test_what_a_created_role_does_not_get_is_named() -> None:
    text = TEXT.replace("INHERIT TRUE", "INHERIT FALSE, SET FALSE").replace(
        "CREATE TABLESPACE",
        "SECURITY LABEL FOR dummy ON ROLE app IS 'secret';\nGRANT gone TO app;\nCREATE TABLESPACE",
    )
    plan = decide(
        WantedRoles("a", "", statements(text)), LiveRoles("db", (), options=False), Permitted(everything=True)
    )
    assert plan.lost == (
        f"INHERIT and SET FALSE of the membership of {ODD} in app, which needs PostgreSQL 16",
        "the security label of app by dummy",
        "the membership of app in gone, as the server has no such role",
    )
    (membership,) = (one for one in plan.statements if one.kind is StatementKind.MEMBERSHIP)
    assert membership.tokens[-3:] == ("WITH", "ADMIN", "OPTION")
    assert [line for line in plan.lines() if line.startswith("not restored: ")] == [
        f"not restored: {one}" for one in plan.lost
    ]
