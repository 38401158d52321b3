"""Finds what a backup does not protect: entries of config_dir, databases of the server, and the settings file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from refnet import wiring
from refnet.catalog.manifest import Lacks, Unprotected
from refnet.catalog.source_name import LOCAL, STANDARD, SourceName
from refnet.core import trust
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.core.files import OPEN_FOLDER, explained, names_in, opened, resolved
from refnet.settings import LARGEST, Settings
from refnet.settings.sources import matcher, server_of
from refnet.sources import source_of
from refnet.sources.check_result import CheckLine, error_line, ok, warning
from refnet.sources.folder.scope import listed_names, parse_entries
from refnet.store import settings_copies

_HINTS = {
    Lacks.FILES: "Add them to config.entries, or list intended omissions in left_out.files.",
    Lacks.DATABASES: "Back them up too, or list intended omissions in left_out.databases.",
}


def of_source(settings: Settings, source: SourceName) -> Unprotected | None:
    """Unprotected data beside `source`, or None; RefnetError if it cannot be determined."""
    if source == SourceName.CONFIG:
        found = Unprotected.of(Lacks.FILES, uncovered(settings))
    elif source in _asked(settings):
        found = Unprotected.of(Lacks.DATABASES, _databases(settings, source))
    else:
        return None
    return found if found.count else None


def details(settings: Settings, source: SourceName) -> dict[str, Any]:
    """Its record in a backup's manifest."""
    try:
        found = of_source(settings, source)
    except RefnetError:  # the backup itself says what is wrong with the folder or the server
        return {}
    return {"unprotected": found.values() if found else None}


def uncovered(settings: Settings) -> Iterator[str]:
    """Entries of config_dir that no backup contains; RefnetError if unreadable."""
    folder = settings.config_dir
    if folder is None:
        return
    listed = listed_names(parse_entries(settings.config_entries))
    from refnet.sources.folder.source import Folder

    own = Folder(settings, SourceName.CONFIG).target().own
    on_purpose = matcher(settings.left_out_files) if settings.left_out_files else None
    with explained(folder), opened(folder, OPEN_FOLDER & ~os.O_NOFOLLOW) as root:
        for name in names_in(root):
            if name in listed or name in own or folder / name == settings.file:
                continue
            if not (
                on_purpose and (on_purpose(name) or ((folder / name).is_dir() and on_purpose(f"{name}/")))
            ):
                yield name


def _asked(settings: Settings) -> tuple[SourceName, ...]:
    """One database per server, whose backup reports the other databases; none for clusters."""
    databases = (one for one in wiring.protected(settings) if one.kind.row.by_name)
    urls = {one: settings.of(one).url for one in databases}
    covered = {server_of(one.url or "")[0] for one in settings.clusters.values()}
    first: dict[str, SourceName] = {}
    for name, url in urls.items():
        first.setdefault(server_of(url)[0] if url else "", name)
    return tuple(name for server, name in first.items() if server not in covered)


def _databases(settings: Settings, source: SourceName) -> Iterable[str]:
    """Databases of the server that no source protects; empty for a stopped embedded server."""
    from refnet.postgres import embedded

    url = settings.of(source).url
    if not url and embedded.status(settings.home).pid is None:
        return ()
    found = source_of(settings, source).others()
    named = set(_named(settings, url or ""))
    return (
        name
        for name in found
        if name not in named and not any(fnmatchcase(name, one) for one in settings.left_out_databases)
    )


def _named(settings: Settings, url: str) -> Iterator[str]:
    """Protected databases on the server of `url`."""
    urls = [one.url for one in settings.sources.values()]
    for server, name in (server_of(one) for one in urls if one and url):
        if server == server_of(url)[0]:
            yield name


