"""The content digests: computed from the artifact by its proof, recorded as evidence, used by a restore."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hostile import forge
from tests.integration.database.conftest import making
from tests.integration.database.test_restore_commands import environment, environment_of, refnet, report

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.proof import row_digests

__all__ = ["environment"]


def reader_of(content: bytes) -> Reader:
    return Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(content))


def evidence_of(environment: dict[str, str]) -> Path:
    (path,) = Path(environment["REFNET_BACKUP_DIR"], "database").glob("*.evidence.jsonl")
    return path


def changed(path: Path, **values: Any) -> None:
    """Change the last line of evidence at `path`."""
    *lines, last = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, json.dumps(json.loads(last) | values)]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def proven(busy_server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a user with a library and one proven artifact of it."""
    with making(busy_server) as make:
        found = environment_of(make(), tmp_path_factory.mktemp("proven"))
        report(found, "backup", "database")
        yield found


@pytest.fixture
def content(proven: dict[str, str]) -> bytes:
    """The bytes of that artifact."""
    (artifact,) = evidence_of(proven).parent.glob("*.sql.gz")
    return artifact.read_bytes()


@pytest.fixture
def evidence(proven: dict[str, str]) -> Iterator[Path]:
    """The file with the evidence of that artifact; it is as before after the test."""
    path = evidence_of(proven)
    before = path.read_text(encoding="utf-8")
    yield path
    path.write_text(before, encoding="utf-8")


def test_a_proof_records_the_digests_that_the_artifact_itself_gives(evidence: Path, content: bytes) -> None:
    (line,) = evidence.read_text(encoding="utf-8").splitlines()
    reader = reader_of(content)

    assert not reader.index.digests  # a dump computes none
    assert json.loads(line)["row_digests"] == row_digests.digested(reader, "", 2).digests


def test_a_backup_without_a_proof_is_restored_and_compared_all_the_same(
    library: Target, environment: dict[str, str]
) -> None:
    report(environment, "backup", "database", "--no-prove")
    with library.connect() as session:
        session.execute("DELETE FROM jobs")

    assert refnet(environment, "restore", "database", "--force").returncode == 0

    with library.connect() as session:
        assert session.execute("SELECT count(*) FROM jobs").fetchall() == [(20,)]


def test_forged_digests_stop_a_restore_and_the_next_proof_replaces_them(
    proven: dict[str, str], evidence: Path
) -> None:
    right = json.loads(evidence.read_text(encoding="utf-8"))["row_digests"]
    changed(evidence, row_digests="0" * len(right))

    refused = refnet(proven, "restore", "database", "--force")
    report(proven, "verify", "database")
    restored = refnet(proven, "restore", "database", "--force")

    assert refused.returncode == Exit.DAMAGED
    assert "refnet verify" in refused.stderr
    assert restored.returncode == 0, restored.stderr


def test_digests_of_another_number_of_tables_are_ignored(proven: dict[str, str], evidence: Path) -> None:
    for digests in ("ab" * 15, "0" * 32 * 7):
        changed(evidence, row_digests=digests)

        restored = refnet(proven, "restore", "database", "--force")
        assert restored.returncode == 0, (digests, restored.stderr)


def test_a_line_with_other_digests_than_hex_does_not_count(proven: dict[str, str], evidence: Path) -> None:
    for digests in ("x" * 32, 7, "0" * 100_000, None):
        changed(evidence, row_digests=digests)

        (listed,) = report(proven, "list", "database")["artifacts"]
        assert listed["state"] == "could not verify", digests


def test_a_member_with_another_text_than_was_dumped_is_damage(content: bytes) -> None:
    index = forge.index_of(content)
    number = next(n for n, one in enumerate(index["members"]) if one["kind"] == "block")
    text = b"".join(reader_of(content).raw(reader_of(content).index.members[number]))
    other = forge.with_member(content, number, text[:-10] + b"!" + text[-9:])
    recorded = index["members"][number]["text"]
    forged = reader_of(forge.forged(other, lambda values: values["members"][number].update(text=recorded)))

    with pytest.raises(RefnetError, match="differs from what was written") as raised:
        row_digests.digested(forged, "", 2)
    assert raised.value.code is Exit.DAMAGED


def test_a_member_with_more_rows_than_the_index_says_is_damage(content: bytes) -> None:
    number = next(n for n, one in enumerate(forge.index_of(content)["members"]) if one["kind"] == "block")
    forged = forge.forged(content, lambda values: values["members"][number].update(rows=1))

    with pytest.raises(RefnetError, match=r"contains \d+ rows, 1 were written"):
        row_digests.digested(reader_of(forged), "", 2)


def test_a_proof_counts_the_rows_that_it_loads(
    proven: dict[str, str], content: bytes, tmp_path: Path
) -> None:
    def one_less(values: dict[str, Any]) -> None:
        block = next(one for one in values["members"] if one["kind"] == "block")
        block["rows"] -= 1
        values["tables"][block["table"]]["rows"] -= 1

    path = tmp_path / "refnet_20261125_020000.sql.gz"
    path.write_bytes(forge.forged(content, one_less))
    ended = refnet(proven, "verify", str(path))

    assert ended.returncode == Exit.DAMAGED
    assert "were written" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "text", [b"'\n" + b"\n" * 1_000_000, b"SELECT '" + b"--\n" * 350_000, b"\\.\n" * 450_000]
)
def test_a_statement_that_never_ends_costs_no_more_time_than_its_bytes(content: bytes, text: bytes) -> None:
    number = next(
        n
        for n, one in enumerate(forge.index_of(content)["members"])
        if one["kind"] == "data" and one["table"] is not None
    )
    forged = reader_of(forge.with_member(content, number, text))
    begun = time.process_time()

    with pytest.raises(RefnetError, match="rows"):
        row_digests.digested(forged, "", 2)
    assert time.process_time() - begun < 15
