"""Pings and messages through a real HTTP server; nothing that it does fails a backup."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.listening import Service
from tests.unit.telemetry.conftest import World

from refnet import settings
from refnet.actions import monitor
from refnet.actions.choose import Selected, choose
from refnet.actions.drill import prove
from refnet.actions.watching import open_watch
from refnet.catalog.run import Ended, Reason, RunKind
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.telemetry import notify, watch
from refnet.telemetry.watch import Watch


def _settings(home: Path, service: Service, patience: int = 20) -> settings.Settings:
    given = {
        "REFNET_HOME": str(home),
        "REFNET_BACKUP_DIR": str(home / "backups"),
        "REFNET_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/none",
        "REFNET_NOTIFY_URLS": f"json://{service.url}/message?rto={patience}&cto={patience}",
        "REFNET_NOTIFY_BACKUP_PING": f"http://{service.url}/backup-{{source}}?x=1",
        "REFNET_NOTIFY_DRILL_PING": f"http://{service.url}/drill-{{source}}",
    }
    return settings.load(given, home, root=True, cores=1)


def _watch(given: settings.Settings, world: World, notes: list[str]) -> Watch:
    return open_watch(Context(given, Clock(lambda: world.now), note=notes.append))


def test_a_run_pings_its_start_and_its_success_and_says_nothing_else(home: World, service: Service) -> None:
    notes: list[str] = []
    with _watch(_settings(home.home, service), home, notes).run(
        RunKind.BACKUP, SourceName.DATABASE
    ) as at_work:
        at_work.done("refnet_x.sql.gz")
    with _watch(_settings(home.home, service), home, notes).run(RunKind.DRILL, SourceName.DATABASE):
        pass
    assert service.asked == [
        "/backup-database/start?x=1",
        "/backup-database?x=1",
        "/drill-database/start",
        "/drill-database",
    ]
    assert notes == []


def test_a_failure_and_its_end_are_sent_once_each_without_a_secret(home: World, service: Service) -> None:
    given, notes = _settings(home.home, service), []
    for _ in range(3):
        with pytest.raises(RefnetError), _watch(given, home, notes).run(RunKind.BACKUP, SourceName.DATABASE):
            raise RefnetError("postgresql://u:hunter2@h/x is down (hunter2)", "start it")
        home.now += (home.now - home.now).resolution
    with _watch(given, home, notes).run(RunKind.BACKUP, SourceName.DATABASE):
        home.artifact(ago=-(home.now - home.now).resolution)
    assert service.titles == ["database backup fails", "database backup recovered"]
    failed, recovered = (json.loads(body)["message"] for body in service.bodies if body)
    assert "start it" in failed
    for message in (failed, recovered):
        assert message.endswith("\n\ndatabase: none on 127.0.0.1:1")
    assert not any("hunter2" in body for body in service.bodies)
    assert service.asked.count("/backup-database/fail?x=1") == 3
    assert "hunter2" not in (home.home / "runs" / "journal.jsonl").read_text()
    assert notes == []


@pytest.mark.parametrize("transient", [True, False])
def test_a_failure_that_can_pass_and_is_tried_again_soon_is_not_told(
    home: World, service: Service, transient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = _watch(_settings(home.home, service), home, [])
    with pytest.raises(RefnetError), watch.run(RunKind.BACKUP, SourceName.DATABASE, again=True):
        raise RefnetError("down", "wait", transient=transient)
    assert ("/backup-database/fail?x=1" in service.asked) is not transient

    def full(*_: object, **__: object) -> None:
        raise RefnetError("full", "make room", transient=transient)

    monkeypatch.setattr("refnet.actions.drill.verify", full)
    chosen = Selected(choose(home.store, [SourceName.DATABASE]))
    with pytest.raises(RefnetError):
        prove(Context(settings.Settings()), chosen, watch=watch, again=True)
    assert ("/drill-database/fail" in service.asked) is not transient


@pytest.mark.parametrize("status", [500, 404])
def test_a_service_that_refuses_fails_nothing_and_is_named_without_url(
    home: World, service: Service, status: int
) -> None:
    service.status, notes = status, []
    given = replace(_settings(home.home, service), log_folder=home.home)
    with _watch(given, home, notes).run(RunKind.BACKUP, SourceName.DATABASE) as at_work:
        at_work.failed(Reason.DAMAGED, "damaged")
    assert home.journal.history().runs[-1].reason is Reason.DAMAGED
    assert f"the ping service answered {status}" in notes
    assert not any(service.url in note for note in notes)
    lines = [json.loads(line) for line in (home.home / "refnet-backup.log").read_text().splitlines()]
    assert {line.get("run") for line in lines} == {at_work.run.id}
    assert {line["event"] for line in lines} > set(notes)


def test_a_service_that_never_answers_fails_nothing_and_delays_briefly(
    home: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TIMEOUT", 0.3)
    service.silent.clear()
    notes: list[str] = []
    given = _settings(home.home, service, patience=1)
    with _watch(given, home, notes).run(RunKind.BACKUP, SourceName.DATABASE) as at_work:
        at_work.failed(Reason.DAMAGED, "damaged")
    assert (len(service.asked) > 0, service.answered) == (True, 0)
    assert home.journal.history().runs[-1].ended is Ended.FAILED
    assert any("the ping service did not answer" in note for note in notes)
    assert notify.DEADLINE <= 30


def test_a_notification_waits_no_longer_than_the_deadline_for_an_answer(
    home: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "DEADLINE", 0.5)
    service.silent.clear()
    home.run(failed=Reason.SERVER)
    given = _settings(home.home, service)
    begin = time.monotonic()
    assert monitor.notify(Context(given, Clock(lambda: home.now))) == [
        "the notification did not answer within 0.5 s"
    ]
    assert time.monotonic() - begin < 10


def test_a_home_that_cannot_be_written_fails_nothing_and_is_told(tmp_path: Path, service: Service) -> None:
    (tmp_path / "runs").write_text("a file where the folder belongs")
    notes: list[str] = []
    with _watch(_settings(tmp_path, service), World(tmp_path), notes).run(RunKind.BACKUP, SourceName.CONFIG):
        pass
    assert any("cannot record the run" in note for note in notes)


def test_the_log_names_each_step_once_a_minute_with_its_bytes(home: World, service: Service) -> None:
    given = replace(_settings(home.home, service), log_folder=home.home)
    seconds, shown = [0.0], []
    clock = Clock(lambda: home.now, lambda: seconds[0])
    with open_watch(Context(given, clock)).run(RunKind.BACKUP, SourceName.DATABASE) as at_work:
        progress = at_work.logged(lambda *step: shown.append(step))
        for at, step in (
            (0, ("dump", 1, 9)),
            (59, ("dump", 5, 9)),
            (60, ("dump", 6, 9)),
            (61, ("load", 0, None)),
        ):
            seconds[0] = at
            progress(*step)
    lines = [json.loads(line) for line in (home.home / "refnet-backup.log").read_text().splitlines()]
    told = [(one["step"], one.get("bytes"), one.get("total")) for one in lines if one["event"] == "progress"]
    assert told == [("dump", 1, 9), ("dump", 6, 9), ("load", None, None)]
    assert len(shown) == 4
    assert {one["database"] for one in lines} == {"none on 127.0.0.1:1"}
