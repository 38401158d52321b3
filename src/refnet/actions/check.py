"""check: find everything that would stop a backup, a restore or a recovery, and change nothing.

The checks of a source are in its `checks`.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from refnet import __version__, servers, wiring
from refnet.actions import unprotected
from refnet.actions.cluster_databases import find_databases
from refnet.actions.keys import check_keys
from refnet.actions.list import previous
from refnet.actions.monitor import check_everything
from refnet.actions.recovery_settings import Setup
from refnet.catalog.monitoring import Status
from refnet.catalog.source_name import SourceName, globals_name
from refnet.compose import compose_file
from refnet.context import Context, examine_settings, own_home
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.core.files import check_closed, resolved
from refnet.core.formatting import plural, some
from refnet.core.locks import is_locked
from refnet.recovery.compose import working_program
from refnet.scheduling.status import status
from refnet.servers import ActsOn
from refnet.settings import Settings
from refnet.settings.urls import StoreKind
from refnet.sources import hooks, kind_of, source_of
from refnet.sources.check_result import (
    OF_MACHINE,
    CheckLine,
    CheckReport,
    CheckState,
    bounded,
    error,
    ok,
    warning,
    writable,
)
from refnet.sources.folder.scope import listed_names, parse_entries
from refnet.store import installers
from refnet.store.backup_folder import LOCK_NAME
from refnet.store.buckets.folder import FolderBucket
from refnet.store.buckets.opening import open_bucket
from refnet.store.sending import sender_to
from refnet.wiring import with_clusters

_STATES = {
    Status.OK: CheckState.OK,
    Status.NEW: CheckState.OK,
    Status.UNKNOWN: CheckState.WARNING,
    Status.WARNING: CheckState.WARNING,
    Status.CRITICAL: CheckState.ERROR,
}


def check(variables: Mapping[str, str] | None = None) -> CheckReport:
    """Check the settings, then everything that they name. `variables`: see `examine_settings`."""
    examined = examine_settings(variables)
    settings = examined.settings
    if examined.problems:
        hint = "The other checks need valid settings."
        wrong = (error("settings", one.message, f"{one.hint} {hint}") for one in examined.problems)
        return CheckReport(tuple(wrong))
    settings = with_clusters(settings)
    protected = wiring.protected(settings)
    alone = sum(one.kind.row.by_name for one in protected) == 1
    with_paths = [one for one in wiring.known(settings) if kind_of(one).has_path]
    checks: dict[str, Callable[[Settings], Iterable[CheckLine]]] = {
        "settings": _settings,
        **{f"cluster {name}": partial(_cluster, name=name) for name in settings.clusters},
        **{one: partial(_source, name=one, alone=alone) for one in protected if one not in with_paths},
        "backup folder": backup_folder,
        **{one: partial(_source, name=one, alone=alone) for one in with_paths},
        "not protected": unprotected.check,
        "previous versions": half_made,
        "backups": _backups,
        "schedule": _schedule,
        "messages": _messages,
        "hooks": check_hooks,
        "copies": check_copies,
        **{f"store {name}": partial(check_store_answers, name=name) for name in settings.stores},
        "installer": _installer,
        "keys": check_keys,
        "recovery": _recovery,
        "broker": _broker,
    }
    lines = (line for what, act in checks.items() for line in bounded(what, partial(act, settings)))
    return CheckReport(
        tuple(dict.fromkeys(lines))
    )  # databases of one server share its programs and its proof


def _source(settings: Settings, name: SourceName, *, alone: bool) -> Iterator[CheckLine]:
    """Check the source `name`; findings carry its name unless it is the only database (`alone`)."""
    for line in source_of(settings, name).checks():
        same = alone or line.what in {name, *OF_MACHINE}
        yield line if same else replace(line, what=f"{name} {line.what}")


def _cluster(settings: Settings, name: str) -> Iterator[CheckLine]:
    """Check that the server of a cluster responds, and report databases that no backup has seen yet."""
    now, failed = find_databases(Context(settings), [name], record=False)
    if name in failed:
        raise failed[name]
    new = [one.name for one in now.settings.sources.values() if one.name not in settings.sources]
    count = sum(one.cluster == name and one.table == "databases" for one in now.settings.sources.values())
    what = f"{plural(count, 'database')} on {ActsOn.of(now.settings, globals_name(name)).server}"
    yield ok(f"cluster {name}", f"{what}; new: {some(new)}" if new else what)


def check_copies(settings: Settings) -> Iterator[CheckLine]:
    """Check that copies can be encrypted, signed and sent to each remote store, without contacting it."""
    for name in settings.every_store:
        what = f"copies {name}"
        try:
            store = wiring.remote_store(settings, name)
            sender = sender_to(store, settings, Clock().now)
        except RefnetError as problem:
            yield error(what, problem.message, problem.hint)
        else:
            count = plural(len(sender.encrypter.recipients), "recipient")
            yield ok(what, f"encrypted to {count}, to {store.bucket.shown}")


def _settings(settings: Settings) -> Iterator[CheckLine]:
    yield ok("settings", str(settings.file or "no file: the environment and the defaults"))
    for sentence in settings.warnings:
        yield warning("settings", sentence, "Fix the permissions.")
    own_home(settings)
    for folder in filter(None, (settings.home, settings.log_folder)):
        if not writable(folder):
            yield warning("settings", f"this user cannot write in {folder}", "Give it to this user (chown).")


def backup_folder(settings: Settings) -> Iterator[CheckLine]:
    """Check that the backup folder is the expected one, is writable, unlocked, and not itself backed up."""
    store, folder, what = wiring.store(settings), settings.backup_dir, "backup folder"
    if trouble := store.trouble():
        raise trouble
    if settings.compose_service:
        yield ok(what, f"{folder}, of the {_service(settings)}")
        return
    check_closed(folder, "the backup folder", "choose another (REFNET_BACKUP_DIR)")
    wrong, sources = [], sorted(wiring.configured(settings))
    for place in map(store.folder, sources) if sources else (folder,):
        if not writable(place):
            hint = "Give it to this user (chown), or set REFNET_BACKUP_DIR to another folder."
            wrong.append(error(what, f"this user cannot write in {place}", hint))
    for source in sources:
        store.check_own(source)
        if is_locked(store.folder(source) / LOCK_NAME):
            wrong.append(warning(what, f"a run has {source} locked", "Wait until it ends."))
    for one in _protected(settings):
        if resolved(folder).is_relative_to(resolved(one)):
            hint = "Choose a folder outside of it, best on another disk (REFNET_BACKUP_DIR)."
            wrong.append(error(what, f"{folder} is inside {one}, which is backed up", hint))
    says = f"{folder}, encrypted" if settings.encryption_local else str(folder)
    yield from wrong or (ok(what, says),)


def _protected(settings: Settings) -> Iterator[Path]:
    """Folders that are backed up completely."""
    for one in (settings.of(name) for name in wiring.protected(settings)):
        if one.path and one.entries:
            listed = parse_entries(one.entries)
            yield from (one.path / name for name in listed_names(each for each in listed if each.folder))
        elif one.path:
            yield one.path


def half_made(settings: Settings) -> Iterator[CheckLine]:
    """Report copies left by killed restores; connection errors are reported by the source's own check."""
    for one in previous(Context(settings), wiring.protected(settings)).versions:
        if one.half_made and one.blocked:
            yield ok(one.source, f"{one.what} stays: {one.blocked}")
        elif one.half_made:
            yield warning(one.source, f"{one.what} is left of a killed restore", "`refnet prune` removes it.")


