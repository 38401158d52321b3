"""init: turn checked answers into a new settings file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from refnet import servers, trust
from refnet.actions.context import own_home
from refnet.compose import compose_file
from refnet.compose_guess import guess
from refnet.errors import Exit, RefnetError
from refnet.files import explained, replace_file
from refnet.postgres import embedded
from refnet.postgres.session import Target
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.schedule import TaskName, parse
from refnet.recovery.sources.database.dump.readable import Login, login_of
from refnet.recovery.sources.files.entries import names, parse_entries, present
from refnet.recovery.stores.local import LocalStore
from refnet.settings import CONFIG, FILE_NAME, Given, Settings, is_secret, load, user_path, variable

#: The answer that leaves a folder out, and the one for RefNet's own server.
NONE, OWN = "none", "own"
_HEAD = "# Written by `refnet init`. refnet.toml.example lists every setting.\n"


@dataclass(frozen=True)
class Draft:
    """A settings file that is not written yet."""

    file: Path
    environment: Mapping[str, str]
    #: Key → value.
    table: Mapping[str, Any] = field(default_factory=dict)
    #: The server that a backup would use, once it has answered.
    login: Login | None = None
    #: What the user should know, a sentence each.
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """The settings with this file; an answer counts more than the environment."""
        answered = {variable(key) for key in self.table} | {CONFIG}
        if "database_url" in self.table:
            answered.add("REFNET_DATABASE_URL_FILE")
        return _loaded({k: v for k, v in self.environment.items() if k not in answered}, self)

    def text(self, *, hidden: bool = False) -> str:
        """Return the file as TOML; `hidden`: without the secrets."""
        tables: dict[str, list[str]] = {}
        for key, value in self.table.items():
            table, _, name = key.rpartition(".")
            shown = "(hidden)" if hidden and is_secret(key, value) else value
            tables.setdefault(table, []).append(f"{name} = {json.dumps(shown, ensure_ascii=False)}\n")
        parts = [(f"\n[{table}]\n" if table else "") + "".join(lines) for table, lines in tables.items()]
        return _HEAD + "".join(parts)

    def write(self) -> None:
        """Write the file for this user alone, completely or not at all; RefnetError if it exists."""
        if os.path.lexists(self.file):
            raise _exists(self.file)
        with explained(self.file):
            replace_file(self.file, self.text().encode())

    def overridden(self) -> tuple[str, ...]:
        """Return the variables of the environment that have precedence over the file."""
        found = (variable(key) for key in self.table)
        return tuple(name for name in found if self.environment.get(name))

    def database(self, answer: str) -> Draft:
        """Connect to the database at the URL `answer`, and find the programs that dump and prove it."""
        draft = self._with(database_url=answer) if answer not in {OWN, ""} else self
        settings = draft.settings
        login = login_of(servers.existing_server(settings))
        servers.binaries_for(settings, login.major).tool("pg_dump")
        servers.binaries_for(settings, login.major, server=True)
        notes = [f"{login.role} cannot read all of {login.database}: `refnet check` lists what"]
        incomplete = login.unreadable or login.filtered or login.large_objects
        return replace(draft, login=login, notes=(*self.notes, *(notes if incomplete else ())))

    def config(self, answer: str) -> Draft:
        """Protect the folder `answer`: the usual entries beside a Compose file, else everything in it."""
        if answer == NONE:
            return self
        folder = _folder(answer, "--config-dir")
        with explained(folder):
            usual = self.settings.config_entries if compose_file(folder) else tuple(_every(folder))
        if not usual:
            raise _empty(folder, "--config-dir")
        draft = self._with(**{"config_dir": str(folder), "config.entries": list(usual)})
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            present(parse_entries(usual), handle)
        finally:
            os.close(handle)
        return draft

    def vault(self, answer: str) -> Draft:
        """Protect the vault in the folder `answer`."""
        if answer == NONE:
            return self
        folder = _folder(answer, "--vault-dir")
        if not any(folder.iterdir()):
            raise _empty(folder, "--vault-dir")
        return self._with(vault_dir=str(folder))

    def backups(self, answer: str) -> Draft:
        """Keep the artifacts in the folder `answer`, which need not exist yet."""
        folder = _absolute(answer)
        draft = self._with(backup_dir=str(folder))
        settings = draft.settings
        for protected in _protected(settings):
            if folder.resolve().is_relative_to(protected.resolve()):
                raise RefnetError(
                    f"the backup folder {folder} is inside {protected}, which is backed up",
                    "Choose a folder outside of it, best on another disk (--backup-dir).",
                    Exit.USAGE,
                )
        store = LocalStore(folder)
        for source in SourceName:
            store.check_own(source)
        nearest = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise RefnetError(
                f"this user cannot write in {nearest}" if nearest.is_dir() else f"{nearest} is not a folder",
                "Choose another backup folder (--backup-dir), or run this as the owner of that one.",
                Exit.USAGE,
            )
        return draft

    def schedule(self, answer: str) -> Draft:
        """Back up the database at the times `answer`."""
        return self._with(**{"schedule.database": str(parse(answer, TaskName.DATABASE.key))})

    def _with(self, **more: Any) -> Draft:
        draft = replace(self, table={**self.table, **more})
        try:
            draft.text().encode()
        except UnicodeEncodeError:
            raise RefnetError(
                "the path is not UTF-8, so a settings file cannot contain it", "Rename it.", Exit.USAGE
            ) from None
        draft.settings  # noqa: B018  # reads the new value as a later run will
        return draft


@dataclass(frozen=True)
class Question:
    """A question of init."""

    #: Its option, such as --vault-dir.
    option: str
    asks: str
    #: The answer of an empty line, and its text for the terminal; "" if there is none.
    default: Callable[[Draft], str]
    take: Callable[[Draft, str], Draft]


def start(environment: Mapping[str, str], folder: Path) -> Draft:
    """Return an empty draft; RefnetError if settings exist already, or cannot be written."""
    named = environment.get(CONFIG)
    file = user_path(named).absolute() if named else folder / FILE_NAME
    if os.path.lexists(file):
        raise _exists(file)
    draft = Draft(file, environment)
    found = draft.settings if named else _loaded(environment, None)
    if found.file and not named:
        raise _exists(found.file)
    own_home(found)
    with explained(file.parent):
        trust.check(file.parent)
    if not os.access(file.parent, os.W_OK):
        raise RefnetError(
            f"this user cannot write in {file.parent}",
            "Change to a folder of your own, or name the file: refnet --config FILE init.",
            Exit.USAGE,
        )
    return draft


def _default_database(draft: Draft) -> str:
    settings = draft.settings
    if settings.database_url:
        return settings.database_url
    if embedded.status(settings.home).major is not None:
        return OWN
    file = compose_file(Path.cwd())
    found = guess(file) if file else None
    return found.url if found else ""


def _default_vault(draft: Draft) -> str:
    settings = draft.settings
    return str(settings.vault_dir) if settings.vault_dir.is_dir() else NONE


QUESTIONS = (
    Question(
        "--database-url", "Database (postgresql://USER@HOST:PORT/NAME)", _default_database, Draft.database
    ),
    Question(
        "--config-dir",
        "Folder of the configuration, or none",
        lambda draft: str(draft.settings.config_dir or NONE),
        Draft.config,
    ),
    Question("--vault-dir", "Folder of the Obsidian vault, or none", _default_vault, Draft.vault),
    Question("--backup-dir", "Backup folder", lambda draft: str(draft.settings.backup_dir), Draft.backups),
    Question(
        "--schedule",
        "Back up the database at",
        lambda draft: draft.settings.schedule_database,
        Draft.schedule,
    ),
)


def shown(answer: str) -> str:
    """Return a default for the terminal, without a password."""
    return Target.from_url(answer).display if is_secret("database_url", answer) else answer


def _loaded(environment: Mapping[str, str], draft: Draft | None) -> Settings:
    given = Given(draft.file, draft.table) if draft else None
    cores = len(os.sched_getaffinity(0))
    return load(environment, Path.cwd(), root=os.geteuid() == 0, cores=cores, given=given)


def _protected(settings: Settings) -> Iterable[Path]:
    """Yield the folders that are backed up completely."""
    if "vault_dir" in settings.origins or settings.vault_dir.exists():
        yield settings.vault_dir
    if settings.config_dir:
        listed = parse_entries(settings.config_entries)
        yield from (settings.config_dir / name for name in names(one for one in listed if one.folder))


def _absolute(answer: str) -> Path:
    return Path(os.path.normpath(user_path(answer).absolute()))


def _folder(answer: str, option: str) -> Path:
    """Return the existing folder `answer`; RefnetError if this user cannot read it."""
    folder = _absolute(answer)
    if not os.path.lexists(folder):
        why = "does not exist"
    elif not folder.is_dir():
        why = "is not a folder"
    elif not os.access(folder, os.R_OK | os.X_OK):
        why = "cannot be read by this user"
    else:
        return folder
    raise RefnetError(f"{folder} {why}", f"Name an existing folder, or none ({option}).", Exit.USAGE)


def _every(folder: Path) -> Iterable[str]:
    """Yield config.entries for each file and folder in `folder`."""
    for path in sorted(folder.iterdir()):
        if not path.is_symlink() and (path.is_dir() or path.is_file()) and not set(path.name) & {"|", "?"}:
            yield f"{path.name}/?" if path.is_dir() else f"{path.name}?"


def _empty(folder: Path, option: str) -> RefnetError:
    return RefnetError(
        f"{folder} is empty", f"Is it mounted? Name a folder with files, or none ({option}).", Exit.USAGE
    )


def _exists(file: Path) -> RefnetError:
    return RefnetError(
        f"there is a settings file already: {file}",
        "Edit it and run `refnet check`; or write another one: refnet --config FILE init.",
        Exit.USAGE,
    )
