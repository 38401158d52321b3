"""The vault and the graph as programs that are not ours read them: obsidiantools, two parsers from npm, networkx, Gephi's rules."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.integration.network.crawling import crawled, network, settings_of

from refnet.demo.fake_faults import Faults
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import running
from refnet.network.crawls import CrawlOrder, Direction
from refnet.network.export import export, write_file
from refnet.network.rank import compute
from refnet.network.vault import write_vault
from refnet.postgres.cluster import Cluster
from refnet.settings import Settings

FAKE = FakeGraph(300, 2500, 5)
SPACE = "{http://graphml.graphdrawing.org/xmlns}"
#: Gephi's types, and what its parser of each accepts.
GEPHI = {
    "int": lambda text: -(2**31) <= int(text) < 2**31,
    "double": lambda text: float(text) == float(text),
    "boolean": lambda text: text in {"true", "false"},
    "string": lambda _text: True,
}
#: Names that its importer (ImporterGraphML.java) takes for a property of a node or an edge, whatever the type says.
RESERVED = {
    "node": {"label", "d3", "x", "y", "xpos", "ypos", "z", "size", "r", "g", "b"},
    "edge": {"label", "edgelabel", "d7", "weight", "edge weight", "id", "edgeid", "r", "g", "b"},
}
#: A folder with the parsers; reurl, which markdown-it-wikilinks wants from a repository, from npm:
#: {"dependencies": {"markdown-it": "^14", "markdown-it-wikilinks": "1.4.0", "remark-parse": "^11", "remark-wiki-link": "2.0.1",
#: "unified": "^11"}, "overrides": {"reurl": "1.0.0-rc.2"}}
MODULES = Path(os.environ.get("WIKI_PARSERS", "/usr/lib")) / "node_modules"
PACKAGES = ("markdown-it", "markdown-it-wikilinks", "remark-parse", "remark-wiki-link", "unified")


@dataclass(frozen=True)
class Written:
    vault: Path
    graph: Path
    #: Pairs of row ids; of those papers with notes.
    citations: set[tuple[int, int]]
    noted: set[int]


@pytest.fixture(scope="module")
def written(server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """A crawl whose titles are odd, its vault, and its graph."""
    folder = tmp_path_factory.mktemp("readers")
    with network(server) as target:
        with running(FAKE, Faults.read("titles%30")) as fake:
            order = CrawlOrder(tuple(FAKE.seed_ids[:2]), Direction.BOTH, 2, 150)
            crawled(target, settings_of(fake, Settings(home=folder)), order)
        compute(target)
        assert write_vault(target, folder / "vault").skipped == []
        export(target, "graphml", lambda _name, texts: write_file(folder / "network.graphml", texts))
        with target.connect() as session:
            citations = session.execute("SELECT citing_id, cited_id FROM citations").fetchall()
            noted = session.execute("SELECT id FROM papers WHERE details_fetched_at IS NOT NULL").fetchall()
        yield Written(
            folder / "vault",
            folder / "network.graphml",
            {(a, b) for a, b in citations},
            {n for (n,) in noted},
        )


def number(name: str) -> int:
    """The row id in the name of a paper's note."""
    found = re.search(r"\((\d+)\)(?:\.md)?$", name)
    assert found, name
    return int(found[1])


def expected(written: Written) -> set[tuple[int, int]]:
    return {pair for pair in written.citations if {*pair} <= written.noted}


def test_obsidiantools_finds_every_note_every_property_and_no_broken_link(written: Written) -> None:
    api = pytest.importorskip("obsidiantools.api")
    vault = api.Vault(written.vault).connect().gather()

    files = {path.stem for path in written.vault.rglob("*.md")}
    assert {name.rpartition("/")[2] for name in vault.md_file_index} == files
    # it names a note by its file name, and takes the path of a link for another name
    there = {str(path.with_suffix("")): name for name, path in vault.md_file_index.items()}
    broken = [name for name in vault.nonexistent_notes if not name.endswith((".canvas", ".base"))]
    assert {name for name in broken if name not in there} <= {"Not a link"}  # a title: it ignores backslashes
    papers = {name for name, path in vault.md_file_index.items() if str(path).startswith("papers/")}
    found = {(there.get(a, a), there.get(b, b)) for a, b, *_ in vault.graph.edges}
    edges = {(number(a), number(b)) for a, b in found if a in papers and b in papers}
    assert expected(written) <= edges
    for name in papers:
        properties = vault.get_front_matter(name)
        assert isinstance(properties["title"], str), name
        assert isinstance(properties.get("topics", []), list)
        assert vault.get_tags(name) == []  # a title or an abstract makes no tag
    assert {kind for name in vault.md_file_index for kind in vault.get_front_matter(name)["tags"]} == {
        "paper", "author", "topic", "index",
    }  # fmt: skip


