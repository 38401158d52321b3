"""Describe an archive by the list of files beside it, where its manifest is lost."""

from __future__ import annotations

from datetime import datetime

from refnet.recovery.model.source import Made
from refnet.recovery.sources.files.listing import FileList
from refnet.recovery.sources.files.member_names import ArchiveError


def describe(listed: bytes | None, created: datetime) -> Made | None:
    """Return the manifest's values for an archive made at `created`; None if `listed` is not a list of files."""
    if listed is None:
        return None
    try:
        files = FileList.from_json(listed)
    except ArchiveError:
        return None
    return Made(created, files.totals, listed)
