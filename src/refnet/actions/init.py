"""init: turn answers into a new settings file, each checked as `refnet check` does."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from refnet.actions.check import backup_folder
from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.catalog.schedule import TaskName
from refnet.catalog.source_name import SourceName
from refnet.compose import compose_file, guess
from refnet.context import own_home
from refnet.core import trust
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, replace_file, sync_folder
from refnet.postgres import embedded
from refnet.settings import (
    CONFIG,
    FILE_NAME,
    LARGEST,
    Given,
    Settings,
    SourceSettings,
    is_secret,
    load,
    parse,
    secret_file_variable,
    user_path,
    variable,
)
from refnet.settings.converters import InvalidError, entries
from refnet.settings.sources import LONGEST_CLUSTER, MOST, SHORT, near_name
from refnet.settings.times import OFF
from refnet.sources import source_of
from refnet.sources.check_result import CheckLine, CheckState, bounded, writable
from refnet.sources.cluster.stream_status import with_wal
from refnet.sources.cluster.wal_check import wal_checks
from refnet.store.disk import rename
from refnet.wiring import known

#: The answer that leaves a database or a folder out, and that ends the questions for more.
NONE = "none"
#: The answer that leaves the URL out: RefNet's own server, or the URL in REFNET_DATABASE_URL_FILE.
OWN = "own"
_URL = "database_url"
_HEAD = "# Written by `refnet init`. refnet.toml.example lists every setting.\n"


@dataclass(frozen=True)
class SettingsDraft:
    """A settings file before it is written."""

    file: Path
    environment: Mapping[str, str]
    #: Key → value.
    table: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The settings with this file; answers override the environment."""
        answered = {variable(key) for key in self.table} | {CONFIG}
        if _URL in self.table:
            answered.add(secret_file_variable(_URL))
        return _loaded({k: v for k, v in self.environment.items() if k not in answered}, self)

    def text(self, *, hidden: bool = False) -> str:
        """The file as TOML; `hidden`: without secrets."""
        tables: dict[str, list[str]] = {"": []}
        ended = any(
            key.count(".") == 2 for key in self.table
        )  # a table that names a source ends the defaults
        for key, value in self.table.items():
            if ended and value == NONE and key in SHORT.values():
                continue
            table, _, name = key.rpartition(".")
            shown = "(hidden)" if hidden and is_secret(key, value) else value
            # One line for each item: a line with very many dots is not read.
            text = json.dumps(shown, ensure_ascii=False, indent=2 if isinstance(shown, list) else None)
            text = text.replace("\x7f", "\\u007f")  # JSON's other escapes are TOML's
            tables.setdefault(table, []).append(f"{name} = {text}\n")
        parts = [(f"\n[{table}]\n" if table else "") + "".join(lines) for table, lines in tables.items()]
        return _HEAD + "".join(parts)

    def write(self) -> None:
        """Write the file atomically, readable only by this user; RefnetError if it exists."""
        hidden = self.file.with_name(f"{HIDDEN_PREFIX}{secrets.token_hex(8)}")
        with explained(self.file):
            try:
                replace_file(hidden, self.text().encode())
                if not rename(hidden, self.file):
                    raise _exists(self.file)
                sync_folder(self.file.parent)
            finally:
                hidden.unlink(missing_ok=True)

    def overridden(self) -> tuple[str, ...]:
        """Environment variables that override the file with a different value."""
        found = ((variable(key), value) for key, value in self.table.items())
        return tuple(name for name, value in found if self.environment.get(name, "") not in ("", value))

    def answered(self, question: Question, answer: str) -> tuple[SettingsDraft, tuple[CheckLine, ...]]:
        """Return the draft with `answer`, and the checks of it; RefnetError (USAGE) for the first error."""
        draft = replace(self, table={**self.table, **question.values(self, answer)})
        try:
            length = len(draft.text().encode())
        except UnicodeEncodeError:
            raise RefnetError(
                f"{question.option} is not UTF-8, so a settings file cannot contain it",
                "Rename that folder, or choose another one.",
                Exit.USAGE,
            ) from None
        if length > LARGEST:
            raise RefnetError(
                f"{question.option}: the settings file would be larger than {LARGEST:,} bytes",
                "Choose a folder with fewer entries; a folder above it has one entry for all of them.",
                Exit.USAGE,
            )
        lines = bounded(question.option, lambda: question.check(draft.settings))
        for line in lines:
            if line.state is CheckState.ERROR:
                says = line.says.replace(variable(_URL), "the URL")
                hint = line.hint.replace(_URL, question.option)
                raise RefnetError(f"{question.option}: {says}", hint, Exit.USAGE)
        return draft, lines


