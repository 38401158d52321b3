"""A machine that is lost, and an empty one that fetches its copies, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.remote_store import Machine

from refnet.actions.fetch import Fetched, FetchRequest, FoundCopies, bring, find
from refnet.context import Context
from refnet.settings import Settings

_NEWEST = FetchRequest()


@dataclass
class Loss:
    """What a machine sent, and another machine that has nothing but the recovery key."""

    folder: Path
    sender: Machine
    #: What the empty machine was told.
    notes: list[str] = field(default_factory=list)

    def found(self, request: FetchRequest = _NEWEST, **changes: object) -> FoundCopies:
        empty = replace(self.empty, **changes)
        return find(self.context, empty.store(key=True), request)

    @property
    def empty(self) -> Machine:
        signer = self.sender.keys.signer().fingerprint
        return Machine(self.folder / "empty", self.sender.bucket, self.sender.recovery, (signer,))

    @property
    def context(self) -> Context:
        home, backups = self.folder / "empty", self.folder / "backups"
        return Context(Settings(home=home, backup_dir=backups), note=self.notes.append)

    def brought(self, request: FetchRequest = _NEWEST, **changes: object) -> list[Fetched]:
        return list(bring(self.context, self.found(request, **changes)))

    def read(self, name: str) -> bytes:
        return (self.folder / "backups" / "database" / name).read_bytes()


def names(fetched: list[Fetched]) -> list[str]:
    return [one.copy.name for one in fetched if one.is_new]
