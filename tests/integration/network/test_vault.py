"""The vault: every paper a note, every link to a note that is there, what the reader wrote untouched."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.network import crawling

from refnet.core.errors import RefnetError
from refnet.demo.sample import Shape, make
from refnet.network.vault import write_vault
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

PAPERS = 60


@pytest.fixture(scope="module")
def network(server: Cluster) -> Iterator[Target]:
    """One network for all tests here; what one changes in it, the others do not mind."""
    with crawling.network(server) as target:
        make(target, Shape(PAPERS, abstract=200))
        yield target


def notes(vault: Path) -> dict[str, str]:
    return {str(path.relative_to(vault).with_suffix("")): path.read_text() for path in vault.rglob("*.md")}


def note_of(vault: Path, number: int) -> Path:
    (path,) = vault.rglob(f"*({number}).md")
    return path


def test_every_paper_has_a_note_and_every_link_leads_to_one(network: Target, tmp_path: Path) -> None:
    done = write_vault(network, tmp_path)

    found = notes(tmp_path)
    links = [link.split("|")[0] for text in found.values() for link in re.findall(r"\[\[(.*?)\]\]", text)]
    assert done.new == len([name for name in found if name.startswith("papers/")]) == PAPERS
    with network.connect() as session:
        (citations,) = session.execute("SELECT count(*) FROM citations").fetchone() or (0,)
    assert len(links) > 2 * citations > 0  # from either end; topics and the words of citations too
    assert set(links) <= found.keys()
    assert {name for name in found if not name.startswith("papers/")} == {
        link for link in links if link.startswith("topics/")
    }


def test_a_second_run_writes_nothing_and_two_vaults_are_equal(network: Target, tmp_path: Path) -> None:
    write_vault(network, tmp_path / "a")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}

    again = write_vault(network, tmp_path / "a")
    write_vault(network, tmp_path / "b")

    assert (again.new, again.changed, again.unchanged) == (0, 0, PAPERS)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")} == before
    assert notes(tmp_path / "a") == notes(tmp_path / "b")


def test_a_rewrite_updates_database_values_and_keeps_the_readers_edits(
    network: Target, tmp_path: Path
) -> None:
    write_vault(network, tmp_path)
    path = note_of(tmp_path, 5)
    path.write_text(path.read_text().replace("tags:", "rating: 5\ntags:") + "\nMy thoughts.\r\n", newline="")
    path.chmod(0o600)
    with network.connect() as session:
        session.execute("UPDATE papers SET title = 'Mended' WHERE id = 5")

    done = write_vault(network, tmp_path)

    text = path.read_bytes().decode()
    assert done.changed >= 1
    assert "title: Mended" in text
    assert "rating: 5" in text
    assert "My thoughts." in text
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_note_that_was_moved_is_found_and_linked_where_it_is(network: Target, tmp_path: Path) -> None:
    write_vault(network, tmp_path)
    with network.connect() as session:
        citing, cited = session.execute("SELECT citing_id, cited_id FROM citations LIMIT 1").fetchone() or (
            0,
            0,
        )
    (tmp_path / "mine").mkdir()
    note_of(tmp_path, cited).rename(tmp_path / "mine" / "favourite.md")

    done = write_vault(network, tmp_path)

    assert done.new == 0
    assert "[[mine/favourite|" in note_of(tmp_path, citing).read_text()


def test_a_file_in_the_way_and_a_broken_note_are_left_alone_by_name(network: Target, tmp_path: Path) -> None:
    write_vault(network, tmp_path)
    in_the_way, broken = note_of(tmp_path, 3), note_of(tmp_path, 4)
    in_the_way.write_text("no note of RefNet's")
    broken.write_text(broken.read_text().replace("%%/refnet%%", ""))
    before = (in_the_way.read_text(), broken.read_text())
    os.truncate(note_of(tmp_path, 5), 17 << 20)

    done = write_vault(network, tmp_path)

    assert (in_the_way.read_text(), broken.read_text()) == before
    assert len(done.skipped) == 3
    assert any("RefNet did not write it" in one for one in done.skipped)
    assert any("it is longer than 16 MiB" in one for one in done.skipped)
    assert any("not one pair" in one for one in done.skipped)


def test_a_note_whose_paper_is_gone_stays_and_is_named(network: Target, tmp_path: Path) -> None:
    write_vault(network, tmp_path)
    (tmp_path / "gone.md").write_text("---\nrefnet_id: 99999\n---\nmine")

    assert write_vault(network, tmp_path).gone == ["gone.md"]
    assert (tmp_path / "gone.md").exists()


def test_a_plan_counts_and_writes_nothing(network: Target, tmp_path: Path) -> None:
    done = write_vault(network, tmp_path / "vault", plan=True)

    assert done.new == PAPERS
    assert not (tmp_path / "vault").exists()


def test_a_database_without_a_network_says_what_to_do(database: Target, tmp_path: Path) -> None:
    with pytest.raises(
        RefnetError, match="has no citation network, or one of an older version of RefNet"
    ) as caught:
        write_vault(database, tmp_path)
    assert "refnet network migrate" in caught.value.hint


def test_a_full_disk_leaves_every_note_whole(
    network: Target, mounted: Callable[..., Path], tmp_path: Path
) -> None:
    vault = mounted(tmp_path / "vault", "size=96k")

    with pytest.raises(RefnetError, match="no space left"):
        write_vault(network, vault)

    assert all(text.startswith("---\n") and text.endswith("%%/refnet%%\n") for text in notes(vault).values())
    assert list(vault.rglob(".refnet-*")) == []