def _backups(settings: Settings) -> Iterator[CheckLine]:
    """Report the checks of the monitor."""
    for one in check_everything(Context(settings)):
        state = _STATES[one.status]
        hint = "" if state is CheckState.OK else "`refnet monitor` and `refnet list` show more."
        yield CheckLine(" ".join(filter(None, (one.source, one.what))), state, one.says, hint)


def _service(settings: Settings) -> str:
    service = settings.compose_service
    return f"service {service}, where `refnet check` checks the rest: `docker compose exec {service} refnet check`"


def _schedule(settings: Settings) -> Iterator[CheckLine]:
    if settings.compose_service:
        yield ok("schedule", f"that of the {_service(settings)}")
        return
    schedule, now = settings.schedule, Context(settings).clock.now()
    found = status(settings, wiring.configured(settings), now)
    for one in found.others:
        if settings.backup_dir in one.writable:
            says = f"{settings.backup_dir} is also written by {one.label}: sources with the same name wait for each other"
            yield warning(
                "instances", says, "Give each settings file a backup folder of its own (backup_dir)."
            )
    zone = schedule.zone.key if schedule.zone else "the machine's"
    if not found.warnings:
        yield ok("schedule", f"{' and '.join(found.in_force)}; time zone: {zone}")
    for sentence in found.warnings:
        yield warning("schedule", sentence, "")


