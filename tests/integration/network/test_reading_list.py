"""A researcher begins with what there is, stays current, and takes it out again: each from the command to the result."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import Command, url_of
from tests.integration.at_terminal import answered
from tests.integration.listening import listening
from tests.integration.network.crawling import network

from refnet import tasks
from refnet.catalog.run import Origin, RunKind
from refnet.demo import fake_graph
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import running
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.store.run_journal import RunJournal


class Growing(FakeGraph):
    """A graph of which papers after the number `shown` do not exist yet."""

    shown = 0

    def cited_by(self, number: int) -> array[int]:
        return array("L", [one for one in super().cited_by(number) if one < type(self).shown])


GRAPH = Growing(60, 400, 7)


def publish(papers: int) -> None:
    """Let the first `papers` papers of the graph exist."""
    Growing.shown = papers
    fake_graph._paper.cache_clear()  # it has counted the citations


@dataclasses.dataclass(frozen=True)
class World:
    refnet: Command
    database: Target
    folder: Path

    @property
    def vault(self) -> Path:
        return self.folder / "vault"


@pytest.fixture
def world(server: Cluster, short_folder: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    folder = short_folder / f"reading{abs(hash(request.node.name)) % 10_000}"
    (folder / "home").mkdir(parents=True)
    publish(GRAPH.papers)
    with running(GRAPH) as fake, network(server) as target:
        environment = {
            "REFNET_CRAWL_SEMANTIC_SCHOLAR_URL": fake.url,
            "REFNET_CRAWL_OPENALEX_URL": fake.openalex_url,
            "REFNET_CRAWL_REQUESTS_PER_SECOND": "0",
            "REFNET_VAULT_DIR": str(folder / "vault"),
        }
        yield World(Command(folder / "home", folder / "backups", url_of(target), environment), target, folder)


def library(world: World) -> Path:
    """A library of a paper by its DOI, one by its title, one that nobody knows, and a broken entry."""
    file = world.folder / "library.bib"
    title = GRAPH.text(30).title.replace("a", "{a}", 1)
    file.write_text(
        f"@article{{a, title = {{An old title}}, doi = {{{GRAPH.doi(50)}}}}}\n"
        f"@article{{b,\n  title = {{{title}}},\n  year = {GRAPH.year(30)}\n}}\n"
        "@article{c, title = {Quite unknown words of nobody}}\n"
        "@article{d, title = {Never closed\n"
    )
    return file


def seeds(world: World) -> set[str]:
    with world.database.connect() as session:
        rows = session.execute(
            "SELECT value FROM external_ids JOIN crawl_papers USING (paper_id) WHERE level = 0 AND scheme = 'doi'"
        ).fetchall()
    return {value for (value,) in rows}


def test_a_bibliography_is_shown_with_year_and_citations_and_taken_after_a_yes(world: World) -> None:
    file = library(world)
    planned = world.refnet("crawl", "--from", file, "--plan")
    planned.succeeds()
    assert (
        f"would look up 1 id and 2 titles of {file}; leave out {file}, line 7: the entry is not closed"
        in planned.out
    )

    world.refnet("crawl", "--from", file).fails(6, "the crawl would start from 2 papers", "--yes")
    refused = answered(world.refnet, "crawl", "--from", str(file), answer="n")
    assert refused.code == 6
    assert seeds(world) == set()
    taken = answered(world.refnet, "crawl", "--from", str(file), "--depth", "0", answer="y")
    assert taken.code == 0, taken
    assert "Crawl from 2 papers? [y/N]" in taken.err
    for number, line in ((50, "line 1"), (30, "line 2")):
        (row,) = (one for one in taken.out.splitlines() if one.endswith(line))
        assert row.split()[:2] == [str(GRAPH.year(number)), str(len(GRAPH.cited_by(number)))]
    assert "not found: line 6: Semantic Scholar does not know 'Quite unknown words of nobody'" in taken.out
    assert "not found: line 7: the entry is not closed, is too long, or has no key" in taken.out
    assert seeds(world) == {GRAPH.doi(50), GRAPH.doi(30)}


def test_bytes_that_are_no_text_are_shown_escaped_and_match_nothing(world: World) -> None:
    notes = world.folder / "notes"
    notes.mkdir()
    (notes / "b\udcff\x1b[2J.md").write_text("---\ndoi: no doi\n---\n")
    planned = world.refnet("crawl", "--from", notes, "--plan")
    planned.succeeds()
    assert "leave out" in planned.out
    assert "b\\udcff\\x1b[2J.md" in planned.out

    for option in ("--search", "--topic"):
        done = world.refnet("export", "csl-json", option, "a\udcff")
        done.succeeds()
        assert done.json == []


def test_words_find_papers_and_crawl_them_together_with_an_id(world: World) -> None:
    word = max(GRAPH.text(40).title.split(), key=len)
    shown = world.refnet(
        "find-papers", word, "--top", "2", "--json", REFNET_DATABASE_URL="postgresql://127.0.0.1:1/none"
    )
    shown.succeeds()
    best = [one["id"] for one in shown.json["candidates"]]
    assert 1 <= len(best) <= 2
    assert best[0] in world.refnet("find-papers", word).out
    world.refnet("find-papers", "nobodywritesthis").fails(1, "finds no paper for 'nobodywritesthis'")

    done = world.refnet(
        "crawl", GRAPH.doi(3), "--search", word, "--top", "1", "--yes", "--depth", "0", "--json"
    )
    done.succeeds()
    assert [one["id"] for one in done.json["found"]["candidates"]] == best[:1]
    assert done.json["crawls"][0]["papers"] == [2]
    file = world.folder / "same.txt"
    file.write_text(best[0])
    both = world.refnet(
        "crawl", "--from", file, "--search", word, "--top", "1", "--yes", "--depth", "0", "--json"
    )
    assert [(one["id"], one["where"]) for one in both.json["found"]["candidates"]] == [(best[0], "line 1")]
    world.refnet("crawl", "--search", "x", "--json").fails(2, "--yes")
    world.refnet("crawl", "--update", "--search", "x").fails(2, "--update takes no other seeds")


def test_an_update_names_new_papers_and_keeps_citation_counts_by_date(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [10, 11]
    publish(45)
    world.refnet("crawl", "--update").fails(1, "no crawl has a seed")
    world.refnet("crawl", *(GRAPH.doi(one) for one in mine)).succeeds()
    world.refnet("notes").succeeds()
    first = world.refnet("crawl", "--update")
    first.succeeds()
    assert "the first update" in first.out
    with world.database.connect() as session:  # a week passes
        session.execute(
            "UPDATE crawls SET created_at = created_at - interval '7 days', finished_at = finished_at - interval '7 days'"
        )
        session.execute("UPDATE citations SET created_at = created_at - interval '7 days'")
        session.execute("UPDATE papers SET created_at = created_at - interval '7 days'")
        session.execute("UPDATE citation_counts SET day = day - 7")
    before = {one: {*GRAPH.cited_by(one)} for one in mine}
    publish(GRAPH.papers)
    new = {one: {*GRAPH.cited_by(one)} - before[one] for one in mine}
    found = new[10] | new[11]
    both = found & {*GRAPH.cited_by(10)} & {*GRAPH.cited_by(11)}
    assert len(found) >= 2

    done = world.refnet("crawl", "--update", "--json")
    done.succeeds()
    (news,) = done.json["news"]
    titles = [one["title"] for one in news["papers"]]
    assert {*titles} == {GRAPH.text(one).title for one in found}
    assert {*titles[: len(both)]} == {GRAPH.text(one).title for one in both}
    (note,) = (world.vault / "index").glob("New since *.md")
    text = note.read_text()
    for title in titles:
        assert title in text
    assert "# New since " in text
    with listening() as service:
        told = {"REFNET_NOTIFY_URLS": f"json://{service.url}/"}
        said = world.refnet("crawl", "--update", **told)
        for name, value in (world.refnet.variables | told).items():
            monkeypatch.setenv(name, value)
        again = tasks.update_network.run()
    assert f"{len(found)} papers cite yours" in said.out, said
    assert (again["outcome"], again["new"]) == ("succeeded", len(found))
    runs = RunJournal(world.refnet.home / "runs").history().runs
    assert [one.kind for one in runs if one.by is Origin.SCHEDULER] == [RunKind.CRAWL]
    assert [one.rpartition(": ")[2] for one in service.titles] == [f"{len(found)} papers cite yours"] * 2
    assert titles[0] in service.bodies[0]
    with world.database.connect() as session:
        counts = session.execute(
            "SELECT array_agg(citation_count ORDER BY day) FROM citation_counts JOIN external_ids USING (paper_id)"
            " WHERE scheme = 'doi' AND value = %s", [GRAPH.doi(10)],
        ).fetchone()  # fmt: skip
    assert counts == ([len(before[10]), len(GRAPH.cited_by(10))],)


def test_a_list_goes_out_and_comes_in_again_with_the_same_keys(world: World) -> None:
    world.refnet("crawl", GRAPH.doi(50), "--depth", "1").succeeds()
    world.refnet("rank").succeeds()
    world.refnet("notes").succeeds()
    note = next(one for one in (world.vault / "papers").glob("*.md") if GRAPH.doi(50) in one.read_text())
    note.write_text(note.read_text() + "\nfor my #thesis/two\n")

    for form, name in (("bibtex", "l.bib"), ("ris", "l.ris"), ("csl-json", "l.json")):
        world.refnet("export", form, "--top", "5", "--to", world.folder / name).succeeds()
        planned = world.refnet("crawl", "--from", world.folder / name, "--plan")
        assert "would look up 5 ids and 0 titles" in planned.out, planned
    if shutil.which("biber"):  # test_export.py is skipped by name where it is not
        words = ["biber", "--tool", "--quiet", "--output-file", "again.bib", "l.bib"]
        done = subprocess.run(words, cwd=world.folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")
    tagged = world.refnet("export", "csl-json", "--tag", "thesis")
    tagged.succeeds()
    (item,) = tagged.json
    assert (item["DOI"], item["title"]) == (GRAPH.doi(50), GRAPH.text(50).title)
    world.refnet("export", "ris", "--tag", "nothing").fails(1, "has the tag nothing")
    assert world.refnet("export", "bibtex", "--search", "nobodywritesthis").out == ""

    keys = {one["DOI"]: one["id"] for one in world.refnet("export", "csl-json").json}
    with world.database.connect() as session:
        session.execute("TRUNCATE papers, crawls CASCADE")
    world.refnet("crawl", GRAPH.doi(51), "--depth", "0").succeeds()
    world.refnet("crawl", GRAPH.doi(50), "--depth", "1").succeeds()
    again = {one["DOI"]: one["id"] for one in world.refnet("export", "csl-json").json}
    assert {doi: again[doi] for doi in keys} == keys
