"""Our headers say to Python's tarfile, and to our own reader, what was put in."""

from __future__ import annotations

import io
import os
import tarfile

from hypothesis import example, given
from hypothesis import strategies as st

from refnet.sources.folder.listing import FileKind, Listed
from refnet.sources.folder.tar_archive import END, TarReader, header

_part = st.binary(min_size=1, max_size=255).map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
_names = st.lists(_part.filter(lambda part: part not in {b".", b".."}), min_size=1, max_size=4).map(b"/".join)


@given(
    name=_names,
    kind=st.sampled_from(FileKind),
    mode=st.integers(0, 0o777),
    mtime=st.integers(-(1 << 33), (1 << 63) // 1_000_000_000 - 1),  # nanoseconds in 64 bits
    uid=st.integers(0, (1 << 32) - 2),
    gid=st.integers(0, (1 << 32) - 2),
    size=st.integers(0, 1 << 40),
    target=_part,
)
@example(b"n" * 100, FileKind.FILE, 0o644, 0, 0, 0, 8**11 - 1, b"x")
@example(b"n" * 101, FileKind.FOLDER, 0o755, 0, 0o7777777, 0o10000000, 0, b"x")
@example(b"d" * 155 + b"/" + b"n" * 100, FileKind.FILE, 0o644, 0, 0, 0, 8**11, b"x")
@example(b"d" * 100 + b"/" + b"\xff" * 200, FileKind.LINK, 0o777, -1, 0, 0, 0, b"\xff" * 101)
def test_what_goes_into_a_header_comes_out_of_it(
    name: bytes, kind: FileKind, mode: int, mtime: int, uid: int, gid: int, size: int, target: bytes
) -> None:
    size = size if kind is FileKind.FILE else 0
    target = target if kind is FileKind.LINK else b""
    path, mtime_ns = os.fsdecode(name), mtime * 1_000_000_000
    raw = header(Listed(path, kind, size, mode, mtime_ns, uid, gid, 0, target=os.fsdecode(target)))

    assert len(raw) % 512 == 0
    member = TarReader(io.BytesIO(raw)).next()
    with tarfile.open(fileobj=io.BytesIO(raw + END), errors="surrogateescape", mode="r:") as tar:
        theirs = tar.next()
    assert member is not None
    assert theirs is not None
    assert (member.path, member.kind, member.size) == (os.fsdecode(name), kind, size)
    assert (member.mtime_ns, member.uid, member.gid) == (mtime * 1_000_000_000, uid, gid)
    assert (theirs.name, theirs.size, theirs.mtime) == (os.fsdecode(name), size, mtime)
    assert (theirs.mode, theirs.uid, theirs.gid) == (mode, uid, gid)
    assert (theirs.isfile(), theirs.isdir(), theirs.issym()) == tuple(
        kind is one for one in (FileKind.FILE, FileKind.FOLDER, FileKind.LINK)
    )
    if kind is FileKind.LINK:
        assert member.target == theirs.linkname == os.fsdecode(target)
