"""adopt a dump that another program made, as an artifact of a database that the settings name.

The dump is kept as gzipped SQL, whatever its format was. RefNet restores it like any artifact; its content was not
recorded, so a proof reaches at most `restored`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from isal import isal_zlib

from refnet.actions.adopt import FOREIGN, Adopted, checked
from refnet.actions.cluster_databases import with_member
from refnet.catalog.artifact import Made, OpenArtifact
from refnet.catalog.catalog import parse_time
from refnet.catalog.manifest import utc
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import NotRegularError, explained, make_folder
from refnet.servers import ActsOn
from refnet.sources import kind_of, source_of
from refnet.sources.database.artifact import foreign_text
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.own_artifact import open_database

_DATE = re.compile(r"(?<!\d)(20\d\d)-?(\d\d)-?(\d\d)(?:[T_ -]?(\d\d)[:-]?(\d\d)(?:[:-]?(\d\d))?)?(?!\d)")
_WITHOUT = "Adopt it without --source, by the name that RefNet gave it."
_GIVE = "Give its time: --at 2026-11-25T02:00."


@dataclass(frozen=True)
class ForeignAdoption:
    """The plan to adopt the dump at `path`."""

    path: Path
    source: SourceName
    created: datetime
    #: Where that time comes from.
    told_by: str
    #: Of the dump: plain, custom, and so on.
    format: str

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "name": self.path.name,
            "created": utc(self.created),
            "told_by": self.told_by,
            "details": {"format": self.format},
            "copied_in": True,
            "moved_aside": None,
        }


def plan(context: Context, path: Path, source: SourceName, at: str | None) -> ForeignAdoption:
    """Plan the adoption of the dump at `path` for `source`; changes nothing.

    at: its time; None: from its name.
    """
    if not kind_of(source).takes_dumps:
        raise RefnetError(
            f"{source} is not a database",
            "Archives of folders and of roles are adopted by their names, without --source.",
            Exit.USAGE,
        )
    with explained(path):
        if not path.exists():
            raise RefnetError(f"{path} does not exist", "Give the path of a dump.", Exit.USAGE)
        if not (path.is_file() or path.is_dir()):
            raise NotRegularError(path)
        if os.path.realpath(path.parent) == os.path.realpath(context.local.folder(source)):
            raise RefnetError(f"{path} is in the backup folder already", _WITHOUT, Exit.USAGE)
        if path.is_file() and _is_own(path, source):
            raise RefnetError(f"{path} is an artifact of RefNet", _WITHOUT, Exit.USAGE)
        created, told_by = _time(path, at, context.settings.schedule.zone)
        if created > context.clock.now():
            raise RefnetError(
                f"the time of {path} is in the future: {created:%Y-%m-%d %H:%M}, from {told_by}",
                _GIVE,
                Exit.USAGE,
            )
        with foreign_text.opened(path, source, _temporary(context)) as dump:
            form = "by pg_dumpall" if not dump.is_archive and dump.is_of_cluster else str(dump.format)
    return ForeignAdoption(path, source, created, told_by, form)


def _is_own(path: Path, source: SourceName) -> bool:
    stored = OpenArtifact(source, path.name, lambda: path.open("rb"), None, path=path)
    return not isinstance(open_database(stored), ForeignDump)


def _time(path: Path, at: str | None, zone: tzinfo | None) -> tuple[datetime, str]:
    """Time of the dump, and where it comes from; the file's times are ignored, because copying changes them.

    A date without a time means its beginning.
    """
    if at:
        moment = parse_time(at, zone)
        is_date = len(at) <= len("2026-11-25")
        return moment.replace(hour=0, minute=0, second=0, microsecond=0) if is_date else moment, "--at"
    if found := _DATE.search(path.name):
        numbers = [int(one or 0) for one in found.groups()]
        try:
            local = datetime(*numbers)  # type: ignore[arg-type]  # noqa: DTZ001
        except ValueError:
            local = None
        if local:
            return local.replace(tzinfo=zone) if zone else local.astimezone(), "its name"
    raise RefnetError(f"the name of {path} does not say when it was made", _GIVE, Exit.USAGE)


def _temporary(context: Context) -> Path:
    make_folder(context.settings.home)
    return context.settings.home


def adopt(context: Context, adoption: ForeignAdoption) -> Adopted:
    """Take the planned dump into the catalog, as SQL, and check it up to `intact`."""
    source, path = adoption.source, adoption.path
    settings = with_member(context, source).settings
    options = source_of(settings, source).proof_options(context.progress)
    database = ActsOn.of(settings, source).database
    details = {"adopted_from": str(path), "format": adoption.format}
    made = Made(adoption.created, details, unchecked=(FOREIGN,))
    zone = context.settings.schedule.zone
    local = adoption.created.astimezone(zone).replace(tzinfo=None)
    store = context.local
    with (
        store.lock(source),
        explained(path),
        foreign_text.opened(path, source, _temporary(context)) as dump,
    ):
        others = frozenset(one.name for one in context.catalog.entries(source))
        with store.draft(source) as draft:
            for piece in _gzipped(foreign_text.sql_of(dump, options, database, _temporary(context))):
                draft.out.write(piece)
            manifest = draft.publish(made, local, 0.0, others)
        return checked(context, store, source, manifest.name)


def _gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    deflater = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    for piece in pieces:
        yield deflater.compress(piece)
    yield deflater.flush()
