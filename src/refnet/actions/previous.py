"""list --previous: the databases and folders that restores replaced, and when prune removes each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from refnet.catalog.manifest import utc
from refnet.catalog.retention import PreviousVersion
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.sources import source_of


@dataclass(frozen=True)
class Kept:
    """The previous versions of some sources."""

    #: Oldest first within each source.
    versions: tuple[PreviousVersion, ...]
    #: Why some could not be listed.
    unknown: tuple[RefnetError, ...]
    #: How long each is kept.
    keep: timedelta
    now: datetime

    def removed(self, one: PreviousVersion) -> datetime | None:
        """Time from which prune removes it; None: never, because it is blocked."""
        return None if one.blocked else self.now if one.half_made else one.since + self.keep

    def to_json(self) -> dict[str, Any]:
        return {
            "previous_versions": [
                {"source": one.source, **one.to_json(), "removed_from": (at := self.removed(one)) and utc(at)}
                for one in self.versions
            ],
            "unknown": [error.message for error in self.unknown],
        }


def previous(context: Context, names: Iterable[SourceName]) -> Kept:
    """All previous versions of the sources `names`; errors of one source do not hide the others."""
    found, unknown = list[PreviousVersion](), list[RefnetError]()
    for name in names:
        for listed in source_of(context.settings, name).previous():
            try:
                found += sorted(listed(), key=lambda one: one.since)
            except RefnetError as error:
                unknown.append(error)
    keep = timedelta(days=context.settings.retention_previous)
    return Kept(tuple(found), tuple(unknown), keep, context.clock.now())
