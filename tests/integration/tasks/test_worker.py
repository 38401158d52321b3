"""A real worker at a real broker: what runs, what runs again, what never runs twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.listening import Service

from refnet import tasks
from refnet.broker import server
from refnet.catalog.run import Ended, Reason
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.scheduling.celery_settings import LOST_AFTER
from refnet.store.local import LocalStore

from .conftest import Place, until


def children(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in listed.stdout.split()]


def test_an_outage_makes_one_proven_backup_and_two_sources_go_at_once(place: Place):
    server.start(place.home)
    results = [place.send("backup_database") for _ in range(4)]
    with place.worker(proves=True):
        answers = sorted((result.get() for result in results), key=lambda answer: answer["outcome"])
        assert [one["outcome"] for one in answers] == ["done", "done before", "done before", "done before"]
        made = answers[0]
        assert made["level"] == "proven"
        assert place.artifacts() == [made["artifact"]]
        assert place.send("backup_config").get() == {"outcome": "not configured"}
        drilled = place.send("recovery_drill").get()
        assert drilled["outcome"] == "passed"
        assert Path(drilled["report"]).is_file()
        assert place.send("prune").get() == {"outcome": "done", "deleted": []}
        assert place.send("monitor").get()["outcome"] in {"ok", "new"}
        for name in ("notes", "mail"):
            (place.home / name).mkdir()
            (place.home / name / "a.md").write_text("text\n")
            with (place.home / "refnet.toml").open("a") as file:
                file.write(f'[folders.{name}]\npath = "{place.home / name}"\n')
        both = place.send("backup_source", "notes", "mail").get()["sources"]
        assert {name: one["level"] for name, one in both.items()} == {"notes": "proven", "mail": "proven"}


def test_a_monitor_that_finds_something_unprotected_is_a_failed_task(place: Place):
    server.start(place.home)
    (place.home / "backups").mkdir()
    (place.home / "backups" / "database").write_text("in the way")
    with place.worker(), pytest.raises(RefnetError, match=r"UNKNOWN|CRITICAL"):
        place.send("monitor").get()


def test_the_highest_priority_goes_first(place: Place):
    server.start(place.home)
    for task in ("recovery_drill", "backup_obsidian", "backup_config", "backup_database"):
        place.send(task)
    with place.worker(gently=True) as worker:
        worker.wait_for(" received", times=4)
        order = re.findall(r"Task refnet\.tasks\.(\w+)\[\S+ received", worker.said)
    assert order == ["backup_database", "backup_config", "backup_obsidian", "recovery_drill"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_killed_in_the_middle_of_a_backup_is_made_up_for(place: Place, number: signal.Signals):
    server.start(place.home)
    with place.worker() as worker:
        with place.table_kept_locked() as waits:
            result = place.send("backup_database")
            until(waits)
            for child in children(worker.popen.pid):
                with suppress(ProcessLookupError):  # it has ended
                    os.kill(child, number)
            worker.wait_for("retry: Retry in 0.3s")
        assert result.get()["outcome"] == "done"
    assert len(place.artifacts()) == 1


def test_the_next_worker_makes_up_for_one_killed_during_a_backup(place: Place, service: Service):
    told = {"REFNET_NOTIFY_URLS": f"json://{service.url}/"}
    server.start(place.home)
    with place.worker(**told) as worker, place.table_kept_locked() as waits:
        result = place.send("backup_database")
        until(waits)
        worker.kill_all()
    assert place.last_run().reason is Reason.LOST
    seen = place.refnet("monitor", **told)
    assert (seen.returncode, "last run" in seen.stdout) == (1, True)
    assert service.titles == ["database backup fails"]
    assert "its process ended before the run did" in service.bodies[0]
    assert place.let_pass(LOST_AFTER + 1) == 1
    with place.worker(proves=True, **told):
        assert result.get()["outcome"] == "done"
    assert len(place.artifacts()) == 1
    assert place.last_run().ended is Ended.DONE
    assert service.titles == ["database backup fails", "database backup recovered"]


def test_a_backup_that_takes_long_is_not_handed_out_a_second_time(place: Place):
    server.start(place.home)
    with place.worker() as first, place.worker() as second:
        with place.table_kept_locked() as waits, server.client(server.url(place.home)) as broker:
            result = place.send("backup_database")
            until(waits)
            ((held, since),) = broker.zrange("unacked_index", 0, -1, withscores=True)
            place.let_pass(LOST_AFTER - 30)  # workers renew their messages every 10 s
            until(lambda: broker.zscore("unacked_index", held) > since)
        assert result.get()["outcome"] == "done"
        assert (first.said + second.said).count(" received") == 1


def test_what_can_pass_by_itself_is_tried_three_times_more_and_then_fails(place: Place):
    server.start(place.home)
    with place.worker(REFNET_DATABASE_URL="postgresql://nobody@127.0.0.1:1/x") as worker:
        result = place.send("backup_database")
        with pytest.raises(RefnetError, match="no PostgreSQL server answers") as caught:
            result.get()
        assert caught.value.hint.startswith("Start the server")
        assert result.state == "FAILURE"
        assert worker.said.count("retry: Retry in 0.3s") == 3
    assert place.artifacts() == []


def test_what_cannot_pass_by_itself_fails_at_once(place: Place):
    server.start(place.home)
    with place.worker(
        REFNET_DATABASE_URL=place.environment["REFNET_DATABASE_URL"] + "&dbname=missing"
    ) as worker:
        with pytest.raises(RefnetError, match="has no database missing"):
            place.send("backup_database").get()
        assert "Retry in" not in worker.said


def test_a_task_that_meets_another_run_waits_for_it_and_counts_no_failure(place: Place):
    server.start(place.home)
    with place.worker() as worker:
        with LocalStore(place.home / "backups").lock(SourceName.DATABASE):
            result = place.send("backup_database")
            worker.wait_for("retry: Retry in 0.3s", times=4)
        assert result.get()["outcome"] == "done"


def test_nothing_is_lost_or_run_twice_when_the_broker_disappears(place: Place):
    server.start(place.home)
    with place.worker(proves=True) as worker:
        with place.table_kept_locked() as waits:
            one, other = place.send("backup_database"), place.send("backup_database")
            until(waits)
            os.kill(server.status(place.home).pid or 0, signal.SIGKILL)
            worker.wait_for("Trying again in")
        until(place.artifacts)  # the backup ends while there is no broker
        server.start(place.home)
        until(lambda: "SUCCESS" in {one.state, other.state})
        place.let_pass(LOST_AFTER + 1)
        assert {one.get()["outcome"], other.get()["outcome"]} == {"done", "done before"}
        assert place.send("backup_config").get() == {"outcome": "not configured"}
    assert len(place.artifacts()) == 1


def test_a_heartbeat_does_not_wait_for_a_broker_that_went_away(place: Place):
    """Else the worker would wait in its loop: it would neither connect again nor end on SIGTERM."""
    with tasks.app.connection_for_write(url=server.start(place.home)) as connection:
        dispatcher = tasks.app.events.Dispatcher(connection, hostname="worker")
        dispatcher.send("worker-heartbeat", freq=2.0)
        server.stop(place.home)
        beating = threading.Thread(
            target=dispatcher.send, args=["worker-heartbeat"], kwargs={"retry": True}, daemon=True
        )
        beating.start()
        beating.join(20)
        assert not beating.is_alive()


def test_a_broker_that_is_not_there_is_told_in_two_lines(place: Place):
    done = place.refnet("worker", REFNET_BROKER_URL="redis://:a-secret@127.0.0.1:1/0")
    assert done.returncode == Exit.FAILED
    assert len(done.stderr.splitlines()) == 2
    assert "no broker answers at 127.0.0.1:1: Connection refused" in done.stderr
    assert "a-secret" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("password", "words"), [("", "requires a password"), (":wrong-one@", "rejects the password")]
)
def test_a_broker_that_wants_a_password_is_told_in_two_lines(place: Place, password, words):
    socket = server.start(place.home).removeprefix("redis+socket://")
    with server.client(server.url(place.home)) as broker:
        broker.config_set("requirepass", "the-right-one")
        try:
            done = place.refnet("beat", REFNET_BROKER_URL=f"redis+socket://{password}{socket}")
        finally:
            broker.config_set("requirepass", "")
    assert done.returncode == Exit.FAILED
    assert len(done.stderr.splitlines()) == 2
    assert words in done.stderr
    assert "wrong-one" not in done.stderr