@dataclass(frozen=True)
class Question:
    """A question of init."""

    #: Its option, such as --vault-dir.
    option: str
    asks: str
    #: The answer of an empty line; "" if there is none.
    default: Callable[[SettingsDraft], str]
    #: Key → value of an answer.
    values: Callable[[SettingsDraft, str], Mapping[str, Any]]
    check: Callable[[Settings], Iterable[CheckLine]]


def start(environment: Mapping[str, str], folder: Path) -> SettingsDraft:
    """Return an empty draft; RefnetError if settings exist already, or cannot be written."""
    named = environment.get(CONFIG)
    draft = SettingsDraft(user_path(named).absolute() if named else folder / FILE_NAME, environment)
    if os.path.lexists(draft.file):
        raise _exists(draft.file)
    found = draft.settings if named else _loaded(environment, None)
    if found.file and not named:
        raise _exists(found.file)
    own_home(found)
    with explained(draft.file.parent):
        trust.check(draft.file.parent)
    if not writable(draft.file.parent):
        raise RefnetError(
            f"this user cannot write in {draft.file.parent}",
            "Change to a folder of your own, or name the file: refnet --config FILE init.",
            Exit.USAGE,
        )
    return draft


def _default_database(draft: SettingsDraft) -> str:
    settings = draft.settings
    if draft.environment.get(secret_file_variable(_URL)):
        return OWN
    if settings.database_url:
        return settings.database_url
    if embedded.status(settings.home).major is not None:
        return OWN
    file = compose_file(Path.cwd())
    found = guess(file) if file else None
    return found.url if found else ""


def _database(draft: SettingsDraft, answer: str) -> dict[str, Any]:
    if answer == NONE:  # nor RefNet's own server, which a crawl may make later
        return {_URL: NONE, TaskName.DATABASE.key: OFF}
    in_file = answer == OWN and draft.environment.get(secret_file_variable(_URL))
    return {} if in_file or not answer else {_URL: answer}


def _check_database(settings: Settings) -> Iterable[CheckLine]:
    without = settings.database_url is None and settings.schedule_database is None
    return () if without else _checks(settings, SourceName.DATABASE)


def _more_urls(table: str, draft: SettingsDraft, answer: str) -> dict[str, Any]:
    if table == "databases" and answer != NONE and "://" not in answer:  # a file of SQLite
        file = _absolute(answer)
        return {f"databases.{_name(draft, table, file.stem)}.path": str(file)}
    with suppress(ValueError):
        word = unquote(urlsplit(answer).path).strip("/") if table == "databases" else "main"
        return {} if answer == NONE else {f"{table}.{_name(draft, table, word)}.url": answer}
    return {f"{table}.{_name(draft, table, '')}.url": answer}  # its check refuses it


def _more_folders(draft: SettingsDraft, answer: str) -> dict[str, Any]:
    if answer == NONE:
        return {}
    folder = _absolute(answer)
    return {f"folders.{_name(draft, 'folders', folder.name)}.path": str(folder)}


def _name(draft: SettingsDraft, table: str, word: str) -> str:
    """Source name for `table` derived from `word`, with a number if taken."""
    taken = {one.split(".")[1] for one in draft.table if one.count(".") == 2} | {*SHORT}
    word = word[: LONGEST_CLUSTER - 7]
    near = near_name(word) or near_name(f"my-{word}").removesuffix("my") or f"my-{table}"
    return next(one for one in (near, *(f"{near}{n}" for n in range(2, MOST + 3))) if one not in taken)


def _check_newest(settings: Settings, table: str) -> Iterable[CheckLine]:
    """Check the most recently added source, if any."""
    found = {one.name: one for one in settings.named if isinstance(one, SourceSettings)}
    names = [name for name, one in found.items() if one.table == table]
    if not names:
        return ()
    if found[names[-1]].url is None:
        return _checks(settings, next(one for one in known(settings) if one == names[-1]))
    return _checks(replace(settings, database_url=found[names[-1]].url), SourceName.DATABASE)


def _checks(settings: Settings, source: SourceName) -> Iterable[CheckLine]:
    return source_of(settings, source).checks()


def _default_vault(draft: SettingsDraft) -> str:
    settings = draft.settings
    return str(settings.vault_dir) if _is_folder(settings.vault_dir) else NONE


def _has_named_databases(settings: Settings) -> bool:
    return any(isinstance(one, SourceSettings) and one.url for one in settings.named)


def _default_schedule(draft: SettingsDraft) -> str:
    settings = draft.settings
    named = Settings.schedule_database if _has_named_databases(settings) else None
    return str(settings.schedule_database or named or OFF)


def _schedule(draft: SettingsDraft, answer: str) -> dict[str, Any]:
    without = draft.table.get(TaskName.DATABASE.key) == OFF and not _has_named_databases(draft.settings)
    if without and answer != OFF:
        raise RefnetError("--schedule: no database is backed up", "Give off, or name a database.", Exit.USAGE)
    return {TaskName.DATABASE.key: answer}


