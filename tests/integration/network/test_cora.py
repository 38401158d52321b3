"""`refnet import cora` against a real server and, where it is present, the real graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.network.crawling import network

from refnet.core.errors import RefnetError
from refnet.network.importing import ImportedCora, import_cora
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target


@pytest.fixture
def migrated(server: Cluster) -> Iterator[Target]:
    with network(server) as target:
        yield target


def counts(target: Target) -> tuple[int, ...] | None:
    with target.connect() as connection:
        return connection.execute(
            "SELECT (SELECT count(*) FROM papers), (SELECT count(*) FROM external_ids), (SELECT count(*) FROM citations)"
        ).fetchone()


def test_the_real_graph_is_imported_whole_and_only_once(migrated: Target, cora_cites: Path) -> None:
    assert import_cora(migrated, cora_cites) == ImportedCora(5429, 2708, 5429)
    assert import_cora(migrated, cora_cites) == ImportedCora(5429, 0, 0)
    assert counts(migrated) == (2708, 2708, 5429)


def test_the_direction_of_a_citation_is_cited_then_citing(migrated: Target, tmp_path: Path) -> None:
    file = tmp_path / "cora.cites"
    file.write_text("old\tnew\n")
    import_cora(migrated, file)
    with migrated.connect() as connection:
        pair = connection.execute("""
            SELECT citing.value, cited.value FROM citations
            JOIN external_ids AS citing ON citing.paper_id = citing_id
            JOIN external_ids AS cited ON cited.paper_id = cited_id""").fetchall()
    assert pair == [("new", "old")]


def test_what_is_there_already_stays_and_only_the_rest_is_added(migrated: Target, tmp_path: Path) -> None:
    file = tmp_path / "cora.cites"
    file.write_text("a\tb\r\na\tb\nb\tc\\d")
    assert import_cora(migrated, file) == ImportedCora(3, 3, 2)
    with migrated.connect() as connection:
        connection.execute("UPDATE papers SET title = 'Kept'")
    file.write_text("a\tb\na\tnew\n")
    assert import_cora(migrated, file) == ImportedCora(2, 1, 1)
    with migrated.connect() as connection:
        assert connection.execute("SELECT count(*) FROM papers WHERE title = 'Kept'").fetchone() == (3,)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"35", "1 field instead of two"),
        (b"35\t1\t2", "3 fields instead of two"),
        (b"", "1 field instead of two"),
        (b"35\t", "not an id"),
        (b"35 \t1", "not an id"),
        (b"3\x005\t1", "not an id"),
        (b"35\t" + b"1" * 300, "not an id"),
        (b"35\t" + b"1" * 5000, "too long"),
        (b"35\t\xff\xfe", "not UTF-8"),
        (b"35\t35", "cites itself"),
    ],
)
def test_a_malformed_line_is_named_and_nothing_is_imported(
    migrated: Target, tmp_path: Path, line: bytes, fault: str
) -> None:
    file = tmp_path / "cora.cites"
    file.write_bytes(b"1\t2\n2\t3\n" + line + b"\n4\t5\n")
    with pytest.raises(RefnetError, match=f"line 3: .*{fault}"):
        import_cora(migrated, file)
    assert counts(migrated) == (0, 0, 0)


def test_a_file_that_cannot_be_read_is_a_clear_error(migrated: Target, tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="does not exist"):
        import_cora(migrated, tmp_path / "missing")


def test_a_role_that_may_not_write_is_told_so(migrated: Target, tmp_path: Path) -> None:
    (tmp_path / "cora.cites").write_text("a\tb\n")
    with migrated.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS cora_reader")
        connection.execute("CREATE ROLE cora_reader LOGIN IN ROLE pg_read_all_data")
    with pytest.raises(RefnetError, match="rejects the rows: permission denied for table"):
        import_cora(Target(f"{migrated.conninfo} user=cora_reader", own=True), tmp_path / "cora.cites")
    with migrated.connect() as connection:
        connection.execute("DROP ROLE cora_reader")
    assert counts(migrated) == (0, 0, 0)
