"""What a restore of a database would do follows from facts alone; each problem is named, none hides another."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.sources.database.plan.restore_facts import (
    LiveDatabase,
    LiveSessions,
    Permission,
    RowCount,
    ServerFacts,
    WantedBackup,
    Where,
    check_name,
)
from refnet.sources.database.plan.restore_plan import DatabasePlan, PlanOptions, dated_name, decide

GB = 1 << 30
LIVE = LiveDatabase(
    size=GB, owner="refnet", owned=True, tables={"public.papers": RowCount(120, exact=True, newer=20)}
)
FACTS = ServerFacts(
    database="refnet",
    version=180006,
    user="refnet",
    superuser=True,
    createdb=True,
    standby=False,
    owners=frozenset({"refnet"}),
    roles=frozenset({"refnet"}),
    extensions={"pg_trgm": "1.6"},
    tablespaces=frozenset({"pg_default"}),
    free=100 * GB,
    live=LIVE,
    server="localhost:5432",
    system="1",
)
WANTED = WantedBackup(
    name="refnet_20261125_020000.sql.gz",
    version=180006,
    moment=datetime(2026, 11, 25, 2, tzinfo=UTC),
    owner="refnet",
    bytes=GB,
    tables={"public.papers": 100},
    roles=("refnet",),
    extensions=(("pg_trgm", "1.6"),),
    database="refnet",
    system="1",
)


def plan(
    wanted: dict[str, Any] | None = None, facts: dict[str, Any] | None = None, *, create_roles: bool = False
) -> DatabasePlan:
    return decide(
        replace(WANTED, **wanted or {}),
        replace(FACTS, **facts or {}),
        PlanOptions(1, create_roles=create_roles),
    )


def test_a_valid_plan_lists_its_steps_in_order_and_says_what_it_replaces() -> None:
    decided = plan()
    decided.check()
    assert decided.replaces
    assert [
        word in step
        for word, step in zip(("load", "ANALYZE", "compare", "swap", "keep"), decided.steps, strict=True)
    ] == [True] * 5
    assert decided.notes == ()
    assert decided.tables() == [
        {"name": "public.papers", "rows": 100, "live_rows": 120, "live_rows_exact": True, "written_since": 20}
    ]


def test_a_missing_database_is_created_and_nothing_live_is_replaced() -> None:
    decided = plan(facts={"live": None})
    assert not decided.replaces
    assert "which no database is called now" in decided.steps[-1]
    assert decided.tables()[0]["live_rows"] is None


@pytest.mark.parametrize(
    ("wanted", "facts", "message"),
    [
        ({"partial": True}, {}, "contains only some tables"),
        ({}, {"standby": True}, "is a standby"),
        ({"version": 190000}, {}, "comes from PostgreSQL 19 and the server is 18"),
        ({}, {"superuser": False, "createdb": False}, "may not create databases"),
        ({"roles": ("a", "refnet", "b")}, {}, "roles missing on the server: a, b"),
        ({"extensions": (("vector", "0.8"),)}, {}, "extensions not available on the server: vector"),
        ({"tablespaces": ("fast",)}, {}, "tablespaces missing on the server: fast"),
        (
            {"owner": "other"},
            {"superuser": False, "roles": frozenset({"refnet", "other"})},
            "may not give objects to their owners other",
        ),
        ({}, {"free": GB}, "needs about 2.0 GiB beside the live database, and 1.0 GiB is free"),
        ({}, {"live": replace(LIVE, owned=False, owner="dba")}, "does not own refnet"),
        (
            {},
            {"live": replace(LIVE, prepared=("left open",))},
            "prepared transaction is open in refnet: left open",
        ),
        ({}, {"live": replace(LIVE, subscriptions=("news",))}, "subscription news writes into refnet"),
        ({}, {"live": replace(LIVE, sessions=(LiveSessions("psql", "dba", 1, ours=False),))}, "psql of dba"),
    ],
)
def test_each_problem_is_named_alone(wanted: dict[str, Any], facts: dict[str, Any], message: str) -> None:
    decided = plan(wanted, facts)
    assert [message in problem.message for problem in decided.problems] == [True]
    assert decided.problems[0].hint


def test_the_first_problem_is_raised_and_the_others_are_counted() -> None:
    with pytest.raises(RefnetError, match=r"standby.*\(and 1 more: see --plan\)") as caught:
        plan({"version": 190000}, {"standby": True}).check()
    assert caught.value.code is Exit.FAILED


def test_roles_are_created_only_when_asked_and_only_by_a_superuser() -> None:
    new = {"roles": ("new",), "powers": {"new": ()}}
    assert plan(new, create_roles=True).problems == ()
    assert plan(new, create_roles=True).create_roles == ("new",)
    assert "without passwords" in plan(new, create_roles=True).steps[0]
    refused = plan(new, {"superuser": False}, create_roles=True)
    assert "may not create the roles new" in refused.problems[0].message
    assert refused.problems[0].hint == "CREATE ROLE new; or restore as a superuser."


def test_a_missing_role_without_recorded_attributes_is_never_created() -> None:
    decided = plan({"roles": ("new",)}, create_roles=True)
    assert decided.create_roles == ()
    (problem,) = decided.problems
    assert problem.message == "roles missing on the server: new"
    assert problem.hint == "CREATE ROLE new;"


@pytest.mark.parametrize(
    ("wanted", "facts", "note"),
    [
        ({}, {"free": None}, "could not verify: free space on the server"),
        ({"version": None}, {}, "could not verify: the PostgreSQL version"),
        ({"extensions": (("pg_trgm", "1.5"),)}, {}, "pg_trgm is created in version 1.6; it was 1.5"),
        ({}, {"live": replace(LIVE, slots=("cdc",))}, "slot cdc stays with the previous version"),
        (
            {},
            {"live": replace(LIVE, tables={"public.later": RowCount(1, exact=True)})},
            "only in the live database",
        ),
    ],
)
def test_what_is_to_be_known_is_a_note_and_stops_nothing(
    wanted: dict[str, Any], facts: dict[str, Any], note: str
) -> None:
    decided = plan(wanted, facts)
    assert decided.problems == ()
    assert any(note in one for one in decided.notes)


@pytest.mark.parametrize(("name", "length"), [("refnet", 29), ("x" * 63, 63), ("研究" * 10, 62)])
def test_a_dated_name_fits_an_identifier_and_is_whole_text(name: str, length: int) -> None:
    made = dated_name(name, "before", datetime(2026, 11, 25, 2, 3, 4, tzinfo=UTC))
    assert made.endswith("_before_20261125_020304")
    assert len(made.encode()) == length
    assert name.startswith(made.removesuffix("_before_20261125_020304"))


BOSS: dict[str, Any] = {"roles": ("boss",), "powers": {"boss": ("SUPERUSER",)}}


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (BOSS, "SUPERUSER"),
        (
            {"roles": ("boss",), "powers": {"boss": ()}, "member_of": {"boss": ("refnet", "gone")}},
            "member of refnet",
        ),
    ],
)
def test_a_role_with_powers_is_shown_and_created_only_on_request(wanted: dict[str, Any], told: str) -> None:
    refused = plan(wanted, create_roles=True)
    assert f"boss ({told})" in refused.steps[0]
    assert [f"asks for: {told}" in problem.message for problem in refused.problems] == [True]
    asked = decide(replace(WANTED, **wanted), FACTS, PlanOptions(1, create_roles=True, role_powers=True))
    assert (asked.problems, asked.role_powers) == ((), {"boss": (told,)})


def test_membership_in_roles_of_the_same_file_gives_a_role_no_powers() -> None:
    wanted = {"roles": ("a", "b"), "powers": {"a": (), "b": ()}, "member_of": {"a": ("b",)}}
    assert plan(wanted, create_roles=True).problems == ()


def test_only_a_superusers_restore_runs_code_with_superuser_rights() -> None:
    assert plan().runs_as_superuser == "refnet"
    assert plan(facts={"superuser": False}).runs_as_superuser == ""


@pytest.mark.parametrize(
    ("wanted", "facts", "message", "hint"),
    [
        ({"superuser": ("event trigger x",)}, {}, "need one: event trigger x", "Restore as a superuser"),
        (
            {"extensions": (("pg_trgm", "1.6"),)},
            {"restricted": frozenset({"pg_trgm"})},
            "need one: extension pg_trgm",
            "Restore as a superuser",
        ),
        (
            {"owners": ("app", "refnet"), "roles": ("app", "refnet")},
            {"roles": frozenset({"app", "refnet"})},
            "may not give objects to their owners app",
            "GRANT app TO refnet WITH INHERIT TRUE, SET TRUE",
        ),
        (
            {"owners": ("user", 'The "app"', "refnet")},
            {"roles": frozenset({"user", 'The "app"', "refnet"})},
            'may not give objects to their owners user, The "app"',
            'GRANT "user", "The ""app""" TO refnet WITH INHERIT TRUE, SET TRUE',
        ),
    ],
)
def test_objects_needing_superuser_rights_are_a_problem_for_other_roles(
    wanted: dict[str, Any], facts: dict[str, Any], message: str, hint: str
) -> None:
    (problem,) = plan(wanted, {**facts, "superuser": False}).problems
    assert message in problem.message
    assert hint in problem.hint
    assert plan(wanted, facts).problems == ()