def _config(draft: SettingsDraft, answer: str) -> dict[str, Any]:
    """Protect the usual entries of a Compose project, else everything in the folder."""
    folder = _absolute(answer)
    if answer == NONE or not _is_folder(folder):
        none = {} if draft.settings.config_dir is None else {"config_dir": NONE}
        return none if answer == NONE else {"config_dir": str(folder)}
    with explained(folder):
        usual = draft.settings.config_entries if compose_file(folder) else _every(folder)
    return {"config_dir": str(folder), "config.entries": list(usual)}


def _vault(draft: SettingsDraft, answer: str) -> dict[str, Any]:
    if answer == NONE:
        return {} if _default_vault(draft) == NONE else {"vault_dir": NONE}
    return {"vault_dir": str(_absolute(answer))}


def _every(folder: Path) -> Iterable[str]:
    """Yield config.entries for each file and folder in `folder` whose name it can contain."""
    for path in sorted(folder.iterdir()):
        if not path.is_symlink() and (path.is_dir() or path.is_file()) and not set(path.name) & {"|", "?"}:
            entry = f"{path.name}/?" if path.is_dir() else f"{path.name}?"
            with suppress(InvalidError):
                if entries([entry]) == (entry,):
                    yield entry


def clusters(draft: SettingsDraft) -> list[str]:
    """The clusters that were named."""
    return [key.split(".")[1] for key in draft.table if key.startswith("clusters.") and key.endswith(".url")]


def _wal(draft: SettingsDraft, answer: str) -> dict[str, Any]:
    if answer.lower() not in {"yes", "y", "no", "n"}:
        raise RefnetError(f"--wal: '{answer}' is neither yes nor no", "Answer yes or no.", Exit.USAGE)
    return {f"clusters.{name}.wal": True for name in clusters(draft) if answer.lower() in {"yes", "y"}}


def _more(option: str, asks: str, table: str) -> Question:
    """Question for more sources of `table`."""
    values = _more_folders if table == "folders" else partial(_more_urls, table)
    return Question(option, asks, lambda _: NONE, values, partial(_check_newest, table=table))


QUESTIONS = (
    Question(
        "--database-url",
        "Database (postgresql://USER@HOST:PORT/NAME), or none",
        _default_database,
        _database,
        _check_database,
    ),
    Question(
        "--config-dir",
        "Folder of the configuration, or none",
        lambda draft: str(draft.settings.config_dir or NONE),
        _config,
        partial(_checks, source=SourceName.CONFIG),
    ),
    Question(
        "--vault-dir",
        "Folder of the Obsidian vault, or none",
        _default_vault,
        _vault,
        partial(_checks, source=SourceName.OBSIDIAN),
    ),
    Question(
        "--backup-dir",
        "Backup folder",
        lambda draft: str(draft.settings.backup_dir),
        lambda _, answer: {"backup_dir": str(_absolute(answer))},
        backup_folder,
    ),
    Question(
        "--schedule",
        "Back up the database at",
        _default_schedule,
        _schedule,
        lambda _: (),
    ),
)

#: Asked where a cluster is named.
WAL = Question(
    "--wal",
    "Base backups and WAL of the server too, for a restore to any second; they have every database, and the verifiers of"
    " all passwords (yes or no)",
    lambda _: "no",
    _wal,
    lambda settings: (line for name in with_wal(settings) for line in wal_checks(settings, name)),
)

#: The questions for more sources, each with the question that it follows.
MORE = {
    "--database-url": (
        _more(
            "--cluster",
            "A server, for all its databases (postgresql://USER@HOST:PORT/postgres), or none",
            "clusters",
        ),
        _more(
            "--another-database", "Another database (URL, or path of an SQLite file), or none", "databases"
        ),
    ),
    "--vault-dir": (_more("--folder", "Another folder, or none", "folders"),),
}


def _loaded(environment: Mapping[str, str], draft: SettingsDraft | None) -> Settings:
    given = Given(draft.file, parse(draft.text().encode(), "the answers")) if draft else None
    cores = len(os.sched_getaffinity(0))
    return load(environment, Path.cwd(), root=os.geteuid() == 0, cores=cores, given=given)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # Path's own raises where this user may not look


def _absolute(answer: str) -> Path:
    if not answer.strip():
        raise RefnetError("the name of a folder is empty", "Give its path.", Exit.USAGE)
    return Path(os.path.normpath(user_path(answer).absolute()))


def _exists(file: Path) -> RefnetError:
    return RefnetError(
        f"the settings file {file} already exists",
        "Edit it and run `refnet check`; or write another one: refnet --config FILE init.",
        Exit.USAGE,
    )
