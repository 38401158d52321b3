"""`refnet export` of a network in a database: into files, on stdout, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.network import crawling
from tests.unit.network.test_export import TITLES, paper

from refnet.core.errors import RefnetError
from refnet.demo.sample import Shape, make
from refnet.network.export import FORMATS, Selection, export, write_file
from refnet.network.reference_formats import bibtex
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

PAPERS = 40


@pytest.fixture(scope="module")
def network(server: Cluster) -> Iterator[Target]:
    with crawling.network(server) as target:
        make(target, Shape(PAPERS, abstract=200))
        yield target


def test_each_format_has_every_paper_and_every_citation(network: Target, tmp_path: Path) -> None:
    for name in FORMATS:
        export(network, name, lambda file, texts: write_file(tmp_path / file, texts))

    with network.connect() as session:
        (citations,) = session.execute("SELECT count(*) FROM citations").fetchone() or (0,)
    graph = ET.parse(tmp_path / "network.graphml").getroot()[-1]  # noqa: S314  # our own
    document = json.loads((tmp_path / "network.json").read_text())
    tables = [
        list(csv.reader((tmp_path / f"{name}.csv").read_text().splitlines()))
        for name in ("papers", "citations")
    ]
    assert len([one for one in graph if one.tag.endswith("node")]) == len(document["papers"]) == PAPERS
    assert (
        len([one for one in graph if one.tag.endswith("edge")]) == len(document["citations"]) == citations > 0
    )
    assert [len(table) - 1 for table in tables] == [PAPERS, citations]
    assert (tmp_path / "network.bib").read_text().count("\n@") == PAPERS - 1
    assert (tmp_path / "network.ris").read_text().count("ER  - ") == PAPERS
    assert len(json.loads((tmp_path / "network.csl.json").read_text())) == PAPERS


def test_a_selection_takes_the_best_of_what_is_searched_and_the_citations_between_them(
    network: Target,
) -> None:
    def ids(selection: Selection, name: str = "json") -> tuple[list[int], list[tuple[int, int]]]:
        parts: list[str] = []
        export(network, name, lambda _, texts: parts.extend(texts), selection)
        found = json.loads("".join(parts))
        edges = [(one["citing"], one["cited"]) for one in found["citations"]]
        return [one["id"] for one in found["papers"]], edges

    with network.connect() as session:
        (word, author, title) = session.execute(
            "SELECT (SELECT word FROM unnest(string_to_array(title, ' ')) AS word ORDER BY length(word) DESC LIMIT 1),"
            " name, title FROM papers JOIN paper_authors ON paper_id = papers.id"
            " JOIN authors ON authors.id = author_id ORDER BY papers.id LIMIT 1"
        ).fetchone() or ("", "", "")
    every, edges = ids(Selection())
    best, between = ids(Selection(top=20))
    assert len(every) == PAPERS
    assert len(best) == 20
    assert between == [(a, b) for a, b in edges if a in best and b in best]
    assert 1 in ids(Selection(search=word))[0]
    assert 1 in ids(Selection(search=author.lower()))[0]
    assert ids(Selection(search="nobodywritesthis"))[0] == ids(Selection(search="%_'"))[0] == []
    assert 1 in ids(Selection(search=word[:-1].upper()))[0]
    assert 1 in ids(Selection(search=f'"{title}"'))[0]
    with network.connect() as session:
        session.execute("INSERT INTO external_ids (scheme, value, paper_id) VALUES ('doi', '10.1/search', 7)")
        assert ids(Selection(search="https://doi.org/10.1/search"))[0] == [7]
        session.execute("DELETE FROM external_ids WHERE value = '10.1/search'")
    science, others = (ids(Selection(topic=name))[0] for name in ("COMPUTER science", "Sociology"))
    assert 0 < len(science) < PAPERS
    assert science != others
    assert ids(Selection(topic="No such topic"))[0] == []
    assert sorted(ids(Selection(among=lambda _: [3, 4]))[0]) == [3, 4]


@pytest.mark.skipif(not shutil.which("biber"), reason="biber is not installed")
def test_biber_reads_every_entry_without_a_complaint(network: Target, tmp_path: Path) -> None:
    export(network, "bibtex", lambda file, texts: write_file(tmp_path / file, texts))
    with (tmp_path / "network.bib").open("a") as file:
        for number, title in enumerate(TITLES):
            file.write(
                bibtex(
                    f"odd{number}", paper(number, title, doi="10.1/a_b%5B~#", url="https://x.org/a_b?c=%20&d")
                )
            )

    done = subprocess.run(
        ["biber", "--tool", "--validate-datamodel", "--quiet", "--output-file", "again.bib", "network.bib"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    said = [one for one in done.stdout.splitlines() if "Field 'howpublished'" not in one]
    assert (done.returncode, said) == (0, [])
    again = (tmp_path / "again.bib").read_text()
    assert again.count("\n@") + again.startswith("@") == PAPERS + len(TITLES)
    assert "{10.1/a_b%5B~#}" in again
    assert "{https://x.org/a_b?c=%20&d}" in again


def test_an_export_is_whole_or_not_there(
    network: Target, mounted: Callable[..., Path], tmp_path: Path
) -> None:
    disk = mounted(tmp_path / "disk", "size=8k")
    (disk / "network.json").write_text("before")

    with pytest.raises(RefnetError, match="no space left"):
        export(network, "json", lambda file, texts: write_file(disk / file, texts))

    assert [(one.name, one.read_text()) for one in disk.iterdir()] == [("network.json", "before")]


def test_what_is_not_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for path in (tmp_path / "link", Path("/dev/null"), tmp_path):
        with pytest.raises(RefnetError, match="not a regular file"):
            write_file(path, iter(["x"]))


def test_a_database_without_a_network_says_what_to_do_and_writes_nothing(database: Target) -> None:
    parts: list[str] = []
    with pytest.raises(RefnetError, match="has no citation network, or one of an older version of RefNet"):
        export(database, "json", lambda _, texts: parts.extend(texts))
    assert not parts
