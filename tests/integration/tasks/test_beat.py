"""A real beat: it sends what is due, once, also what fell due while nobody was there."""

from __future__ import annotations

import os
import shelve
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from celery.schedules import crontab

from refnet import tasks
from refnet.broker import server
from refnet.core.errors import Exit
from refnet.scheduling import beat, places
from refnet.settings import load

from .conftest import Place, until

STARTED = "beat: Starting"


def test_the_schedule_is_that_of_the_specification(monkeypatch, tmp_path):
    monkeypatch.setenv("REFNET_HOME", str(tmp_path))
    schedule = tasks.CELERY_BEAT_SCHEDULE
    assert {name: schedule[name] for name in list(schedule)[:3]} == {
        "daily-database-backup": {
            "task": "refnet.tasks.backup_database",
            "schedule": crontab(hour=2, minute=0),
            "options": {"priority": 9},
        },
        "weekly-config-backup": {
            "task": "refnet.tasks.backup_config",
            "schedule": crontab(day_of_week=0, hour=3, minute=0),
            "options": {"priority": 8},
        },
        "daily-obsidian-backup": {
            "task": "refnet.tasks.backup_obsidian",
            "schedule": crontab(hour=1, minute=0),
            "options": {"priority": 7},
        },
    }
    assert {entry["task"] for entry in schedule.values()} <= set(tasks.app.tasks)


def test_a_schedule_in_the_settings_is_that_of_beat(monkeypatch, tmp_path):
    monkeypatch.setenv("REFNET_HOME", str(tmp_path))
    monkeypatch.setenv("REFNET_SCHEDULE_DRILL", "monthly 15 22:30")
    entry = tasks.CELERY_BEAT_SCHEDULE["monthly-recovery-drill"]
    assert entry["schedule"] == crontab(minute=30, hour=22, day_of_month=15)


def test_celery_reckons_the_next_run_as_we_do(tmp_path):
    settings = load(
        {
            "REFNET_HOME": str(tmp_path),
            "REFNET_SCHEDULE_TIMEZONE": "Asia/Tokyo",
            "REFNET_SCHEDULE_UPDATE": "monday 07:00",
        },
        tmp_path,
        root=False,
        cores=1,
    )
    schedule, now = settings.schedule, datetime(2026, 11, 25, 15, 59, 30, tzinfo=UTC)
    app = Celery(set_as_current=False)
    app.conf.timezone = beat.zone_name(schedule)
    for name, (entry, _, _) in beat.ENTRIES.items():
        rule = beat.beat_schedule(schedule)[entry]["schedule"]
        rule.app, rule.nowfun = app, lambda: now
        assert now + rule.remaining_estimate(now) == schedule.next_due(name, now)


def _make_due(place: Place) -> None:
    """As if everything had run two days ago, and nothing since."""
    with shelve.open(str(places.beat_folder(place.home) / "schedule"), writeback=True) as kept:  # noqa: S301
        for entry in kept["entries"].values():
            entry.last_run_at -= timedelta(days=2)


def _waiting(place: Place) -> int:
    return server.status(place.home).waiting


def test_beat_sends_what_fell_due_while_it_was_away_and_sends_it_once(place: Place):
    with place.running("beat", STARTED) as first:
        time.sleep(0.5)
        assert "Sending due task" not in first.said  # a schedule that is new has missed nothing
    _make_due(place)
    with place.running("beat", "Sending due task daily-database-backup") as second:
        until(lambda: _waiting(place) >= 4)  # database, obsidian, prune and monitor
        time.sleep(
            0.5
        )  # killed within a millisecond of sending it would send the last one twice, which does no harm
        os.kill(second.popen.pid, signal.SIGKILL)
    sent = _waiting(place)
    with place.running("beat", STARTED) as third:
        time.sleep(0.5)
        assert "Sending due task" not in third.said
    assert _waiting(place) == sent
    with place.worker() as worker:
        worker.wait_for("'outcome': 'done'", times=2)  # a backup and a prune
    assert len(place.artifacts()) == 1


@pytest.fixture
def scheduler(place: Place, monkeypatch) -> Iterator[beat.Scheduler]:
    """Beat's scheduler in this process; its broker is as if it were somebody else's, which beat cannot start."""
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    app = Celery(set_as_current=False)
    server.start(place.home)
    app.conf.update(tasks.configuration(), refnet_embedded_home=None)
    scheduler = beat.Scheduler(app, schedule_filename=app.conf.beat_schedule_filename)
    yield scheduler
    scheduler.close()


def test_what_is_due_while_the_broker_is_away_is_sent_when_it_is_back(place: Place, scheduler):
    due = scheduler.schedule["daily-database-backup"]
    server.stop(place.home)
    scheduler.reserve(due)
    sending = threading.Thread(target=scheduler.apply_entry, args=(due,))
    sending.start()
    sending.join(1)
    assert sending.is_alive()
    assert scheduler.schedule[due.name].total_run_count == 0  # so it would be sent by the next beat
    server.start(place.home)
    sending.join(20)
    assert _waiting(place) == 1
    assert scheduler.schedule[due.name].total_run_count == 1


