"""The content of an artifact; each kind of source has its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

from refnet.catalog.artifact import Made, OpenArtifact, Proof
from refnet.catalog.manifest import Level
from refnet.proof_run import ProofOptions


class Artifact(ABC):
    """The content of an artifact. RefnetError (DAMAGED) if it is RefNet's own and unreadable."""

    def __init__(self, stored: OpenArtifact) -> None:
        self.stored = stored

    @property
    def name(self) -> str:
        return self.stored.name

    def describe(self, _created: datetime, /) -> Made | None:
        """Values for a new manifest in place of a lost one; None if the content does not record them.

        The argument is the probable time, for content that does not record it.
        """
        return None

    def tables(self) -> tuple[dict[str, Any], ...]:
        """Return the recorded tables of a database, as in `Proof.rows`."""
        return ()

    @abstractmethod
    def prove(self, level: Level, options: ProofOptions) -> Proof:
        """Check the content up to `level`; the store has checked `written`. Touch nothing live."""
