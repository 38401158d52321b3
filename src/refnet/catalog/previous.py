"""The record of a previous version: the database that a restore or an undo replaced.

A database's owner can forge its comment. The record is in REFNET_HOME and names the server, the oid and the owner, so
that undo restores, and prune drops, that database and no other.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from refnet.catalog.source_name import SourceName
from refnet.core import checked
from refnet.core.records import Flat, Layout, Needed, Record

#: The largest record or mark, in bytes; it contains the database's own comment.
LONGEST = 1 << 20
_NAME = 256  # characters; longer than any name that PostgreSQL takes
_TEXT = 4096  # characters of an artifact's name or of a snapshot


class MarkState(StrEnum):
    """The state of a marked database."""

    COPY = "copy"  # being loaded; a leftover if no restore runs
    RESTORED = "restored"  # replaced by a restore
    UNDONE = "undone"  # replaced by an undo


_Name = Annotated[str, checked.text(_NAME, shortest=1, errors="strict")]
_Oid = Annotated[int, checked.integer(1, (1 << 32) - 1)]


@dataclass(frozen=True)
class Mark(Record):
    """The mark of a database that RefNet created or replaced; it is also the database's comment."""

    LAYOUT = Layout(longest=LONGEST, end="")

    #: The name that it had, or will have.
    of: _Name
    why: MarkState
    #: The time of the mark.
    at: datetime
    #: The artifact that was restored in its place.
    artifact: Needed[Annotated[str, checked.text(_TEXT)]] = ""
    #: PostgreSQL's text of the snapshot at the swap; rows written later are counted from it.
    snapshot: Needed[Annotated[str, checked.text(_TEXT, like=r"(?:[0-9]+:[0-9]+:[0-9,]*)?")]] = ""
    #: Its own comment, restored with its name.
    comment: Needed[Annotated[str, checked.text(LONGEST, errors="strict")] | None] = None
    #: Its own connection limit, restored with its name; RefNet 0.1.0 wrote none.
    limit: Annotated[int, checked.integer(-1, (1 << 31) - 1)] = -1


@dataclass(frozen=True)
class HalfMade:
    """A copy that a restore is loading, or that a killed restore left."""

    source: SourceName
    #: The database, or the folder.
    what: str
    at: datetime


@dataclass(frozen=True)
class PreviousRecord(Record):
    """A previous version of a database."""

    LAYOUT = Layout(longest=LONGEST, format=1)

    #: The cluster's system identifier; None: not visible to the role.
    system: Annotated[str, checked.text(_NAME, shortest=1, like="[0-9]+")] | None
    name: _Name
    oid: _Oid
    owner: _Name
    #: The oid of the database that replaced it.
    live: _Oid
    mark: Flat[Mark]

    def doubt(self, system: str | None, oid: int, owner: str) -> str:
        """Reason why the database now called `name` is not the recorded one; "" if it is."""
        if self.system and system and self.system != system:
            return "it was recorded on another server"
        if self.oid != oid:
            return f"it is not the recorded database (oid {oid}, recorded {self.oid})"
        if self.owner != owner:
            return f"its owner is {owner}, recorded {self.owner}"
        return ""
