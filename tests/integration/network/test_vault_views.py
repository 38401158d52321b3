"""The vault of a crawl with hostile titles: index notes, canvases, the base; all links resolve, edits survive."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.network.crawling import network

from refnet.core.errors import Exit, RefnetError
from refnet.network import note, vault_files
from refnet.network import vault as vault_module
from refnet.network.note import Paper
from refnet.network.vault import write_vault
from refnet.network.vault_files import locked, vault_folder
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

#: What titles may be; the paper of each has the number of its place, from 1.
TITLES = (
    "The seed of all", "../../etc/passwd", "a/b\\c: [[d]] | #e ^f %%g%% ==h==", "CON", "nul.md", "Case", "case", "CASE",
    "👩\u200d👩\u200d👧 emoji ✨", "\u202eright to left\u202c עברית", "x" * 500, "文" * 300, '"quoted": {yaml} & *a !!b', "- list", "...",
    "$x_1$ <b>html</b> `code`", "a\u2028b\u2029c", "%% %%% %%%%", "refnet_sha256: " + "0" * 64, "---",
)  # fmt: skip
STUBS = ("Known by title only", "[[Another]] stub")
SEED, NOTES = 1, len(TITLES)


@pytest.fixture(scope="module")
def crawled(server: Cluster) -> Iterator[Target]:
    """A crawl of one seed that cites half of the papers and the stubs, and is cited by the other half."""
    with network(server) as target:
        with target.connect() as session:
            session.execute(
                """INSERT INTO crawls (seeds, direction, depth, paper_limit) VALUES ('{DOI:10.1/x}', 'both', 1, 99)"""
            )
            for number, title in enumerate(TITLES + STUBS, 1):
                session.execute(
                    "INSERT INTO papers (title, year, provenance, details_fetched_at) VALUES (%s, %s, 'semantic_scholar', %s)",
                    (title, 1990 + number, None if number > NOTES else "2026-01-01"),
                )
                session.execute(
                    "INSERT INTO ranks (paper_id, position, pagerank, cited_by, cites) VALUES (%s, %s, 0.1, %s, 0)",
                    (number, number, number),
                )
            session.execute("INSERT INTO external_ids SELECT 'doi', '10.1/' || id, id FROM papers")
            session.execute(
                "INSERT INTO crawl_papers SELECT 1, id, CASE id WHEN 1 THEN 0 ELSE 1 END FROM papers"
            )
            session.execute(
                """INSERT INTO citations (citing_id, cited_id, provenance)
                   SELECT 1, id, 'x' FROM papers WHERE id > 1 AND (id %% 2 = 0 OR id > %s)
                   UNION SELECT id, 1, 'x' FROM papers WHERE id > 1 AND id %% 2 = 1""",
                (NOTES,),
            )
            session.execute(
                "INSERT INTO related_papers SELECT id, 'coupling', 1, 3 FROM papers WHERE id BETWEEN 2 AND 20"
            )
            session.execute(
                "INSERT INTO summaries (paper_id, kind, model, content) VALUES (2, 'tldr', 'm', 'Short [[x]] %%')"
            )
        yield target


@pytest.fixture
def vault(crawled: Target, tmp_path: Path) -> Path:
    write_vault(crawled, tmp_path / "vault")
    return tmp_path / "vault"


def files(vault: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(vault)): path.read_bytes() for path in sorted(vault.rglob("*")) if path.is_file()
    }


def stamps(vault: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in vault.rglob("*")}


def links(vault: Path) -> list[tuple[str, str]]:
    """Every link of the vault: the file that has it, and the path that it leads to."""
    found = []
    for name, content in files(vault).items():
        if name.endswith(".md"):
            text = re.sub(r"\\[\[\]]", "", content.decode().split("---\n", 2)[2])
            found += [(name, link.split("|")[0].split("#")[0]) for link in re.findall(r"\[\[(.*?)\]\]", text)]
        if name.endswith(".canvas"):
            nodes = json.loads(content)["nodes"]
            found += [(name, node["file"]) for node in nodes if node["type"] == "file"]
            assert not any("[[" in node.get("text", "").replace(r"\[", "") for node in nodes)
    return found


def test_every_link_of_the_vault_resolves(vault: Path) -> None:
    there = files(vault)

    assert {name.split("/")[0] for name in there} == {"papers", "index", "canvas", "papers.base", ".obsidian"}
    assert len([name for name in there if name.startswith("papers/")]) == NOTES
    assert len(links(vault)) > 3 * NOTES
    assert [link for link in links(vault) if link[1] not in there and f"{link[1]}.md" not in there] == []
    assert len({name.casefold() for name in there}) == len(there)


def test_each_file_is_what_its_reader_expects(vault: Path) -> None:
    for name, content in files(vault).items():
        text = content.decode()
        if name.endswith(".md"):
            _, matter, body = text.split("---\n", 2)
            assert isinstance(yaml.safe_load(matter)["title"], str)
            assert body.count("%%") == 4
    assert (
        len(list((vault / "canvas").glob("* (1).canvas")))
        == len(list((vault / "index").glob("* (1).md")))
        == 1
    )


def test_a_stub_has_a_note_only_on_demand(crawled: Target, tmp_path: Path) -> None:
    assert write_vault(crawled, tmp_path / "vault", stubs=True).new == NOTES + len(STUBS)
    assert write_vault(crawled, tmp_path / "vault").unchanged == NOTES + len(
        STUBS
    )  # a note that is there is kept


def test_a_second_run_touches_no_file(crawled: Target, vault: Path) -> None:
    before = stamps(vault)

    done = write_vault(crawled, vault)

    assert (done.new, done.changed, done.unchanged, done.views, done.skipped) == (0, 0, NOTES, [], [])
    assert stamps(vault) == before


def test_with_a_cache_only_what_has_changed_is_rendered(
    crawled: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, kept = tmp_path / "vault", tmp_path / "cache"
    write_vault(crawled, where, cache=kept)
    rendered: list[int] = []

    def render(paper: Paper, *rest: Any) -> str:
        rendered.append(paper.id)
        return note.render(paper, *rest)

    monkeypatch.setattr(vault_module, "render", render)
    assert write_vault(crawled, where, cache=kept).unchanged == NOTES
    assert rendered == []
    edited = next((where / "papers").glob("*(2).md"))
    edited.write_text(edited.read_text().replace("# ", "# old ", 1))
    assert write_vault(crawled, where, cache=kept).changed == 1
    assert {*rendered} == {2}
    rendered.clear()
    with crawled.connect() as session:
        session.execute("UPDATE papers SET venue = 'V' WHERE id = 3")
    assert write_vault(crawled, where, cache=kept).changed == 1
    assert {*rendered} == {3}
    (file,) = kept.iterdir()
    for damaged in (b"", b"[1]", b'{"1": 7}', b"[" * 100_000, b"\xff"):
        file.write_bytes(damaged)
        assert write_vault(crawled, where, cache=kept).unchanged == NOTES
    file.unlink()
    file.mkdir()
    assert write_vault(crawled, where, cache=kept).unchanged == NOTES


def test_what_somebody_edited_survives_byte_for_byte(crawled: Target, vault: Path) -> None:
    (index,) = (vault / "index").iterdir()
    (canvas,) = (vault / "canvas").iterdir()
    note = next((vault / "papers").glob("*(2).md"))
    index.write_bytes(
        b"---\r\nmine: 1 # x\r\n" + index.read_bytes()[4:].replace(b"\n", b"\r\n") + b"mine\r\nalso\n"
    )
    note.write_bytes(
        note.read_bytes().replace(b"read: false", b"read: true\nmine: [a,  b] # x") + b"\n\nmine \n"
    )
    canvas.write_text(canvas.read_text().replace('"color": "6"', '"color": "1"'))
    (vault / "papers.base").write_text("views: []")
    (vault / ".obsidian" / "graph.json").write_text("{}")
    before = files(vault)

    done = write_vault(crawled, vault)

    assert files(vault) == before
    assert sorted(one.split(":")[0] for one in done.skipped) == [
        str(canvas.relative_to(vault)),
        "papers.base",
    ]
    assert all("edited" in one for one in done.skipped)


def test_a_base_a_canvas_and_a_note_that_were_deleted_come_back(crawled: Target, vault: Path) -> None:
    before = files(vault)
    for name in [*before][::2]:
        (vault / name).unlink()

    done = write_vault(crawled, vault)

    assert files(vault) == before
    assert done.skipped == []


def test_a_renamed_index_note_and_canvas_are_renewed_in_place(crawled: Target, vault: Path) -> None:
    (index,) = (vault / "index").iterdir()
    index.rename(vault / "Start here.md")
    (canvas,) = (vault / "canvas").iterdir()
    canvas.rename(vault / "canvas" / "Picture (1).canvas")

    write_vault(crawled, vault)

    assert list((vault / "index").iterdir()) == []
    assert [one.name for one in (vault / "canvas").iterdir()] == ["Picture (1).canvas"]
    assert "[[canvas/Picture (1).canvas|" in (vault / "Start here.md").read_text()


def test_copies_that_obsidian_makes_stay_and_the_originals_are_renewed(crawled: Target, vault: Path) -> None:
    before = files(vault)
    originals = [next((vault / name).glob("*(1).*")) for name in ("papers", "index", "canvas")]
    copies = [one.with_name(f"{one.stem} 1{one.suffix}") for one in originals]
    for one, copy in zip(originals, copies, strict=True):
        copy.write_text(one.read_text().replace("The seed of all", "My copy"))
    for one in originals[:2]:
        one.write_text(one.read_text().replace("The seed of all", "Old"))

    done = write_vault(crawled, vault)

    after = files(vault)
    assert {name: after[name] for name in before} == before
    assert all("My copy" in copy.read_text() for copy in copies)
    assert [one.partition(": ")[0] for one in sorted(done.skipped)] == sorted(
        str(copy.relative_to(vault)) for copy in copies[:2]
    )


def test_a_note_that_is_edited_while_it_is_renewed_keeps_the_edit(
    crawled: Target, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = next((vault / "papers").glob("*(2).md"))
    note.write_text(note.read_text().replace("# ", "# old ", 1))
    read, edits = vault_files.read, iter(["first", "second"])

    def edited(handle: int, path: str) -> object:
        found = read(handle, path)
        if vault / path == note and (edit := next(edits, None)):
            note.write_text(f"{note.read_text()}{edit}\n")
        return found

    monkeypatch.setattr(vault_files, "read", edited)
    done = write_vault(crawled, vault)

    assert done.changed == 1
    assert note.read_text().endswith("%%/refnet%%\nfirst\nsecond\n")
    assert "# old" not in note.read_text()


def test_symbolic_links_are_neither_followed_nor_replaced(
    crawled: Target, vault: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.md"
    note = next((vault / "papers").glob("*(2).md"))
    note.rename(outside)
    note.symlink_to(outside)
    outside.write_text(before := outside.read_text().replace("# ", "# old ", 1))

    done = write_vault(crawled, vault)

    assert outside.read_text() == before
    assert note.is_symlink()
    assert len(done.skipped) == 1
    (vault / "papers").rename(tmp_path / "papers")
    (vault / "papers").symlink_to(tmp_path / "papers")
    with pytest.raises(RefnetError, match="papers is a symbolic link"):
        write_vault(crawled, vault)


def test_a_second_run_at_the_same_time_says_that_the_vault_is_locked(crawled: Target, vault: Path) -> None:
    with (
        vault_folder(vault, make=False) as handle,
        locked(handle or 0, vault),
        pytest.raises(RefnetError, match="another run is writing into it") as caught,
    ):
        write_vault(crawled, vault)
    assert caught.value.code is Exit.LOCKED


def test_a_read_only_vault_is_named_and_stays_as_it_is(
    crawled: Target, vault: Path, mounted: Callable[..., Path], tmp_path: Path
) -> None:
    small = mounted(tmp_path / "mount", "size=4m")
    write_vault(crawled, small)
    next((small / "papers").glob("*(2).md")).unlink()
    before = files(small)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)

    with pytest.raises(RefnetError, match="read-only"):
        write_vault(crawled, small)
    assert files(small) == before
