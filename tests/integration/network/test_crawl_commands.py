"""`refnet crawl` and `refnet jobs` as a person runs them: results, exit codes, plans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import Command, url_of
from tests.integration.network.crawling import network

from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import running
from refnet.network.crawl import start
from refnet.network.crawls import CrawlOrder, Direction
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

FAKE = FakeGraph(40, 150, 5)
SEED = FAKE.seed_ids[0]


@pytest.fixture(scope="module")
def refnet(server: Cluster, short_folder: Path) -> Iterator[Command]:
    folder = short_folder / "crawls"
    (folder / "home").mkdir(parents=True)
    with running(FAKE) as fake, network(server) as target:
        yield Command(
            folder / "home",
            folder / "backups",
            url_of(target),
            {
                "REFNET_CRAWL_SEMANTIC_SCHOLAR_URL": fake.url,
                "REFNET_CRAWL_OPENALEX_URL": fake.openalex_url,
                "REFNET_CRAWL_REQUESTS_PER_SECOND": "0",
            },
        )


def test_a_plan_names_seeds_server_and_database_and_starts_nothing(refnet: Command) -> None:
    planned = refnet("crawl", SEED, "--depth", "2", "--plan")
    planned.succeeds()
    assert (
        f"to depth 2, at most 1,000 papers, from {refnet.environment['REFNET_CRAWL_SEMANTIC_SCHOLAR_URL']}"
        in planned.out
    )
    assert SEED in planned.out
    nothing = refnet("crawl")
    nothing.succeeds()
    assert nothing.out.endswith("no crawl is unfinished; `refnet crawl ID` starts one\n")


def test_an_unknown_id_ends_with_1_and_is_named_beside_what_was_collected(refnet: Command) -> None:
    done = refnet("crawl", SEED, "10.1/none", "--json")
    assert (done.code, done.err) == (1, "")
    (crawl,) = done.json["crawls"]
    assert (crawl["state"], crawl["unknown"]) == ("succeeded", ["DOI:10.1/none"])
    assert crawl["papers"] == [1, crawl["seeds"][0]["resolved"]]
    assert done.json["acts_on"]["database"]


def test_a_crawl_is_stopped_and_continued_by_its_number(refnet: Command) -> None:
    assert "stop crawl 7 in " in refnet("crawl", "--stop", "7", "--plan").out
    number = start(Target.from_url(refnet.url), CrawlOrder((SEED,), Direction.BOTH, 1, 9))
    assert refnet("crawl", "--stop", str(number), "--json").json["stopped"] == number
    assert refnet("crawl").out.endswith("no crawl is unfinished; `refnet crawl ID` starts one\n")
    (crawl,) = refnet("crawl", "--resume", str(number), "--json").json["crawls"]
    assert (crawl["state"], crawl["papers"][0]) == ("succeeded", 1)


def test_jobs_are_listed_with_counts_and_only_failed_ones_are_retried(refnet: Command) -> None:
    refnet("crawl", SEED, "--depth", "0").succeeds()
    listed = refnet("jobs", "--state", "succeeded", "--json")
    listed.succeeds()
    assert listed.json["counts"]["crawl_seeds"]["succeeded"] >= 1
    assert {one["state"] for one in listed.json["jobs"]} == {"succeeded"}
    assert "crawl_seeds" in refnet("jobs").out
    refnet("jobs", "--retry", "--plan").succeeds()
    number = str(listed.json["jobs"][0]["id"])
    refnet("jobs", "--retry", number).fails(1, f"1 job has not failed: {number}", "--state failed")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("crawl", "not an id"), 2, "is not an id of a paper"),
        (("crawl", SEED, "--direction", "up"), 2, "--direction"),
        (("crawl", SEED, "--stop", "1"), 2, "exclude each other"),
        (("crawl", "--resume", "1", "--stop", "1"), 2, "exclude each other"),
        (("crawl", "--resume", "99999"), 2, "there is no crawl 99999"),
        (("crawl", "--stop", "99999"), 2, "there is no crawl 99999"),
        (("crawl", "--stop", "0"), 2, "--stop"),
        (("jobs", "7"), 2, "for --retry only"),
        (("jobs", "--state", "gone"), 2, "not a state"),
    ],
)
def test_a_wrong_command_line_is_refused(
    refnet: Command, words: tuple[str, ...], code: int, said: str
) -> None:
    refnet(*words).fails(code, said)


def test_a_server_that_is_not_there_ends_with_1(refnet: Command) -> None:
    dead = "postgresql://nobody@127.0.0.1:1/none"
    for words in (("crawl", SEED), ("crawl",), ("jobs",)):
        refnet(*words, REFNET_DATABASE_URL=dead).fails(1, "no PostgreSQL server answers at 127.0.0.1:1")
