"""The list of files of an archive: its members, their digests and their offsets.

JSON with one line per file, so that zgrep finds a note. Names that are not UTF-8 are written as `path_base64`.
Anyone who can write to the store can forge the list, so it is parsed line by line, each line by one expression.
"""

import base64
import io
import json
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Self

from refnet.catalog.artifact import MOST_FILES
from refnet.core.attributes import NONE, Attributes, without_mask
from refnet.core.member_names import MAX_PATH, ArchiveError, checked, leads_inside, parent, show

#: Format 1 has no ACLs and attributes; a list has format 3 if a file in it was sparse.
FORMAT, _WITHOUT_ATTRIBUTES, _WITH_SPARSE = 2, 1, 3

#: Limits of a 64-bit number, and of a user id (the last one means "no user").
_MOST, _NO_USER = 1 << 63, (1 << 32) - 1
#: The nanoseconds of a time are of 64-bit seconds, as in the kernel.
_MOST_TIME = _MOST * 1_000_000_000
#: The permission bits that are stored. A forged archive could gain privileges by a file's set-user-ID and
#: set-group-ID bits; on a folder, set-group-ID only passes the group on.
FILE_MODE = 0o777
FOLDER_MODE = 0o3777


class FileKind(StrEnum):
    """The kinds of members that are written and unpacked."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


_MODES = {FileKind.FILE: FILE_MODE, FileKind.FOLDER: FOLDER_MODE, FileKind.LINK: 0o777}


class Listed(NamedTuple):
    """One member of an archive, or one entry of a live folder."""

    path: str
    kind: FileKind
    #: Of the content, in bytes; 0 for folders and links.
    size: int
    #: The permission bits of owner, owning group and others; with an ACL the group bits are not its mask.
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    #: The offset of its header in the tar; -1 for a live entry.
    at: int
    #: The digest (hex) of exactly the bytes that went into the archive; "" for folders and links.
    sha256: str = ""
    #: The target of a link.
    target: str = ""
    #: The digests (hex) of its ACLs and of its `user.*` attributes: "" for none, None if nobody has looked.
    acl: str | None = ""
    xattrs: str | None = ""
    #: For a hard link in an archive: the path of the earlier member with the content. Never in a list.
    same_as: str = ""
    #: The attributes themselves, only for a member that is written or has been read. Never in a list.
    kept: Attributes = NONE
    #: Whether the file had holes; False for a live entry.
    sparse: bool = False

    @classmethod
    def of(cls, path: str, kind: FileKind, status: os.stat_result, *, at: int = -1) -> Self:
        """Entry for a file's status, without bits that archives do not store."""
        size, mode = status.st_size if kind is FileKind.FILE else 0, status.st_mode & _MODES[kind]
        mtime_ns, uid, gid = status.st_mtime_ns, status.st_uid, status.st_gid
        return cls(path, kind, size, mode, mtime_ns, uid, gid, at)

    def having(self, kept: Attributes) -> Self:
        """The entry with these attributes."""
        if kept is NONE:
            return self
        mode = without_mask(self.mode, kept.access)
        return self._replace(mode=mode, acl=kept.acl_digest, xattrs=kept.user_digest, kept=kept)


class GzipMember(NamedTuple):
    """A gzip member of the archive."""

    #: Its start in the tar, in bytes.
    raw: int
    #: Its start in the archive, in bytes.
    offset: int


@dataclass(frozen=True)
class FileList:
    """The list of files of an archive, or of a live folder."""

    #: Every tar member, in the order of the archive.
    files: tuple[Listed, ...]
    #: The gzip members; empty if the archive is a single one.
    members: tuple[GzipMember, ...] = ()

    @cached_property
    def by_path(self) -> dict[str, Listed]:
        return {listed.path: listed for listed in self.files}

    @property
    def raw_bytes(self) -> int:
        return sum(listed.size for listed in self.files)

    def count(self, kind: FileKind) -> int:
        return sum(listed.kind is kind for listed in self.files)

    @property
    def totals(self) -> dict[str, object]:
        """Return the counts for the manifest."""
        return {
            "files": self.count(FileKind.FILE),
            "folders": self.count(FileKind.FOLDER),
            "links": self.count(FileKind.LINK),
            "raw_bytes": self.raw_bytes,
        }

    def start_of(self, at: int) -> GzipMember:
        """Return the gzip member that contains the tar offset `at`."""
        if not self.members:
            return GzipMember(0, 0)
        return self.members[max(0, bisect_right(self.members, at, key=lambda member: member.raw) - 1)]

    def to_json(self) -> bytes:
        members = json.dumps(self.members, separators=(",", ":")).encode()
        out = io.BytesIO()  # nothing of it is in memory twice: there can be a million lines
        out.write(b'{"format": %d,\n"members": %b,\n"files": [\n' % (self._format, members))
        for number, listed in enumerate(self.files):
            out.write(b",\n" if number else b"")
            out.write(_line(listed).encode())
        out.write(b"\n]}\n")
        return out.getvalue()

    @property
    def _format(self) -> int:
        if any(listed.acl is None for listed in self.files):
            return _WITHOUT_ATTRIBUTES
        return _WITH_SPARSE if any(listed.sparse for listed in self.files) else FORMAT

    @classmethod
    def from_json(cls, text: bytes, most: int = MOST_FILES) -> Self:
        """Parse a list of at most `most` members; trust nothing in it before it is checked.

        ArchiveError if it is not in the format of `to_json`, or a path leads outside.
        """
        lines = enumerate(io.BytesIO(text), 1)
        try:
            members, looked = _start(lines)
            files = tuple(_entries(lines, most, looked=looked))
        except ValueError as error:
            raise ArchiveError(f"the list of files is not valid: {error}") from error
        _check(files)
        return cls(files, members)