def test_two_parsers_with_wiki_links_find_the_links_that_the_network_has(
    written: Written, tmp_path: Path
) -> None:
    if missing := [name for name in PACKAGES if not (MODULES / name).is_dir()]:
        pytest.skip(f"WIKI_PARSERS names no folder with {', '.join(missing)} of npm")
    (tmp_path / "node_modules").symlink_to(MODULES)
    script = shutil.copy(Path(__file__).with_name("wiki_links.mjs"), tmp_path)
    notes = sorted(written.vault.rglob("*.md"))
    done = subprocess.run(["node", script, *map(str, notes)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    there = {str(path.relative_to(written.vault)).removesuffix(".md") for path in notes}
    there |= {str(path.relative_to(written.vault)) for path in written.vault.rglob("*.*")}
    for parser, found in json.loads(done.stdout).items():
        targets = {file: [html.unescape(unquote(link)) for link in links] for file, links in found.items()}
        assert {link for links in targets.values() for link in links} - there == set(), parser
        cited = {
            (number(file), number(link))
            for file, links in targets.items()
            if Path(file).parent.name == "papers"
            for link in links
            if link.startswith("papers/")
        }
        assert expected(written) <= cited, parser


def test_networkx_reads_the_graph_and_counts_its_citations_alike(written: Written) -> None:
    nx = pytest.importorskip("networkx")
    graph = nx.read_graphml(written.graph)

    assert graph.is_directed()
    assert not graph.is_multigraph()
    assert {(int(a), int(b)) for a, b in graph.edges} == written.citations
    counted = {node: values["cited_by"] for node, values in graph.nodes.items()}
    assert dict(graph.in_degree) == counted
    assert Counter(type(values["year"]) for values in graph.nodes.values() if "year" in values).keys() == {
        int
    }
    assert any(values.get("contexts") for *_, values in graph.edges(data=True))
    assert any(values.get("fields_of_study") for values in graph.nodes.values())


def test_the_graph_keeps_the_rules_of_gephi(written: Written) -> None:
    root = ET.parse(written.graph).getroot()  # noqa: S314  # our own

    keys = {one.get("id"): one for one in root.findall(f"{SPACE}key")}
    assert [one.tag for one in root] == [f"{SPACE}key"] * len(keys) + [f"{SPACE}graph"]
    assert {one.get("attr.type") for one in keys.values()} <= GEPHI.keys()
    for (
        owner,
        reserved,
    ) in RESERVED.items():  # it folds case, and keeps the first of two columns with one name
        names = [str(one.get("attr.name")).lower() for one in keys.values() if one.get("for") == owner]
        assert len({*names}) == len(names)
        assert {*names} & reserved == ({"label"} if owner == "node" else set())
    assert {one.get("for") for one in keys.values()} == RESERVED.keys()
    (graph,) = root.findall(f"{SPACE}graph")
    assert graph.get("edgedefault") == "directed"
    nodes = [one.get("id") for one in graph.findall(f"{SPACE}node")]
    ends = [(one.get("source"), one.get("target")) for one in graph.findall(f"{SPACE}edge")]
    assert len({*nodes}) == len(nodes)
    assert len({*ends}) == len(ends)
    assert {end for pair in ends for end in pair} <= {*nodes}
    for owner in graph:
        assert {data.tag for data in owner} <= {f"{SPACE}data"}  # no graph, port or hyperedge inside
        assert all(len(data) == 0 for data in owner)
        names = [data.get("key") for data in owner]
        assert len({*names}) == len(names)
        for data in owner:
            key = keys[data.get("key")]
            assert f"{SPACE}{key.get('for')}" == owner.tag
            assert GEPHI[key.get("attr.type") or ""](data.text or ""), (key.get("id"), data.text)
