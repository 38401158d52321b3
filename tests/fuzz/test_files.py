"""The list of files and the archive that it belongs to: headers, pax records, gzip members."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import ECHO, fuzzed, outcome
from tests.fuzz.strategies import damaged, documents, texts

from refnet.actions.history import log
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.context import Context
from refnet.core import attributes
from refnet.core.glob import Glob
from refnet.core.member_names import ArchiveError, checked, leads_inside, show
from refnet.settings import Settings
from refnet.sources.folder.archive_reader import ArchiveLimits, NullSink, read_archive
from refnet.sources.folder.browsing import FileNames
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.sources.folder.listing import FileKind, FileList, GzipMember, Listed, matching, part_of
from refnet.sources.folder.tar_archive import END, TarReader, header

_TIME = 1_764_090_001_250_000_000
_SUM = sha256(b"note").hexdigest()
FILES = FileList(
    (
        Listed(".", FileKind.FOLDER, 0, 0o755, _TIME, 1000, 1000, 0),
        Listed("論文", FileKind.FOLDER, 0, 0o755, _TIME, 1000, 1000, 512),
        Listed("論文/a.md", FileKind.FILE, 4, 0o644, _TIME, 1000, 1000, 1024, _SUM, "", _SUM, _SUM),
        Listed("b\udcff.md", FileKind.FILE, 4, 0o644, _TIME, 1000, 1000, 2048, _SUM, sparse=True),
        Listed("link", FileKind.LINK, 0, 0o777, _TIME, 1000, 1000, 3072, target="論文/a.md"),
    ),
    (GzipMember(0, 0), GzipMember(1024, 200)),
)
TEXT = FILES.to_json()


@fuzzed
@given(documents(json.loads(TEXT), TEXT), texts)
def test_the_names_of_a_list_are_shown_or_refused(text: bytes, searched: str) -> None:
    names = outcome(lambda: FileNames([text]), ArchiveError)
    for show_page in (lambda: names.page("", 0, 10), lambda: names.search(searched, 0, 10)) if names else ():
        page = outcome(show_page, ArchiveError)
        for line in page.lines if page else ():
            assert checked(os.fsencode(line.path)) == line.path


@fuzzed
@given(documents(json.loads(TEXT), TEXT))
def test_a_list_of_files_is_read_or_refused(text: bytes) -> None:
    files = outcome(lambda: FileList.from_json(text), ArchiveError)
    if files:
        assert FileList.from_json(files.to_json()) == files
        for listed in files.files:
            assert checked(os.fsencode(listed.path)) == listed.path
            assert listed.kind is not FileKind.LINK or leads_inside(listed.path, listed.target)
            files.start_of(listed.at)


@fuzzed
@given(documents(json.loads(TEXT), TEXT), texts)
def test_a_search_in_a_list_finds_what_the_complete_list_has_or_refuses(text: bytes, path: str) -> None:
    wanted = {path, *(listed.path for listed in FILES.files[2:])}
    found = outcome(lambda: [*matching(text, wanted.__contains__)], ArchiveError)
    files = outcome(lambda: FileList.from_json(text), ArchiveError)
    if found is not None:
        assert all(checked(os.fsencode(one.path)) == one.path for one in found)
    if files:
        assert found == [one for one in files.files if one.path in wanted]
        for one in found:
            assert [*matching(text, one.path.__eq__, Glob(one.path[:500]).literal)] == [one]


_PATHS = ["論文", "link", "b", "sub", "sub/c d.md", "sub/deep", ".", "su", "sub/c"]
_NESTED = replace(
    FILES,
    files=(
        *FILES.files,
        Listed("sub", FileKind.FOLDER, 0, 0o755, _TIME, 1000, 1000, 4096),
        Listed("sub/c d.md", FileKind.FILE, 4, 0o644, _TIME, 1000, 1000, 4608, _SUM),
        Listed("sub/deep", FileKind.FOLDER, 0, 0o755, _TIME, 1000, 1000, 5632),
        Listed("sub/deep/c d.md", FileKind.FILE, 4, 0o644, _TIME, 1000, 1000, 6144, _SUM),
        Listed("subway", FileKind.FILE, 4, 0o644, _TIME, 1000, 1000, 7168, _SUM),
    ),
).to_json()


@fuzzed
@given(documents(json.loads(_NESTED), _NESTED), st.one_of(st.sampled_from(_PATHS), texts.filter(str.isascii)))
def test_a_part_of_a_list_is_what_the_complete_list_has_there(text: bytes, path: str) -> None:
    part = outcome(lambda: part_of(text, path), ArchiveError)
    files = outcome(lambda: FileList.from_json(text), ArchiveError)
    if files and path in files.by_path and path != ".":
        above = {".", *(path[:at] for at, sign in enumerate(path) if sign == "/")}
        there = (o for o in files.files if o.path == path or o.path in above or o.path.startswith(f"{path}/"))
        assert part == FileList(tuple(there), files.members)
    elif files and path != ".":
        assert part is None


@fuzzed
@given(texts)
def test_what_a_history_is_asked_for_is_read_or_refused(meant: str) -> None:
    context = Context(Settings(backup_dir=Path("/none")))
    for one in (meant, *(f"{source}/{meant}" for source in STANDARD)):
        outcome(partial(log, context, one), longest=ECHO)


_ACL = b"user::rw-\nuser:1000:r--\ngroup::---\nmask::rw-\nother::---\n"
_KEPT = {b"SCHILY.acl.access": _ACL, b"SCHILY.acl.default": _ACL, b"SCHILY.xattr.user.a%3D": b"x\0"}


@fuzzed
@given(damaged(_ACL), st.binary(max_size=300), st.binary(max_size=300))
def test_attributes_of_an_archive_are_read_as_they_are_written_or_refused(
    acl: bytes, name: bytes, value: bytes
) -> None:
    found = {b"SCHILY.acl.default": acl, b"SCHILY.xattr.user." + name: value}
    kept = outcome(lambda: attributes.from_records(found), ArchiveError)
    if kept:
        again = attributes.from_records(attributes.records(kept))
        assert again == kept._replace(unnumbered=False)
        assert attributes.without_mask(0o777, kept.default) & ~0o777 == 0


def _tar() -> bytes:
    whole = b""
    for listed in FILES.files[1:]:
        kept = attributes.from_records(_KEPT) if listed.acl else attributes.NONE
        whole += header(listed._replace(kept=kept))
        whole += b"note".ljust(512, b"\0") if listed.kind is FileKind.FILE else b""
    return whole + END


def _tar_of_another() -> bytes:
    """With pax headers, long names and a hard link, as Python's tarfile writes them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("論文" * 60, "b.md"):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 4, 1_764_090_001.25
            tar.addfile(info, io.BytesIO(b"note"))
        info = tarfile.TarInfo("hard")
        info.type, info.linkname = tarfile.LNKTYPE, "b.md"
        tar.addfile(info)
    return out.getvalue()


