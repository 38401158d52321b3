"""An artifact whose bytes are not those that were written is never taken for a good one."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
from pathlib import Path

import pytest
from tests import oracle
from tests.command import Command
from tests.faults.conftest import Live

from refnet.actions.verify import attempt
from refnet.catalog.artifact import OpenArtifact, Proof
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.settings import Settings
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import FOOTER_LENGTH, Reader
from refnet.sources.database.dump.parallel_dump import dump
from refnet.sources.database.workers import Workers

_TINY = """
CREATE TABLE big (v text) WITH (fillfactor = 10);
ALTER TABLE big ALTER v SET STORAGE PLAIN;
INSERT INTO big SELECT i || repeat('x', 700) FROM generate_series(1, 400) i;
CREATE TABLE small (id serial PRIMARY KEY, v text);
INSERT INTO small (v) SELECT 'row ' || i FROM generate_series(1, 20) i;
"""


@pytest.fixture(scope="module")
def tiny(server: Cluster) -> bytes:
    """A small artifact with members of every kind."""
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE tiny TEMPLATE template0")
    with server.target("tiny").connect() as session:
        session.execute(_TINY)
    out = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refnet.sources.database.artifact.member_rows.BLOCK", 100_000)
        dump(server.target("tiny"), out, Workers(server.binaries, 2))
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE tiny")
    kinds = {member.kind for member in _reader(out.getvalue()).index.members}
    assert kinds == set(MemberKind)
    return out.getvalue()


def _reader(data: bytes) -> Reader:
    return Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(data))


@pytest.fixture(scope="module")
def judge(wheel: Binaries, short_folder: Path) -> Context:
    return Context(Settings(home=short_folder / "judge", postgres_bin_dir=wheel.folder, jobs=1))


def _judged(judge: Context, data: bytes) -> Proof:
    held = OpenArtifact(SourceName.DATABASE, "refnet_20261125_020000.sql.gz", lambda: io.BytesIO(data), None)
    return attempt(judge, held, Level.INTACT)


def test_the_whole_artifact_is_intact(judge: Context, tiny: bytes) -> None:
    assert _judged(judge, tiny).outcome is Outcome.PASSED


def test_one_flipped_bit_anywhere_is_damage(judge: Context, tiny: bytes) -> None:
    chance = random.Random(20261125)
    reader = _reader(tiny)
    edges = [at for member in reader.index.members for at in range(member.offset, member.offset + 12)]
    footer = range(len(tiny) - FOOTER_LENGTH, len(tiny))
    places = [(at, bit) for at in footer for bit in range(8)]
    places += [(at, bit) for at in edges[:200] for bit in chance.sample(range(8), 2)]
    places += [(chance.randrange(len(tiny)), chance.randrange(8)) for _ in range(300)]
    missed = [(at, bit) for at, bit in places if not _is_damage(judge, tiny, at, bit)]
    assert missed == []


def _is_damage(judge: Context, data: bytes, at: int, bit: int) -> bool:
    flipped = bytearray(data)
    flipped[at] ^= 1 << bit
    return _judged(judge, bytes(flipped)).outcome is Outcome.FAILED


def test_an_artifact_cut_short_anywhere_is_damage(judge: Context, tiny: bytes) -> None:
    reader = _reader(tiny)
    ends = [member.offset + member.length for member in reader.index.members]
    ends += [reader.index_offset, len(tiny) - FOOTER_LENGTH, len(tiny)]
    cuts = {at + by for at in (0, *ends) for by in (-1, 0, 1)} | set(range(0, len(tiny), 97)) | set(range(64))
    cuts = {cut for cut in cuts if 0 <= cut < len(tiny)}
    missed = [cut for cut in sorted(cuts) if _judged(judge, tiny[:cut]).outcome is not Outcome.FAILED]
    assert missed == []


def test_gzip_itself_does_not_notice_a_cut_between_members(tiny: bytes) -> None:
    """Why there is a footer."""
    first = _reader(tiny).index.members[0]
    assert gzip.decompress(tiny[: first.length])


@pytest.mark.parametrize("tail", [b"\0", b"\n", b"x" * 100], ids=["NUL", "newline", "text"])
def test_bytes_after_the_end_are_damage(judge: Context, tiny: bytes, tail: bytes) -> None:
    assert _judged(judge, tiny + tail).outcome is Outcome.FAILED


def test_members_in_another_order_or_twice_are_damage(judge: Context, tiny: bytes) -> None:
    blocks = [m for m in _reader(tiny).index.members if m.kind is MemberKind.BLOCK]
    one, other = blocks[0], blocks[1]
    pieces = [tiny[m.offset : m.offset + m.length] for m in (one, other)]
    swapped = tiny.replace(pieces[0] + pieces[1], pieces[1] + pieces[0])
    doubled = tiny.replace(pieces[0], pieces[0] + pieces[0])
    assert tiny not in (swapped, doubled)
    assert _judged(judge, swapped).outcome is Outcome.FAILED
    assert _judged(judge, doubled).outcome is Outcome.FAILED


def test_two_artifacts_in_one_file_are_damage(judge: Context, tiny: bytes) -> None:
    assert _judged(judge, tiny + tiny).outcome is Outcome.FAILED


# By the command.


@pytest.fixture
def made(written: Path) -> Path:
    """The artifact of a backup that was not proven yet."""
    return written


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_in_the_catalog_is_found_marked_and_never_chosen(refnet: Command, made: Path) -> None:
    refnet("backup", "database", "--no-prove").succeeds()
    newest = refnet.artifact()
    _flip(newest, newest.stat().st_size // 2)
    found = refnet("verify", "--level", "intact")
    assert (found.code, found.err) == (4, "")
    assert "DAMAGED" in found.out
    states = {one["name"]: one["state"] for one in refnet("list", "--json").json["artifacts"]}
    assert states == {made.name: "written", newest.name: "damaged"}
    again = refnet("verify", "--level", "intact", "--json")
    assert [one["name"] for one in again.json["results"]] == [made.name]
    assert again.code == 0


def test_a_file_cut_between_members_is_damaged(refnet: Command, made: Path) -> None:
    reader = Reader(made.name, lambda: made.open("rb"))
    end = reader.index.members[2].offset
    made.write_bytes(made.read_bytes()[:end])
    assert [one["state"] for one in refnet("list", "--json").json["artifacts"]] == ["damaged"]
    assert refnet("verify", made.name).code == 4
    refnet("verify").fails(3, "no complete artifact")


@pytest.mark.parametrize(
    "how", ["another artifact's", "no JSON", "empty", "a newer format", "another digest", "odd types"]
)
def test_a_foreign_manifest_is_never_believed(refnet: Command, made: Path, how: str) -> None:
    manifest = made.with_name(f"{made.name}.json")
    values = json.loads(manifest.read_text())
    foreign = {
        "another artifact's": json.dumps(
            {**values, "name": "refnet_20200101_000000.sql.gz", "sha256": "1" * 64}
        ),
        "no JSON": "<manifest/>",
        "empty": "",
        "a newer format": json.dumps({**values, "format": 99}),
        "another digest": json.dumps({**values, "sha256": "0" * 64}),
        "odd types": json.dumps({**values, "created": 7, "size": "x", "name": ["../../etc/passwd"]}),
    }
    manifest.write_text(foreign[how])
    listed = refnet("list", "--json")
    listed.succeeds()
    if how == "another digest":
        assert refnet("verify", made.name).code == 4
        return
    assert listed.json["artifacts"] == []
    refnet("verify").fails(3, "no complete artifact")
    if how == "another artifact's":
        assert refnet("verify", made).code == 4
    else:
        refnet("verify", made).fails(4, manifest.name, "recreate it from the artifact")


def test_an_artifact_without_a_manifest_is_judged_by_its_own_index(
    refnet: Command, made: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.sql.gz"
    shutil.copy(made, alone)
    whole = refnet("verify", alone)
    whole.succeeds()
    assert "proven" in whole.out
    _flip(alone, alone.stat().st_size // 2)
    assert refnet("verify", alone, "--level", "intact").code == 4


def test_a_torn_line_of_evidence_may_have_been_any_verdict(refnet: Command, made: Path) -> None:
    refnet("verify", "--level", "intact").succeeds()
    evidence = made.with_name(f"{made.name}.evidence.jsonl")
    evidence.write_bytes(evidence.read_bytes() + b'{"at": "2026-')
    assert [one["state"] for one in refnet("list", "--json").json["artifacts"]] == ["could not verify"]
    refnet("verify", "--level", "intact").succeeds()
    assert [one["state"] for one in refnet("list", "--json").json["artifacts"]] == ["intact"]
    assert len(evidence.read_bytes().splitlines()) == 3


def test_a_dump_that_refnet_did_not_make_is_neither_proven_nor_damaged(
    refnet: Command, live: Live, tmp_path: Path
) -> None:
    text = oracle.run(live.cluster.binaries.tool("pg_dump"), conninfo=live.target.conninfo)
    foreign = tmp_path / "theirs.sql.gz"
    foreign.write_bytes(gzip.compress(text, 1))
    found = refnet("verify", foreign)
    assert (found.code, found.err) == (0, "")
    assert "theirs.sql.gz: restored" in found.out
    assert "proven" not in found.out
    assert "from a foreign dump" in found.out
    foreign.write_bytes(foreign.read_bytes()[:-9])
    assert refnet("verify", foreign).code == 4


@pytest.mark.parametrize("content", [b"", bytes(1000)], ids=["nothing", "zeros"])
def test_a_file_that_is_no_dump_at_all_is_damaged(refnet: Command, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dump.sql.gz").write_bytes(content)
    found = refnet("verify", tmp_path / "dump.sql.gz")
    assert (found.code, found.err) == (4, "")


def test_what_is_no_file_is_a_usage_error(refnet: Command, tmp_path: Path) -> None:
    refnet("verify", tmp_path / "nowhere.sql.gz").fails(2, "nowhere.sql.gz")
    refnet("verify", tmp_path).fails(2)
    refnet("verify", "refnet_20200101_000000.sql.gz").fails(2, "refnet_20200101_000000")
    refnet("verify", "--level", "best").fails(2, "best")
    refnet("verify").fails(3, "no complete artifact")