def matching(text: bytes, wanted: Callable[[str], bool], literal: str = "") -> Iterator[Listed]:
    """Yield entries whose paths are `wanted`; only these are checked.

    `literal`: ASCII text that each such path contains (see Glob.literal); it saves most of the time. ArchiveError if
    the head or a possible match is not in the format of `to_json`.
    """
    lines = enumerate(io.BytesIO(text), 1)
    try:
        _, looked = _start(lines)
        yield from _matching(lines, wanted, literal.encode(), looked=looked)
    except ValueError as error:
        raise ArchiveError(f"the list of files is not valid: {error}") from error


def _matching(
    lines: Iterator[tuple[int, bytes]], wanted: Callable[[str], bool], literal: bytes, *, looked: bool
) -> Iterator[Listed]:
    for number, line in lines:
        # A path may also be written with escapes, or in base64.
        if not (literal in line or b"\\" in line or b"_base64" in line):
            continue
        if found := _ENTRY.fullmatch(line):
            listed = _listed(found, looked=looked)
            if wanted(listed.path):
                yield listed
        elif line not in {_END, b"\n"}:
            raise ValueError(f"line {number}")


def part_of(text: bytes, path: str) -> FileList | None:
    """Return the entries at and below the ASCII `path` and the folders above it; only these are checked.

    None if the list has no entry `path`. ArchiveError if one of these is not in the format of `to_json`.
    """
    above = [path]
    while "/" in above[-1]:
        above.append(parent(above[-1]))
    folders = {".", *above[1:]}
    literals = b"|".join([rb"\\", b"_base64", rb'"path":"\."', *(re.escape(one.encode()) for one in above)])
    is_candidate = re.compile(literals).search
    lines = enumerate(io.BytesIO(text), 1)
    try:
        members, looked = _start(lines)
        candidates = ((number, line) for number, line in lines if is_candidate(line))
        files = tuple(
            _matching(
                candidates,
                lambda found: found in folders or found == path or found.startswith(f"{path}/"),
                b"",
                looked=looked,
            )
        )
    except ValueError as error:
        raise ArchiveError(f"the list of files is not valid: {error}") from error
    _check(files)
    return FileList(files, members) if any(one.path == path for one in files) else None


def _line(listed: Listed) -> str:
    path, kind, size, mode, mtime_ns, uid, gid, at, sha256, target, acl, xattrs, *_, sparse = listed
    more = f',"sha256":"{sha256}"' if sha256 else f",{_text('target', target)}" if target else ""
    if sparse:
        more += ',"sparse":true'
    if acl or xattrs:
        more = (f',"acl":"{acl}"' if acl else "") + (f',"xattrs":"{xattrs}"' if xattrs else "") + more
    return (
        f'{{{_text("path", path)},"kind":"{kind}","size":{size},"mode":"{mode:04o}","mtime_ns":{mtime_ns},'
        f'"uid":{uid},"gid":{gid},"at":{at}{more}}}'
    )


_quoted = json.encoder.encode_basestring


def _text(key: str, value: str) -> str:
    raw = os.fsencode(value)
    try:
        return f'"{key}":{_quoted(raw.decode())}'
    except UnicodeDecodeError:
        return f'"{key}_base64":"{base64.b64encode(raw).decode()}"'


# *+ is possessive: with * a forged line makes the expression remember every turn, 70 times the memory of the line.
_FORMAT = re.compile(rb'\{"format": ?(\d{1,9})[,}]')
_NUMBER = rb"0|[1-9]\d{0,18}"
_MEMBERS = re.compile(rb'"members": (\[\]|\[\[0,0\](?:,\[\d{1,19},\d{1,19}\])*+\]),\n')
_MEMBER = re.compile(rb"\[(\d+),(\d+)\]")
_STRING = rb'"([^"\\\x00-\x1f]*(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*)*+)"'
_ENTRY = re.compile(
    rb'\{"path(_base64)?":%(string)b,"kind":"(file|folder|link)","size":(%(number)b),"mode":"([0-7]{4})"'
    rb',"mtime_ns":(-?(?:0|[1-9]\d{0,27})),"uid":(%(number)b),"gid":(%(number)b),"at":(%(number)b)'
    rb'(?:,"acl":"([0-9a-f]{64})")?(?:,"xattrs":"([0-9a-f]{64})")?'
    rb'(?:,"sha256":"([0-9a-f]{64})"(,"sparse":true)?|,"target(_base64)?":%(string)b)?\}(,?)\n'
    % {b"string": _STRING, b"number": _NUMBER}
)
_END = b"]}\n"
_KINDS = {str(kind).encode(): kind for kind in FileKind}
_Lines = Iterator[tuple[int, bytes]]


