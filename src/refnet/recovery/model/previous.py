"""The record of a previous version: the database that a restore or an undo replaced, by what nobody can forge.

A comment on a database says whatever its owner writes. The record is kept in REFNET_HOME and names the server, the
oid and the owner, so that an undo brings back, and prune drops, that database and no other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from refnet.recovery.model import checked
from refnet.recovery.model.artifact import utc

FORMAT = 1
#: Bytes of a record or a mark that are read at most; a database's own comment is in it.
LONGEST = 1 << 20
_NAME = 256  # characters; longer than any name that PostgreSQL takes
_TEXT = 4096  # characters of an artifact's name or of a snapshot


class Why(StrEnum):
    """What a marked database is."""

    COPY = "copy"  # being loaded; a leftover where no restore runs
    RESTORED = "restored"  # replaced by a restore
    UNDONE = "undone"  # replaced by an undo


_NAMED = checked.text(_NAME, shortest=1, errors="strict")
#: What each value of a mark may be.
_MARK: dict[str, checked.Check] = {
    "of": _NAMED,
    "why": checked.member(Why),
    "at": checked.moment,
    "artifact": checked.text(_TEXT),
    "snapshot": checked.text(_TEXT, like=r"(?:[0-9]+:[0-9]+:[0-9,]*)?"),
    "comment": checked.or_none(checked.text(LONGEST, errors="strict")),
    "limit": checked.whole(-1, (1 << 31) - 1),
}
#: RefNet 0.1.0 wrote no limit.
_ABSENT_BEFORE = ("limit",)
_OID = checked.whole(1, (1 << 32) - 1)
#: What else a record holds.
_RECORD: dict[str, checked.Check] = {
    "format": checked.whole(FORMAT, FORMAT),
    "system": checked.or_none(checked.text(_NAME, shortest=1, like="[0-9]+")),
    "name": _NAMED,
    "oid": _OID,
    "owner": _NAMED,
    "live": _OID,
}


@dataclass(frozen=True)
class Mark:
    """What RefNet says of a database that it made or replaced; also its comment, which its owner can write.

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
        return cls(**checked.record(_MARK, _ABSENT_BEFORE)(checked.document(text, LONGEST)))


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
        values = checked.record({**_RECORD, **_MARK}, _ABSENT_BEFORE)(checked.document(text, LONGEST))
        mark = Mark(**{key: values.pop(key) for key in _MARK if key in values})
        del values["format"]
        return cls(**values, mark=mark)

    def doubt(self, system: str | None, oid: int, owner: str) -> str:
        """Why the database that has `name` now, of that `oid` and `owner`, is not the recorded one; "" where it is."""
        if self.system and system and self.system != system:
            return "it was recorded on another server"
        if self.oid != oid:
            return f"it is another database than the recorded one (oid {oid}, recorded {self.oid})"
        if self.owner != owner:
            return f"its owner is {owner}, recorded {self.owner}"
        return ""
