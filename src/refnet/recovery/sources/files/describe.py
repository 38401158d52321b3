"""What the list of files beside an archive says of it, where its manifest is lost."""

from __future__ import annotations

from datetime import datetime

from refnet.recovery.model.source import Made
from refnet.recovery.sources.files.listing import FileList
from refnet.recovery.sources.files.member_names import ArchiveError


def describe(listed: bytes | None, created: datetime) -> Made | None:
    """What the manifest of an archive made at `created` says; None where `listed` is no list of files."""
    if listed is None:
        return None
    try:
        files = FileList.from_json(listed)
    except ArchiveError:
        return None
    return Made(created, files.totals, listed)