@pytest.mark.parametrize(
    ("wanted", "facts", "named", "words"),
    [
        ({}, {}, None, None),
        ({"database": "wiki"}, {}, None, "the database wiki of the same server"),
        ({"database": "wiki"}, {"live": None}, None, "the database wiki"),
        ({"database": "wiki"}, {}, "wiki", None),
        ({"database": "wiki"}, {}, "shop", "the database wiki, not shop"),
        ({"system": "2"}, {}, None, "another server .system identifier 2."),
        ({"system": "2"}, {}, "refnet", None),
        ({"system": "2"}, {"live": None}, None, None),
        ({"system": "2"}, {"live": replace(LIVE, occupied=False)}, None, None),
        ({"system": None}, {}, None, None),
        ({"system": "2"}, {"system": None}, None, None),
        ({"database": None}, {}, None, None),
    ],
)
def test_what_was_backed_up_of_one_database_replaces_another_only_by_name(
    wanted: dict[str, Any], facts: dict[str, Any], named: str | None, words: str | None
) -> None:
    decided = decide(
        replace(WANTED, **wanted), replace(FACTS, **facts), PlanOptions(1, permission=Permission(named))
    )
    if words is None:
        decided.check()
    else:
        with pytest.raises(RefnetError, match=words) as refused:
            decided.check()
        assert refused.value.code is Exit.USAGE
    if wanted and named is None and words is None:
        assert decided.notes


