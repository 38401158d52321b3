"""seal: with encryption.local, encrypt an artifact into the store `local`, read it back, remove the plain files.

An artifact is made in the workplace, a folder in REFNET_HOME. It is removed there only after its copy in the backup folder
was read back, so a crash leaves one of the two, or both; the next run of its source continues.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from refnet import wiring
from refnet.actions.backup_result import Backup
from refnet.actions.copy import Copied, Wanted, copy
from refnet.actions.verify import check_written
from refnet.catalog.catalog import Catalog
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Entry, Level, Outcome
from refnet.catalog.remote_state import copy_of
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.settings.stores import ENCRYPTED
from refnet.store import settings_copies
from refnet.store.local import LocalStore
from refnet.store.sealed import SealedStore
from refnet.store.sending import sender_to


def check(context: Context) -> None:
    """RefnetError if encryption is impossible: no keys, no recipient, or an unexpected backup folder."""
    store = wiring.sealed(context.settings)
    if trouble := store.trouble():
        raise trouble
    sender_to(store, context.settings, context.clock.now)


def sealed(context: Context, source: SourceName, make: Callable[[], Backup]) -> Backup:
    """Seal what an earlier run of the locked `source` left, then `make` and seal an artifact.

    A damaged artifact is not sealed: it stays in the workplace until the next run.
    """
    check(context)
    place = context.local
    for entry in place.entries(source):
        findings = check_written(place.artifact(entry))
        if entry.damaged or any(one.outcome is Outcome.FAILED for one in findings):
            context.note(f"{entry.name} was not encrypted yet and is damaged, so it is deleted")
            place.delete(entry)
        else:
            raised(context, seal(context, place, entry))
    for leftover in place.leftovers(source):
        place.clean(leftover)
    result = make()
    if result.earlier or result.damaged:
        return result
    new = Catalog.of(place.entries(source)).named(result.manifest.name)
    if new is None:
        raise RefnetError(
            f"{result.manifest.name} is gone from {place.root}", "Another program removed it. Retry."
        )
    done = raised(context, seal(context, place, new))
    result.seconds["encrypt"] = done.seconds
    return replace(result, copies=(done,))


def seal(context: Context, place: LocalStore, entry: Entry) -> Copied:
    """Seal an artifact and remove it from `place`; on error, return the error and keep it."""
    store = wiring.sealed(context.settings)
    try:
        store.prepare()
    except RefnetError as error:
        return Copied(entry.source, entry.name, LOCAL, entry.manifest.size, error=error)
    done = copy(context, Wanted(entry.source, LOCAL, entry, place=place))
    if done.error:
        return done
    if there := copy_of(store.entries(entry.source), entry.manifest):
        _take_along(store, there, entry, is_new=done.is_new)
    place.delete(entry)
    return done


def _take_along(store: SealedStore, there: Entry, entry: Entry, *, is_new: bool) -> None:
    """Carry marks and relevant evidence over to the sealed copy."""
    if entry.marks != Marks():
        store.mark(there, Marks(pinned=True) if entry.marks.unreadable else entry.marks)
    said = (line for line in entry.evidence if is_new and line.reasons and not line.accepts)
    lines = [
        line for line in said if line.level.rank < Level.RESTORED.rank or line.outcome is Outcome.UNVERIFIED
    ]
    if lines:
        store.record(there, *lines)


def path(context: Context, source: SourceName, name: str) -> Path:
    """File of the artifact's manifest in the store `local`, else of the artifact in the workplace."""
    found = Catalog.of(wiring.sealed(context.settings).entries(source)).named(name)
    root = context.settings.backup_dir / ENCRYPTED
    return root / found.object if found else context.local.folder(source) / name  # type: ignore[attr-defined]


def seal_left(context: Context, one: Wanted) -> Copied:
    """Seal an artifact that is not encrypted yet, under the lock of its source; an error is returned."""
    place, entry = one.place, one.entry
    if place is None or entry is None or one.skipped:
        return Copied(one.source, entry.name if entry else "", LOCAL, skipped=one.skipped)
    try:
        check(context)
        with ExitStack() as locks:
            for each in {one.root: one for one in (context.local, place)}.values():
                locks.enter_context(each.lock(one.source))
            return seal(context, place, entry)
    except RefnetError as error:
        return Copied(one.source, entry.name, LOCAL, entry.manifest.size, error=error)


def remove_settings(context: Context) -> None:
    """Remove plain copies of the settings file from an encrypted backup folder."""
    if context.settings.encryption_local and settings_copies.newest(context.settings.backup_dir, None):
        settings_copies.remove(context.settings.backup_dir)
        what = "the copies of the settings file in the backup folder are removed"
        context.note(f"{what}: protect it by the source config")


def raised(context: Context, done: Copied) -> Copied:
    """`done`; RefnetError if it failed, naming the artifact's place until the next run."""
    if error := done.error:
        raise RefnetError(
            f"{done.artifact} is not encrypted into {context.settings.backup_dir / ENCRYPTED}: {error.message}",
            f"{error.hint} It is in {context.local.root} until the next run, which continues.",
            error.code,
            error.transient,
        ) from error
    return done