TAR, OTHER = _tar(), _tar_of_another()


@fuzzed
@given(st.one_of(damaged(TAR), damaged(OTHER)))
def test_an_archive_is_read_or_refused(data: bytes) -> None:
    packed = gzip.compress(_with_sums(data), 1)
    archive = io.BytesIO(packed)
    files = outcome(
        lambda: read_archive(archive, NullSink(), limits=ArchiveLimits(members=1000, space=1 << 30)),
        ArchiveError,
    )
    if files:
        assert FileList.from_json(files.to_json()) == files
    held = OpenArtifact(SourceName.OBSIDIAN, "vault.tar.gz", lambda: io.BytesIO(packed), None)
    found = outcome(lambda: FilesArtifact(held).file("b.md", 100), ArchiveError)
    assert len(found or b"") <= 100


@fuzzed
@given(damaged(TAR))
def test_a_header_that_is_compared_is_judged_like_one_that_is_parsed(data: bytes) -> None:
    listed = read_archive(io.BytesIO(gzip.compress(TAR, 1)), NullSink())
    packed = gzip.compress(_with_sums(data), 1)

    def read(expected: FileList) -> tuple[Listed, ...] | str:
        try:
            return read_archive(io.BytesIO(packed), NullSink(), expected=expected).files
        except ArchiveError as error:
            return str(error)

    assert read(replace(listed, members=(GzipMember(0, 0),))) == read(listed)


@fuzzed
@given(damaged(gzip.compress(TAR, 1) + gzip.compress(b"", 1)))
def test_an_archive_whose_packed_bytes_changed_is_read_or_refused(data: bytes) -> None:
    outcome(
        lambda: read_archive(io.BytesIO(data), NullSink(), limits=ArchiveLimits(members=1000)), ArchiveError
    )


_RECORD = st.tuples(
    st.one_of(
        st.sampled_from(
            [
                *("path", "linkpath", "size", "mtime", "uid", "gid", "GNU.sparse.map", "comment", "atime"),
                *("SCHILY.acl.access", "SCHILY.acl.default", "SCHILY.xattr.user.a", "SCHILY.xattr.trusted.a"),
            ]
        ),
        texts,
    ),
    texts,
)


@fuzzed
@given(st.lists(_RECORD, max_size=4), st.sampled_from("xgLK0125S"), damaged(b""))
def test_pax_records_are_read_or_refused(records: list[tuple[str, str]], kind: str, more: bytes) -> None:
    body = b"".join(_record(key, value) for key, value in records) + more
    head = header(Listed("a", FileKind.FILE, len(body), 0o644, 7_000_000_000, 1, 1, 0))
    data = head[:156] + kind.encode() + head[157:] + body + bytes(-len(body) % 512) + TAR
    members = outcome(lambda: list(TarReader(io.BytesIO(_with_sums(data)))), ArchiveError)
    for member in members or ():
        assert member.size >= 0
        assert checked(os.fsencode(member.path)) == member.path


def _record(key: str, value: str) -> bytes:
    text = b" %s=%s\n" % (key.encode("utf-8", "surrogatepass"), value.encode("utf-8", "surrogatepass"))
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length += 1
    return b"%d%s" % (length, text)


def _with_sums(data: bytes) -> bytes:
    """With the sum of each block that may be a header made right."""
    blocks = []
    for at in range(0, len(data), 512):
        block = data[at : at + 512]
        if len(block) == 512 and block[257:262] == b"ustar":
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            block = block[:148] + b"%06o\0 " % total + block[156:]
        blocks.append(block)
    return b"".join(blocks)


@fuzzed
@given(st.one_of(st.binary(max_size=40), texts.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_a_name_is_one_inside_or_refused(raw: bytes) -> None:
    path = outcome(lambda: checked(raw), ArchiveError)
    if path is not None:
        parts = path.split("/")
        assert path == "." or not {"", ".", ".."} & set(parts)
        assert not path.startswith("/")
        assert show(path).isprintable()


@fuzzed
@given(texts, texts)
def test_a_link_leads_inside_or_is_refused(path: str, target: str) -> None:
    if leads_inside(path, target):
        assert not target.startswith("/")
        place = os.path.normpath(f"/base/{'x/' * path.count('/')}{target}")
        assert place == "/base" or place.startswith("/base/")
