"""Previous versions left by restores of folders, and copies left by interrupted restores, for prune."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from refnet.catalog.retention import PreviousVersion
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.sources.folder import swap_journal, swapping
from refnet.sources.folder.swap_journal import State
from refnet.sources.folder.swapping import Work
from refnet.sources.folder.target import FolderTarget, explain_os_errors

#: The name of a work folder after its source: time, mark of the live folder (none in earlier versions), number.
_STAMP = re.compile(r"-(\d{8}_\d{6})(?:[-_]|$)")
_NO_JOURNAL = "unknown: no journal of this user names it; check it, then remove it yourself"


def previous_folders(
    swaps: Path, source: SourceName, live: FolderTarget | None
) -> tuple[PreviousVersion, ...]:
    """Everything that restores of `source` left, in the live folder and elsewhere.

    Args:
        swaps: the folder of the journals.
        live: where to look for folders without a journal; None: nowhere.
    """
    kept = [
        PreviousVersion(
            source, f"folder {one.path}", one.journal.at, partial(discard, one), of=one.journal.live
        )
        for one in finished(swaps, source)
    ]
    half = [
        PreviousVersion(
            source, f"copy {one.path}", one.journal.at, partial(discard, one), _why_stays(one),
            one.journal.live, half_made=True,
        )
        for one in half_made(swaps, source)
    ]  # fmt: skip
    if live is None:
        return (*kept, *half)
    unknown = [
        PreviousVersion(source, f"folder {path}", _made_at(path), _stays, _NO_JOURNAL, str(live.folder))
        for path in live.unknown_folders()
    ]
    return (*kept, *half, *unknown)


def finished(swaps: Path, source: SourceName) -> list[Work]:
    """Return the finished swaps of `source`, oldest first."""
    return [one for one in _works(swaps, source) if one.swap.state is State.DONE]


def half_made(swaps: Path, source: SourceName) -> list[Work]:
    """Return the swaps of `source` that were not finished."""
    return [one for one in _works(swaps, source) if one.swap.state is not State.DONE]


def _works(swaps: Path, source: SourceName) -> list[Work]:
    with explain_os_errors(swaps):
        return [Work(swap) for swap in swap_journal.swaps(swaps, source)]


def _stays() -> None:
    """Do nothing: blocked previous versions are not removed."""


def _why_stays(work: Work) -> str:
    """Reason why an incomplete copy must not be removed, or ""."""
    if work.swap.state is State.SWAPPING:
        return "its swap was interrupted: the next restore or undo there finishes it"
    try:
        with explain_os_errors(work.path), swapping.reopened(work.swap):
            return ""
    except swapping.GoneError:
        return ""
    except RefnetError as error:
        return error.message


def discard(work: Work) -> None:
    """Remove the previous version that a finished restore keeps."""
    with explain_os_errors(work.path):
        swapping.remove(work.swap)


def _made_at(work: Path) -> datetime:
    """Time in the name of a work folder; 1970 for an invalid name, as anyone may have made it."""
    stamp = _STAMP.search(work.name)
    with suppress(ValueError, OverflowError):
        return datetime.strptime(stamp[1] if stamp else "", "%Y%m%d_%H%M%S").astimezone()
    return datetime.fromtimestamp(0, UTC)
