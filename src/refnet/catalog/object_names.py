"""Names of objects in a remote store. None is trusted: what a signed manifest says counts, and the names must agree."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from refnet.catalog.source_name import LONGEST
from refnet.core import checked

MANIFESTS, DATA, PIECES = "manifests/", "data/", "pieces/"

#: A pattern of an id.
ID = "[0-9a-f]{32}"
_PIECE_NAME = re.compile(rf"data/(?P<id>{ID})/(?P<files>files-)?(?P<number>[0-9]{{5}})-[0-9a-f]{{16}}\.age")
_SHARED_NAME = re.compile(rf"(?P<key>{ID})/pieces/(?P<hash>{ID})-[0-9a-f]{{16}}\.age")
_MANIFEST_NAME = re.compile(
    rf"(?:(?P<key>{ID})/)?manifests/(?P<time>[0-9]{{8}}T[0-9]{{6}}Z)_"
    rf"(?P<source>[a-z][a-z0-9_-]{{0,{LONGEST - 1}}})_(?P<id>{ID})\.age"
)
#: A pattern of the name of a piece in either format.
ANY_PIECE = re.sub(r"\?P<[a-z]+>", "?:", f"{_PIECE_NAME.pattern}|{_SHARED_NAME.pattern}")
_TIME = "%Y%m%dT%H%M%SZ"


def key_id(recipient: str) -> str:
    """Folder of a machine in its stores: the id of the public part of its catalog key (`age1…`)."""
    return hashlib.sha256(recipient.encode()).hexdigest()[:32]


def is_key_id(folder: str) -> bool:
    """Whether `folder` may be that of a machine."""
    return re.fullmatch(ID, folder) is not None


@dataclass(frozen=True)
class SharedName:
    """Parsed name of a piece that copies share."""

    #: The id of the machine's catalog key.
    key: str
    #: A keyed hash of its plaintext, by the hashes of its blocks: 32 hex digits.
    hash: str

    def named(self, nonce: str) -> str:
        """Name of the object; `nonce`: 16 hex digits, unique per attempt."""
        return f"{self.key}/{PIECES}{self.hash}-{nonce}.age"

    @classmethod
    def read(cls, name: str) -> Self | None:
        """Parse the name of a shared piece; None for other objects."""
        match = _SHARED_NAME.fullmatch(name)
        return cls(match["key"], match["hash"]) if match else None


@dataclass(frozen=True)
class PieceName:
    """Parsed name of a piece of format 1."""

    #: Of its copy.
    id: str
    #: From 0.
    number: int
    #: It is of the list of files.
    files: bool = False

    def named(self, nonce: str) -> str:
        """Name of the object; `nonce`: 16 hex digits, unique per attempt."""
        return f"{DATA}{self.id}/{'files-' if self.files else ''}{self.number:05}-{nonce}.age"

    @classmethod
    def read(cls, name: str) -> Self | None:
        """Parse the name of a piece; None for other objects."""
        match = _PIECE_NAME.fullmatch(name)
        return cls(match["id"], int(match["number"]), bool(match["files"])) if match else None


@dataclass(frozen=True)
class ManifestName:
    """Parsed name of a manifest's object; the manifest must agree with it."""

    #: To the second, UTC.
    sent: datetime
    source: str
    #: Of the copy.
    id: str
    #: The id of the machine's catalog key; "" in format 1.
    key: str = ""

    def named(self) -> str:
        """Return the name of the object."""
        below = f"{self.key}/" if self.key else ""
        return f"{below}{MANIFESTS}{self.sent.astimezone(UTC):{_TIME}}_{self.source}_{self.id}.age"

    @classmethod
    def read(cls, name: str) -> Self | None:
        """Parse the name of a manifest; None for other objects."""
        if not (match := _MANIFEST_NAME.fullmatch(name)):
            return None
        try:
            sent = checked.in_calendars(datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC))
        except ValueError:
            return None
        return cls(sent, match["source"], match["id"], match["key"] or "")
