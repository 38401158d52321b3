"""The notes of authors and topics: whose they are, what leads to them, and what their reader wrote in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.network.crawling import migrated_on

from refnet.network.frontmatter import mark_in
from refnet.network.vault import write_vault
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

ADA = "0000-0003-1613-5981"
#: Name, Semantic Scholar's id, ORCID, papers: two of one name, one without an id, one with a single paper.
AUTHORS = (
    ("Ada [[Lovelace]] #1", "101", ADA, (1, 2)), ("Wei Wang", "102", None, (1, 2)), ("Wei Wang", "103", None, (2, 3)),
    ("No Id", None, None, (1, 2)), ("Once", "104", None, (3,)), ("../../etc/passwd", "105", None, (1, 3)),
)  # fmt: skip
TOPICS = (["Computer Science", "Art/Music: [x]"], ["computer science"], ["Computer Science", "..", "-->%%"])


def filled(server: Cluster, name: str, begin: int = 0) -> Target:
    """A database with the papers and authors, the numbers of its rows from `begin` + 1 on."""
    target = migrated_on(server, name)
    with target.connect() as session:
        for table in ("papers", "authors"):
            session.execute(f"ALTER TABLE {table} ALTER id RESTART WITH {begin + 1}")
        for number, topics in enumerate(TOPICS, 1):
            session.execute(
                "INSERT INTO papers (title, year, provenance, details_fetched_at, fields_of_study)"
                " VALUES (%s, 2020, 'x', now(), %s)",
                (f"Paper {number}", topics),
            )
        session.execute(
            "INSERT INTO external_ids SELECT 'doi', lower('10.1/' || replace(title, ' ', '')), id FROM papers"
        )
        for author, (who, scholar, orcid, papers) in enumerate(AUTHORS, 1):
            session.execute(
                "INSERT INTO authors (name, semantic_scholar_id, orcid, provenance) VALUES (%s, %s, %s, 'x')",
                (who, scholar, orcid),
            )
            for paper in papers:
                session.execute(
                    "INSERT INTO paper_authors VALUES (%s, %s, %s)", (begin + paper, author, begin + author)
                )
    return target


@pytest.fixture(scope="module")
def networks(server: Cluster) -> Iterator[tuple[Target, Target]]:
    """Two databases with the same papers and authors under other numbers."""
    yield filled(server, "names_one"), filled(server, "names_two", 40)
    with server.target().connect() as admin:
        for name in ("names_one", "names_two"):
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def notes(vault: Path) -> dict[str, str]:
    return {str(path.relative_to(vault).with_suffix("")): path.read_text() for path in vault.rglob("*.md")}


def test_authors_with_an_id_and_several_papers_and_each_topic_have_a_note(
    networks: tuple[Target, Target], tmp_path: Path
) -> None:
    done = write_vault(networks[0], tmp_path)

    found = notes(tmp_path)
    authors = sorted(name for name in found if name.startswith("authors/"))
    assert authors == [
        "authors/Ada Lovelace 1 (1)", "authors/Wei Wang (2)", "authors/Wei Wang (3)", "authors/etc passwd (6)",
    ]  # fmt: skip
    topics = [name for name in found if name.startswith("topics/")]
    assert len(topics) == 4
    assert "topics/Computer Science" in topics
    assert (done.new, done.skipped, done.gone) == (3, [], [])
    ada = found["authors/Ada Lovelace 1 (1)"]
    assert (
        f"ORCID: <https://orcid.org/{ADA}> · Semantic Scholar: <https://www.semanticscholar.org/author/101>\n"
        in ada
    )
    assert f'orcid: "{ADA}"' in ada
    assert "2 papers here." in ada
    assert "3 papers here." in found["topics/Computer Science"]
    bodies = [text.split("---\n", 2)[2].replace("\\[", "") for text in found.values()]
    links = [link.split("|")[0] for text in bodies for link in re.findall(r"\[\[(.*?)\]\]", text)]
    assert {
        link for link in links if "papers.base" not in link and not link.endswith(".canvas")
    } <= found.keys()
    assert {*authors, *topics} <= {*links}
    assert write_vault(networks[0], tmp_path).views == []


def test_a_note_of_an_author_keeps_its_reader_and_its_place_in_another_database(
    networks: tuple[Target, Target], tmp_path: Path
) -> None:
    write_vault(networks[0], tmp_path)
    ada, science = tmp_path / "authors" / "Ada Lovelace 1 (1).md", tmp_path / "topics" / "Computer Science.md"
    for path in (ada, science):
        text = path.read_text().replace("\ntags:", "\nmine: 1 # x\ntags:").replace("papers here", "old")
        path.write_text(f"{text}My words.\n")
    ada.rename(tmp_path / "Ada.md")

    done = write_vault(networks[1], tmp_path)

    assert (done.new, done.skipped, done.gone) == (0, [], [])
    found = notes(tmp_path)
    assert len([name for name in found if name.startswith("authors/")]) == 3
    for name in ("Ada", "topics/Computer Science"):
        assert "mine: 1 # x\n" in found[name]
        assert found[name].endswith("My words.\n")
        assert "papers here." in found[name]
    assert "[[Ada|" in next(text for name, text in found.items() if "Paper 1" in name)


def test_a_copy_is_named_and_a_note_without_its_author_stays(
    networks: tuple[Target, Target], tmp_path: Path
) -> None:
    write_vault(networks[0], tmp_path)
    copy, gone = tmp_path / "authors" / "Wei Wang (2) 1.md", tmp_path / "gone.md"
    copy.write_text((tmp_path / "authors" / "Wei Wang (2).md").read_text() + "mine")
    gone.write_text(before := "---\nrefnet_author:\n  - semantic_scholar:999\n---\nmine")
    (tmp_path / "two.md").write_text(
        both := "---\nrefnet_author: [semantic_scholar:103, semantic_scholar:105]\n---\n"
    )
    (tmp_path / "authors" / "Wei Wang (3).md").unlink()
    (tmp_path / "authors" / "etc passwd (6).md").unlink()

    done = write_vault(networks[0], tmp_path)

    assert done.skipped == [
        "authors/Wei Wang (2) 1.md: its author already has the note authors/Wei Wang (2).md",
        "two.md: its ids are those of two authors",
    ]
    assert done.gone == ["gone.md"]
    assert copy.read_text().endswith("mine")
    assert gone.read_text() == before
    assert (tmp_path / "two.md").read_text() != both  # of the first of them
    mark = mark_in((tmp_path / "two.md").read_text())
    assert mark
    assert mark.ids == (("semantic_scholar", "103"),)
