"""Which powers roles get: those of the list that a page names, and those that were confirmed by name."""

from __future__ import annotations

import time

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.sources.permitted import NOTHING, Permitted, Power, digest
from refnet.sources.roles.global_statements import Statement, StatementKind, read
from refnet.sources.roles.globals_plan import LiveRoles, WantedRoles, decide, unlike
from refnet.sources.roles.powers import all_powers, needed_powers

BACKUP = """
CREATE ROLE backup; ALTER ROLE backup WITH NOSUPERUSER LOGIN REPLICATION;
CREATE ROLE postgres; ALTER ROLE postgres WITH SUPERUSER LOGIN;
CREATE ROLE app; ALTER ROLE app WITH NOSUPERUSER LOGIN;
GRANT pg_read_all_data TO backup WITH INHERIT TRUE GRANTED BY postgres;
GRANT app TO backup WITH INHERIT TRUE GRANTED BY postgres;
"""
LIMITED = frozenset({"session_preload_libraries"})
#: A new server has its administrator.
EMPTY = "CREATE ROLE postgres; ALTER ROLE postgres WITH SUPERUSER LOGIN;"


def statements(text: str) -> tuple[Statement, ...]:
    return tuple(read(text))


def wanted(text: str) -> WantedRoles:
    return WantedRoles("main-globals_1.sql.gz", "12" * 32, statements(text))


def live(text: str = EMPTY) -> LiveRoles:
    return LiveRoles("db:5432", statements(text), LIMITED)


def listed(text: str) -> str:
    return digest(all_powers(statements(text)))


def attributes(plan_statements: tuple[Statement, ...], role: str) -> tuple[str, ...]:
    return next(o.tokens for o in plan_statements if o.kind is StatementKind.ATTRIBUTES and o.subject == role)


def test_the_digest_of_a_list_is_the_same_for_ever() -> None:
    powers = [
        Power("backup", "member of pg_read_all_data"),
        Power("backup", "REPLICATION"),
        Power("é", "SUPERUSER"),
    ]
    assert digest(powers) == "SHA256:" + DIGEST
    assert digest(reversed(powers)) == digest(powers)


#: sha256sum of [["backup","REPLICATION"],["backup","member of pg_read_all_data"],["\u00e9","SUPERUSER"]]
DIGEST = "2d8f3075cc33effea9a958c1bd577e18def942c767fe9f0ee0033bb14e539f2f"


def test_a_page_permits_exactly_its_list() -> None:
    plan = decide(wanted(BACKUP), live(), Permitted.of([listed(BACKUP)]))
    assert not plan.withheld
    assert {*plan.powers.values()} == {"the recovery page"}
    assert "REPLICATION" in attributes(plan.statements, "backup")


@pytest.mark.parametrize(
    "more",
    [
        "ALTER ROLE app WITH SUPERUSER LOGIN;",
        "GRANT pg_execute_server_program TO app;",
        "GRANT backup TO app;",
        "ALTER ROLE app SET session_preload_libraries TO 'evil';",
        "GRANT SET ON PARAMETER log_statement TO app;",
        "CREATE ROLE eve; ALTER ROLE eve WITH SUPERUSER;",
    ],
)
def test_one_power_more_than_the_page_lists_is_not_covered_by_it(more: str) -> None:
    plan = decide(wanted(BACKUP + more), live(), Permitted.of([listed(BACKUP)]), withhold=True)
    assert not plan.powers
    assert plan.withheld
    assert not plan.problems


def test_the_value_of_a_setting_that_loads_a_library_is_part_of_the_list() -> None:
    good, evil = (
        f"{BACKUP} ALTER ROLE app SET session_preload_libraries TO '{name}';" for name in ("good", "evil")
    )
    assert listed(good) != listed(evil)


def test_a_power_is_permitted_by_its_name_alone() -> None:
    permitted = Permitted.of(["backup: REPLICATION"])
    plan = decide(wanted(BACKUP), live(), permitted, withhold=True)
    assert [str(one) for one in plan.powers] == ["backup: REPLICATION"]
    assert [str(one) for one in plan.withheld] == ["backup: member of pg_read_all_data"]
    assert plan.granting == ('GRANT "pg_read_all_data" TO "backup" WITH INHERIT TRUE',)
    assert "REPLICATION" in attributes(plan.statements, "backup")
    assert "pg_read_all_data" not in {
        one.names[0] for one in plan.statements if one.kind is StatementKind.MEMBERSHIP
    }


