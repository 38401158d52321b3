"""The identity of each source in REFNET_HOME: a random id, and the number of its last artifact.

An artifact carries both. A restore or a recovery into a home that has no identity of the source takes over that of the
artifact. If another installation makes the next backup, such as a container after a recovery of the machine, it finds
the identity in the store: a handover, which that backup uses up.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Self

from refnet.catalog.identity import SourceId
from refnet.catalog.manifest import HIDDEN_PREFIX, MOST_NUMBERED
from refnet.catalog.source_name import SourceName, wrong_name
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import explained, read_regular
from refnet.core.records import Layout, Needed, Rare, Record
from refnet.store import disk

#: The folder of handovers in a store.
HANDOVERS = f"{HIDDEN_PREFIX}handovers"
_FORMAT = 1
_LARGEST = 4 << 10  # bytes


@dataclass(frozen=True)
class Known(Record):
    """The record of a source."""

    LAYOUT = Layout(more=True)

    #: 32 hex digits; "": none yet.
    id: Needed[Annotated[str, checked.text(32, like="|[0-9a-f]{32}")]] = ""
    #: Of the last artifact that was made here; 0: none was.
    number: Needed[Annotated[int, checked.integer(0, MOST_NUMBERED)]] = 0
    #: It is not backed up any more, and somebody accepted that; the next artifact ends it.
    accepted: Rare[bool] = False

    @property
    def whose(self) -> SourceId | None:
        return SourceId(self.id) if self.id else None


@dataclass(frozen=True)
class Identities:
    """The records in REFNET_HOME, a file per source, and the handovers in the store."""

    folder: Path
    handovers: Path

    @classmethod
    def at(cls, home: Path, store: Path) -> Self:
        """Return the records of a REFNET_HOME, and the handovers in the backup folder `store`."""
        return cls(home / "identities", store / HANDOVERS)

    def of(self, source: str) -> Known:
        """The record of `source`; RefnetError if it is damaged."""
        path = self.folder / f"{source}.json"
        try:
            return _read(path, os.geteuid())
        except FileNotFoundError:
            return Known()
        except (OSError, ValueError) as error:
            raise RefnetError(
                f"{path} is not the record of a source",
                f"Remove it: the next restore takes over the identity of its artifact, the next backup of {source} makes a new one.",
            ) from error

    def names(self) -> tuple[str, ...]:
        """Return the names of the sources that have a record; RefnetError if the folder cannot be read."""
        with explained(self.folder):
            found = os.listdir(self.folder) if self.folder.is_dir() else []  # noqa: PTH208  # names alone
        names = (one.removesuffix(".json") for one in found if one.endswith(".json"))
        return tuple(one for one in names if not wrong_name(one))

    def is_accepted(self, source: str) -> bool:
        """Whether it was accepted that `source` is gone."""
        with suppress(RefnetError):  # `of` reports it where it is needed
            return self.of(source).accepted
        return False

    def accept(self, source: str) -> None:
        """Record that `source` is gone on purpose."""
        self._write(self.folder / f"{source}.json", replace(self.of(source), accepted=True))

    def or_handed_over(self, source: SourceName) -> Known:
        """The record of `source`, else the handover of a recovery to the next backup."""
        known = self.of(source)
        if known.id:
            return known
        handed = self._handed_over(source)
        return Known(handed.id, max(known.number, handed.number))

    def made(self, source: SourceName, known: Known) -> None:
        """Record `known` before its artifact is published, and remove its handover."""
        self._write(self.folder / f"{source}.json", known)
        if known.id and self._handed_over(source).id == known.id:
            with suppress(OSError):  # root wrote it, and this is the containers' user
                (self.handovers / f"{source}.json").unlink()

    def reach(self, source: SourceName, number: int) -> None:
        """Raise the next number of `source` above `number`."""
        known = self.of(source)
        if number > known.number:
            self._write(self.folder / f"{source}.json", replace(known, number=number))

    def take_over(self, source: SourceName, whose: SourceId, number: int = 0) -> bool:
        """Continue the identity `whose` of a restored artifact, unless this home already has one for `source`.

        Args:
            number: the largest known number of its artifacts.
        """
        known = self.of(source)
        if known.id:
            return False
        known = Known(whose.id, max(number, known.number))
        self._write(self.folder / f"{source}.json", known)
        self._write(self.handovers / f"{source}.json", known)
        return True

    def _handed_over(self, source: SourceName) -> Known:
        try:
            return _read(self.handovers / f"{source}.json", None)
        except (OSError, ValueError):
            return Known()

    def _write(self, path: Path, known: Known) -> None:
        values = {"format": _FORMAT, "source": path.stem, **known.values()}
        disk.write_record(path, json.dumps(values).encode() + b"\n")


def new_id() -> str:
    """Return a new random id."""
    return secrets.token_hex(16)


def _read(path: Path, owner: int | None) -> Known:
    return Known.from_json(read_regular(path, _LARGEST, owner=owner))