def _start(lines: _Lines) -> tuple[tuple[GzipMember, ...], bool]:
    """Parse the first three lines: return the gzip members, and whether the list has ACLs and attributes.

    ValueError if they are not valid.
    """
    first, second, third = (next(lines, (0, b""))[1] for _ in range(3))
    found = _FORMAT.match(first)
    number = int(found[1]) if found else 0
    if found and number not in (FORMAT, _WITHOUT_ATTRIBUTES, _WITH_SPARSE):
        raise ArchiveError(f"the list of files has format {number}, not {FORMAT}")
    members = _MEMBERS.fullmatch(second)
    if first != b'{"format": %d,\n' % number or not members or third != b'"files": [\n':
        raise ValueError("its first lines are not valid")
    made = tuple(GzipMember(int(raw), int(offset)) for raw, offset in _MEMBER.findall(members[1]))
    if any(one.raw >= other.raw or one.offset >= other.offset for one, other in pairwise(made)):
        raise ValueError("its gzip members are not in order")
    return made, number != _WITHOUT_ATTRIBUTES


def _entries(lines: _Lines, most: int, *, looked: bool) -> Iterator[Listed]:
    """Parse the other lines; ValueError for the first invalid one."""
    count, more = 0, b","
    for number, line in lines:
        if more and (found := _ENTRY.fullmatch(line)):
            count += 1
            if count > most:
                raise ValueError(f"more than {most} entries")
            more = found[16]
            yield _listed(found, looked=looked)
        elif more and not count and line == b"\n":
            more = b""  # an empty list
        elif not more and line == _END:
            break
        else:
            raise ValueError(f"line {number}")
    else:
        raise ValueError("it is cut short")
    if next(lines, None):
        raise ValueError("there is data after its end")


def _listed(found: re.Match[bytes], *, looked: bool) -> Listed:
    raw, kind = unquoted(found[2], found[1]), _KINDS[found[3]]
    path = checked(raw)
    if raw != os.fsencode(path):
        raise ArchiveError(f"the path {show(os.fsdecode(raw))} in the list of files is not normalized")
    size, mode, mtime_ns = int(found[4]), int(found[5], 8), int(found[6])
    uid, gid, at = int(found[7]), int(found[8]), int(found[9])
    acl, xattrs = (digest.decode() if digest else "" if looked else None for digest in found.group(10, 11))
    sha256, target = (found[12] or b"").decode(), found[15]
    fits = (bool(sha256), target is not None) == (kind is FileKind.FILE, kind is FileKind.LINK) and (
        sha256 or not size
    )
    allowed = not (acl or xattrs) or (looked and kind is not FileKind.LINK)
    if not fits or not possible(size, mtime_ns, uid, gid) or at >= _MOST or mode & ~_MODES[kind]:
        raise ValueError(f"the entry of {show(path)}")
    if target is None and allowed:
        listed = Listed(path, kind, size, mode, mtime_ns, uid, gid, at, sha256, "", acl, xattrs)
        return listed._replace(sparse=True) if found[13] else listed
    link = os.fsdecode(unquoted(target or b"", found[14]))
    if len(link) >= MAX_PATH or not allowed:
        raise ValueError(f"the entry of {show(path)}")
    if not leads_inside(path, link):
        raise ArchiveError(f"{show(path)} is a link that leads outside ({show(link)})")
    return Listed(path, kind, size, mode, mtime_ns, uid, gid, at, "", link, acl, xattrs)


def unquoted(text: bytes, in_base64: bytes | None) -> bytes:
    """Decode the inner text of a JSON string. ValueError if it is not valid."""
    if in_base64:
        return base64.b64decode(text, validate=True)
    if b"\\" in text:
        string: str = json.loads(b'"%b"' % text)
        return string.encode()
    text.decode()
    return text


def possible(size: int, mtime_ns: int, uid: int, gid: int) -> bool:
    """Whether a file system can store these values."""
    return (
        0 <= size < _MOST
        and -_MOST_TIME <= mtime_ns < _MOST_TIME
        and 0 <= uid < _NO_USER
        and 0 <= gid < _NO_USER
    )


def _check(files: tuple[Listed, ...]) -> None:
    """Check that every parent is a folder of the list, and that no path is listed twice."""
    kinds: dict[str, FileKind] = {".": FileKind.FOLDER}
    for listed in files:
        if listed.path in kinds and listed.path != ".":
            raise ArchiveError(f"{show(listed.path)} is listed twice in the list of files")
        if kinds.get(parent(listed.path)) is not FileKind.FOLDER:
            raise ArchiveError(f"{show(listed.path)} has no parent folder in the list of files")
        kinds[listed.path] = listed.kind


def top_entries(files: tuple[Listed, ...]) -> Iterator[str]:
    """Return the names of the top entries, in order."""
    return (listed.path for listed in files if "/" not in listed.path and listed.path != ".")