def check(settings: Settings) -> Iterator[CheckLine]:
    """Report unprotected data."""
    from refnet.postgres.connect_error import ConnectError

    what, wrong = "not protected", list[CheckLine]()
    for source in wiring.known(settings):
        try:
            if found := of_source(settings, source):
                of = f" (beside {source})" if source not in STANDARD else ""
                wrong.append(warning(what, f"{found}{of}", _HINTS[found.kind]))
        except ConnectError:
            says = f"cannot list the other databases of the server of {source}: no connection"
            wrong.append(warning(what, says, f"Fix the errors that the check of {source} reports."))
        except RefnetError as error:
            wrong.append(error_line(what, error))
    wrong += _unnamed(settings, what)
    wrong += _settings_file(settings, what)
    yield from wrong or (ok(what, "everything that RefNet knows is protected by a source"),)


def _unnamed(settings: Settings, what: str) -> Iterator[CheckLine]:
    """Report RefNet's own server and the vault of `refnet notes` if the settings name only other sources."""
    left = {*STANDARD} - wiring.configured(settings) - settings.left_out
    from refnet.local_postgres import has_own_server

    if SourceName.DATABASE in left and has_own_server(settings):
        hint = 'Set database_url = "own" to back it up, or "none" if that is intended.'
        yield warning(what, "the database of RefNet's own server", hint)
    vault = settings.vault_dir
    if SourceName.OBSIDIAN in left and vault.exists() and unprotected_vault(settings):
        yield warning(
            what, f"the vault {vault}", f'Set vault_dir = "{vault}", or "none" if that is intended.'
        )


def unprotected_vault(settings: Settings) -> str:
    """Return why no source contains the vault of `refnet notes`; "" if one does."""
    if settings.defaults_to(SourceName.OBSIDIAN):
        return ""
    vault = resolved(settings.vault_dir)
    if any(vault.is_relative_to(resolved(one.path)) for one in settings.sources.values() if one.path):
        return ""
    return (
        "vault_dir is none" if SourceName.OBSIDIAN in settings.left_out else "the settings name other sources"
    )


def _settings_file(settings: Settings, what: str) -> Iterator[CheckLine]:
    """Check that a recovery from the backup folder or a store finds the current settings file."""
    if settings.file is None:
        return
    if not _in_config(settings, settings.file):
        for place in _without_settings(settings):
            message = f"a recovery from {place} would not find the settings: {settings.file} is not there"
            hint = "The next backup puts it there; `refnet copy` sends it to the stores now."
            yield error_line(what, RefnetError(message, hint))
    copy = None if settings.encryption_local else settings_copies.newest(settings.backup_dir, None)
    if copy and copy[1] != trust.read(settings.file, LARGEST).content:
        yield ok(what, f"{settings.file} has changed since the last backup; the next one stores it")


def _in_config(settings: Settings, file: Path) -> bool:
    """Whether the source config contains the settings file."""
    folder = settings.config_dir
    if folder is None or resolved(file.parent) != resolved(folder):
        return False
    return file.name in listed_names(parse_entries(settings.config_entries))


def _without_settings(settings: Settings) -> Iterator[str]:
    """Yield places with artifacts but without the settings file."""
    if settings.encryption_local:
        stores = [LOCAL, *settings.stores]
    else:
        stores = [*settings.stores]
        if wiring.store(settings).entries() and not settings_copies.newest(settings.backup_dir, None):
            yield "the backup folder"
    for name in stores:
        store = wiring.remote_store(settings, name)
        if store.records.head().sent and not settings_copies.was_sent(store.home):
            yield "the backup folder" if name == LOCAL else name


def keep_settings(settings: Settings, clock: Clock) -> str:
    """Store the current settings file beside unencrypted artifacts; return why that failed, or ""."""
    if settings.file is None or settings.encryption_local:
        return ""
    try:
        content = trust.read(settings.file, LARGEST).content
        settings_copies.keep(settings.backup_dir, content, clock.now())
    except (RefnetError, OSError) as error:
        why = error.message if isinstance(error, RefnetError) else error.strerror
        return f"the settings file is not stored with the backup: {why}"
    return ""
