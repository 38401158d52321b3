"""An index is somebody else's document: whatever is wrong with it is damage, in bounded time and memory."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from isal import igzip
from tests.hostile import forge

from refnet.core.errors import Exit, RefnetError
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import Reader

_NAME = "refnet_20261125_020000.sql.gz"


def _read(artifact: bytes) -> Reader:
    return Reader(_NAME, lambda: io.BytesIO(artifact))


def _damage(artifact: bytes) -> str:
    """What is said of the artifact, which is refused as damaged."""
    with pytest.raises(RefnetError) as caught:
        _read(artifact)
    assert caught.value.code is Exit.DAMAGED
    return caught.value.message


def _put(*path: str | int, value: Any) -> forge.Change:
    def change(index: dict[str, Any]) -> None:
        at: Any = index
        for one in path[:-1]:
            at = at[one]
        at[path[-1]] = value

    return change


def _lose(*path: str | int) -> forge.Change:
    def change(index: dict[str, Any]) -> None:
        at: Any = index
        for one in path[:-1]:
            at = at[one]
        del at[path[-1]]

    return change


_ACL = {"grantor": "refnet", "grantee": "", "privilege": "CONNECT", "grantable": False}

LIES = {
    "an encoding of clients alone": _put("encoding", value="SJIS"),
    "another encoding of clients alone": _put("encoding", value="GBK"),
    "two encodings": _put("encoding", value="LATIN1"),
    "a database in an encoding of clients": _put("database", "encoding", value="BIG5"),
    "a statement for a privilege": _put(
        "database", "acl", value=[{**_ACL, "privilege": "CONNECT ON DATABASE x TO y; ALTER DATABASE a RENAME TO b; --"}]
    ),
    "a privilege of tables": _put("database", "acl", value=[{**_ACL, "privilege": "SELECT"}]),
    "a query for a sequence": _put("sequences", 0, 0, value="public.a; CREATE TABLE owned (); --"),
    "a sequence in no schema": _put("sequences", 0, 0, value="a"),
    "a sequence twice": lambda index: index["sequences"].append(index["sequences"][0]),
    "a sequence with text for a value": _put("sequences", 0, 1, value="1"),
    "a key with a newline": _put("restrict_key", value="key\n\\! id"),
    "no key": _put("restrict_key", value=""),
    "true for a number": _put("tables", 0, "rows", value=True),
    "a number for true": _put("partial", value=0),
    "a fraction of a byte": _put("members", 0, "raw", value=1.5),
    "not a number": _put("members", 0, "raw", value=float("nan")),
    "a negative length": _put("members", 0, "length", value=-1),
    "an offset behind the end": _put("members", 0, "offset", value=1 << 40),
    "a gap": _put("members", 1, "offset", value=7),
    "a member too few": _lose("members", -1),
    "more than gzip can hold": _put("members", 0, "raw", value=1 << 62),
    "a kind that is none": _put("members", 0, "kind", value="program"),
    "a list for a kind": _put("members", 0, "kind", value=["block"]),
    "rows of a table that is not there": _put("members", 1, "table", value=99),
    "rows of a negative table": _put("members", 1, "table", value=-1),
    "rows within the schema": _put("members", 0, "table", value=0),
    "a digest that is no number": _put("tables", 0, "digest", value="g" * 32),
    "a digest with a sign": _put("tables", 0, "digest", value="-" + "0" * 31),
    "a table twice": lambda index: index["tables"].append(index["tables"][0]),
    "a column twice": _put("tables", 0, "columns", value=["id", "id"]),
    "2000 columns": _put("tables", 0, "columns", value=[f"c{i}" for i in range(2000)]),
    "a name with a NUL": _put("tables", 0, "name", value="a\0b"),
    "half a character for a name": _put("tables", 0, "name", value="\ud800"),
    "an empty name": _put("tables", 0, "schema", value=""),
    "a name of a megabyte": _put("tables", 0, "name", value="n" * (1 << 20)),
    "a number for a name": _put("tables", 0, "name", value=5),
    "an oid beyond all oids": _put("tables", 0, "oid", value=1 << 32),
    "a foreign key with a word for its oid": _put("tables", 0, "foreign_keys", value={"one": 1}),
    "a key that is not known": _put("program", value="id"),
    "a key of a table that is not known": _put("tables", 0, "program", value="id"),
    "no tables": _lose("tables"),
    "no server": _lose("server"),
    "a server without a version": _lose("server", "version_num"),
    "a version of pg_dump that is none": _put("server", "pg_dump", value="; id"),
    "a snapshot that is none": _put("server", "snapshot", value="1:2:3'; SELECT 1"),
    "a snapshot that ends before it begins": _put("server", "snapshot", value="20:10:"),
    "a moment without a zone": _put("snapshot", value="2026-11-25T02:00:00"),
    "a moment in the year 9999": _put("snapshot", value="9999-12-31T23:59:59+00:00"),
    "no moment": _put("snapshot", value="tonight"),
    "an archive that is no base64": _put("archive", value="***"),
    "an archive of tar": _put("archive", value="AAAA"),
    "a setting without a value": _put("database", "settings", value=[{"role": None, "setting": "work_mem"}]),
    "a setting without a name": _put("database", "settings", value=[{"role": None, "setting": "=1"}]),
    "a role with text for a power": lambda index: index["roles"][0].update(superuser="NOLOGIN; --"),
    "a role without its powers": lambda index: index["roles"][0].pop("login"),
    "a role with a list for its name": lambda index: index["roles"][0].update(name=["a"]),
    "a member of what is no role": lambda index: index["roles"][0].update(member_of=["a"]),
    "an owner that is no text": _put("database", "owner", value=None),
    "a provider that is none": _put("database", "provider", value="x"),
    "a limit beyond all limits": _put("database", "connection_limit", value=1 << 40),
    "a list for the database": _put("database", value=[]),
    "a large object with a short digest": _put("large_objects", 0, 2, value="00"),
    "a sentence that is none": _put("unchecked", value=[5]),
    "an object for a list": _put("members", value={}),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_an_index_that_no_backup_writes_is_damage(genuine: bytes, lie: str) -> None:
    assert _damage(forge.forged(genuine, LIES[lie])).startswith(f"{_NAME} is damaged: its ")


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "5", "null", '{"a":', '{"members":[', '{"members":5}', "{" * 100, "not JSON", "{} {}",
        '{"partial":true,"partial":true}', '{"tables":[' + "[" * 200_000, '{"a' + "a" * 200 + '":1}',
        '{"server":' + '{"version":' * 100_000, '{"members":[' + "1" * 5000 + "]}",
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_index_is_damage(genuine: bytes, text: str) -> None:
    _damage(forge.with_json(genuine, text))


def test_an_index_in_lines_that_are_no_comments_is_damage(genuine: bytes) -> None:
    _damage(forge.with_packed(genuine, gzip.compress(b"SELECT 1;\n")))
    _damage(forge.with_packed(genuine, gzip.compress(b"-- refnet-index {}")))
    _damage(forge.with_packed(genuine, gzip.compress(b"-- refnet-index {}\n\xff\xfe\n")))
    _damage(forge.with_packed(genuine, b"no gzip"))
    _damage(forge.with_packed(genuine, b""))


def test_an_artifact_of_an_older_version_is_still_read(genuine: bytes) -> None:
    def older(index: dict[str, Any]) -> None:
        del index["foreign_views"], index["server"]["snapshot"]

    index = _read(forge.forged(genuine, older)).index
    assert index.foreign_views == ()
    assert index.tables == _read(genuine).index.tables


def test_an_index_is_the_same_when_read_in_pieces_of_any_size(genuine: bytes) -> None:
    index = _read(genuine).index
    text = index.to_text()
    for size in (1, 7, 8017, 1 << 20):
        pieces = (text[at : at + size] for at in range(0, len(text), size))
        assert Index.from_pieces(pieces) == index


_BOMB = 1 << 28

BOMBS = {
    "empty lists": (b'{"tables":[' + b"[],", b"[],"),
    "one text": (b'{"snapshot":"', b"a"),
    "numbers": (b'{"tables":[{"keys":[1', b",1"),
    "blanks": (b"{", b" "),
    "depth": (b'{"tables":', b"["),
    "entries that are alike": (b'{"unchecked":["a"', b',"a"'),
    "one line": (None, b"a"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_endless_index_is_damage_in_bounded_time_and_memory(
    genuine: bytes, tmp_path: Path, bomb: str
) -> None:
    head, unit = BOMBS[bomb]
    path = tmp_path / _NAME
    path.write_bytes(forge.with_packed(genuine, _packed(head, unit)))
    code = (
        "import resource, sys; from pathlib import Path; from refnet.core.errors import RefnetError;"
        "from refnet.sources.database.artifact.sqlgz import Reader;\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: Reader('x', lambda: Path(sys.argv[1]).open('rb'))\n"
        "except RefnetError as error: print(int(error.code), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    began = time.monotonic()
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    exit_code, kilobytes = map(int, ran.stdout.split())
    assert exit_code == Exit.DAMAGED
    assert kilobytes < 256 << 10
    assert time.monotonic() - began < 20


def _packed(head: bytes | None, unit: bytes) -> bytes:
    """256 MiB of `unit` behind `head`, in lines of the index unless `head` is None."""
    out = io.BytesIO()
    with igzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        if head is None:
            for _ in range(_BOMB >> 20):
                file.write(unit * (1 << 20))
            return out.getvalue()
        lines = (b"-- refnet-index " + unit * (7800 // len(unit)) + b"\n") * 128
        file.write(b"-- refnet-index " + head + b"\n")
        for _ in range(_BOMB // len(lines)):
            file.write(lines)
    return out.getvalue()


def test_a_member_hands_out_no_more_than_its_index_says(genuine: bytes) -> None:
    reader = _read(forge.forged(genuine, _put("members", 0, "raw", value=10)))
    with pytest.raises(RefnetError, match="longer than 10 bytes"):
        b"".join(reader.raw(reader.index.members[0]))


def test_a_schema_without_end_is_damage(genuine: bytes) -> None:
    out = io.BytesIO()
    with igzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(b"-" * (1 << 20))
    packed, rest = out.getvalue(), genuine[forge.index_of(genuine)["members"][0]["length"] :]

    def longer(index: dict[str, Any]) -> None:
        grown = len(packed) - index["members"][0]["length"]
        index["members"][0] |= {"length": len(packed), "raw": 300 << 20}
        for member in index["members"][1:]:
            member["offset"] += grown

    values = forge.index_of(genuine)
    longer(values)
    members = (packed + rest)[: sum(one["length"] for one in values["members"])]
    reader = _read(forge.forged(forge.closed(members, gzip.compress(_lines(values))), lambda _: None))
    with pytest.raises(RefnetError, match="pre-data is longer than") as caught:
        reader.text(MemberKind.PRE)
    assert caught.value.code is Exit.DAMAGED


def _lines(values: dict[str, Any]) -> bytes:
    return b"-- refnet-index " + json.dumps(values).encode() + b"\n"
