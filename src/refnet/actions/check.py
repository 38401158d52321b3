"""check: find everything that would stop a backup, a restore or a recovery, and change nothing.

The checks of the database are in `check_database`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from refnet import servers, wiring
from refnet.actions.check_database import database
from refnet.actions.check_result import Checked, Line, State, bounded, error, ok, warning, writable
from refnet.actions.context import Context, examine_settings, own_home
from refnet.actions.monitor import check_everything
from refnet.actions.recovery_settings import Setup
from refnet.compose import compose_file
from refnet.files import OPEN_FOLDER, check_closed, names_in
from refnet.locks import is_locked
from refnet.recovery.model.artifact import HIDDEN_PREFIX, SourceName
from refnet.recovery.model.formatting import some
from refnet.recovery.model.monitoring import Status
from refnet.recovery.model.schedule import Schedule
from refnet.recovery.sources.files import entries
from refnet.recovery.sources.files.listing import Kind
from refnet.recovery.sources.files.walk import walk
from refnet.recovery.stores.lock import LOCK_NAME
from refnet.scheduling.status import status, timers_of
from refnet.scheduling.systemctl import Systemd
from refnet.settings import Settings

#: The time limit of the search for unreadable files, in seconds.
_WALK_SECONDS = 20.0
_STATES = {
    Status.OK: State.OK,
    Status.NEW: State.OK,
    Status.UNKNOWN: State.WARNING,
    Status.WARNING: State.WARNING,
    Status.CRITICAL: State.ERROR,
}


def check() -> Checked:
    """Check the settings, then everything that they name."""
    examined = examine_settings()
    settings = examined.settings
    if examined.problems:
        hint = "The other checks need valid settings."
        wrong = (error("settings", one.message, f"{one.hint} {hint}") for one in examined.problems)
        return Checked(tuple(wrong))
    checks: dict[str, Callable[[Settings], Iterable[Line]]] = {
        "settings": _settings,
        "database": database,
        "backup folder": backup_folder,
        "config": partial(files, source=SourceName.CONFIG),
        "obsidian": partial(files, source=SourceName.OBSIDIAN),
        "backups": _backups,
        "schedule": _schedule,
        "messages": _messages,
        "recovery": _recovery,
        "broker": _broker,
    }
    lines = (line for what, act in checks.items() for line in bounded(what, partial(act, settings)))
    return Checked(tuple(lines))


def _settings(settings: Settings) -> Iterator[Line]:
    yield ok("settings", str(settings.file or "no file: the environment and the defaults"))
    for sentence in settings.warnings:
        yield warning("settings", sentence, "Fix the permissions.")
    own_home(settings)
    for folder in filter(None, (settings.home, settings.log_folder)):
        if not writable(folder):
            yield warning("settings", f"this user cannot write in {folder}", "Give it to this user (chown).")


def backup_folder(settings: Settings) -> Iterator[Line]:
    """Check that the backup folder is the expected one, is writable, unlocked, and not itself backed up."""
    store, folder, what = wiring.store(settings), settings.backup_dir, "backup folder"
    if trouble := store.trouble():
        raise trouble
    check_closed(folder, "the backup folder", "choose another (REFNET_BACKUP_DIR)")
    wrong = []
    for source in sorted(wiring.configured(settings)):
        store.check_own(source)
        if not writable(store.folder(source)):
            hint = "Give it to this user (chown), or set REFNET_BACKUP_DIR to another folder."
            wrong.append(error(what, f"this user cannot write in {store.folder(source)}", hint))
        if is_locked(store.folder(source) / LOCK_NAME):
            wrong.append(warning(what, f"a run has {source} locked", "Wait until it ends."))
    for one in _protected(settings):
        if folder.resolve().is_relative_to(one.resolve()):
            hint = "Choose a folder outside of it, best on another disk (REFNET_BACKUP_DIR)."
            wrong.append(error(what, f"{folder} is inside {one}, which is backed up", hint))
    yield from wrong or (ok(what, str(folder)),)


def _protected(settings: Settings) -> Iterator[Path]:
    """Yield the folders that are backed up completely."""
    if SourceName.OBSIDIAN in wiring.configured(settings):
        yield settings.vault_dir
    if settings.config_dir:
        listed = entries.parse_entries(settings.config_entries)
        names = entries.names(one for one in listed if one.folder)
        yield from (settings.config_dir / name for name in names)


def files(settings: Settings, source: SourceName) -> Iterator[Line]:
    """Check the folder of `source`, config or obsidian: its entries, and what a backup or a restore may not use."""
    folder = settings.config_dir if source is SourceName.CONFIG else settings.vault_dir
    if folder is None or source not in wiring.configured(settings):
        yield ok(source, "not configured")
        return
    only, wrong = None, list[Line]()
    root = os.open(folder, OPEN_FOLDER & ~os.O_NOFOLLOW)
    try:
        if source is SourceName.CONFIG:
            only, _ = entries.present(entries.parse_entries(settings.config_entries), root)
        names = [name for name in names_in(root) if not name.startswith(HIDDEN_PREFIX)]
        others = [name for name in names if only is not None and name not in only]
        if names == others:
            says = f"{folder} is empty" if only is None else f"{folder} has no entry of config.entries"
            wrong.append(error(source, says, "Is it mounted? If it should be empty, put one file into it."))
        wrong += _readable(source, root, only)
    finally:
        os.close(root)
    target = wiring.target(settings, source)
    if not writable(target.home):
        hint = "A restore must run as its owner or as root."
        wrong.append(warning(source, f"this user cannot restore: {target.home} is not writable", hint))
    if target.unfinished():
        hint = f"`refnet undo {source}` or a restore finishes it."
        wrong.append(warning(source, "a restore was interrupted", hint))
    more = f"; not in config.entries: {some(others, 5)}" if others else ""
    yield from wrong or (ok(source, f"{folder}{more}"),)


def _readable(what: str, root: int, only: frozenset[str] | None) -> Iterator[Line]:
    """Find what a backup of the open folder `root` cannot read."""
    end, unreadable = time.monotonic() + _WALK_SECONDS, []
    for one in walk(root, only):
        if time.monotonic() > end:
            yield warning(what, "the search for unreadable files was cut off", "A backup reports them.")
            break
        of_file = one.kind is Kind.FILE and not os.access(one.name, os.R_OK, dir_fd=one.folder)
        if of_file or one.error:
            unreadable.append(one.path)
    if unreadable:
        hint = "Make them readable for this user, or run as their owner."
        yield error(what, f"cannot be read: {some(sorted(unreadable), 3)}", hint)


def _backups(settings: Settings) -> Iterator[Line]:
    """Report the checks of the monitor."""
    for one in check_everything(Context(settings)):
        state = _STATES[one.status]
        hint = "" if state is State.OK else "`refnet monitor` and `refnet list` show more."
        yield Line(" ".join(filter(None, (one.source, one.what))), state, one.says, hint)


def _schedule(settings: Settings) -> Iterator[Line]:
    schedule, now = Schedule.of(settings), Context(settings).clock.now()
    managers = [timers_of(Systemd(user), settings.home, schedule) for user in (False, True)]
    found = status(schedule, wiring.configured(settings), settings.home, managers, now)
    zone = schedule.zone.key if schedule.zone else "the machine's"
    if not found.warnings:
        yield ok("schedule", f"{' and '.join(found.in_force)}; time zone: {zone}")
    for sentence in found.warnings:
        yield warning("schedule", sentence, "")


def _messages(settings: Settings) -> Iterator[Line]:
    if settings.notify_urls and find_spec("apprise") is None:
        hint = "Install it: pip install 'refnet[notify]'."
        yield error("messages", "notify.urls is set, and apprise is not installed", hint)
    elif settings.notify_urls or settings.notify_backup_ping:
        yield ok("messages", "notify.urls or notify.backup_ping is set; `refnet notify` sends a test message")
    else:
        hint = "Set notify.urls or notify.backup_ping, or scrape `refnet metrics`."
        yield warning("messages", "no service gets a message when a backup fails", hint)


def _recovery(settings: Settings) -> Iterator[Line]:
    setup = Setup(settings, settings.origins.get("config_dir", ""), own=False)
    for source in (SourceName.CONFIG, SourceName.OBSIDIAN):
        setup.folder(source)
    folder = settings.config_dir
    if settings.recover_services == "compose" and not (folder and compose_file(folder)):
        hint = "Put it there, or set recover.services to local or none."
        yield error("recovery", f"{folder or 'config_dir'} has no Compose file", hint)
    for command in setup.commands:
        try:
            program = shlex.split(command.line)[0]
        except (ValueError, IndexError):
            program = command.line
        alternative = shutil.which("docker-compose") if settings.recover_services == "compose" else None
        if not (shutil.which(program) or alternative):
            hint = "Install it, or fix recover.* in the settings."
            yield error("recovery", f"{program} of the stage {command.stage} is not found", hint)
    yield ok("recovery", f"services: {settings.recover_services or 'none are started'}")


def _broker(settings: Settings) -> Iterator[Line]:
    if not settings.broker_url:
        return
    if find_spec("redis") is None:
        hint = "Install it: pip install 'refnet[celery]'."
        yield error("broker", "broker_url is set, and Celery is not installed", hint)
        return
    from refnet.broker import address

    address.check(servers.broker(settings))
    yield ok("broker", address.display(settings.broker_url))
