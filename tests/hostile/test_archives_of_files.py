"""Small archives, and lists of files, that would take minutes or gigabytes to read: damaged, and soon told so."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from isal import igzip
from tests.hostile.bounded import bounded

from refnet.catalog.manifest import utc
from refnet.catalog.source_name import SourceName
from refnet.core.member_names import ArchiveError
from refnet.sources.folder.listing import FileKind, FileList, GzipMember, Listed
from refnet.sources.folder.tar_archive import END, header

SECONDS, MEBIBYTES = 5, 600
_PROVE = """
import sys
from pathlib import Path
from refnet.core.errors import RefnetError
from refnet.catalog.manifest import Level
from refnet.catalog.source_name import SourceName
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.proof_run import ProofOptions
from refnet.store.open_artifacts import artifact_at
try:
    options = ProofOptions(Path(sys.argv[3]), None, 1)
    proof = FilesArtifact(artifact_at(Path(sys.argv[1]), SourceName.OBSIDIAN)).prove(Level(sys.argv[2]), options)
    print(proof.outcome, *proof.reasons)
except RefnetError as error:
    print("failed", error.message)
"""

#: A part of the real limits, in that part of the time.
_FEWER_FILES = (
    "from refnet.catalog import artifact; artifact.MOST_FILES >>= 4; artifact.MOST_LIST_BYTES >>= 2"
)
_FEWER_ACLS = "from refnet.sources.folder import unpack; unpack._MOST_ACLS >>= 6"
_FEWER_MEMBERS = """
from refnet.sources.folder import archive_reader
archive_reader.ArchiveLimits.__init__.__defaults__ = tuple(most and most >> 4 for most in archive_reader.ArchiveLimits.__init__.__defaults__)
archive_reader.UNKNOWN.__init__()
"""


def _blocks(body: bytes, kind: bytes) -> bytes:
    head = bytearray(header(Listed("h", FileKind.FILE, len(body), 0o644, 0, 0, 0, 0)))
    head[156:157] = kind
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + body + bytes(-len(body) % 512)


def _file(name: bytes) -> bytes:
    return header(Listed(name.decode(), FileKind.FILE, 0, 0o644, 0, 0, 0, 0))


def _short_records() -> Iterator[bytes]:
    yield _blocks(b"5 a=\n" * 200_000, b"x") + _file(b"a")


def _many_headers() -> Iterator[bytes]:
    yield from (_blocks(b"9 a=bcde\n", b"x") * 1000 for _ in range(100))


def _large_headers() -> Iterator[bytes]:
    block = _blocks(bytes(1 << 20), b"L")
    yield from (block for _ in range(64))


def _long_number() -> Iterator[bytes]:
    digits = b"9" * 900_000
    yield _blocks(b"%d mtime=%b\n" % (len(digits) + 14, digits), b"x") + _file(b"a")


def _deep_names() -> Iterator[bytes]:
    """Members that each lie in 127 folders of their own, which no member names."""
    for number in range(10_000):
        yield _file(b"%d/" % number + b"d/" * 120 + b"f")


def _long_names() -> Iterator[bytes]:
    for number in range(10_000):
        name = b"%d/" % number + (b"n" * 250 + b"/") * 15 + b"f"
        yield _file(name)


def _acls_of_folders() -> Iterator[bytes]:
    """Folders with a large default ACL each, no two the same."""
    entries = "".join(f"user:{number}:rwx\n" for number in range(4000))
    for number in range(400):
        acl = f"user::rwx\nuser:{number + 4000}:rwx\n{entries}group::---\nmask::rwx\nother::---\n".encode()
        record = b" SCHILY.acl.default=%b\n" % acl
        yield _blocks(b"%d%b" % (len(record) + 5, record), b"x")
        yield header(Listed(f"{number}", FileKind.FOLDER, 0, 0o755, 0, 0, 0, 0))


def _name_of_a_megabyte() -> Iterator[bytes]:
    block = _blocks(b"./" * 500_000 + b"a", b"L") + _file(b"a")
    yield from (block for _ in range(100))


ARCHIVES: dict[str, tuple[Callable[[], Iterator[bytes]], str]] = {
    "records of five bytes": (_short_records, "a pax header has 1000 records"),
    "headers without end": (_many_headers, "of the tar are too long"),
    "large headers": (_large_headers, "too long"),
    "a number of a megabyte": (_long_number, "in place of a time"),
    "folders that no member names": (_deep_names, "more than 31250 members"),
    "names of gigabytes in all": (_long_names, "names are longer than 8388608"),
    "a name of a megabyte": (_name_of_a_megabyte, "too long or too deep"),
}


@pytest.mark.parametrize(("make", "told"), ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_that_would_take_long_or_much_is_refused(tmp_path, make, told):
    path = tmp_path / "vault_20261125.tar.gz"
    with igzip.open(path, "wb", 1) as archive:
        for piece in make():
            archive.write(piece)
        archive.write(END)

    said = bounded(
        _FEWER_MEMBERS + _PROVE, path, "intact", tmp_path / "scratch", seconds=SECONDS, mebibytes=MEBIBYTES
    )

    assert said.startswith("failed")
    assert re.search(told, said)


ENTRY = Listed("a.md", FileKind.FILE, 1, 0o644, 0, 0, 0, 512, "0" * 64)
TOP = Listed(".", FileKind.FOLDER, 0, 0o755, 0, 0, 0, 0)
LIST = FileList((TOP, ENTRY), (GzipMember(0, 0),)).to_json()


@cache
def _packed(pieces: Callable[[], Iterator[bytes]]) -> tuple[bytes, str]:
    """All pieces in gzip, and the digest of what it inflates to."""
    out, digest = io.BytesIO(), hashlib.sha256()
    with igzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed:
        for piece in pieces():
            digest.update(piece)
            packed.write(piece)
    return out.getvalue(), digest.hexdigest()


def _stored(folder: Path, pieces: Callable[[], Iterator[bytes]], **details: int) -> Path:
    """An artifact whose list of files is `pieces`, with the manifest that belongs to it."""
    path = folder / "vault_20261125.tar.gz"
    packed, digest = _packed(pieces)
    path.write_bytes(igzip.compress(END))
    path.with_name(f"{path.name}.files.json.gz").write_bytes(packed)
    data = path.read_bytes()
    manifest = {
        "source": SourceName.OBSIDIAN, "name": path.name, "created": utc(NOW), "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "seconds": 0.1, "files_sha256": digest,
        "details": details, "unchecked": [], "made_by": "", "partial": False, "format": 1,
    }  # fmt: skip
    (folder / f"{path.name}.json").write_text(json.dumps(manifest))
    return path


NOW = datetime(2026, 11, 25, 2, tzinfo=UTC)


def _zeros() -> Iterator[bytes]:
    yield from (bytes(1 << 20) for _ in range(150))


def _nested() -> Iterator[bytes]:
    yield LIST.split(b'"files"')[0] + b'"files": [\n'
    yield b"[" * 20_000_000


def _empty_lists() -> Iterator[bytes]:
    yield b'{"format": 1,\n"members": [[0,0]],\n"files": [\n' + b"[],\n" * 25_000_000


def _folders() -> Iterator[bytes]:
    yield b'{"format": 1,\n"members": [[0,0]],\n"files": [\n'
    line = b'{"path":"%d","kind":"folder","size":0,"mode":"0755","mtime_ns":0,"uid":0,"gid":0,"at":0},\n'
    for begin in range(0, 1_100_000 >> 4, 1000):
        yield b"".join(line % number for number in range(begin, begin + 1000))


BOMBS = {"zeros": _zeros, "nested": _nested, "empty lists": _empty_lists, "entries": _folders}


def test_acls_of_folders_that_fill_the_memory_are_refused(tmp_path):
    path = tmp_path / "vault_20261125.tar.gz"
    with igzip.open(path, "wb", 1) as archive:
        for piece in _acls_of_folders():
            archive.write(piece)
        archive.write(END)

    said = bounded(
        _FEWER_ACLS + _PROVE, path, "restored", tmp_path / "scratch", seconds=SECONDS, mebibytes=MEBIBYTES
    )

    assert "the ACLs of its folders are longer than 1048576 bytes" in said


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("honest", [True, False], ids=["counts of the manifest", "a manifest that lies too"])
def test_a_list_of_files_that_inflates_without_end_is_refused(tmp_path, make, honest):
    counts = {"files": 1, "folders": 1, "links": 0} if honest else {"files": 10**9, "folders": 0, "links": 0}
    path = _stored(tmp_path, make, **counts)

    said = bounded(
        f"{_FEWER_FILES}\n{_PROVE}", path, "intact", tmp_path / "scratch",
        seconds=SECONDS if honest else 30, mebibytes=300 if honest else 360 if make is _folders else 2500,
    )  # fmt: skip

    assert said.startswith("failed")
    assert re.search(r"list of files|files\.json\.gz is damaged", said)


def test_a_fifo_in_the_place_of_a_list_of_files_holds_nobody_up(tmp_path):
    path = _stored(tmp_path, lambda: iter([LIST]))
    beside = path.with_name(f"{path.name}.files.json.gz")
    beside.unlink()
    os.mkfifo(beside)
    said = bounded(_PROVE, path, "intact", tmp_path / "scratch", seconds=SECONDS, mebibytes=MEBIBYTES)
    assert "is not a regular file" in said


def test_the_list_that_the_others_differ_from_is_read():
    assert FileList.from_json(LIST) == FileList((TOP, ENTRY), (GzipMember(0, 0),))
    assert FileList.from_json(FileList(()).to_json()) == FileList(())


def _with(old: bytes, new: bytes) -> bytes:
    assert old in LIST
    return LIST.replace(old, new, 1)


_AT, _ACL = b'"at":512', b',"acl":"%b"' % (b"0" * 64)
WRONG = {
    "another format": _with(b'"format": 2', b'"format": 4'),
    "a format of a thousand digits": _with(b'"format": 2', b'"format": ' + b"1" * 1000),
    "an ACL in the format without": _with(b'"format": 2', b'"format": 1').replace(_AT, _AT + _ACL),
    "an ACL that is no digest": _with(_AT, _AT + b',"acl":"user::rwx"'),
    "attributes before the ACL": _with(_AT, _AT + b',"xattrs":"%b"' % (b"0" * 64) + _ACL),
    "a link with an ACL": _with(_AT, _AT + _ACL)
    .replace(b'"sha256":"' + b"0" * 64 + b'"', b'"target":"x"')
    .replace(b'"file"', b'"link"')
    .replace(b'"size":1', b'"size":0'),
    "a time that no clock has": _with(b'"mtime_ns":0', b'"mtime_ns":9999999999999999999999999999'),
    "no members": _with(b'"members": [[0,0]],\n', b""),
    "members that are not in order": _with(b"[[0,0]]", b"[[0,0],[5,5],[5,6]]"),
    "members before the beginning": _with(b"[[0,0]]", b"[[0,0],[-1,5]]"),
    "members that do not begin at the beginning": _with(b"[[0,0]]", b"[[7,7]]"),
    "a fraction": _with(b'"size":1', b'"size":1.5'),
    "an exponent": _with(b'"size":1', b'"size":1e99'),
    "a truth": _with(b'"size":1', b'"size":true'),
    "a number in quotes": _with(b'"size":1', b'"size":"1"'),
    "a number of a thousand digits": _with(b'"size":1', b'"size":' + b"1" * 1000),
    "a size below zero": _with(b'"size":1', b'"size":-1'),
    "an owner that cannot be": _with(b'"uid":0,"gid":0,"at":512', b'"uid":4294967295,"gid":0,"at":512'),
    "a place below zero": _with(b'"at":512', b'"at":-512'),
    "a mode that is no octal number": _with(b'"0644"', b'"0999"'),
    "set-user-ID": _with(b'"0644"', b'"4755"'),
    "set-group-ID": _with(b'"0644"', b'"2755"'),
    "no digest": _with(b',"sha256":"' + b"0" * 64 + b'"', b""),
    "a digest that is none": _with(b"0" * 64, b"z" * 64),
    "a short digest": _with(b"0" * 64, b"0" * 63),
    "an unknown key": _with(b'"at":512', b'"at":512,"more":1'),
    "a key twice": _with(b'"size":1', b'"size":1,"size":1'),
    "a folder with a size": _with(b'"size":0', b'"size":1'),
    "a file with a target": _with(b'"sha256":"' + b"0" * 64 + b'"', b'"target":"x"'),
    "a link without a target": _with(b'"file"', b'"link"'),
    "a path that stands twice": _with(b'"path":"."', b'"path":"a.md"').replace(b'"folder"', b'"folder"'),
    "an absolute path": _with(b'"a.md"', b'"/a.md"'),
    "a path that leads out": _with(b'"a.md"', b'"../a.md"'),
    "a path through nothing": _with(b'"a.md"', b'"b/a.md"'),
    "a path that is empty": _with(b'"a.md"', b'""'),
    "a path with a zero byte": _with(b'"a.md"', b'"a\\u0000.md"'),
    "a path of half a character": _with(b'"a.md"', b'"\\ud800"'),
    "a path that is no UTF-8": _with(b'"a.md"', b'"\xff"'),
    "a path that is no base64": _with(b'"path":"a.md"', b'"path_base64":"*"'),
    "a path of a megabyte": _with(b'"a.md"', b'"' + b"a" * (1 << 20) + b'"'),
    "an escape that is none": _with(b'"a.md"', b'"\\x"'),
    "no comma": _with(b"},\n{", b"}\n{"),
    "a comma too many": _with(b'"}\n]', b'"},\n]'),
    "more after its end": LIST + b"{}",
    "nothing": b"",
    "half of it": LIST[: len(LIST) // 2],
    "all but its end": LIST[:-3],
    "all on one line": LIST.replace(b"\n", b""),
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_list_of_files_that_is_not_as_refnet_writes_it_is_refused(text):
    with pytest.raises(ArchiveError, match=r".{5,}") as caught:
        FileList.from_json(text)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("most", [0, 1])
def test_a_list_of_more_entries_than_the_manifest_counts_is_refused(most):
    with pytest.raises(ArchiveError, match=f"more than {most} entries"):
        FileList.from_json(LIST, most)
