"""The record of a previous version: the database that a restore or an undo replaced, by what nobody can forge.

A comment on a database says whatever its owner writes. The record is kept in REFNET_HOME and names the server, the
oid and the owner, so that an undo brings back, and prune drops, that database and no other.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from refnet.recovery.model.artifact import utc

FORMAT = 1
#: Bytes of a record or a mark that are read at most; a database's own comment is in it.
LONGEST = 1 << 20
_NAME = 256  # characters; longer than any name that PostgreSQL takes
_TEXT = 4096  # characters of an artifact's name or of a snapshot
_OIDS = range(1, 1 << 32)
_LIMITS = range(-1, 1 << 31)
_SNAPSHOT = re.compile(r"(?:\d+:\d+:[\d,]*)?")


class Why(StrEnum):
    """What a marked database is."""

    COPY = "copy"  # being loaded; a leftover where no restore runs
    RESTORED = "restored"  # replaced by a restore
    UNDONE = "undone"  # replaced by an undo


@dataclass(frozen=True)
class Mark:
    """What RefNet says of a database that it made or replaced; also its comment, which anybody's owner can write.

    `of`: the name that it had, or is to have. `at`: when it was marked. `artifact`: what was restored in its place.
    `snapshot`: PostgreSQL's text of the moment of the exchange, from which what was written since is counted.
    `comment` and `limit` (of connections): its own, put back with its name.
    """

    of: str
    why: Why
    at: datetime
    artifact: str = ""
    snapshot: str = ""
    comment: str | None = None
    limit: int = -1

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "at": utc(self.at)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Mark:
        """The mark in `text`; ValueError where there is none."""
        return cls.read(_object(text))

    @classmethod
    def read(cls, values: dict[str, Any]) -> Mark:
        """The mark among `values`; ValueError where one of them is none that RefNet writes."""
        snapshot, comment = _string(values, "snapshot", _TEXT), values.get("comment")
        if not _SNAPSHOT.fullmatch(snapshot):
            raise ValueError("snapshot is none of PostgreSQL's")
        at = datetime.fromisoformat(_string(values, "at", _TEXT))
        if at.tzinfo is None:
            raise ValueError("at carries no time zone")
        return cls(
            of=_string(values, "of", _NAME, empty=False),
            why=Why(_string(values, "why", _NAME)),
            at=at,
            artifact=_string(values, "artifact", _TEXT),
            snapshot=snapshot,
            comment=None if comment is None else _string(values, "comment", LONGEST),
            limit=_number(values.get("limit", -1), "limit", _LIMITS),
        )


@dataclass(frozen=True)
class Record:
    """A previous version of a database.

    `system`: the cluster's identifier, None where the role may not see it. `oid`, `owner`: of the database that has
    `name`. `live`: the oid of the database that took its place.
    """

    system: str | None
    name: str
    oid: int
    owner: str
    live: int
    mark: Mark

    def to_json(self) -> str:
        values = asdict(self)
        mark = values.pop("mark")
        return json.dumps({"format": FORMAT, **values, **mark, "at": utc(self.mark.at)}) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """The record in `text`; ValueError where there is none."""
        values = _object(text)
        if values.get("format") != FORMAT:
            raise ValueError(f"format is not {FORMAT}")
        system = values.get("system")
        if system is not None and not _string(values, "system", _NAME).isdecimal():
            raise ValueError("system is no identifier of a cluster")
        return cls(
            system=system,
            name=_string(values, "name", _NAME, empty=False),
            oid=_number(values.get("oid"), "oid", _OIDS),
            owner=_string(values, "owner", _NAME, empty=False),
            live=_number(values.get("live"), "live", _OIDS),
            mark=Mark.read(values),
        )

    def doubt(self, system: str | None, oid: int, owner: str) -> str:
        """Why the database that has `name` now, of that `oid` and `owner`, is not the recorded one; "" where it is."""
        if self.system and system and self.system != system:
            return "it was recorded on another server"
        if self.oid != oid:
            return f"it is another database than the recorded one (oid {oid}, recorded {self.oid})"
        if self.owner != owner:
            return f"its owner is {owner}, recorded {self.owner}"
        return ""


def _object(text: str | bytes) -> dict[str, Any]:
    if len(text) > LONGEST:
        raise ValueError("it is too long")
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004  # what cannot be read is one kind of error
    return values


def _string(values: dict[str, Any], key: str, longest: int, *, empty: bool = True) -> str:
    """The text under `key`, which PostgreSQL can hold; ValueError where it is none."""
    value = values.get(key)
    if not isinstance(value, str) or len(value) > longest or not (value or empty):
        raise ValueError(f"{key} is missing or no text of this kind")
    value.encode()  # a lone surrogate is a ValueError too
    if "\0" in value:
        raise ValueError(f"{key} holds a NUL")
    return value


def _number(value: Any, key: str, allowed: range) -> int:
    if type(value) is not int or value not in allowed:
        raise ValueError(f"{key} is missing or out of range")
    return value
