"""What a recovery needs beside the artifacts of a set: settings file, pins and tags, lineage. Sent with copies, and kept again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from refnet import wiring
from refnet.catalog.catalog import Catalog
from refnet.catalog.evidence import MOST_MARKED, Marks, MarksOf
from refnet.catalog.manifest import MARKS_SUFFIX, Entry
from refnet.catalog.remote import Copy
from refnet.context import Context
from refnet.core import trust
from refnet.core.errors import RefnetError
from refnet.core.files import explained
from refnet.core.formatting import plural
from refnet.settings import LARGEST
from refnet.store import settings_copies
from refnet.store.local import LocalStore
from refnet.store.sending import Sender
from refnet.store.settings_copies import LONGEST, SettingsCopy
from refnet.store.source_records import KeptMarks, Lineage


def send(context: Context, sender: Sender, listed: Collection[str] = ()) -> None:
    """Send the settings file in force with the marks and the lineage, unless the store has all of it.

    listed: objects that it has, by name, if it was just listed.
    """
    found = current(context)
    if found != SettingsCopy("", "", found.sent) or settings_copies.was_sent(sender.store.home):
        settings_copies.send(sender.store, sender.encrypter, found, listed)


def current(context: Context) -> SettingsCopy:
    """What a recovery of this machine would need; RefnetError if the settings file cannot be read."""
    file, text, path = context.settings.file, "", ""
    if file:
        with explained(file):
            text, path = trust.read(file, LARGEST).content.decode(), str(file)
    marks, lineage = _marks(context), Lineage.at(context.settings.home).all()
    found = SettingsCopy(text, path, context.clock.now().replace(microsecond=0))
    for most in (MOST_MARKED, MOST_MARKED // 5, 0):  # tags may be long; what is larger no recovery reads
        whole = replace(found, marks=tuple(marks[:most]), lineage=lineage if most else ())
        if len(whole.to_line()) <= LONGEST:
            found = whole
            break
    if left_out := len(marks) - len(found.marks):
        context.note(
            f"pins and tags of {plural(left_out, 'artifact')} are not sent with the copies: too many"
        )
    return found


def _marks(context: Context) -> list[MarksOf]:
    """The marks of this machine's artifacts, and those that came with a recovery; pinned and newer ones first."""
    own = {
        one.manifest.sha256: MarksOf.of(one.manifest.sha256, one.name, one.marks) for one in _marked(context)
    }
    kept = {one.sha256: one for one in KeptMarks.in_home(context.settings.home).read()}
    found = sorted((kept | own).values(), key=lambda one: one.name, reverse=True)
    return sorted(found, key=lambda one: not one.pinned)


def _marked(context: Context) -> Iterator[Entry]:
    """Yield this machine's artifacts with marks; without any, no artifact is read."""
    place, entries = context.catalog, list[Entry]()
    if isinstance(place, LocalStore):
        for source in place.sources():
            if any(True for _ in place.folder(source).glob(f"[!.]*{MARKS_SUFFIX}")):
                entries += place.entries(source)
    elif place.records.has_marks:
        entries += place.entries()
    yield from (one for one in entries if one.marks != Marks())


def keep(context: Context, found: SettingsCopy, copies: Iterable[Copy]) -> None:
    """Keep the marks and the lineage of a recovered set, and mark those of its artifacts that are in the backup folder.

    What this machine knows itself stays. A failure becomes a note: the recovery goes on.

    Args:
        copies: the ones that were fetched.
    """
    settings, marks = context.settings, {one.sha256: one.marks for one in found.marks}
    try:
        KeptMarks.in_home(settings.home).keep(found.marks)
        for place in wiring.lineages(settings):
            for one in found.lineage:
                place.keep(one)
        for copy in copies:
            with context.local.lock(copy.source):
                there = Catalog.of(context.local.entries(copy.source)).named(copy.name)
                if (
                    there
                    and there.marks == Marks()
                    and (own := marks.get(copy.manifest.sha256, Marks())) != Marks()
                ):
                    context.local.mark(there, own)
    except RefnetError as error:
        context.note(f"pins, tags or the lineage of databases were not brought back: {error.message}")
