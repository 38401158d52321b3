"""An order: what reaches the command line, what confirms it, and what makes it another one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings, SourceSettings
from refnet.web.orders import ByHand, Order, OrderPlan, Refusal, Verb, by_hand, read_plan

NOTES, SHOP = SourceName("notes", Kind.FOLDER), SourceName("shop", Kind.DATABASE)
ARTIFACT = "refnet_20261125_105258.sql.gz"
PREVIOUS = "refnet_before_20261125_105258"
RESTORE = Order(Verb.RESTORE, SourceName.DATABASE, ARTIFACT)
VALUES: dict[str, Any] = {
    "artifact": ARTIFACT,
    "database": "refnet",
    "replaces": True,
    "problems": [],
    "bytes_free": 5,
}


def plan(order: Order = RESTORE, sha256: str = "aa", **values: Any) -> OrderPlan:
    return OrderPlan(order, VALUES | values, sha256)


def test_the_words_of_an_order_are_those_of_the_command_line() -> None:
    assert RESTORE.words == ("restore", "database", ARTIFACT)
    assert (
        Order(Verb.RESTORE, SourceName.DATABASE, ARTIFACT, "a b").command
        == f"refnet restore database {ARTIFACT} '--as=a b'"
    )
    at = Order(Verb.RESTORE, NOTES, at="2026-11-25T02:00:00+00:00")
    assert at.words == ("restore", "notes", "--at=2026-11-25T02:00:00+00:00")
    assert Order(Verb.UNDO, NOTES).words == ("undo", "notes")
    assert Order(Verb.UNDO, SourceName.DATABASE, PREVIOUS).words == ("undo", "database", PREVIOUS)


@pytest.mark.parametrize(
    ("verb", "source", "name", "beside"),
    [
        (Verb.RESTORE, SourceName.DATABASE, "--to=postgresql://elsewhere/x", ""),
        (Verb.RESTORE, SourceName.DATABASE, "/etc/passwd", ""),
        (Verb.RESTORE, SourceName.DATABASE, "a\nb", ""),
        (Verb.RESTORE, SourceName.DATABASE, ARTIFACT, "refnet_before_20261125_105258"),
        (Verb.RESTORE, SourceName.DATABASE, ARTIFACT, "x" * 64),
        (Verb.RESTORE, NOTES, "notes_20261125_105258.tar.gz", "copy"),
        (Verb.UNDO, SourceName.DATABASE, "postgres", ""),
        (Verb.UNDO, SourceName.DATABASE, "--force", ""),
        (Verb.UNDO, SourceName.DATABASE, "-x_before_20261125_105258", ""),
        (Verb.UNDO, SourceName.DATABASE, PREVIOUS, "copy"),
    ],
)
def test_no_name_becomes_an_option_or_a_path(verb: Verb, source: SourceName, name: str, beside: str) -> None:
    with pytest.raises(RefnetError) as refused:
        Order(verb, source, name, beside)
    assert refused.value.code is Exit.USAGE


def test_where_from_and_where_to_are_options_of_the_command_line() -> None:
    away = Order(Verb.RESTORE, NOTES, "a.tar.gz", to="/srv/my notes/old", merge=True)
    assert away.command == "refnet restore notes a.tar.gz '--to=/srv/my notes/old' --merge"
    copy = Order(Verb.RESTORE, NOTES, "a.tar.gz", store="nas")
    assert copy.command == "refnet restore notes a.tar.gz --store=nas"
    far = copy.command_from("s3://bucket/p?endpoint=https://s3.example.org", "SHA256:abc")
    assert (
        far
        == "refnet restore notes a.tar.gz '--store=s3://bucket/p?endpoint=https://s3.example.org' --signer=SHA256:abc"
    )
    for wrong in ({"merge": True}, {"to": "a\nb"}, {"to": "x" * 5000}, {"to": "/x", "beside": "y"}):
        with pytest.raises(RefnetError):
            Order(Verb.RESTORE, SourceName.DATABASE, ARTIFACT, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "asked", "why"),
    [
        (NOTES, {}, None),
        (NOTES, {"to": "{notes}-2026"}, None),
        (NOTES, {"store": "nas"}, ByHand.REMOTE),
        (SourceName("main-cluster", Kind.CLUSTER), {}, ByHand.WHOLE),
        *((NOTES, {"to": to}, ByHand.ELSEWHERE) for to in ("{notes}", "{notes}/there", "{notes}/link/x", "{notes}/x", "{notes}/../x", "{notes}-there", "{notes}/../.notes", "{notes}/link/notes-x",
           "/etc/cron.d/x", "relative", "~/x", "{other}/x", "postgresql://db/x")),
        (SHOP, {"to": "postgresql://keeper@db.example:5432/new"}, None),
        *((SHOP, {"to": to}, ByHand.ELSEWHERE) for to in ("postgresql://elsewhere/new", "postgresql://db.example:5433/new",
           "postgresql://u:secret@db.example/new", "postgresql://db.example/new?passfile=/etc/passwd",
           "postgresql://db.example/?host=evil", "/srv/x", "postgresql://", "http://db.example/new")),
    ],
)  # fmt: skip
def test_a_page_restores_only_where_nothing_can_become_a_program(
    tmp_path: Path, source: SourceName, asked: dict[str, str], why: ByHand | None
) -> None:
    places = {name: tmp_path / name for name in ("notes", "other")}
    for one in places.values():
        one.mkdir()
    (places["notes"] / "there").touch()
    (tmp_path / "notes-there").touch()
    (places["notes"] / "link").symlink_to("/etc")
    settings = Settings(
        sources={
            **{name: SourceSettings(name, "folders", path=path) for name, path in places.items()},
            "shop": SourceSettings("shop", "databases", url="postgresql://backup:secret@db.example/shop"),
        }
    )
    named = {key: value.format(**places) for key, value in asked.items()}
    assert by_hand(Order(Verb.RESTORE, source, "a", **named), settings) is why
    assert (
        by_hand(Order(Verb.RESTORE, source, "a"), replace(settings, encryption_local=True))
        is ByHand.ENCRYPTED
    )


def test_a_restore_elsewhere_replaces_nothing() -> None:
    away = Order(Verb.RESTORE, SHOP, ARTIFACT, to="postgresql://db.example/new")
    assert plan(away, replaces=True).replaces_elsewhere
    assert not plan(away, replaces=False).replaces_elsewhere
    assert not plan(replaces=True).replaces_elsewhere


def test_the_tables_of_a_plan_are_a_table_and_no_lines_of_its_text() -> None:
    text = "Restore a as b:\n  1. load\ntable     rows  live  written since\nshop.a       7     6              -\nnote: more\n"
    row = {"name": "shop.a", "rows": 7, "live_rows": 6, "live_rows_exact": False, "written_since": None}
    assert plan(tables=[row]).tables == [row]
    assert plan(tables=[row]).without_tables(text) == "Restore a as b:\n  1. load\nnote: more\n"
    for others in ([row, row], [row | {"name": "shop.b"}], [row, row | {"name": "note: more"}, row]):
        assert plan(tables=others).without_tables(text) == text
    for forged in ([row] * 101, [{"table": "a"}], [row | {"rows": "x"}], "tables"):
        assert plan(tables=forged).tables == ()
    assert plan().tables == []


def test_what_replaces_nothing_runs_without_force_so_that_it_refuses_what_appears_meanwhile() -> None:
    away = Order(Verb.RESTORE, SHOP, ARTIFACT, to="postgresql://db.example/new")
    assert plan(away, replaces=False).to_run == away.words
    assert plan(replaces=True).to_run == (*plan().order.words, "--force")
    undo = OrderPlan(Order(Verb.UNDO, NOTES), {"folder": "/srv/notes"})
    assert undo.to_run == ("undo", "notes", "--force")


def test_a_database_is_confirmed_by_name_and_a_folder_by_its_source() -> None:
    assert plan().name_to_type == "refnet"
    assert OrderPlan(Order(Verb.UNDO, NOTES), {"folder": "/srv/all my notes"}).name_to_type == "notes"


def test_only_the_plan_that_was_shown_and_the_right_name_start_it() -> None:
    shown = plan()
    right = {"fingerprint": shown.fingerprint, "typed": " refnet "}
    assert shown.refusal(right) is None
    assert shown.refusal(right | {"typed": "Refnet"}) is Refusal.NAME
    assert shown.refusal({"fingerprint": shown.fingerprint}) is Refusal.NAME
    assert shown.refusal({"typed": "refnet"}) is Refusal.CHANGED
    assert plan(problems=[{"message": "a", "hint": "b"}]).refusal(right) is Refusal.PROBLEMS


@pytest.mark.parametrize(
    "other",
    [
        plan(sha256="bb"),
        plan(artifact="refnet_20261126_105258.sql.gz"),
        plan(database="other"),
        plan(replaces=False),
        plan(notes=["hook after_restore: rm"]),
        plan(Order(Verb.RESTORE, SourceName.DATABASE, ARTIFACT, "copy")),
    ],
)
def test_another_plan_has_another_fingerprint(other: OrderPlan) -> None:
    assert other.fingerprint != plan().fingerprint


def test_what_changes_while_the_database_is_in_use_is_the_same_plan() -> None:
    busy = plan(
        bytes_free=1, live_bytes=7, connections=[{"user": "a"}], tables=[{"name": "t", "live_rows": 3}]
    )
    assert busy.fingerprint == plan().fingerprint


@pytest.mark.parametrize("stdout", ["", "no JSON", "[]", "{}", "[" * 100_000])
def test_what_is_no_plan_is_the_error_of_the_command(stdout: str) -> None:
    with pytest.raises(RefnetError, match="is damaged") as failed:
        read_plan(RESTORE, 4, stdout, "refnet: note: x\nrefnet: it is damaged\n        Take another.\n")
    assert (failed.value.hint, failed.value.code) == ("Take another.", Exit.DAMAGED)
    with pytest.raises(RefnetError, match="exit code -9"):
        read_plan(RESTORE, -9, stdout, "Traceback\nx")


def test_a_plan_with_problems_is_read_although_its_exit_code_is_one() -> None:
    found = read_plan(RESTORE, 1, json.dumps(VALUES | {"problems": [{"message": "a", "hint": "b"}]}), "")
    assert found.problems == [{"message": "a", "hint": "b"}]