def test_a_new_database_touches_nothing_live_and_must_not_exist_yet() -> None:
    permission = Permission("refnet")
    there = replace(FACTS, database="other", live=None)
    decided = decide(WANTED, there, PlanOptions(1, permission=permission, where=Where.NEW))
    assert decided.problems == ()
    assert not any("disconnect" in step or "keep" in step for step in decided.steps)
    assert decided.steps[-1] == "name it other; nothing live is touched"
    taken = replace(there, live=replace(LIVE, owned=False, prepared=("open",)))
    refused = decide(WANTED, taken, PlanOptions(1, permission=permission, where=Where.NEW)).problems
    assert ["other on localhost:5432 exists already" in one.message for one in refused] == [True]
    assert refused[0].code is Exit.USAGE


def test_a_previous_version_on_another_server_is_not_said_to_be_pruned() -> None:
    decided = decide(WANTED, FACTS, PlanOptions(1, where=Where.ELSEWHERE))
    assert "until you drop it" in decided.steps[-1]


def test_a_server_of_another_version_is_named() -> None:
    assert plan({"version": 150004}).notes == ("it comes from PostgreSQL 15, and the server is 18",)


@pytest.mark.parametrize(
    "name", ["", "  ", "a\0b", "a\nb", "a\udcffb", "é" * 32, "x" * 64, "shop_before_20261125_020000"]
)
def test_a_name_that_would_be_changed_or_taken_for_refnets_own_is_refused(name: str) -> None:
    with pytest.raises(RefnetError, match="--as: ") as refused:
        check_name(name, "--as")
    assert refused.value.code is Exit.USAGE
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("name", ["shop_copy", 'a "b"', "..", "A" * 63, "é" * 31])
def test_any_other_name_is_taken(name: str) -> None:
    check_name(name, "--as")
