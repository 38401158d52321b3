"""A crawl over HTTP from the fake Semantic Scholar: the graph, shared work, interruptions, servers that fail."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb
from tests import forked
from tests.command import url_of
from tests.integration.network.crawling import FAST, crawled, graph, network, settings_of

from refnet.core.errors import RefnetError
from refnet.demo.fake_faults import Faults
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import Running, running
from refnet.network.crawl import CrawlReports, resume, run, start, stop, unfinished
from refnet.network.crawl_work import Scholar
from refnet.network.crawls import CrawlOrder, Direction
from refnet.network.jobs import list_jobs, retry_jobs
from refnet.network.papers import FoundEdge, FoundPaper
from refnet.network.scholar_answers import EdgePage
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.settings import Settings

FAKE = FakeGraph(120, 700, 3)
SEEDS = FAKE.seed_ids[:2]
ORDER = CrawlOrder(tuple(SEEDS), Direction.REFERENCES, depth=3, limit=50)
Graph = tuple[list[object], list[object]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def undisturbed(server: Cluster, base: Settings) -> Iterator[Graph]:
    """The graph of ORDER, collected at once by one worker."""
    with running(FAKE) as fake, network(server) as target:
        result = crawled(target, settings_of(fake, base), ORDER)
        assert (result.state, result.failed, result.unknown) == ("succeeded", [], [])
        assert sum(result.papers) == ORDER.limit
        assert fake.counts["batch"] == 2
        yield graph(target)


def pages(fake: Running) -> Counter[tuple[str, str]]:
    """How often each page was fetched."""
    asked = [one for one in fake.requests if one.path.startswith("/graph") and one.method == "GET"]
    return Counter((one.path, one.query["offset"]) for one in asked)


def test_the_references_of_a_seed_are_those_that_the_provider_lists(target: Target, base: Settings) -> None:
    number = FAKE.find(SEEDS[0]) or 0
    listed = FAKE.references(number)
    with running(FAKE) as fake:
        result = crawled(target, settings_of(fake, base), CrawlOrder((SEEDS[0],)))
    resolved = sum(one.paper is not None for one in listed)
    (seed,) = result.seeds
    assert (seed.resolved, seed.references) == (resolved, len(listed))
    assert f"{resolved} of {len(listed)} references resolved" in "\n".join(result.lines())
    assert (result.papers, result.citations) == ([1, resolved], len(listed))


def test_citations_are_followed_too_and_only_the_level_is_asked_for(target: Target, base: Settings) -> None:
    with running(FAKE) as fake:
        oldest = f"CorpusId:{FAKE.paper(0)['corpusId']}"
        result = crawled(target, settings_of(fake, base), CrawlOrder((oldest,), Direction.BOTH, 1, 40))
        assert dict(fake.counts) == {"batch": 2, "references": 1, "citations": 1, "work": 1}
    assert result.papers == [1, min(39, len(FAKE.cited_by(0)))]


def test_a_limit_takes_the_influential_references_and_then_the_most_cited(
    target: Target, base: Settings
) -> None:
    number = FAKE.find(SEEDS[0]) or 0
    known = [one for one in FAKE.references(number) if one.paper is not None]
    best = sorted(known, key=lambda one: (-one.is_influential, -len(FAKE.cited_by(one.paper or 0))))
    with running(FAKE) as fake:
        crawled(target, settings_of(fake, base), CrawlOrder((SEEDS[0],), limit=4))
    with target.connect() as session:
        rows = session.execute(
            "SELECT is_influential, citation_count FROM crawl_papers JOIN papers ON id = paper_id"
            " JOIN citations ON cited_id = id WHERE level = 1"
        ).fetchall()
    wanted = [(one.is_influential, len(FAKE.cited_by(one.paper or 0))) for one in best[:3]]
    assert sorted(rows) == sorted(wanted)
    assert len({count for _, count in rows}) > 1


def test_two_workers_share_a_crawl_fetch_no_page_twice_and_share_the_rate(
    target: Target, base: Settings, undisturbed: Graph
) -> None:
    with running(FAKE) as fake:
        settings = settings_of(fake, base, crawl_requests_per_second=60.0)
        crawl = start(target, ORDER)
        begun = time.monotonic()
        threads = [
            threading.Thread(target=run, args=(target, settings, crawl, CrawlReports(pace=FAST)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - begun
        assert set(pages(fake).values()) == {1}
        assert took >= (len([one for one in fake.requests if one.path.startswith("/graph")]) - 1) / 60
    assert graph(target) == undisturbed


def test_a_crawl_that_is_stopped_in_the_middle_ends_and_one_that_is_resumed_collects_the_same_graph(
    target: Target, base: Settings, undisturbed: Graph
) -> None:
    with running(FAKE) as fake:
        settings, crawl = settings_of(fake, base), start(target, ORDER)
        stopped = run(target, settings, crawl, CrawlReports(lambda _: _stop_once(target, crawl), pace=FAST))
        assert (stopped.state, stopped.is_complete, unfinished(target)) == ("cancelled", True, [])
        assert f"refnet crawl --resume {crawl}" in "\n".join(stopped.lines())
        asked = len(fake.requests)
        assert run(target, settings, crawl).state == "cancelled"
        assert len(fake.requests) == asked
        with target.connect({"search_path": "public"}) as session:
            retry_jobs(session)
            assert {one.state for one in list_jobs(session)} == {"cancelled", "succeeded"}
        with pytest.raises(RefnetError, match=f"crawl {crawl} is not at work: cancelled"):
            stop(target, crawl)
        resume(target, crawl)
        assert unfinished(target) == [crawl]
        assert run(target, settings, crawl).state == "succeeded"
        resume(target, crawl)  # an ended one stays ended
        assert unfinished(target) == []
    assert graph(target) == undisturbed
    for unknown in (stop, resume):
        with pytest.raises(RefnetError, match="there is no crawl 99"):
            unknown(target, 99)


def _stop_once(target: Target, crawl: int) -> None:
    if unfinished(target):
        stop(target, crawl)


def test_a_crawl_that_is_killed_again_and_again_collects_the_same_graph(
    target: Target, base: Settings, undisturbed: Graph, tmp_path: Path
) -> None:
    with running(FAKE) as fake:
        environment = {
            **os.environ,
            "REFNET_HOME": str(tmp_path),
            "REFNET_DATABASE_URL": url_of(target),
            "REFNET_LOG_FOLDER": "none",
            "REFNET_CRAWL_SEMANTIC_SCHOLAR_URL": fake.url,
            "REFNET_CRAWL_OPENALEX_URL": fake.openalex_url,
            "REFNET_CRAWL_REQUESTS_PER_SECOND": "0",
        }
        line = ["crawl", *SEEDS, "--depth", "3", "--limit", str(ORDER.limit)]
        for kill_after in (2, 9, 12):
            before = len(fake.requests)
            process = forked.Heard(line, environment, tmp_path)
            while process.poll() is None and len(fake.requests) < before + kill_after:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.communicate(60)
            assert process.returncode == -signal.SIGKILL
        done = forked.text(*line, environment=environment, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"crawl 1 succeeded: {ORDER.limit} papers" in done.stdout
    assert graph(target) == undisturbed


def test_a_crawl_whose_sessions_end_reconnects_and_gets_the_same_graph(
    target: Target, base: Settings, undisturbed: Graph
) -> None:
    said: list[str] = []
    ended = 0

    def end_sessions(_standing: object) -> None:
        nonlocal ended
        if ended < 4:
            with target.connect() as admin:
                ended += 1
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    with running(FAKE) as fake, pytest.MonkeyPatch.context() as patch:
        patch.setattr("refnet.network.crawl._REPORT", 0.02)
        run(
            target,
            settings_of(fake, base),
            start(target, ORDER),
            CrawlReports(end_sessions, said.append, FAST),
        )
    assert ended == 4
    assert said[0].endswith("is lost: connecting again, for two minutes")
    assert graph(target) == undisturbed


def test_faults_that_pass_and_odd_content_fail_no_job(target: Target, base: Settings) -> None:
    faults = (
        "429@2,500@4,503@5,html@7,truncated@9,closed@11,titles%10,types%10,nulls%10,duplicates%10,self%10"
    )
    said: list[str] = []
    with running(FAKE, Faults.read(faults)) as fake:
        result = crawled(target, settings_of(fake, base), ORDER, said)
    assert (result.state, result.failed) == ("succeeded", [])
    assert sum(result.papers) == ORDER.limit
    with target.connect() as session:
        assert session.execute("SELECT count(*) FROM citations WHERE citing_id = cited_id").fetchone() == (0,)


def test_references_that_semantic_scholar_withholds_come_from_openalex(
    target: Target, base: Settings
) -> None:
    with running(FAKE, Faults.read("withheld%100")) as fake:
        result = crawled(
            target, settings_of(fake, base, crawl_openalex_key="key"), CrawlOrder((SEEDS[0],), depth=1)
        )
    assert result.papers == [1, len(FAKE.cites(FAKE.find(SEEDS[0]) or 0))]
    with target.connect() as session:
        assert session.execute("SELECT DISTINCT provenance FROM citations").fetchall() == [("openalex",)]


def test_while_semantic_scholar_is_down_references_come_from_openalex(target: Target, base: Settings) -> None:
    with running(FAKE, Faults.read("references:503%100")) as fake:
        result = crawled(target, settings_of(fake, base), CrawlOrder((SEEDS[0],), depth=1))
    assert (result.state, result.failed) == ("succeeded", [])
    assert result.papers == [1, len(FAKE.cites(FAKE.find(SEEDS[0]) or 0))]


def test_a_server_that_is_down_stops_the_crawl_and_a_later_run_continues(
    target: Target, base: Settings
) -> None:
    with running(FAKE, Faults.read("citations:500%100")) as fake:
        order = CrawlOrder((SEEDS[0], SEEDS[1], *FAKE.seed_ids[2:4]), Direction.CITATIONS, 1, 60)
        with pytest.raises(RefnetError, match="returned status 500") as caught:
            crawled(target, settings_of(fake, base), order)
        assert caught.value.hint.endswith("continue with `refnet crawl`.")
    (crawl,) = unfinished(target)
    with target.connect() as session:
        jobs = list_jobs(session, kinds=["crawl_edges"])
        assert {(one.state, one.attempts) for one in jobs} == {("queued", 0)}
    with running(FAKE) as fake:
        result = run(target, settings_of(fake, base), crawl, CrawlReports(pace=FAST))
    assert (result.state, unfinished(target)) == ("succeeded", [])


def test_a_paper_the_server_always_fails_for_can_be_retried_on_its_own(
    target: Target, base: Settings
) -> None:
    order = CrawlOrder(tuple(FAKE.seed_ids[:3]), Direction.CITATIONS, 1, 60)
    with running(FAKE, Faults.read("citations:500@1-5,citations:500@8-12,citations:500@13-17")) as fake:
        result = crawled(target, settings_of(fake, base), order)
        (failed,) = result.failed
        assert (result.state, result.is_complete) == ("succeeded", False)
        assert "`refnet jobs --retry`" in "\n".join(result.lines())
        with target.connect() as session:
            assert retry_jobs(session) == [failed.id]
        assert unfinished(target) == [result.crawl]
        assert run(target, settings_of(fake, base), result.crawl, CrawlReports(pace=FAST)).is_complete


@pytest.mark.parametrize(("status", "hint"), [("429", "set crawl.api_key"), ("403", "Set crawl.api_key")])
def test_too_many_requests_and_a_refusal_stop_at_once_and_name_the_key(
    target: Target, base: Settings, status: str, hint: str
) -> None:
    with running(FAKE, Faults.read(f"{status}%100")) as fake:
        with pytest.raises(RefnetError) as caught:
            crawled(target, settings_of(fake, base), CrawlOrder((SEEDS[0],)))
        assert len(fake.requests) == (5 if status == "429" else 1)
    assert hint in caught.value.hint
    with target.connect() as session:
        (job,) = list_jobs(session)
        assert (job.state, job.attempts) == ("queued", 0)


def test_citations_are_cut_at_10000_and_the_result_says_so(
    target: Target, base: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(_self: object, _paper: str, _direction: str, offset: int) -> EdgePage:
        papers = (FoundPaper("semantic_scholar", {"corpus_id": str(10**6 + offset + n)}) for n in range(50))
        return EdgePage(tuple(map(FoundEdge, papers)), min(offset + 1000, 9999))

    monkeypatch.setattr(Scholar, "edges", page)
    with running(FAKE) as fake:
        order = CrawlOrder((SEEDS[0],), Direction.CITATIONS, 1, 1)
        result = crawled(target, settings_of(fake, base), order)
    assert (result.citations, len(result.cut)) == (500, 1)
    assert "only the first 10,000 citations" in "\n".join(result.lines())


def test_an_unknown_seed_is_named_and_the_others_are_collected(target: Target, base: Settings) -> None:
    with running(FAKE) as fake:
        result = crawled(target, settings_of(fake, base), CrawlOrder(("DOI:10.1/none", SEEDS[0]), depth=0))
    assert (result.unknown, result.papers, result.is_complete) == (["DOI:10.1/none"], [1], False)
    assert "unknown to the provider: DOI:10.1/none" in "\n".join(result.lines())


def test_seeds_that_are_all_unknown_make_a_crawl_of_nothing(target: Target, base: Settings) -> None:
    with running(FAKE) as fake:
        result = crawled(target, settings_of(fake, base), CrawlOrder(("DOI:10.1/none", "ARXIV:2001.99999")))
    assert (len(result.unknown), result.papers, result.state) == (2, [], "succeeded")


def test_the_same_order_continues_a_crawl(target: Target) -> None:
    first = start(target, ORDER)
    assert start(target, CrawlOrder(tuple(reversed(SEEDS)), depth=3, limit=50)) == first
    assert start(target, CrawlOrder(ORDER.seeds, depth=2, limit=60)) != first


HOSTILE_JOBS: list[tuple[str, bool, object]] = [
    ("crawl_seeds", False, {}),
    ("crawl_seeds", False, {"seeds": "abc"}),
    ("crawl_seeds", False, {"seeds": [1, None, {}]}),
    ("crawl_seeds", False, {"seeds": ["DOI:10.1/x"] * 501}),
    ("crawl_details", False, {"ids": 5}),
    ("crawl_details", False, {"ids": [[]]}),
    ("crawl_edges", True, {"id": 5, "direction": "references"}),
    ("crawl_edges", True, {"id": "x", "direction": "up"}),
    ("crawl_edges", True, {"id": "x", "direction": "references", "offset": "a"}),
    ("crawl_edges", True, {"id": "x", "direction": "citations", "offset": -5}),
    ("crawl_edges", True, {"id": "x", "direction": "citations", "new": "x", "found": 10**30}),
    ("crawl_edges", False, {"id": "x", "direction": "references"}),
]


def test_jobs_that_are_not_of_refnet_fail_by_name_and_the_crawl_ends(target: Target, base: Settings) -> None:
    with running(FAKE) as fake:
        number = start(target, CrawlOrder(tuple(SEEDS), depth=1, limit=5))
        with target.connect() as session:
            session.execute("INSERT INTO papers (title, provenance) VALUES ('A', 'sample')")
            for kind, with_paper, payload in HOSTILE_JOBS:
                session.execute(
                    "INSERT INTO jobs (kind, crawl_id, payload, paper_id)"
                    " SELECT %s, %s, %s, CASE WHEN %s THEN min(id) END FROM papers",
                    [kind, number, Jsonb(payload), with_paper],
                )
        result = run(target, settings_of(fake, base), number)

    assert (result.state, sum(result.papers)) == ("succeeded", 5)
    assert len(result.failed) == len(HOSTILE_JOBS)
    assert all("the payload of this job is invalid: " in one.error for one in result.failed)