def test_beat_starts_the_embedded_broker_again_where_it_has_ended(place: Place, scheduler):
    scheduler.app.conf.refnet_embedded_home = str(place.home)
    due = scheduler.schedule["daily-database-backup"]
    os.kill(server.status(place.home).pid or 0, signal.SIGKILL)
    scheduler.reserve(due)
    scheduler.apply_entry(due)
    assert _waiting(place) == 1


def test_a_last_run_in_the_future_holds_nothing_up():
    app = Celery(set_as_current=False)
    now = app.now()
    entry = beat.Entry(
        "x", "y", last_run_at=now + timedelta(days=3650), schedule=crontab(minute=0, app=app), app=app
    )
    _, seconds = entry.is_due()
    assert seconds <= 3601


def test_a_clock_that_jumps_back_makes_beat_reckon_anew(scheduler):
    scheduler.tick()
    reckoned = scheduler._heap
    scheduler.tick()
    assert scheduler._heap is reckoned
    scheduler._last_tick += 3600
    scheduler.tick()
    assert scheduler._heap is not reckoned


def test_a_second_beat_is_refused(place: Place):
    with place.running("beat", STARTED):
        second = place.refnet("beat")
    assert second.returncode == Exit.LOCKED
    assert "another beat" in second.stderr
    assert len(second.stderr.splitlines()) == 2


def test_a_running_beat_is_alive_and_one_that_hangs_is_not(place: Place):
    assert place.refnet("beat", "--check").returncode == Exit.FAILED
    with place.running("beat", STARTED):
        until(lambda: place.refnet("beat", "--check").returncode == 0)
        sign = places.beat_sign(places.beat_folder(place.home))
        os.utime(sign, (0, 0))
        said = place.refnet("beat", "--check")
    assert said.returncode == Exit.FAILED
    assert said.stderr.startswith("refnet: beat is not alive: last heartbeat ")


def test_a_schedule_that_cannot_be_read_names_its_key(place: Place):
    done = place.refnet("beat", REFNET_SCHEDULE_PRUNE="now and then")
    assert done.returncode == Exit.USAGE
    assert "REFNET_SCHEDULE_PRUNE" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_the_embedded_broker_keeps_what_waits_in_it_when_it_is_killed(place: Place):
    server.start(place.home)
    for _ in range(3):
        place.send("backup_config")
    os.kill(server.status(place.home).pid or 0, signal.SIGKILL)
    server.start(place.home)
    assert _waiting(place) == 3
    with server.client(server.url(place.home)) as broker:
        assert broker.config_get("port")["port"] == "0"
    assert (place.home / "broker").stat().st_mode & 0o077 == 0


def test_any_number_of_processes_may_start_the_embedded_broker_at_once(place: Place):
    starts = [threading.Thread(target=server.start, args=(place.home,)) for _ in range(8)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert (place.home / "broker" / "valkey.log").read_text().count("Ready to accept connections") == 1


def test_sending_a_task_starts_a_broker_and_reading_settings_does_not(place: Place):
    code = (
        "from refnet import tasks; tasks.app.conf.timezone; tasks.app.tasks;"
        f"import pathlib; from refnet.broker import server; home = pathlib.Path({str(place.home)!r});"
        "print(server.status(home).running); tasks.backup_config.delay()"
    )
    read = subprocess.run(
        [sys.executable, "-c", code], env=place.environment, check=True, stdout=subprocess.PIPE
    )
    assert read.stdout == b"False\n"
    assert _waiting(place) == 1


def test_the_broker_commands_start_it_show_it_and_stop_it(place: Place):
    assert "running (pid" in place.refnet("broker", "start").stdout
    assert '"running": true' in place.refnet("broker", "status", "--json").stdout
    assert "is stopped" in place.refnet("broker", "stop").stdout
    assert "stopped" in place.refnet("broker", "status").stdout
    assert "was not running" in place.refnet("broker", "stop").stdout


def test_a_home_with_a_long_path_has_its_socket_elsewhere(place: Place, monkeypatch):
    home = place.home / ("long" * 25)
    home.mkdir()
    try:
        server.start(home)
        assert server.status(home).socket.parent.stat().st_mode & 0o077 == 0
        assert len(os.fsencode(server.status(home).socket)) <= 103
    finally:
        server.stop(home)
        server.status(home).socket.parent.rmdir()


def test_an_ordinary_user_has_a_broker_of_its_own(place: Place):
    if os.geteuid() != 0:
        pytest.skip("every other test is this one, as this is no root")
    home = place.home / "theirs"
    place.home.chmod(0o711)
    home.mkdir()
    os.chown(home, 65534, 65534)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            server.start(home)
            code = 0 if server.status(home).running and server.stop(home) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
