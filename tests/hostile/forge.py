"""Artifacts of a database with an index of one's own: what somebody who can write to the backup folder can make.

Written by the format's description and the standard library alone, without the code that is under test. Footer and
manifest agree with the forged bytes, so nothing but the index itself says that it is a lie.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PREFIX = "-- refnet-index "
_LINE = 8000
_EXTRA = struct.Struct("<2sHBQQ32s")
_HEAD = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", _EXTRA.size)
_TAIL = b"\x03\x00" + b"\0" * 8
FOOTER = len(_HEAD) + _EXTRA.size + len(_TAIL)

#: Changes the index in place.
Change = Callable[[dict[str, Any]], object]


def index_of(artifact: bytes) -> dict[str, Any]:
    """The index of an artifact, as JSON has it."""
    offset, length = _place(artifact)
    text = gzip.decompress(artifact[offset : offset + length]).decode("ascii")
    return json.loads("".join(line.removeprefix(_PREFIX) for line in text.splitlines()))  # type: ignore[no-any-return]


def forged(artifact: bytes, change: Change) -> bytes:
    """The artifact with its index changed and a footer that fits."""
    values = index_of(artifact)
    change(values)
    return with_json(artifact, json.dumps(values, separators=(",", ":")))


def with_json(artifact: bytes, text: str) -> bytes:
    """The artifact with the JSON `text`, whatever that is, as its index."""
    lines = (text[at : at + _LINE] for at in range(0, len(text), _LINE))
    return with_packed(artifact, gzip.compress("".join(f"{_PREFIX}{line}\n" for line in lines).encode(), 6))


def with_packed(artifact: bytes, packed: bytes) -> bytes:
    """The artifact with `packed` where its gzipped index was."""
    return closed(artifact[: _place(artifact)[0]], packed)


def content_of(artifact: bytes, number: int) -> bytes:
    """What member `number` inflates to."""
    one = index_of(artifact)["members"][number]
    return gzip.decompress(artifact[one["offset"] : one["offset"] + one["length"]])


def with_member(artifact: bytes, number: int, content: bytes) -> bytes:
    """The artifact with member `number` inflating to `content`; its index says so."""
    values = index_of(artifact)
    members = values["members"]
    pieces = [artifact[one["offset"] : one["offset"] + one["length"]] for one in members]
    pieces[number] = gzip.compress(content, 6)
    members[number]["raw"] = len(content)
    members[number]["text"] = ""
    at = 0
    for one, piece in zip(members, pieces, strict=True):
        one["offset"], one["length"] = at, len(piece)
        at += len(piece)
    # with_json cuts where the old footer says that the index is, so the new members get a footer of their own.
    return with_json(closed(b"".join(pieces), b""), json.dumps(values, separators=(",", ":")))


def closed(members: bytes, packed_index: bytes) -> bytes:
    """Members and index with a footer that fits."""
    sha256 = hashlib.sha256(members + packed_index).digest()
    extra = _EXTRA.pack(b"RN", _EXTRA.size - 4, 1, len(members), len(packed_index), sha256)
    return members + packed_index + _HEAD + extra + _TAIL


def forge(path: Path, change: Change) -> None:
    """Change the index of the artifact at `path`; its manifest, where there is one, is made to fit."""
    replace(path, forged(path.read_bytes(), change))


def replace(path: Path, artifact: bytes) -> None:
    """Put `artifact` in the place of the one at `path`; its manifest, where there is one, is made to fit."""
    path.write_bytes(artifact)
    manifest = path.with_name(f"{path.name}.json")
    if manifest.exists():
        values = json.loads(manifest.read_text(encoding="utf-8"))
        values |= {"size": len(artifact), "sha256": hashlib.sha256(artifact).hexdigest()}
        manifest.write_text(json.dumps(values), encoding="utf-8")


def _place(artifact: bytes) -> tuple[int, int]:
    """Where the index begins, and its length."""
    *_, offset, length, _ = _EXTRA.unpack(artifact[-FOOTER:][len(_HEAD) : -len(_TAIL)])
    return offset, length
