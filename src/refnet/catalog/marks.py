"""The marks of an artifact, in `ARTIFACT.marks.json`: a pin, which no deletion overrides, and tags.

The file may be damaged, or of a newer RefNet. Then the artifact counts as pinned: it is never deleted by mistake.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Self

from refnet.core import checked

FORMAT = 1
#: The largest file of marks that is read, in bytes.
LONGEST = 64 << 10
MOST_TAGS = 50
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Marks:
    """The pin and the tags of an artifact."""

    pinned: bool = False
    #: The last moment of the pin; None: it does not end.
    until: datetime | None = None
    #: In alphabetical order.
    tags: tuple[str, ...] = ()
    #: Why the file cannot be read; "" if it can, or if there is none.
    unreadable: str = ""

    def pin(self, now: datetime, zone: tzinfo | None = None) -> str:
        """Description of the pin at `now`; "" if not pinned. `zone`: for its time; None: local."""
        if self.unreadable:
            return f"pinned, could not verify: its marks cannot be read: {self.unreadable}"
        if not self.pinned or (self.until and self.until < now):
            return ""
        return f"pinned until {self.until.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}" if self.until else "pinned"

    def describe(self, now: datetime) -> list[str]:
        """Pin and tags as notes for a list."""
        tags = [f"tagged {', '.join(self.tags)}"] if self.tags else []
        return [one for one in (self.pin(now), *tags) if one]

    def to_json(self) -> dict[str, Any]:
        until = self.until.isoformat() if self.until else None
        wrong = {"unreadable": self.unreadable} if self.unreadable else {}
        return {"pinned": self.pinned or bool(wrong), "until": until, "tags": list(self.tags), **wrong}

    def to_file(self) -> bytes:
        """Content of the file; b"" without marks."""
        if self == Marks():
            return b""
        return (json.dumps({"format": FORMAT, **self.to_json()}) + "\n").encode()

    @classmethod
    def from_file(cls, text: bytes) -> Self:
        """Read the file; ValueError if it is malformed or of a newer RefNet."""
        values = checked.document(text, LONGEST)
        number = values.get("format")
        if type(number) is int and FORMAT < number < 1_000_000:
            raise ValueError(f"format {number} is not supported; this RefNet reads format {FORMAT}")
        found = _FILE(values)
        return cls(found["pinned"], found["until"], tuple(sorted(set(found["tags"]))))


def is_tag(text: str) -> bool:
    """Whether `text` is a valid tag: letters, digits, `.`, `_` and `-`, at most 40."""
    return bool(_TAG.fullmatch(text))


_FILE = checked.record(
    {
        "format": checked.integer(1, FORMAT),
        "pinned": checked.flag,
        "until": checked.or_none(checked.moment),
        "tags": checked.each(checked.text(40, like=_TAG.pattern), MOST_TAGS),
    }
)
