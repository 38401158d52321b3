"""What copies take in a remote store, by their manifests: plain, stored, shared, and what the newest ones added."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from refnet.catalog.remote import Copy


@dataclass(frozen=True)
class Sizes:
    """What copies take in a store, in bytes."""

    copies: int = 0
    #: Of the artifacts.
    plain: int = 0
    #: Of the objects: the manifests, and each piece once.
    stored: int = 0
    #: What they would take if each copy had pieces of its own.
    alone: int = 0
    #: What the copy of each source that was sent last added: its manifest, and the pieces that no earlier copy names.
    newest: int = 0

    @property
    def shared(self) -> int:
        """What sharing saves. Pieces of which only a part is still used can take more than that: then it is 0."""
        return max(0, self.alone - self.stored)

    def to_json(self) -> dict[str, Any]:
        return {
            "copies": self.copies,
            "plain_bytes": self.plain,
            "stored_bytes": self.stored,
            "shared_bytes": self.shared,
            "newest_bytes": self.newest,
        }


def first_copies(copies: Iterable[Copy]) -> dict[str, Copy]:
    """Return piece → the first of `copies` that names it."""
    found: dict[str, Copy] = {}
    for copy in _in_order(copies):
        for piece in copy.document.objects:
            found.setdefault(piece.name, copy)
    return found


def _in_order(copies: Iterable[Copy]) -> list[Copy]:
    return sorted(copies, key=lambda one: (one.document.sent, one.document.counter))


def sizes(copies: Collection[Copy]) -> dict[str, Sizes]:
    """What `copies`, those of one store, take, by source."""
    by_source: dict[str, list[Copy]] = {}
    for copy in _in_order(copies):
        by_source.setdefault(str(copy.source), []).append(copy)
    found, first = {}, first_copies(copies)
    for source, own in sorted(by_source.items()):
        last = own[-1]
        found[source] = Sizes(
            len(own),
            sum(one.manifest.size for one in own),
            sum(_objects(own).values()),
            sum(map(_alone, own)),
            sum(size for name, size in _objects([last]).items() if first.get(name, last) is last),
        )
    return found


def total(copies: Collection[Copy], found: Mapping[str, Sizes]) -> Sizes:
    """What `copies` take in all: a piece that two sources share counts once. `found`: their sizes by source."""
    every = found.values()
    return Sizes(
        len(copies),
        sum(one.plain for one in every),
        sum(_objects(copies).values()),
        sum(one.alone for one in every),
        sum(one.newest for one in every),
    )


def freed(due: Iterable[Copy], staying: Iterable[Copy]) -> int:
    """Bytes that are freed when the copies `due` are deleted and `staying` are not: of objects that only `due` need."""
    named = {piece.name for one in staying for piece in one.document.objects}
    return sum(size for name, size in _objects(due).items() if name not in named)


def _objects(copies: Iterable[Copy]) -> dict[str, int]:
    """The objects of `copies`, each once, and their sizes in bytes."""
    found: dict[str, int] = {}
    for one in copies:
        found[one.object] = one.signed.size
        found.update((piece.name, piece.size) for piece in one.document.objects)
    return found


def _alone(copy: Copy) -> int:
    """What a copy would take if it shared no piece: in format 1 it does not."""
    document = copy.document
    if not document.key:
        return copy.signed.size + document.size
    listed = sum(one.length for one in document.list_ranges)
    added = sum(one.size - one.plain for one in document.pieces)
    return copy.signed.size + document.manifest.size + listed + added
