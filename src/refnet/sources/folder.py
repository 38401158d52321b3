"""A folder of the settings."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ClassVar

from refnet import wiring
from refnet.core.errors import RefnetError
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.identity import Whose
from refnet.recovery.model.previous import HalfMade
from refnet.recovery.model.retention import Listing, PreviousVersion
from refnet.recovery.model.source import Maker, OpenArtifact
from refnet.recovery.sources.files import entries, previous_folders
from refnet.recovery.sources.files.files_maker import FilesMaker
from refnet.recovery.sources.files.scope import Scope
from refnet.recovery.sources.files.target import FolderTarget, target_of
from refnet.recovery.stores.local import LocalStore
from refnet.sources.base import Source


class Folder(Source):
    """A folder, or some of its entries."""

    noun: ClassVar[str] = "folder"

    def what(self) -> str:
        return str(self.own.path or "")

    def reached(self) -> str:
        if self.own.path is None or not self.own.path.is_dir():
            raise RefnetError(
                f"{self.own.path} is not a folder", f"Create it, or set the folder of {self.name}."
            )
        return self.what()

    def whose(self) -> Whose | None:
        return wiring.identities(self.settings).or_handed_over(self.name).whose

    @property
    def scope(self) -> Scope:
        """What is backed up of it."""
        return Scope(None, self.own.exclude, bool(self.own.one_file_system))

    def target(self) -> FolderTarget:
        """Return the live folder; RefnetError where the settings name none."""
        own = self.own
        if own.path is None:
            raise wiring.not_configured(self.name)
        listed = entries.names(entries.parse_entries(own.entries)) if own.entries else None
        return target_of(self.name, own.path, listed, self._swaps, self.scope)

    def maker(
        self,
        *,
        jobs: int | None = None,
        tables: tuple[str, ...] = (),  # noqa: ARG002  # it has none
        into: LocalStore | None = None,
    ) -> Maker:
        own = self.own
        if own.path is None:
            raise wiring.not_configured(self.name)
        return FilesMaker(
            name=self.name,
            folder=own.path,
            entries=entries.parse_entries(own.entries) if own.entries else None,
            swaps=self._swaps,
            jobs=jobs or self.settings.jobs,
            last=partial(self._last, into or wiring.store(self.settings)),
            scope=self.scope,
        )

    def previous(self) -> tuple[Listing, ...]:
        return (self._previous,)

    def _previous(self) -> Iterable[PreviousVersion]:
        live = self.target() if self.own.path else None
        return previous_folders.previous_folders(self._swaps, self.name, live)

    def recorded(self) -> tuple[datetime, ...]:
        return tuple(one.journal.at for one in previous_folders.finished(self._swaps, self.name))

    def half_made(self) -> Iterable[HalfMade]:
        works = previous_folders.half_made(self._swaps, self.name)
        return [HalfMade(self.name, str(one.path), one.journal.at) for one in works]

    @property
    def _swaps(self) -> Path:
        """The folder with the journals of restores."""
        return self.settings.home / "swaps"

    def _last(self, store: LocalStore) -> OpenArtifact | None:
        """Return the newest complete artifact, as this machine knows the source."""
        entry = Catalog.of(store.entries(self.name)).about(self.whose(), self.name).newest_complete(self.name)
        return store.artifact(entry) if entry else None
