"""drill --recovery: the way of the recovery page into scratch places, as on an empty machine.

The copies are fetched, the settings that came with them are read, the recovery is planned by them alone, and each artifact is
restored and compared. No live server, slot, key or settings file is touched. What a person would be asked is named, not asked.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from refnet.actions import fetch, set_records
from refnet.actions.choose import Selected
from refnet.actions.drill import Drill, Rehearsal, Report, prove, reported
from refnet.actions.fetch import Fetched, FetchRequest
from refnet.actions.recover import Planned, Recovery, RecoveryRequest
from refnet.actions.recovery_settings import Machine
from refnet.actions.watching import open_watch
from refnet.catalog.monitoring_stores import RecoveryDrilled
from refnet.catalog.source_name import LOCAL, Kind, SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.files import explained, make_folder
from refnet.core.formatting import plain, plural, size, some
from refnet.postgres.account import make_enterable
from refnet.postgres.tempdirs import private_folder
from refnet.settings import Settings, variable
from refnet.sources import source_of
from refnet.sources.permitted import Permitted, digest
from refnet.store import settings_copies
from refnet.store.keys import history_file
from refnet.store.remote import RemoteStore
from refnet.store.store_check import record

#: The variables of an empty machine that are those of this one.
_KEPT = ("PATH", "LANG")


def drill_recovery(context: Context, *, again: bool = False) -> tuple[Drill, Report]:
    """Drill the recovery from the backup folder, or from the store of `context`, and write the report.

    RefnetError: nothing can be recovered from there, or what has to be fetched does not fit.
    """
    base = context.settings.home / "scratch"
    with explained(base):
        make_enterable(base)
    with private_folder(base) as folder:
        found = _rehearsed(context, folder, again=again)
    store = context.settings.stores.get(context.remote.name) if context.remote else None
    if store and found.recovery:
        says = next((plain(one)[:500] for one in found.recovery.misses), "")
        drilled = RecoveryDrilled(store.name, store.shown, context.clock.now(), found.outcome, says)
        record(context.settings.home / "remote", drilled)
    return reported(context, found)


def _rehearsed(context: Context, folder: Path, *, again: bool) -> Drill:
    """Go the way in `folder`."""
    clock, home, said = context.clock, folder / "home", list[str]()
    make_folder(home)
    begun, fetched, backups = clock.monotonic(), list[Fetched](), context.local.root
    copy, names = settings_copies.newest(backups, None), None
    if context.remote:
        backups = folder / "backups"
        empty = replace(context, settings=Settings(home=home, backup_dir=backups))
        fetched, copy = _fetched(empty, context.remote)
        names = frozenset(one.copy.name for one in fetched if not one.error)
    seconds = clock.monotonic() - begun

    def warn(sentences: Iterable[str]) -> None:
        said.extend(one for one in sentences if one not in said)

    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    machine = Machine(kept | {"HOME": str(home), variable("home"): str(home)}, folder, empty=True)
    powers = Permitted(digests=frozenset(_pages(context)))
    request = RecoveryRequest(powers=powers, fetched=names, backup_dir=backups, settings=copy)
    planned = Recovery(request, warn, clock, machine).offline()
    here = replace(context, settings=planned.setup.settings, remote=None)
    known = [one for source, one in planned.plan.entries.items() if planned.setup.knows(source)]
    # A base backup is compared with a database that is proven.
    known.sort(key=lambda one: one.source.kind is Kind.CLUSTER)
    chosen = Selected([here.store.artifact(one) for one in known], tuple(planned.plan.missing))
    found = prove(here, chosen, watch=open_watch(context), again=again)
    new = [one for one in fetched if not one.error]
    rehearsal = Rehearsal(
        context.remote.name if context.remote else LOCAL,
        context.remote.shown if context.remote else str(backups),
        tuple(_asks(context, here, planned)),
        tuple(_misses(planned, fetched, settings=bool(copy) or context.settings.file is None)),
        (*said, *(one for one in planned.notes if one not in said)),
        len(new),
        sum(one.copy.manifest.size for one in new),
        seconds if fetched else 0.0,
    )
    return replace(found, recovery=rehearsal, seconds=clock.monotonic() - begun)


def _fetched(empty: Context, remote: RemoteStore) -> tuple[list[Fetched], tuple[Path, bytes] | None]:
    """Fetch the newest copies into the backup folder of `empty`; return them, and the settings sent with them."""
    found, backups = fetch.find(empty, remote, FetchRequest()), empty.settings.backup_dir
    needed, free = sum(one.manifest.size for one in found.chosen), shutil.disk_usage(empty.settings.home).free
    if free < 2 * needed:  # a proof takes as much again
        raise RefnetError(
            f"a drill of the recovery from {remote.shown} needs {size(2 * needed)} in {empty.settings.home.parent.parent}, and {size(free)} are free",
            "Free some space there.",
        )
    for sentence in found.notes:
        empty.note(sentence)
    fetched = list(fetch.bring(empty, found))
    if (errors := [one.error for one in fetched if one.error]) and len(errors) == len(fetched):
        raise errors[0]
    settings = fetch.settings_copy(found)
    if settings:
        set_records.keep(empty, settings, (one.copy for one in fetched if not one.error))
    if not (settings and settings.text):
        return fetched, None
    return fetched, (settings_copies.path_of(backups, settings.sent), settings.text.encode())


def _pages(context: Context) -> Iterator[str]:
    """Yield the digests of powers on the newest page of each recovery key."""
    history = history_file(context.settings).read()
    for recipient in context.settings.encryption_recipients:
        if page := history.page(recipient):
            yield from filter(None, (page.roles or {}).values())


def _misses(planned: Planned, fetched: Collection[Fetched], *, settings: bool) -> Iterator[str]:
    """Yield what a recovery would not bring back. settings: a copy of them is there, or this machine has no settings file."""
    if not settings and SourceName.CONFIG not in planned.plan.entries:
        yield "the settings: no copy of them is there"
    yield from (f"{one.copy.source}: {one.error.message}" for one in fetched if one.error)
    yield from (one.message for one in planned.problems)


def _asks(context: Context, here: Context, planned: Planned) -> Iterator[str]:
    """Yield what a recovery would ask a person for."""
    settings, permitted = planned.setup.settings, {*_pages(context)}
    if context.remote:
        yield "the recovery key"
        yield "whether the old machine is gone for good"
    for name, origin in settings.origins.items():
        if name.endswith("_file") and origin == str(settings.file):
            yield f"the file that {name} names: it does not travel with the copies"
    for source, entry in planned.plan.entries.items():
        if not planned.setup.knows(source):
            continue
        try:
            roles = source_of(here.settings, source).listed_roles(here.store.artifact(entry))
        except RefnetError:  # its proof says why
            continue
        if roles.powers and digest(roles.powers) not in permitted:
            powers = some([*map(str, roles.powers)], 3)
            yield f"a yes for each of {plural(len(roles.powers), 'power')} of roles in {entry.name}, which no recovery page lists: {powers}"
        if roles.without_password:
            yield f"passwords of roles, which {entry.name} does not have: {some([*roles.without_password], 3)}"
    if lines := [one.line for one in planned.commands if one.restored]:
        yield f"a yes for {plural(len(lines), 'command')} of the backup: {some(lines, 3)}"
