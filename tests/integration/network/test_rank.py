"""`refnet rank` on a real server: what is stored, what a second run changes, and what it says where there is little."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.command import Command, url_of

from refnet.core.errors import Exit, RefnetError
from refnet.network import rank
from refnet.network.importing import import_cora
from refnet.network.rank import Ranked, compute
from refnet.network.rank_table import table
from refnet.postgres.session import Target

Session = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def session(migrated: Target) -> Iterator[Session]:
    """A session with an empty network."""
    with migrated.connect() as session:
        session.execute("TRUNCATE papers RESTART IDENTITY CASCADE")
        yield session


def add(session: Session, *papers: str | None, cites: dict[int, list[int]]) -> None:
    """Add papers with details, numbered from 1; None: a stub with a DOI."""
    for number, title in enumerate(papers, 1):
        session.execute(
            "INSERT INTO papers (title, provenance, details_fetched_at) VALUES (%s, 'openalex', %s)",
            [title or f"Stub {number}", "2026-01-01" if title else None],
        )
        session.execute("INSERT INTO external_ids VALUES ('doi', %s, %s)", [f"10.1/{number}", number])
    for citing, cited in ((one, other) for one, others in cites.items() for other in others):
        session.execute(
            "INSERT INTO citations (citing_id, cited_id, provenance) VALUES (%s, %s, 'openalex')",
            [citing, cited],
        )


def rows(session: Session, query: str) -> list[tuple[Any, ...]]:
    return session.execute(query).fetchall()


def command(target: Target, folder: Any) -> Command:
    return Command(folder, folder / "backups", url_of(target))


def test_ranks_and_closest_papers_are_stored(migrated: Target, session: Session) -> None:
    add(session, "A", "B", "Survey", "Later", cites={3: [1, 2], 4: [1, 2, 3]})
    assert compute(migrated) == Ranked(4, 4, 5, co_citation=4, coupling=2)
    found = rows(session, "SELECT position, paper_id, cited_by, cites FROM ranks ORDER BY position")
    assert found == [(1, 1, 2, 0), (2, 2, 2, 0), (3, 3, 1, 2), (4, 4, 0, 3)]
    assert rows(session, "SELECT sum(pagerank) BETWEEN 0.999999 AND 1.000001 FROM ranks") == [(True,)]
    related = "SELECT paper_id, other_id, strength FROM related_papers WHERE kind = '{}' ORDER BY 1, 2"
    assert rows(session, related.format("co_citation")) == [(1, 2, 2), (2, 1, 2), (3, 1, 1), (3, 2, 1)]
    assert rows(session, related.format("coupling")) == [(3, 4, 2), (4, 3, 2)]


def test_a_second_run_writes_only_what_changed(migrated: Target, session: Session) -> None:
    add(session, "A", "B", "C", "D", cites={3: [1, 2], 4: [1, 2]})
    compute(migrated)
    before = rows(session, "SELECT ctid, * FROM related_papers ORDER BY 2, 3, 4")
    assert compute(migrated) == Ranked(4, 4, 4, co_citation=2, coupling=2)
    assert rows(session, "SELECT ctid, * FROM related_papers ORDER BY 2, 3, 4") == before
    session.execute("DELETE FROM papers WHERE id = 4")
    session.execute("INSERT INTO related_papers VALUES (1, 'coupling', 2, 9)")
    assert compute(migrated) == Ranked(3, 3, 2, co_citation=2, coupling=0)
    assert rows(session, "SELECT kind, strength FROM related_papers") == [("co_citation", 1)] * 2
    assert rows(session, "SELECT count(*) FROM ranks") == [(3,)]


def test_a_paper_that_is_deleted_meanwhile_gets_no_rank(migrated: Target, session: Session) -> None:
    add(session, "A", "B", "C", "D", cites={3: [1, 2], 4: [1, 2]})

    def merged(step: str, _done: int, _total: int | None) -> None:
        if step == "write":
            session.execute("DELETE FROM papers WHERE id = 2")

    compute(migrated, merged)
    assert rows(session, "SELECT paper_id FROM ranks ORDER BY 1") == [(1,), (3,), (4,)]
    assert rows(session, "SELECT DISTINCT kind FROM related_papers") == [("coupling",)]


def test_a_run_that_ends_in_the_middle_leaves_the_ranks_as_they_were(
    migrated: Target, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(session, "A", "B", cites={2: [1]})
    compute(migrated)
    before = rows(session, "TABLE ranks")
    session.execute("INSERT INTO papers (title, provenance) VALUES ('C', 'openalex')")
    monkeypatch.setattr(rank, "_WRITE", (*rank._WRITE[:2], "SELECT pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(RefnetError, match=f"{migrated.name} cannot be ranked") as error:
        compute(migrated)
    assert error.value.hint.startswith("The ranks are unchanged.")
    assert rows(session, "TABLE ranks") == before


def test_a_second_run_at_once_is_refused(migrated: Target, session: Session) -> None:
    session.execute("SELECT pg_advisory_lock(%s)", [rank._LOCK])
    with pytest.raises(RefnetError, match="is being ranked by another run") as error:
        compute(migrated)
    assert (error.value.code, error.value.transient) == (Exit.LOCKED, True)


def test_missing_papers_are_the_stubs_that_the_library_cites(migrated: Target, session: Session) -> None:
    add(session, "A", "B", None, None, None, cites={1: [3, 4, 2], 2: [3], 5: [4, 3]})
    compute(migrated)
    missing = table(migrated, 10, missing=True).missing or []
    assert [(one.id, one.cited_by, one.crawl_id) for one in missing] == [
        (3, 2, "DOI:10.1/3"),
        (4, 1, "DOI:10.1/4"),
    ]


def test_the_real_graph_is_ranked_and_nothing_of_it_is_missing(
    migrated: Target, session: Session, cora_cites: Any
) -> None:
    import_cora(migrated, cora_cites)
    assert compute(migrated) == Ranked(2708, 2708, 5429, co_citation=3541, coupling=6868)
    found = table(migrated, 3, missing=True)
    assert (found.missing, [one.title for one in found.papers]) == (
        [],
        ["cora 15429", "cora 10177", "cora 35"],
    )
    assert rows(session, "SELECT sum(cited_by), sum(cites) FROM ranks") == [(5429, 5429)]


def test_the_command_prints_tables_and_json(migrated: Target, session: Session, short_home: Any) -> None:
    add(session, "First\x1b[2J title", "B", "C", "D", None, cites={3: [1, 2, 5], 4: [1, 2]})
    refnet = command(migrated, short_home)
    done = refnet("rank", "--top", "2")
    done.succeeds()
    assert f"{migrated.name}: 5 papers (1 stub) ranked by 5 citations" in done.out
    assert "\x1b" not in done.out
    assert "most often cited together" in done.out
    told = refnet("rank", "--missing", "--json").json
    assert told["ranked"]["citations"] == 5
    assert told["papers"][0]["co_citation"] == [{"id": 2, "title": "B", "strength": 2}]
    assert [one["title"] for one in told["missing"]] == ["Stub 5"]
    assert "DOI:10.1/5" in refnet("rank", "--missing", "-q").out


def test_the_command_prints_what_to_read_first_and_why(
    migrated: Target, session: Session, short_home: Any
) -> None:
    add(session, "Mine", "Old\x1b[2J and cited", "New", "Else", cites={1: [2, 3]})
    session.execute("UPDATE papers SET year = 1992, citation_count = 400 WHERE id = 2")
    session.execute("UPDATE papers SET year = extract(year FROM now()), citation_count = 90 WHERE id = 3")
    session.execute("UPDATE citations SET is_influential = true WHERE cited_id = 3")
    session.execute("INSERT INTO crawls (seeds, direction, depth, paper_limit) VALUES ('{a}', 'both', 1, 9)")
    session.execute("INSERT INTO crawl_papers SELECT max(id), 1, 0 FROM crawls")
    refnet = command(migrated, short_home)
    done = refnet("rank", "--read-first", "--top", "2")
    done.succeeds()
    assert "\x1b" not in done.out
    lines = [line.split() for line in done.out.splitlines()[-2:]]
    assert [line[0] for line in lines] == ["1", "2"]
    assert "cited by 1 of yours; influential for 1; 90 citations a year" in done.out
    told = refnet("rank", "--read-first", "--json").json
    assert [(one["id"], one["title"]) for one in told["first"]] == [
        (3, "New"),
        (2, "Old\x1b[2J and cited"),
        (4, "Else"),
    ]
    assert told["first"][1]["why"].startswith("cited by 1 of yours; ")
    refnet("rank", "--read-first", "--missing").fails(2, "are two lists")


@pytest.mark.parametrize(
    ("papers", "words"),
    [
        ((), "no papers to rank. Collect some: `refnet crawl ID`"),
        (("A",), "no citations, so every paper ranks the same"),
        ((None, None), "every paper is a stub"),
    ],
)
def test_little_is_said_to_be_little(
    migrated: Target, session: Session, short_home: Any, papers: tuple[str | None, ...], words: str
) -> None:
    add(session, *papers, cites={1: [2]} if len(papers) > 1 else {})
    done = command(migrated, short_home)("rank")
    done.succeeds()
    assert words in done.out


def test_a_database_without_a_network_is_named(database: Target, short_home: Any) -> None:
    for option in ("--plan", "--json"):
        command(database, short_home)("rank", option).fails(1, "has no citation network", "refnet crawl ID")
    assert json.dumps(command(database, short_home)("rank").out) == '""'
