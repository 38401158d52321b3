"""`refnet export` of a network in a database: into files, on stdout, and what it refuses."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.network.crawling import migrated_on

from refnet.core.errors import RefnetError
from refnet.demo.sample import Shape, make
from refnet.network.export import FORMATS, export, write_file
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

PAPERS = 40


@pytest.fixture(scope="module")
def network(server: Cluster) -> Iterator[Target]:
    target = migrated_on(server, "exported")
    make(target, Shape(PAPERS, abstract=200))
    yield target
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE exported WITH (FORCE)")


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
