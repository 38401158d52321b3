"""The tasks of the network, on queues of their own."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from kombu.messaging import Producer

from refnet import tasks
from refnet.broker import server
from refnet.catalog.run import Ended, Origin, RunKind
from refnet.core.errors import Exit
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import running
from refnet.network import crawl
from refnet.network.crawls import Direction, order
from refnet.network.migrate import migrate
from refnet.scheduling import places
from refnet.settings import Settings
from refnet.store.run_journal import RunJournal
from refnet.web.work import _has_worker

from .conftest import Place, until


def configured_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Celery's app have the broker of earlier settings, at which nothing answers, as after a change of them."""
    monkeypatch.setitem(tasks.app.conf, "broker_url", "redis+socket:///nowhere/valkey.sock")


def test_a_worker_of_other_queues_crawls_and_leaves_backups_to_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=place.home)
    configured_before(monkeypatch)
    assert not _has_worker(settings)
    server.start(place.home)
    monkeypatch.setenv("REFNET_HOME", str(place.home))
    with place.database.connect() as session:
        session.execute("DROP TABLE papers")
    migrate(place.database)
    graph = FakeGraph(60, 300, 1)
    with running(graph) as fake:
        urls = {"REFNET_CRAWL_SEMANTIC_SCHOLAR_URL": fake.url, "REFNET_CRAWL_OPENALEX_URL": fake.openalex_url}
        rate = {"REFNET_CRAWL_REQUESTS_PER_SECOND": "0", "REFNET_VAULT_DIR": str(place.home / "vault")}
        number = crawl.start(place.database, order([graph.seed_ids[0]], Direction.REFERENCES, 1, 20))
        place.send("backup_config")
        with place.worker("--queue", "crawl", "--queue", "summarize", "--queue", "generate", **urls, **rate):
            assert _has_worker(settings)
            done = place.send("crawl", number, queue="crawl").get()
            assert done == {"outcome": "done", "crawls": {str(number): "succeeded"}}
            assert place.send("crawl", queue="crawl").get() == {"outcome": "done", "crawls": {}}
            unknown = crawl.start(place.database, order(["10.1/unknown"], Direction.REFERENCES, 0, 20))
            place.send("crawl", unknown, queue="crawl").get()
            short = place.send("summarize", queue="summarize").get()
            written = place.send("generate", queue="generate").get()
            sign = places.worker_sign(place.home, socket.gethostname())
            os.utime(sign, (0, 0))
            until(lambda: place.refnet("worker", "--check").returncode == 0)
    assert not _has_worker(settings)
    os.utime(sign, (0, 0))
    assert place.refnet("worker", "--check").returncode == Exit.FAILED
    assert (short["outcome"], short["failed"]) == ("done", 0)
    assert written["new"] == len([*(place.home / "vault" / "papers").rglob("*.md")]) > 1
    assert server.status(place.home).waiting == 1
    crawls = [one for one in RunJournal(place.home / "runs").history().runs if one.kind is RunKind.CRAWL]
    assert {one.by for one in crawls} == {Origin.SCHEDULER}
    assert {one.ended: one.message for one in crawls} == {
        Ended.DONE: "",
        Ended.FAILED: f"crawl {unknown} collected nothing: 1 seed unknown",
    }


def test_a_crawl_goes_to_the_broker_of_the_settings_of_now(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured_before(monkeypatch)
    server.start(place.home)
    monkeypatch.setenv("REFNET_HOME", str(place.home))
    monkeypatch.setenv("REFNET_INSTANCE", "shop")
    tasks.send_crawl(7)
    with server.client(server.url(place.home)) as broker:
        assert [key.split(b"\x06")[0] for key in broker.scan_iter(_type="list")] == [b"crawl@shop"]


def test_a_broker_that_ends_while_it_is_asked_for_workers_has_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start(place.home)
    publish = Producer.publish

    def publish_late(*of: Any, **options: Any) -> Any:
        server.stop(place.home)
        return publish(*of, **options)

    monkeypatch.setattr(Producer, "publish", publish_late)
    assert not _has_worker(Settings(home=place.home))
    assert not server.status(place.home).running


def test_a_crawl_that_takes_long_goes_on_in_another_task(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent: list[tuple[int, ...]] = []

    def run(_target: object, _settings: object, _number: int, reports: crawl.CrawlReports) -> None:
        while True:
            reports.standing(None)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "CRAWL_SECONDS", 0)
    monkeypatch.setenv("REFNET_HOME", str(tmp_path))
    monkeypatch.setattr(tasks.servers, "existing_server", lambda _settings: None)
    monkeypatch.setattr(tasks, "known", lambda target: target)
    monkeypatch.setattr(crawl, "run", run)
    monkeypatch.setattr(tasks.crawl, "apply_async", lambda *, args: sent.append(args))
    assert tasks.crawl.run(7) == {"outcome": "continued by another task"}
    assert sent == [(7,)]


def test_an_update_that_takes_long_goes_on_in_another_task_and_another_one_continues_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    with place.database.connect() as session:
        session.execute("DROP TABLE papers")
    migrate(place.database)
    graph = FakeGraph(60, 300, 1)
    for name in [one for one in place.environment if one.startswith("REFNET_")]:
        monkeypatch.setenv(name, place.environment[name])
    with running(graph) as fake:
        monkeypatch.setenv("REFNET_CRAWL_SEMANTIC_SCHOLAR_URL", fake.url)
        monkeypatch.setenv("REFNET_CRAWL_OPENALEX_URL", fake.openalex_url)
        settings = tasks.current_settings()
        first = crawl.start(place.database, order([graph.seed_ids[0]], Direction.REFERENCES, 0, 20))
        crawl.run(place.database, settings, first)
        monkeypatch.setattr(tasks.update_network, "apply_async", lambda: sent.append("update"))
        monkeypatch.setattr(tasks, "CRAWL_SECONDS", -1)
        assert tasks.update_network.run() == {"outcome": "continued by another task"}
        assert sent == ["update"]
        second = crawl.start(place.database, order([graph.seed_ids[1]], Direction.REFERENCES, 0, 20))
        crawl.run(place.database, settings, second)
        monkeypatch.setattr(tasks, "CRAWL_SECONDS", 600)
        done = tasks.update_network.run()
    assert (done["outcome"], done["crawl"]) == ("succeeded", first + 1)
    assert crawl.unfinished(place.database) == []


@pytest.mark.parametrize(("instance", "queue"), [("", "crawl"), ("shop", "crawl@shop")])
def test_the_tasks_of_an_instance_go_to_its_own_queues(
    instance: str, queue: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REFNET_HOME", str(tmp_path))
    if instance:
        monkeypatch.setenv("REFNET_INSTANCE", instance)
    routes = tasks.configuration()["task_routes"]
    assert routes["refnet.tasks.crawl"]["queue"] == queue
    assert "queue" not in routes["refnet.tasks.backup_database"]
