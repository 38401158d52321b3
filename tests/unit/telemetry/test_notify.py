"""One message when something starts to fail, one when it has recovered, none between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.telemetry.conftest import World

from refnet.catalog.monitoring import Check, Status
from refnet.catalog.run import Reason, RunKind
from refnet.catalog.source_name import SourceName
from refnet.telemetry.notify import Message, ReportedProblem, decide, findings, report, within

_AT = datetime(2026, 11, 1, tzinfo=UTC)


def test_a_month_with_one_failure_and_one_damage_is_four_messages(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, now=_AT, configured=frozenset({SourceName.DATABASE}))
    told: list[tuple[str, Message]] = []
    broken = None
    for hour in range(2, 30 * 24):  # from the first backup on
        world.now = _AT + timedelta(hours=hour)
        day, clock = divmod(hour, 24)
        if clock == 2 and day == 2:
            world.run(failed=Reason.NO_SPACE)
        elif clock == 2:
            world.run()
            made = world.artifact(ago=timedelta(0))
            broken = made if day == 10 else broken
            for entry in world.store.entries():  # seven days are kept
                if world.now - entry.created > timedelta(days=7):
                    world.store.delete(entry)
        if clock == 5 and day in (0, 28):
            world.run(kind=RunKind.DRILL)
        if (day, clock) == (12, 9) and broken:
            world.damage(broken)
        _report(world, told)
    said = [(at, message.title.partition(": ")[2]) for at, message in told]
    assert said == [
        ("11-03 02", "database backup fails"),
        ("11-04 02", "database backup recovered"),
        ("11-13 09", "database damage fails"),
        ("11-19 02", "database damage recovered"),
    ]
    assert "what is wrong" in told[0][1].body
    assert "refnet_20261111" in told[2][1].body


def _report(world: World, told: list[tuple[str, Message]]) -> None:
    def send(message: Message) -> list[str]:
        told.append((f"{world.now:%m-%d %H}", message))
        return []

    def look() -> dict[str, str | None]:
        facts = world.facts()
        return findings(facts.checks(), facts.history)

    assert report(world.home, look, send, now=lambda: world.now, host="lab") == []


_BAD = Check(SourceName.DATABASE, "age", Status.CRITICAL, "too old")
_GOOD = Check(SourceName.DATABASE, "age", Status.OK, "fresh")
_BLIND = Check(None, "the store", Status.UNKNOWN, "the disk is not mounted")


def _decide(
    previous: dict[str, ReportedProblem], *checks: Check
) -> tuple[list[str], dict[str, ReportedProblem]]:
    from refnet.catalog.run import History

    state, steps = decide(previous, findings(checks, History()), _AT, "lab")
    return [message.title for message, _ in steps], steps[-1][1] if steps else state


def test_a_store_that_cannot_be_read_does_not_make_anything_recover() -> None:
    _, state = _decide({}, _BAD)
    titles, state = _decide(state, _BLIND)
    assert titles == ["RefNet on lab: all store fails"]
    assert set(state) == {"database backup", "all store"}
    titles, state = _decide(state, _GOOD)
    assert titles == ["RefNet on lab: database backup recovered (and 1 more)"]
    assert state == {}


def test_related_checks_are_one_problem_and_simultaneous_ones_one_message() -> None:
    last = Check(SourceName.DATABASE, "last run", Status.WARNING, "failed: full")
    damage = Check(SourceName.CONFIG, "damage", Status.CRITICAL, "damaged: config_1")
    titles, state = _decide({}, _BAD, last, damage)
    assert len(titles) == 1
    assert set(state) == {"database backup", "config damage"}
    assert _decide(state, _BAD, damage) == ([], state)


def test_a_source_that_is_no_longer_looked_at_is_forgotten_in_silence() -> None:
    _, state = _decide({}, _BAD)
    assert _decide(state, Check(SourceName.CONFIG, "age", Status.OK, "")) == ([], {})


@pytest.mark.parametrize(
    "check",
    [
        Check(SourceName.DATABASE, "age", Status.NEW, "no artifact yet"),
        Check(None, "free space", Status.UNKNOWN, "cannot be known here"),
        Check(None, "leftovers", Status.WARNING, "prune cleans them"),
    ],
)
def test_what_is_no_news_for_a_person_is_no_message(check: Check) -> None:
    assert _decide({}, check) == ([], {})


def test_a_message_that_no_service_took_is_sent_again_the_next_time(tmp_path: Path) -> None:
    sent: list[str] = []

    def refuse(_message: Message) -> list[str]:
        raise ConnectionError("nobody took it")

    def take(message: Message) -> list[str]:
        sent.append(message.title)
        return []

    def look() -> dict[str, str | None]:
        return {"database backup": "failed"}

    assert report(tmp_path, look, refuse, now=lambda: _AT, host="lab") == ["nobody took it"]
    for _ in range(2):
        assert report(tmp_path, look, take, now=lambda: _AT, host="lab") == []
    assert sent == ["RefNet on lab: database backup fails"]


def test_a_delivered_message_is_not_resent_because_the_next_one_failed(tmp_path: Path) -> None:
    sent: list[str] = []

    def take(message: Message) -> list[str]:
        sent.append(message.title)
        return []

    def take_one(message: Message) -> list[str]:
        if "recovered" in message.title:
            raise ConnectionError("too many messages")
        return take(message)

    def look(database: str | None, config: str | None) -> dict[str, str | None]:
        return {"database backup": database, "config backup": config}

    report(tmp_path, lambda: look("failed", None), take, now=lambda: _AT, host="lab")
    for send in (take_one, take_one, take):
        report(tmp_path, lambda: look(None, "failed"), send, now=lambda: _AT, host="lab")
    assert sent == [
        "RefNet on lab: database backup fails",
        "RefNet on lab: config backup fails",
        "RefNet on lab: database backup recovered",
    ]


def test_what_was_told_survives_a_file_that_a_crash_cut_short(tmp_path: Path) -> None:
    (tmp_path / "notify.json").write_text('{"database ba')
    assert report(tmp_path, lambda: {"database backup": None}, lambda _m: [], now=lambda: _AT, host="x") == []


def test_whoever_does_not_answer_in_time_is_left_to_itself() -> None:
    import threading

    for_ever = threading.Event()
    said = within(0.05, "the service", lambda: [str(for_ever.wait())])
    assert said == ["the service did not answer within 0.05 s"]
    for_ever.set()
