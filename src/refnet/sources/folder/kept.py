"""Metadata that a backup does not keep, or a file system cannot store: counts and sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from refnet.core.member_names import show

#: How many paths of each kind are named.
_SHOWN = 5
#: What is told for each attribute that is not kept; a label of the system's policy is on every file, so it is only
#: counted.
SET_ID = "the set-user-ID or set-group-ID bit"
HARD_LINKS = "the hard link"
_LABELS = {"security.selinux", "security.SMACK64", "security.ima", "security.evm", "system.nfs4_acl"}
_MOST_KINDS, _LONGEST = 50, 300


class Aspect(StrEnum):
    """A part of a file's metadata."""

    OWNER = "the owner"
    MODE = "the mode"
    TIME = "the time"
    ACL = "the ACL"
    XATTRS = "the extended attributes"


@dataclass
class Counted:
    """Kind → the number of entries, and the first of them."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, path: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        paths = self.first.setdefault(kind, [])
        if len(paths) < _SHOWN:
            paths.append(show(path))

    def to_json(self) -> dict[str, Any]:
        return {kind: {"count": count, "first": self.first[kind]} for kind, count in self.counts.items()}

    def sentences(self, says: str) -> tuple[str, ...]:
        """Return a sentence for each kind, like `SAYS: KIND of a, b and 3 more`."""
        return tuple(
            f"{says}: {show(kind)} of {', '.join(self.first[kind])}"
            f"{f' and {count - _SHOWN:,} more' if count > _SHOWN else ''}"
            for kind, count in self.counts.items()
            if kind not in _LABELS
        )


@dataclass
class Unheld(Counted):
    """The metadata that could not be set."""

    #: (aspect, path) of each.
    paths: set[tuple[Aspect, str]] = field(default_factory=set)

    def add(self, kind: str, path: str) -> None:
        super().add(kind, path)
        self.paths.add((Aspect(kind), path))

    def told(self) -> tuple[str, ...]:
        return self.sentences("this user or file system could not set")


def unkept(details: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences about metadata not kept, from a manifest's details, which may be forged."""
    found, counted = details.get("unkept"), Counted()
    for kind, value in list(found.items())[:_MOST_KINDS] if isinstance(found, dict) else ():
        count, first = (value.get("count"), value.get("first")) if isinstance(value, dict) else (None, None)
        if type(count) is int and isinstance(first, list):
            counted.counts[kind] = count
            counted.first[kind] = [show(one, _LONGEST) for one in first[:_SHOWN] if isinstance(one, str)]
    return counted.sentences("not kept")


def looked(details: Mapping[str, Any]) -> bool:
    """Whether the artifact was made by a version that records ACLs and attributes."""
    return isinstance(details.get("unkept"), dict)
