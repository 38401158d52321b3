"""What the server says of itself: its health, and what remains while the database does not answer."""

from __future__ import annotations

import signal
import socket
import time
from urllib.parse import urlencode

from tests.integration.web.conftest import url_of
from tests.integration.web.test_work import GRAPH, post
from tests.serving import Served, serving

from refnet.core.processes import until
from refnet.demo.fake_scholar import running
from refnet.postgres.cluster import Cluster


def test_a_healthy_server_names_each_part(served: Served) -> None:
    said = served.ask("/health")
    assert (said.status, said.json["status"]) == (200, "ok")
    assert {name: part["state"] for name, part in said.json["checks"].items()} == {
        "database": "ok", "broker": "unused", "disk": "ok",
    }  # fmt: skip


def test_backups_are_those_of_the_list_and_metrics_those_of_the_command(served: Served) -> None:
    said = served.ask("/api/backups").json
    assert (said["artifacts"], said["unlisted"], said["left_out"]) == ([], [], 0)
    assert b"\nrefnet_artifacts" in served.ask("/metrics").body


def test_without_a_database_the_server_still_answers_about_backups(
    environment: dict[str, str],
) -> None:
    away = "postgresql://somebody:a-secret@127.0.0.1:1/papers"
    with serving(environment | {"REFNET_DATABASE_URL": away}) as found:
        health, papers = found.ask("/health"), found.ask("/api/papers")
        assert (health.status, health.json["checks"]["database"]["state"]) == (503, "failed")
        assert "127.0.0.1:1" in health.json["checks"]["database"]["reason"]
        assert (papers.status, list(papers.json)) == (503, ["error", "hint"])
        assert found.ask("/api/backups").status == 200
        for said in (health, papers, found.ask("/metrics")):
            assert b"a-secret" not in said.body


def test_a_database_without_tables_is_named_and_sigint_ends_cleanly(
    environment: dict[str, str], server: Cluster
) -> None:
    with serving(environment | {"REFNET_DATABASE_URL": url_of(server.target("postgres"))}) as found:
        said = found.ask("/api/papers")
        assert (said.status, said.json["hint"]) == (503, "Run: refnet network migrate.")
        with socket.create_connection(("127.0.0.1", found.port)) as idle:  # it does not keep the server
            idle.sendall(b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(1 << 16).startswith(b"HTTP/1.1 200")
            found.process.send_signal(signal.SIGINT)
            assert found.process.wait(60) == 0


def test_a_server_that_hangs_is_a_failure_after_three_seconds(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        port = silent.getsockname()[1]
        broker, url = (
            f"redis://127.0.0.1:{port}/0",
            f"postgresql://x@127.0.0.1:{port}/x?{urlencode({'sslmode': 'disable'})}",
        )
        with serving(environment | {"REFNET_DATABASE_URL": url, "REFNET_BROKER_URL": broker}) as found:
            began = time.monotonic()
            checks = found.ask("/health").json["checks"]
            assert 2.5 < time.monotonic() - began < 8
    assert {name: part["state"] for name, part in checks.items()} == {
        "database": "failed", "broker": "failed", "disk": "ok",
    }  # fmt: skip
    assert checks["database"]["reason"].startswith("the database did not answer within 3 s")


def test_without_its_broker_the_state_is_bad_and_a_process_crawls(environment: dict[str, str]) -> None:
    with running(GRAPH) as fake:
        provider = {
            "REFNET_CRAWL_SEMANTIC_SCHOLAR_URL": fake.url,
            "REFNET_CRAWL_OPENALEX_URL": fake.openalex_url,
        }
        broker = {"REFNET_BROKER_URL": "redis://:a-secret@127.0.0.1:1/0"}
        with serving(environment | provider | broker) as found:
            health = found.ask("/health")
            crawl = post(found, {"seeds": [GRAPH.seed_ids[0]], "depth": 0})
            assert (health.status, health.json["checks"]["broker"]["state"]) == (503, "failed")
            assert (crawl.status, crawl.json["by"]) == (202, "process")
            assert b"a-secret" not in health.body + crawl.body
            number = crawl.json["id"]
            assert until(lambda: found.ask(f"/api/crawls/{number}").json["state"] == "succeeded", 30)


def test_sessions_that_the_server_ended_are_replaced(
    served: Served, server: Cluster, network: object
) -> None:
    assert served.list(limit=1).status == 200
    with server.target().connect() as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'web_%' AND pid <> pg_backend_pid()"
        )
    assert served.list(limit=1).status == 200


def test_a_query_that_takes_too_long_is_ended(served: Served, network: object) -> None:
    with network.connect({"search_path": "public"}, autocommit=False) as holder:  # type: ignore[attr-defined]
        holder.execute("LOCK TABLE papers IN ACCESS EXCLUSIVE MODE")
        said = served.list(limit=1)
        holder.rollback()
    assert (said.status, list(said.json)) == (503, ["error", "hint"])
    assert served.list(limit=1).status == 200
