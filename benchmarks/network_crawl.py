"""The bars of a crawl of the fake Semantic Scholar: speed, memory, requests; the graph after kills; shared work."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

from benchmarks import build
from benchmarks.measure import FailedError, pipeline
from benchmarks.network_bars import Place, Row, refnet
from benchmarks.turns import say
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import Running, running

PAPERS, EDGES = 5_000, 50_000
#: Every paper is reached from the oldest one by citations in fewer steps.
_DEPTH = 10
#: Crawls, and kills of each.
_CRAWLS, _KILLS = 2, 10
#: Requests a second of the two workers, and the papers that they collect.
_RATE, _SHARED = 50.0, 400
_MEMORY = 250e6

#: Everything that was collected, without row ids and times, as one number.
_GRAPH = """
WITH named AS (
    SELECT papers.id, coalesce(
        (SELECT string_agg(scheme || ':' || value, ' ' ORDER BY scheme, value) FROM external_ids WHERE paper_id = papers.id),
        title_key) AS name
    FROM papers
)
SELECT (SELECT count(*) FROM papers), (SELECT count(*) FROM citations),
    (SELECT md5(string_agg(concat_ws('|', name, title, abstract, year, venue, details_fetched_at IS NULL,
        citations_fetched_at IS NULL), '' ORDER BY name)) FROM papers JOIN named USING (id)),
    (SELECT md5(string_agg(concat_ws('|', citing.name, cited.name, is_influential, intents, contexts), ''
        ORDER BY citing.name, cited.name))
     FROM citations JOIN named AS citing ON citing.id = citing_id JOIN named AS cited ON cited.id = cited_id)
"""


def measure(place: Place) -> Iterator[Row]:
    """Measure the bars of crawls; yields a row each."""
    graph = FakeGraph(round(PAPERS * place.scale), round(EDGES * place.scale), 1)
    seed = f"CorpusId:{graph.paper(0)['corpusId']}"
    line = [
        refnet(),
        "crawl",
        seed,
        "--direction",
        "citations",
        "--depth",
        str(_DEPTH),
        "--limit",
        str(graph.papers),
    ]
    yield from _speed(place, graph, line)
    yield _kills(place, graph, line)
    yield from _two_workers(place, graph, [*line[:-1], str(round(_SHARED * place.scale))])


def _environment(place: Place, database: str, fake: Running, rate: float = 0) -> dict[str, str]:
    return place.environment(
        database,
        REFNET_CRAWL_SEMANTIC_SCHOLAR_URL=fake.url,
        REFNET_CRAWL_OPENALEX_URL=fake.openalex_url,
        REFNET_CRAWL_REQUESTS_PER_SECOND=str(rate),
    )


def _speed(place: Place, graph: FakeGraph, line: list[str]) -> Iterator[Row]:
    """Crawl twice: for the time, and for the memory."""
    runs = []
    for sample in (False, True):
        build.fresh(place.cluster, "crawl")
        with running(graph) as fake:
            environment = _environment(place, "crawl", fake)
            runs.append(pipeline([line], environment, place.folder, sample=sample))
            details = fake.counts["batch"]
        say(f"crawl: {runs[-1].seconds:.1f} s, {runs[-1].cpu:.1f} CPU s of the client")
    papers, citations, *_ = _graph(place, "crawl")
    rate = papers / runs[0].seconds * 60
    what = f"crawl of {papers:,} papers and {citations:,} citations"
    is_all = (papers, citations) == (graph.papers, graph.edges)
    yield Row(what, "at least 3,000 papers a minute", f"{rate:,.0f}", is_all and rate >= 3000)
    peak = runs[1].peak or 0
    yield Row("its peak memory", "at most 250 MB", f"{peak / 1e6:.0f} MB", peak <= _MEMORY)
    share = papers / details
    yield Row("papers per request for details", "at least 400", f"{share:.0f}", share >= 400)


def _kills(place: Place, graph: FakeGraph, line: list[str]) -> Row:
    """Kill crawls at random moments, let the next run continue each time, and compare the graphs."""
    wanted = _graph(place, "crawl")
    moments, same = random.Random(1), 0  # noqa: S311  # the same ones each time
    for number in range(_CRAWLS):
        build.fresh(place.cluster, "killed")
        with running(graph) as fake:
            environment = _environment(place, "killed", fake)
            for moment in sorted(moments.sample(range(1, round(graph.papers * 0.95)), _KILLS)):
                _kill_at(line, environment, fake, moment)
            pipeline([line], environment, place.folder)
        same += _graph(place, "killed") == wanted
        say(f"crawl {number + 1} of {_CRAWLS}, killed {_KILLS} times: {same} the same")
    return Row(
        f"kill -9 at {_CRAWLS * _KILLS} random moments, {_KILLS} in each of {_CRAWLS} crawls",
        "the same graph each time",
        f"{same} of {_CRAWLS}",
        same == _CRAWLS,
    )


def _kill_at(line: list[str], environment: dict[str, str], fake: Running, requests: int) -> None:
    """Start a crawl, and kill it a random moment after `requests` in all."""
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None and sum(fake.counts.values()) < requests:
        time.sleep(0.0007)
    if process.poll() is not None:
        raise FailedError("the crawl ended before it was killed")
    time.sleep(random.random() * 0.02)  # noqa: S311
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _two_workers(place: Place, graph: FakeGraph, line: list[str]) -> Iterator[Row]:
    """Run two commands at once on one crawl, with a rate limit."""
    build.fresh(place.cluster, "shared")
    with running(graph) as fake:
        environment = _environment(place, "shared", fake, _RATE)
        begin = time.monotonic()
        workers = [subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
        codes = [worker.wait() for worker in workers]
        if any(codes):
            raise FailedError("a worker failed")
        seconds = time.monotonic() - begin
        asked = [one for one in fake.requests if one.path.startswith("/graph")]
    pages = Counter((one.path, one.query.get("offset")) for one in asked if one.method == "GET")
    twice = sum(count > 1 for count in pages.values())
    yield Row(f"two workers on one crawl, {len(pages):,} pages", "no page twice", f"{twice} twice", not twice)
    rate = len(asked) / seconds
    yield Row("requests a second of both together", f"at most {_RATE:g}", f"{rate:.1f}", rate <= _RATE)


def _graph(place: Place, database: str) -> tuple[int, int, str, str]:
    with place.cluster.target(database).connect() as connection:
        row = connection.execute(_GRAPH).fetchone()
    if row is None:
        raise FailedError("no graph")
    return int(row[0]), int(row[1]), str(row[2]), str(row[3])