def _messages(settings: Settings) -> Iterator[CheckLine]:
    if settings.notify_urls and find_spec("apprise") is None:
        hint = "Install it: pip install 'refnet[notify]'."
        yield error("messages", "notify.urls is set, and apprise is not installed", hint)
    elif settings.compose_service:
        yield ok("messages", f"those of the {_service(settings)}")
    elif settings.notify_urls or settings.notify_backup_ping:
        yield ok("messages", "notify.urls or notify.backup_ping is set; `refnet notify` sends a test message")
    else:
        hint = "Set notify.urls or notify.backup_ping, or scrape `refnet metrics`."
        yield warning("messages", "no service gets a message when a backup fails", hint)


def check_hooks(settings: Settings) -> Iterator[CheckLine]:
    """Check that the programs of the hooks can be run; nothing without hooks."""
    for program in sorted(hooks.not_runnable(settings)):
        yield error(
            "hooks", f"{program} is not a program that this user can run", "Install it, or fix its hook."
        )


def check_store_answers(settings: Settings, name: str) -> Iterator[CheckLine]:
    """Check that a store responds and both of its credentials can be read; RefnetError if not."""
    store = settings.stores[name]
    open_bucket(store, deleting=True)
    next(open_bucket(store).listed("check/"), None)
    is_folder = store.place.kind is StoreKind.FILE
    if is_folder:
        wiring.remote_store(settings, name).require_mounted()
    if is_folder and FolderBucket(Path(store.place.path)).check_writing():
        says = f"the group of the folder {store.place.path} can write there: its members can delete copies"
        yield warning(f"store {name}", says, f"`chmod g-w {store.place.path}`, or set the mode of its mount.")
    else:
        yield ok(f"store {name}", f"{store.place} answers")


def _installer(settings: Settings) -> Iterator[CheckLine]:
    """Say which stores got no installer of this version from this machine: a recovery then needs a package registry."""
    lack = [name for name, one in settings.stores.items() if not installers.sent_to(one, settings)]
    if lack:
        says = f"this machine sent none of RefNet {__version__} to {some(lack, 3)}: without it a recovery needs a package registry"
        yield ok("installer", f"{says}; `refnet store installer FILE --sha256 HEX`")


def _recovery(settings: Settings) -> Iterator[CheckLine]:
    setup = Setup(settings, settings.origins.get("config_dir", ""), own=False)
    for source in (SourceName.CONFIG, SourceName.OBSIDIAN):
        setup.folder(source)
    folder = settings.config_dir
    by_compose = settings.recover_services == "compose"
    if by_compose and not (folder and compose_file(folder)):
        hint = "Put it there, or set recover.services to local or none."
        yield error("recovery", f"{folder or 'config_dir'} has no Compose file", hint)
    for command in setup.commands:
        if by_compose and not command.hook:
            continue  # all are of one program
        try:
            name = shlex.split(command.line)[0]
        except (ValueError, IndexError):
            name = command.line
        if not shutil.which(name):
            hint = "Install it, or fix recover.* in the settings."
            yield error("recovery", f"{name} of the stage {command.stage} is not found", hint)
    try:
        by = f", by {working_program()}" if by_compose else ""
    except RefnetError as wrong:
        yield error("recovery", wrong.message, wrong.hint)
    else:
        yield ok("recovery", f"services: {settings.recover_services or 'none are started'}{by}")


def _broker(settings: Settings) -> Iterator[CheckLine]:
    if not settings.broker_url:
        return
    if find_spec("redis") is None:
        hint = "Install it: pip install 'refnet[celery]'."
        yield error("broker", "broker_url is set, and Celery is not installed", hint)
        return
    from refnet.broker import server

    server.check(servers.broker(settings))
    yield ok("broker", server.display(settings.broker_url))