def test_a_role_is_made_without_a_power_that_nobody_permitted() -> None:
    plan = decide(wanted(BACKUP), live(), withhold=True)
    assert plan.create == ("backup", "app")
    assert "NOREPLICATION" in attributes(plan.statements, "backup")
    assert "LOGIN" in attributes(plan.statements, "backup")


def test_a_confirmation_holds_for_its_artifact_only() -> None:
    power = Power("backup", "REPLICATION")
    assert NOTHING.with_confirmed("12" * 32, [power]).by(power, "12" * 32, "") == "by name"
    assert NOTHING.with_confirmed("12" * 32, [power]).by(power, "34" * 32, "") == ""


def test_a_run_that_continues_gives_the_power_that_is_permitted_now_and_nothing_else() -> None:
    made = decide(wanted(BACKUP), live(), withhold=True).statements
    server = LiveRoles("db", (*statements(EMPTY), *made), LIMITED)
    again = decide(wanted(BACKUP), server, Permitted.of([listed(BACKUP)]), withhold=True, continued=True)
    assert [one.sql for one in again.statements] == [
        'ALTER ROLE "backup" WITH REPLICATION',
        'GRANT "pg_read_all_data" TO "backup" WITH INHERIT TRUE',
    ]
    other = statements(BACKUP.replace("NOSUPERUSER LOGIN REPLICATION", "NOSUPERUSER NOLOGIN"))
    existing = LiveRoles("db", other, LIMITED)  # a role of that name which no earlier run has made
    untouched = decide(
        wanted(BACKUP), existing, Permitted.of([listed(BACKUP)]), withhold=True, continued=True
    )
    assert untouched.statements == ()


def test_a_withheld_power_may_be_missing_or_given_since() -> None:
    made = decide(wanted(BACKUP), live(), withhold=True).statements
    server = LiveRoles("db", (*statements(EMPTY), *made), LIMITED)
    assert unlike(wanted(BACKUP), server, NOTHING) == ()
    assert unlike(wanted(BACKUP), live(BACKUP), NOTHING) == ()
    assert unlike(wanted(BACKUP), server, Permitted.of(["backup: REPLICATION"])) == ("backup",)


@pytest.mark.parametrize(
    "role",
    ["backup: REPLICATION", 'a"b', "a\nb", "ｂackup", "backup ", "Backup", "é", "\x1b[2J", "a: b: SUPERUSER"],
)
def test_no_name_of_a_role_is_taken_for_another_one(role: str) -> None:
    text = str(Power(role, "SUPERUSER"))
    assert text.isascii()
    assert text.isprintable()
    assert text not in {str(Power(name, "SUPERUSER")) for name in ("backup", "a", "b")}
    assert text != "backup: REPLICATION: SUPERUSER"
    assert Permitted.of([text]).by(Power(role, "SUPERUSER"), "", "") == "by name"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "SHA256:12",
        "SHA256:" + "G" * 64,
        "backup",
        "backup:SUPERUSER",
        "a: \x1b",
        "é: x",
        "a: " + "b" * 5000,
    ],
)
def test_another_value_of_permit_is_refused(value: str) -> None:
    with pytest.raises(RefnetError, match="--permit") as refused:
        Permitted.of([value])
    assert refused.value.code is Exit.USAGE


def test_a_membership_in_a_role_that_exists_is_a_power() -> None:
    text = BACKUP + "GRANT postgres TO app;"
    assert Power("app", "member of postgres") in all_powers(statements(text))
    assert Power("app", "member of postgres") in needed_powers(statements(text), {"app", "backup"}, LIMITED)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("GRANT pg_read_all_data TO app;", "GRANT pg_read_all_data TO app WITH ADMIN OPTION;"),
        ("GRANT pg_read_all_data TO app WITH INHERIT FALSE, SET FALSE;", "GRANT pg_read_all_data TO app;"),
        ("GRANT SET ON PARAMETER work_mem TO app;", "GRANT ALTER SYSTEM ON PARAMETER work_mem TO app;"),
        ("GRANT SET ON PARAMETER work_mem TO app;", "GRANT ALL ON PARAMETER work_mem TO app;"),
        (
            "GRANT SET ON PARAMETER work_mem TO app;",
            "GRANT SET ON PARAMETER work_mem TO app WITH GRANT OPTION;",
        ),
    ],
)
def test_an_option_that_makes_a_power_larger_is_not_covered_by_the_page(before: str, after: str) -> None:
    plan = decide(wanted(BACKUP + after), live(), Permitted.of([listed(BACKUP + before)]), withhold=True)
    assert not plan.powers


