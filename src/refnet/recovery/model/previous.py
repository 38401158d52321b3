"""The record of a previous version: the database that a restore or an undo replaced.

A database's owner can forge its comment. The record is in REFNET_HOME and names the server, the oid and the owner, so
that undo restores, and prune drops, that database and no other.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from refnet.recovery.model import checked
from refnet.recovery.model.artifact import utc
from refnet.recovery.model.source_name import SourceName

FORMAT = 1
#: The largest record or mark, in bytes; it contains the database's own comment.
LONGEST = 1 << 20
_NAME = 256  # characters; longer than any name that PostgreSQL takes
_TEXT = 4096  # characters of an artifact's name or of a snapshot


class MarkState(StrEnum):
    """The state of a marked database."""

    COPY = "copy"  # being loaded; a leftover if no restore runs
    RESTORED = "restored"  # replaced by a restore
    UNDONE = "undone"  # replaced by an undo


_NAMED = checked.text(_NAME, shortest=1, errors="strict")
#: The values of a mark.
_MARK: dict[str, checked.Check] = {
    "of": _NAMED,
    "why": checked.member(MarkState),
    "at": checked.moment,
    "artifact": checked.text(_TEXT),
    "snapshot": checked.text(_TEXT, like=r"(?:[0-9]+:[0-9]+:[0-9,]*)?"),
    "comment": checked.or_none(checked.text(LONGEST, errors="strict")),
}
#: RefNet 0.1.0 wrote none.
_LIMIT: dict[str, checked.Check] = {"limit": checked.integer(-1, (1 << 31) - 1)}
_OID = checked.integer(1, (1 << 32) - 1)
#: The other values of a record.
_RECORD: dict[str, checked.Check] = {
    "format": checked.integer(FORMAT, FORMAT),
    "system": checked.or_none(checked.text(_NAME, shortest=1, like="[0-9]+")),
    "name": _NAMED,
    "oid": _OID,
    "owner": _NAMED,
    "live": _OID,
}


@dataclass(frozen=True)
class Mark:
    """The mark of a database that RefNet created or replaced; it is also the database's comment."""

    #: The name that it had, or will have.
    of: str
    why: MarkState
    #: The time of the mark.
    at: datetime
    #: The artifact that was restored in its place.
    artifact: str = ""
    #: PostgreSQL's text of the snapshot at the swap; rows written later are counted from it.
    snapshot: str = ""
    #: Its own comment, restored with its name.
    comment: str | None = None
    #: Its own connection limit, restored with its name.
    limit: int = -1

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "at": utc(self.at)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a mark; ValueError if `text` is malformed."""
        return cls(**checked.record(_MARK, _LIMIT)(checked.document(text, LONGEST)))


@dataclass(frozen=True)
class HalfMade:
    """A copy that a restore loads, or that a killed one left."""

    source: SourceName
    #: The database, or the folder.
    what: str
    at: datetime


@dataclass(frozen=True)
class Record:
    """A previous version of a database."""

    #: The cluster's system identifier; None: not visible to the role.
    system: str | None
    name: str
    oid: int
    owner: str
    #: The oid of the database that replaced it.
    live: int
    mark: Mark

    def to_json(self) -> str:
        values = asdict(self)
        mark = values.pop("mark")
        return json.dumps({"format": FORMAT, **values, **mark, "at": utc(self.mark.at)}) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record; ValueError if `text` is malformed."""
        values = checked.record({**_RECORD, **_MARK}, _LIMIT)(checked.document(text, LONGEST))
        mark = Mark(**{key: values.pop(key) for key in {**_MARK, **_LIMIT} if key in values})
        del values["format"]
        return cls(**values, mark=mark)

    def doubt(self, system: str | None, oid: int, owner: str) -> str:
        """Return why the database that has `name` now is not the recorded one; "" if it is."""
        if self.system and system and self.system != system:
            return "it was recorded on another server"
        if self.oid != oid:
            return f"it is not the recorded database (oid {oid}, recorded {self.oid})"
        if self.owner != owner:
            return f"its owner is {owner}, recorded {self.owner}"
        return ""
