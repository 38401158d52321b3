"""The list of files of an archive: what went in, its digests, and where in the archive each file lies.

As JSON: one line a file, so that zgrep finds a note. A name that is not UTF-8 stands as `path_base64`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from refnet.recovery.sources.files.names import ArchiveError, checked, leads_inside, parent, show

FORMAT = 1

_MOST, _NOBODY = 1 << 63, (1 << 32) - 1
#: The bits of a mode that are kept: a file's set-user-ID and set-group-ID bits would be a way to power for
#: whoever can forge an archive; on a folder set-group-ID only hands down the group.
FILE_MODE = 0o777
FOLDER_MODE = 0o3777


class Kind(StrEnum):
    """What a member is. Nothing else is written, and nothing else is unpacked."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


class Listed(NamedTuple):
    """One member: `size` in bytes, `mode` the permission bits, `at` the offset of its header in the tar.

    `sha256` (hex) is the digest of exactly the bytes that went into the archive; only files have one.
    `target` is where a link leads.
    """

    path: str
    kind: Kind
    size: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    at: int
    sha256: str = ""
    target: str = ""


class Member(NamedTuple):
    """A gzip member of the archive: where it begins in the tar (`raw`) and in the archive (`offset`)."""

    raw: int
    offset: int


@dataclass(frozen=True)
class FileList:
    """Every member in the order of the archive; `members` is empty where the archive is one gzip stream."""

    files: tuple[Listed, ...]
    members: tuple[Member, ...] = ()

    @cached_property
    def by_path(self) -> dict[str, Listed]:
        return {listed.path: listed for listed in self.files}

    @property
    def raw_bytes(self) -> int:
        return sum(listed.size for listed in self.files)

    def count(self, kind: Kind) -> int:
        return sum(listed.kind is kind for listed in self.files)

    def start_of(self, at: int) -> Member:
        """The gzip member in which the tar offset `at` lies."""
        if not self.members:
            return Member(0, 0)
        return self.members[max(0, bisect_right(self.members, at, key=lambda member: member.raw) - 1)]

    def to_json(self) -> bytes:
        members = json.dumps(self.members, separators=(",", ":"))
        lines = ",\n".join(_line(listed) for listed in self.files)
        return f'{{"format": {FORMAT},\n"members": {members},\n"files": [\n{lines}\n]}}\n'.encode()

    @classmethod
    def from_json(cls, text: bytes) -> FileList:
        """The list in `text`; ArchiveError where it is none, or names what could lie outside."""
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise ArchiveError(f"the list of files has format {values['format']}, not {FORMAT}")
            members = tuple(Member(int(raw), int(offset)) for raw, offset in values["members"])
            files = tuple(_listed(item) for item in values["files"])
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise ArchiveError(f"the list of files is not one: {error}") from error
        _check(files)
        return cls(files, members)


def _line(listed: Listed) -> str:
    path, kind, size, mode, mtime_ns, uid, gid, at, sha256, target = listed
    more = f',"sha256":"{sha256}"' if sha256 else f",{_text('target', target)}" if target else ""
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


def _raw(item: dict[str, Any], key: str) -> bytes:
    if key in item:
        text: str = item[key]
        return text.encode()
    return base64.b64decode(item[f"{key}_base64"], validate=True)


_KINDS = {str(kind): kind for kind in Kind}


def _listed(item: dict[str, Any]) -> Listed:
    raw = _raw(item, "path")
    path = checked(raw)
    if raw != os.fsencode(path):
        raise ArchiveError(
            f"the list of files names {show(os.fsdecode(raw))}, which is not how RefNet writes a path"
        )
    kind = _KINDS[item["kind"]]
    size, mode, at = int(item["size"]), int(item["mode"], 8), int(item["at"])
    mtime_ns, uid, gid = int(item["mtime_ns"]), int(item["uid"]), int(item["gid"])
    sha256: str = item["sha256"] if kind is Kind.FILE else ""
    if not possible(size, mtime_ns, uid, gid) or not 0 <= mode <= 0o7777 or (sha256 and len(sha256) != 64):
        raise ValueError(f"the entry of {show(path)}")
    if kind is not Kind.LINK:
        return Listed(path, kind, size, mode, mtime_ns, uid, gid, at, sha256)
    target = os.fsdecode(_raw(item, "target"))
    if not leads_inside(path, target):
        raise ArchiveError(f"{show(path)} is a link that leads outside ({show(target)})")
    return Listed(path, kind, size, mode, mtime_ns, uid, gid, at, target=target)


def possible(size: int, mtime_ns: int, uid: int, gid: int) -> bool:
    """Whether a file system can hold these at all."""
    return 0 <= size < _MOST and -_MOST < mtime_ns < _MOST and 0 <= uid < _NOBODY and 0 <= gid < _NOBODY


def _check(files: tuple[Listed, ...]) -> None:
    """Every parent is a folder of the list, and no path stands twice."""
    kinds: dict[str, Kind] = {".": Kind.FOLDER}
    for listed in files:
        if listed.path in kinds and listed.path != ".":
            raise ArchiveError(f"{show(listed.path)} stands twice in the list of files")
        if kinds.get(parent(listed.path)) is not Kind.FOLDER:
            raise ArchiveError(f"{show(listed.path)} lies in no folder of the list of files")
        kinds[listed.path] = listed.kind


def top_entries(files: tuple[Listed, ...]) -> Iterator[str]:
    """The names of the entries at the top, in order."""
    return (listed.path for listed in files if "/" not in listed.path and listed.path != ".")
