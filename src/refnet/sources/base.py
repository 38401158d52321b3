"""What every kind of source can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.recovery.model.identity import Whose
from refnet.recovery.model.previous import HalfMade
from refnet.recovery.model.retention import Listing
from refnet.recovery.model.source import Finding, Maker, OpenArtifact
from refnet.recovery.model.source_name import SourceName
from refnet.recovery.stores.local import LocalStore
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings


@dataclass(frozen=True)
class Permits:
    """What the user of a recovery permits beyond what the settings say."""

    #: Restore the data of this database, though it is not the target.
    from_database: str | None = None
    #: Create also roles with powers.
    role_powers: bool = False


class Source(ABC):
    """A source as the settings name it."""

    #: What it is, in logs.
    noun: ClassVar[str]
    #: Whether it lies at a path of this machine, `own.path`: then a recovery checks that something may be restored there.
    has_path: ClassVar[bool] = False

    def __init__(self, settings: Settings, name: SourceName) -> None:
        self.settings, self.name = settings, name

    @property
    def own(self) -> SourceSettings:
        """Its settings, with the defaults; RefnetError (USAGE) if they do not name it."""
        return self.settings.of(self.name)

    @abstractmethod
    def what(self) -> str:
        """Return the database with its server, or the folder, for a display; "": it is not set. Connect to nothing."""

    @abstractmethod
    def reached(self) -> str:
        """Return the same; RefnetError if it cannot be reached, or a program that a backup needs is missing."""

    @abstractmethod
    def whose(self) -> Whose | None:
        """Return its identity on this machine; None if it has none yet. RefNet's own server is not started for this."""

    @abstractmethod
    def maker(
        self, *, jobs: int | None = None, tables: tuple[str, ...] = (), into: LocalStore | None = None
    ) -> Maker:
        """Return what makes an artifact of it.

        Args:
            jobs: parallel workers; None: as many as the settings say.
            tables: only these tables of a database; empty: everything.
            into: the store whose last artifact a new one may share its bytes with; None: that of the settings.
        """

    def previous(self) -> tuple[Listing, ...]:
        """Return what lists the previous versions that restores left, for prune to remove when they are due."""
        return ()

    def recorded(self) -> tuple[datetime, ...]:
        """Return since when its recorded previous versions are kept; no server is asked."""
        return ()

    def half_made(self) -> Iterable[HalfMade]:
        """Return the recorded copies that restores load, or that killed ones left."""
        return ()

    def occupies(self, folder: Path) -> bool:  # noqa: ARG002  # nothing of this machine, unless its kind says so
        """Whether `folder` is where it lies, is in that, or contains it: nothing else is restored there."""
        return False

    def replaced(self) -> str:
        """What a restore would replace, for a question; "": nothing. No server is made for this."""
        return ""

    def problems(
        self,
        context: Context,  # noqa: ARG002  # none, unless its kind has some
        chosen: OpenArtifact,  # noqa: ARG002
        permits: Permits,  # noqa: ARG002
    ) -> Sequence[RefnetError]:
        """What would prevent `recover`; ConnectError if its server does not answer. What is not there is not made for this."""
        return ()

    @abstractmethod
    def recover(self, context: Context, chosen: OpenArtifact, permits: Permits) -> list[str]:
        """Restore all of `chosen`, which the user has confirmed with a recovery; return what was done, a sentence each.

        `context.restored` is called before the hooks that follow.
        """

    @abstractmethod
    def compare(self, context: Context, chosen: OpenArtifact) -> tuple[Finding, ...]:
        """Compare what is live with `chosen`."""
