"""A note keeps its paper in a database that gives the papers other numbers: after a restore, or a new crawl."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.network.crawling import migrated_on

from refnet.network.frontmatter import canvas_ids
from refnet.network.vault import write_vault
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

#: Title and ids of each paper; the first two are seeds.
PAPERS: list[tuple[str, dict[str, str]]] = [
    ("Seed one", {"doi": "10.1/one", "arxiv": "2001.00001"}),
    ("Seed two", {"openalex": "W2"}),
    ("Same title", {"doi": "10.1/a"}),
    ("Same title", {"doi": "10.1/b"}),
    ("By arXiv", {"arxiv": "2001.00005"}),
    ("By the provider", {"semantic_scholar": "a" * 40, "corpus_id": "77"}),
    ("Known by title only", {}),
]


@contextmanager
def a_network(server: Cluster, name: str, order: list[int]) -> Iterator[Target]:
    """A database whose papers have the numbers of their places in `order`, from 1."""
    target = migrated_on(server, name)
    with target.connect() as session:
        session.execute(
            "INSERT INTO crawls (seeds, direction, depth, paper_limit) VALUES ('{DOI:10.1/one}', 'both', 1, 99)"
        )
        for number, one in enumerate(order, 1):
            title, ids = PAPERS[one]
            session.execute(
                "INSERT INTO papers (title, title_key, year, provenance, details_fetched_at)"
                " VALUES (%s, %s, 2000, 'semantic_scholar', '2026-01-01')",
                (title, None if ids else title.lower()),
            )
            for scheme, value in ids.items():
                session.execute("INSERT INTO external_ids VALUES (%s, %s, %s)", (scheme, value, number))
            session.execute("INSERT INTO crawl_papers VALUES (1, %s, %s)", (number, 0 if one < 2 else 1))
        for number, one in enumerate(order, 1):
            if one > 1:
                session.execute(
                    "INSERT INTO citations (citing_id, cited_id, provenance) VALUES (%s, %s, 'x')",
                    (order.index(0) + 1, number),
                )
    yield target
    with server.target().connect() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def first(server: Cluster) -> Iterator[Target]:
    with a_network(server, "numbers_first", [*range(len(PAPERS))]) as target:
        yield target


@pytest.fixture(scope="module")
def again(server: Cluster) -> Iterator[Target]:
    with a_network(server, "numbers_again", [3, 6, 0, 5, 2, 1, 4]) as target:
        yield target


def older(text: str, number: int) -> str:
    """The note as an earlier RefNet wrote it."""
    return re.sub(
        r"refnet_(ids|index_of):\n(?:  - .*\n)+",
        lambda found: f"refnet_{'id' if found[1] == 'ids' else 'index'}: {number}\n",
        text,
    )


def read(vault: Path) -> dict[str, str]:
    return {
        str(path.relative_to(vault)): path.read_text()
        for path in sorted(vault.rglob("*.*"))
        if path.is_file()
    }


def mine(vault: Path) -> None:
    """Their reader reads every note, writes its title into it, and gives some of them other names."""
    for path in vault.rglob("*.md"):
        text = path.read_text()
        (title,) = re.findall(r"^title: (.*)$", text, re.MULTILINE)
        path.write_text(text.replace("read: false", "read: true") + f"\nAbout {title}, {path.stem}\n")
        if "Same title" in text:
            path.rename(path.with_name(f"{len(text)} {path.name}"))


@pytest.mark.parametrize("old", [False, True])
def test_a_note_keeps_its_paper_whatever_its_number_is(
    first: Target, again: Target, tmp_path: Path, *, old: bool
) -> None:
    write_vault(first, tmp_path)
    mine(tmp_path)
    if old:
        for path in tmp_path.rglob("*.md"):
            (number,) = re.findall(r"\((\d+)\)\.md", path.name)
            path.write_text(older(path.read_text(), int(number)))
    before = read(tmp_path)

    done = write_vault(again, tmp_path)

    after = read(tmp_path)
    assert (done.new, done.skipped, done.gone) == (0, [], [])
    assert after.keys() == before.keys()
    for name, text in after.items():
        for kept in ("title: .*", "doi: .*", "arxiv: .*", "read: true", "About .*", "  - .*"):
            assert set(re.findall(f"^{kept}$", before[name], re.MULTILINE)) <= set(
                re.findall(f"^{kept}$", text, re.MULTILINE)
            )
        assert "refnet_id:" not in text
        assert "refnet_index:" not in text
    assert write_vault(again, tmp_path).unchanged == len(PAPERS)
    for canvas in (name for name in after if name.endswith(".canvas")):
        assert canvas_ids(after[canvas])[0] == canvas_ids(before[canvas])[0] != ()


def test_an_older_canvas_is_found_by_the_note_of_its_seed(
    first: Target, again: Target, tmp_path: Path
) -> None:
    write_vault(first, tmp_path)
    before = read(tmp_path)
    for path in (tmp_path / "canvas").iterdir():
        path.write_text(re.sub(r'"refnet_ids": \[[^]]*\],\s*', "", path.read_text()))

    done = write_vault(again, tmp_path)

    assert read(tmp_path).keys() == before.keys()
    assert all("edited" in one for one in done.skipped)


def contradicting(vault: Path, change: Callable[[str], str]) -> str:
    """Change the note of `Seed one`; return its path."""
    (path,) = vault.glob("papers/*Seed one*.md")
    path.write_text(change(path.read_text()))
    return str(path.relative_to(vault))


@pytest.mark.parametrize("plan", [True, False])
def test_a_note_with_the_ids_of_two_papers_is_named_and_left_alone(
    first: Target, tmp_path: Path, *, plan: bool
) -> None:
    write_vault(first, tmp_path)
    path = contradicting(tmp_path, lambda text: text.replace('doi: "10.1/one"', "doi: 10.1/a"))
    before = (tmp_path / path).read_text()
    assert "doi: 10.1/a" in before

    done = write_vault(first, tmp_path, plan=plan)

    assert any(path in one and "contradict each other" in one for one in done.skipped), done.skipped
    assert (tmp_path / path).read_text() == before


@pytest.mark.parametrize("plan", [True, False])
def test_an_older_note_with_another_papers_number_is_named_and_kept(
    first: Target, tmp_path: Path, *, plan: bool
) -> None:
    (tmp_path / "x.md").write_text(text := "---\nrefnet_id: 3\ntitle: Not here\nread: true\n---\nmine\n")

    done = write_vault(first, tmp_path, plan=plan)

    assert [one for one in done.skipped if "x.md" in one and "has another title, Same title" in one]
    assert (tmp_path / "x.md").read_text() == text


def test_a_note_whose_ids_match_no_paper_is_gone_despite_its_old_number(
    first: Target, tmp_path: Path
) -> None:
    (tmp_path / "x.md").write_text(
        text := "---\nrefnet_id: 3\ntitle: Same title\ndoi: 10.1/gone\n---\nmine\n"
    )

    assert write_vault(first, tmp_path).gone == ["x.md"]
    assert (tmp_path / "x.md").read_text() == text


@pytest.mark.parametrize(
    "ids",
    ["[a, {b: c}]", "7", "\n  - 'doi:10.1/one'\n  - doi:10.1/one", "\n- DOI:x\n- doi:10.1/ONE", '["doi:10.1/one", "x:\\0"]'],
)  # fmt: skip
def test_ids_that_their_reader_or_another_program_rewrote_are_read(
    first: Target, tmp_path: Path, ids: str
) -> None:
    (tmp_path / "x.md").write_text(f"---\nrefnet_ids: {ids}\n---\nmine\n")

    done = write_vault(first, tmp_path)

    assert (done.new == len(PAPERS) - 1) == ("one" in ids.lower())
    assert done.gone == ([] if "one" in ids.lower() else ["x.md"])