def test_who_joins_a_role_with_powers_is_asked_for_too() -> None:
    """A page of before powers were listed has no digest: each power is confirmed by name, and eve's was not."""
    text = BACKUP + "CREATE ROLE eve; GRANT backup TO eve; CREATE ROLE bob; GRANT eve TO bob;"
    permitted = Permitted.of(["backup: REPLICATION", "backup: member of pg_read_all_data"])
    plan = decide(wanted(text), live(), permitted, withhold=True)
    assert [str(one) for one in plan.withheld] == ["bob: member of eve", "eve: member of backup"]
    assert not {one.subject for one in plan.statements if one.kind is StatementKind.MEMBERSHIP} & {
        "eve",
        "bob",
    }


def test_a_role_that_exists_joins_no_powerful_role_that_nobody_named() -> None:
    app = "CREATE ROLE app; ALTER ROLE app WITH NOSUPERUSER LOGIN;"
    text = f"{app} CREATE ROLE boss; ALTER ROLE boss WITH SUPERUSER; GRANT boss TO app;"
    plan = decide(wanted(text), live(EMPTY + app), Permitted.of(["boss: SUPERUSER"]), withhold=True)
    assert [str(one) for one in plan.withheld] == ["app: member of boss"]
    assert not [one for one in plan.statements if one.kind is StatementKind.MEMBERSHIP]


def test_a_page_permits_no_membership_in_a_role_of_the_server_that_it_does_not_list() -> None:
    text = BACKUP + "CREATE ROLE eve; GRANT app TO eve;"
    app = "CREATE ROLE app; ALTER ROLE app WITH NOSUPERUSER LOGIN;"
    assert listed(text) == listed(BACKUP)
    plan = decide(wanted(text), live(EMPTY + app), Permitted.of([listed(BACKUP)]), withhold=True)
    assert [str(one) for one in plan.withheld] == ["backup: member of app", "eve: member of app"]


def test_a_role_with_powers_takes_no_password_from_a_backup() -> None:
    secret = "PASSWORD 'SCRAM-SHA-256$4096:known'"
    text = BACKUP.replace("LOGIN REPLICATION", f"LOGIN REPLICATION {secret}")
    text = text.replace("app WITH NOSUPERUSER LOGIN", f"app WITH NOSUPERUSER LOGIN {secret}")
    for permitted in (NOTHING, Permitted.of([listed(text)])):
        plan = decide(wanted(text), live(), permitted, withhold=True)
        assert "PASSWORD" not in attributes(plan.statements, "backup")
        assert "PASSWORD" in attributes(plan.statements, "app")
        assert [one for one in plan.lost if one.startswith("the password of backup")]
    plan = decide(wanted(text), live(), Permitted(everything=True), withhold=True)
    assert "PASSWORD" in attributes(plan.statements, "backup")


def test_the_list_is_the_same_whatever_server_is_restored_to() -> None:
    text = BACKUP + "ALTER ROLE app SET log_statement TO 'all'; ALTER ROLE app SET \"pg_tool.level\" TO '1';"
    page = Permitted.of([listed(text)])
    for limited in (frozenset[str](), LIMITED, {"log_statement"}):
        plan = decide(wanted(text), LiveRoles("db", statements(EMPTY), limited), page, withhold=True)
        assert {*plan.powers.values()} == {"the recovery page"}
        assert not plan.withheld
    plan = decide(wanted(text), LiveRoles("db", statements(EMPTY), {"pg_tool.level"}), page, withhold=True)
    assert [one.role for one in plan.withheld] == ["app"]  # limited by an extension there: not on the page


def test_options_that_an_older_server_lacks_are_not_what_the_page_lists() -> None:
    text = BACKUP + "GRANT pg_monitor TO app WITH INHERIT FALSE, SET FALSE;"
    old = LiveRoles("db", statements(EMPTY), LIMITED, options=False)
    plan = decide(wanted(text), old, Permitted.of([listed(text)]), withhold=True)
    assert [str(one) for one in plan.withheld] == ["app: member of pg_monitor"]


def test_a_long_chain_of_members_is_listed_in_bounded_time() -> None:
    number = 20_000
    grants = [f"GRANT r{at} TO r{at + 1};" for at in range(number)]
    found = statements("".join(grants) + "GRANT pg_monitor TO r0;")
    began = time.process_time()
    assert len(all_powers(found)) == number + 1
    assert time.process_time() - began < 5
