"""The index of a database artifact, and the footer that leads to it."""

from __future__ import annotations

import io
import json

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged, mutated
from tests.hostile import forge
from xxhash import xxh3_128_hexdigest

from refnet.sources.database.artifact.deflating import compress
from refnet.sources.database.artifact.index import Index, Table
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import FIRST_LINE, NotAnArtifact, Reader, Writer

NAME = "refnet_20261125_020000.sql.gz"
_POWERS = ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls")
_DATABASE = {
    "name": "wiki",
    "owner": "refnet",
    "encoding": "UTF8",
    "provider": "c",
    "collate": "C.UTF-8",
    "ctype": "C.UTF-8",
    "locale": None,
    "connection_limit": -1,
    "comment": "論文",
    "acl": [{"grantor": "refnet", "grantee": "", "privilege": "CONNECT", "grantable": False}],
    "settings": [{"role": None, "setting": "timezone=Asia/Tokyo"}],
}
_SERVER = {
    "version_num": 180006,
    "version": "18.6",
    "system_identifier": "74",
    "snapshot": "7:9:7,8",
    "timezone": "Asia/Tokyo",
    "pg_dump": "18.6",
}
_ROLE = {
    "name": "refnet",
    **dict.fromkeys(_POWERS, False),
    "connection_limit": -1,
    "settings": ["work_mem=4MB"],
    "member_of": [{"role": "pg_read_all_data", "admin": False}],
}


def _artifact() -> bytes:
    out = io.BytesIO()
    writer = Writer(out)
    writer.add(*compress([FIRST_LINE, b"CREATE TABLE papers (id int, title text);\n"]), MemberKind.PRE)
    block = b"COPY public.papers (id, title) FROM stdin;\n1\ta\n\\.\n"
    writer.add(*compress([block]), MemberKind.BLOCK, table=0, rows=1, text=xxh3_128_hexdigest(block))
    writer.add(*compress([b"SELECT 1;\n"]), MemberKind.DATA)
    writer.add(*compress([b"ALTER TABLE public.papers ADD PRIMARY KEY (id);\n"]), MemberKind.POST)
    papers = Table(
        "public", "papers", ("id", "title"), True, False, 1, 4, "ab" * 16, 16384, (16390,), {"16400": 16401}
    )
    index = Index(
        database=_DATABASE,
        server=_SERVER,
        snapshot="2026-11-25T17:00:01.250000+00:00",
        encoding="UTF8",
        restrict_key="a" * 32,
        archive=b"PGDMP",
        members=tuple(writer.members),
        tables=(papers, Table("public", "notes", ("id",), digest="00" * 16, oid=16401)),
        sequences=(("public.papers_id_seq", 7, True),),
        large_objects=((16410, 5, "cd" * 16),),
        roles=(_ROLE,),
        tablespaces=("fast",),
        extensions=({"name": "plpgsql", "version": "1.0", "schema": "pg_catalog"},),
        foreign_views=((16420, "public.titles"),),
        unchecked=("論文",),
    )
    writer.finish(index)
    return out.getvalue()


ARTIFACT = _artifact()
INDEX = forge.index_of(ARTIFACT)


def _read(artifact: bytes) -> Reader | None:
    return outcome(lambda: Reader(NAME, lambda: io.BytesIO(artifact)), NotAnArtifact)


def test_the_artifact_that_is_changed_is_read_as_it_is() -> None:
    reader = Reader(NAME, lambda: io.BytesIO(ARTIFACT))
    assert json.loads(json.dumps(INDEX)) == forge.index_of(ARTIFACT)
    assert reader.index.tables[0].foreign_keys == {"16400": 16401}
    assert b"".join(reader.raw(reader.index.members[2])) == b"SELECT 1;\n"


@fuzzed
@given(
    st.one_of(mutated(INDEX), damaged(json.dumps(INDEX).encode()).map(lambda data: data.decode("latin-1")))
)
def test_an_index_is_read_or_the_artifact_is_damaged(text: str) -> None:
    artifact = forge.with_json(ARTIFACT, text)
    if reader := _read(artifact):
        index = reader.index
        assert Index.from_pieces([index.to_text()]) == index
        for member in index.members:
            outcome(lambda one=member: sum(map(len, reader.raw(one))))  # type: ignore[misc]
            assert member.kind != MemberKind.BLOCK or 0 <= (member.table or 0) < len(index.tables)


@fuzzed
@given(damaged(ARTIFACT))
def test_an_artifact_whose_bytes_changed_is_damaged_or_not_ours(artifact: bytes) -> None:
    if reader := _read(artifact):
        for member in reader.index.members:
            outcome(lambda one=member: sum(map(len, reader.raw(one))))  # type: ignore[misc]


@fuzzed
@given(damaged(ARTIFACT[: -forge.FOOTER][-2000:]))
def test_an_index_whose_packed_bytes_changed_is_read_or_damaged(packed: bytes) -> None:
    _read(forge.with_packed(ARTIFACT, packed))
