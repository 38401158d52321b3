"""Finds and reads refnet.toml, and combines file, environment and defaults."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refnet.compose import compose_file
from refnet.core import trust
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import nearest
from refnet.settings.converters import InvalidError, absolute_folder, user_path
from refnet.settings.document import LARGEST, Given, dotted, flat, open_secret, read_file
from refnet.settings.known_keys import TABLES, all_keys, field_of, keys_of, setting, tables, variable
from refnet.settings.problem import (
    MOST_PROBLEMS,
    Problem,
    contradictions,
    error_of,
    invalid,
    named_in,
    not_a_table,
    unknown,
    unknown_table,
)
from refnet.settings.sources import SHORT, SourceSettings
from refnet.settings.stores import StoreSettings
from refnet.settings.table import BY_COMPOSE_FILE, DEFAULT_ENTRIES, Settings, keys

FILE_NAME = "refnet.toml"

#: The settings file of the machine, searched last.
SYSTEM_FILE = Path("/etc/refnet") / FILE_NAME
#: The default folder of the logs, in REFNET_HOME.
LOGS = "logs"
#: Names the settings file, as `--config` does, which takes precedence.
CONFIG = "REFNET_CONFIG"
#: Names the file with a recovery key, where `--identity-file` does not.
IDENTITY_FILE = "REFNET_IDENTITY_FILE"
#: "json": progress is a line of JSON on stderr per step, and at most four a second, for a program that shows it.
PROGRESS = "REFNET_PROGRESS"
#: What started a command: "scheduler", or "browser" and the id of its child; see `telemetry.watch.started_by`.
STARTED_BY = "REFNET_STARTED_BY"
#: Other variables that RefNet reads.
_OF_HOOKS = ("ACTION", "ARTIFACT", "ERROR", "HOOK", "HOOK_RUN", "OUTCOME", "SOURCE")
_OTHER_VARIABLES = frozenset(
    {
        *(CONFIG, IDENTITY_FILE, PROGRESS, STARTED_BY, "REFNET_BROKER_PASSWORD"),
        *(f"REFNET_{name}" for name in _OF_HOOKS),
    }
)
_FROM_ENVIRONMENT = "the environment"


@dataclass(frozen=True)
class Examined:
    """The settings of a process and their problems."""

    #: A setting with a problem has its default.
    settings: Settings
    problems: tuple[Problem, ...]
    #: Where nothing is set.
    defaults: Settings

    def valid(self) -> Settings:
        """Return the settings; RefnetError (USAGE) if there is a problem."""
        if self.problems:
            raise error_of(self.problems)
        return self.settings


@dataclass(frozen=True)
class _Raw:
    """A raw value of a setting and its origin."""

    value: Any
    #: The origin, as `refnet settings` shows it.
    origin: str
    #: The key or the variable, for messages.
    name: str
    #: Returns the file and the line, for messages; an argument is a key of the value, if that is a table.
    place: Callable[..., str] = str


def load(
    environment: Mapping[str, str],
    folder: Path,
    *,
    root: bool,
    cores: int,
    given: Given | None = None,
    search: bool = True,
) -> Settings:
    """Load the settings of a process with `environment` in `folder`; RefnetError (USAGE) if one is invalid.

    Args:
        environment: the process's variables; REFNET_* override the file.
        folder: the current folder, searched first for refnet.toml; REFNET_HOME and /etc/refnet follow.
        root: the user is root (its home is /var/lib/refnet).
        cores: the machine's cores, the bound of the default of `jobs`.
        given: the file to use; None: search for one.
        search: False: without a given one there is none.
    """
    return examine(environment, folder, root=root, cores=cores, given=given, search=search).valid()


def examine(
    environment: Mapping[str, str],
    folder: Path,
    *,
    root: bool,
    cores: int,
    given: Given | None = None,
    search: bool = True,
) -> Examined:
    """Read the settings like `load`, and collect the first 100 problems; rejected files contribute nothing."""
    wrong: list[Problem] = []
    home = _home(environment, root)
    file = given
    unread: tuple[str, ...] = ()
    if search and not given:
        try:
            file, unread = _find(environment, folder, home)
        except RefnetError as error:
            wrong.append(Problem.of(error))
    sources, stores = named_in(file, wrong) if file else ({}, {})
    named: list[SourceSettings | StoreSettings] = [*sources.values(), *stores.values()]
    known = all_keys(named)
    secrets, warnings = _secret_files(environment, file, known, wrong)
    layers = (_from_file(file, named) if file else {}, secrets, _variables(environment, known, wrong))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for raw in layers:
        values |= _values(raw, wrong)
        origins |= {key: each.origin for key, each in raw.items()}
    if "home" in values and not environment.get("REFNET_HOME"):
        home = values["home"]
    defaults = _defaults(home, root=root, cores=cores)
    if "config_dir" not in origins:
        found, origins["config_dir"] = _by_compose_file(folder)
        defaults |= found
    left_out = frozenset(name for name, key in SHORT.items() if values.get(key, "") is None)
    values = {key: value for key, value in values.items() if value or key not in SHORT.values()}  # none, own
    sources = {name: replace(one, **_own(one, values)) for name, one in sources.items()}
    settings = Settings(
        **defaults | {name: value for name, value in values.items() if "." not in name},
        left_out=left_out,
        sources={name: one for name, one in sources.items() if one.table != "clusters"},
        clusters={name: one for name, one in sources.items() if one.table == "clusters"},
        stores={name: one.with_values(_own(one, values)) for name, one in stores.items()},
        file=file.path if file else None,
        variables={CONFIG: environment[CONFIG]} if environment.get(CONFIG) else {},
        origins={key: origin for key, origin in origins.items() if origin},
        warnings=(*unread, *(file.warnings if file else ()), *warnings),
    )
    wrong += contradictions(settings, file, {problem.key for problem in wrong})
    return Examined(settings, tuple(wrong), Settings(**defaults))


def _home(environment: Mapping[str, str], root: bool) -> Path:
    """REFNET_HOME or its default; `_values` reports an invalid one."""
    if named := environment.get("REFNET_HOME"):
        with suppress(ValueError):
            return absolute_folder(named)
    return _default_home(environment, root)


def _from_file(file: Given, named: Iterable[SourceSettings | StoreSettings]) -> dict[str, _Raw]:
    """All values of a settings file by dotted key, unknown keys included; of named tables only those of `named`."""
    usable = {(one.table, one.name) for one in named}
    return {
        dotted(path): _Raw(value, str(file.path), dotted(path), _placed(file, path))
        for path, value in flat(file.table)
        if path[0] not in TABLES or (len(path) > 2 and path[:2] in usable)
    }


def _placed(file: Given, path: tuple[str, ...]) -> Callable[..., str]:
    return lambda *part: file.place((*path, *part))


def _own(one: SourceSettings | StoreSettings, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of one source or store, by field."""
    start, known = f"{one.table}.{one.name}.", keys_of(one.table)
    return {
        known[key.removeprefix(start)].name: value for key, value in values.items() if key.startswith(start)
    }


def _values(raw: Mapping[str, _Raw], wrong: list[Problem]) -> dict[str, Any]:
    """Converted values of `raw`, by field of Settings; problems go to `wrong`."""
    values: dict[str, Any] = {}
    for key, each in raw.items():
        if len(wrong) >= MOST_PROBLEMS:
            break
        if found := setting(key):
            try:
                values[key if field_of(key) else found.name] = found.metadata["convert"](each.value)
            except InvalidError as error:
                shown = None if found.metadata["secret"] else each.value
                name, part = each.name, (error.part,) if error.part else ()
                if part:
                    name, shown = f"{name}.{dotted(part)}", each.value[error.part]
                wrong.append(invalid(key, f"{each.place(*part)}{name}", shown, error))
        elif key in tables():
            wrong.append(not_a_table(key, each.place()))
        elif isinstance(each.value, dict):
            inner = (name for name, value in each.value.items() if isinstance(value, dict))
            wrong.append(unknown_table(key, each.place(), tables(), inner))
        else:
            wrong.append(unknown(key, each.place(), _keys_near(key, raw)))
    return values


def _defaults(home: Path, *, root: bool, cores: int) -> dict[str, Any]:
    """Defaults that depend on the machine."""
    return {
        "home": home,
        "backup_dir": _default_backup_dir(home, root),
        "vault_dir": home / "vault",
        "jobs": max(1, min(cores, 8)),
        "log_folder": Path("/var/log") if root else home / LOGS,
    }


def _by_compose_file(folder: Path) -> tuple[dict[str, Any], str]:
    """Defaults for a configuration in `folder`, and their origin; both empty without a Compose file.

    The folder must be trusted: otherwise root would back up and recover what another user chose.
    """
    found = compose_file(folder)
    if found is None:
        return {}, ""
    try:
        trust.check(found)
    except (RefnetError, OSError) as error:
        why = error.message if isinstance(error, RefnetError) else error.strerror
        return {}, f"the default: {found} is not trusted ({why})"
    entries = tuple(f"{name}?" if name == ".env" else name for name in DEFAULT_ENTRIES)
    return {"config_dir": folder, "config_entries": entries}, f"{BY_COMPOSE_FILE}{found}"


def secret_file_variable(key: str) -> str:
    """Name of the variable with the path of a file that contains the secret `key`."""
    return f"{variable(key)}_FILE"


def _find(environment: Mapping[str, str], folder: Path, home: Path) -> tuple[Given | None, tuple[str, ...]]:
    """Search the settings file; also return a note about a folder that could not be searched."""
    if named := environment.get(CONFIG):
        if found := read_file(user_path(named).absolute()):
            return found, ()
        raise RefnetError(
            f"there is no settings file {named}",
            "Name one that exists (--config, REFNET_CONFIG).",
            Exit.USAGE,
        )
    unread: tuple[str, ...] = ()
    if not os.access(folder, os.X_OK):
        unread = (f"this user cannot enter {folder}: no settings are read there",)
    candidates = (*(() if unread else (folder / FILE_NAME,)), home / FILE_NAME, SYSTEM_FILE)
    return next(filter(None, map(read_file, candidates)), None), unread


def _keys_near(key: str, given: Iterable[str]) -> Iterable[str]:
    """Keys that the mistyped `key` may mean. `given`: all keys, which show the tables of sources."""
    table, _, rest = key.partition(".")
    source = rest.partition(".")[0]
    if table not in TABLES:
        owners = {tuple(one.split(".")[:2]) for one in given if one.partition(".")[0] in TABLES}
        return [*keys(), *(f"{of}.{name}.{table}" for of, name in sorted(owners) if table in keys_of(of))]
    return [
        *(f"{table}.{source}.{name}" for name in keys_of(table)),
        *(one for one in keys() if "." not in one),
    ]


def _variables(
    environment: Mapping[str, str], settable: Iterable[str], wrong: list[Problem]
) -> dict[str, _Raw]:
    """Values of REFNET_* variables by key; unknown variables go to `wrong`."""
    known = {variable(key): key for key in settable}
    others = _OTHER_VARIABLES | {secret_file_variable(key) for key in _secret_keys(settable)}
    found: dict[str, _Raw] = {}
    for name, value in environment.items():
        if not name.startswith("REFNET_") or name in others:
            continue
        if name not in known:
            wrong += [unknown(name, "", known)] if len(wrong) < MOST_PROBLEMS else []
        elif value:
            found[known[name]] = _Raw(value, _FROM_ENVIRONMENT, name)
    return found


def _secret_files(
    environment: Mapping[str, str], file: Given | None, known: Iterable[str], wrong: list[Problem]
) -> tuple[dict[str, _Raw], tuple[str, ...]]:
    """Secrets from the files of REFNET_*_FILE and url_file, by key, and warnings about files that others can read."""
    found: dict[str, _Raw] = {}
    warnings: list[str] = []
    for key in _secret_keys(known):
        name, own = secret_file_variable(key), _beside(file, key)
        if not (named := environment.get(name) or own.get(f"{key}_file")):
            continue
        both = environment.get(variable(key)) if environment.get(name) else own.get(key)
        if not environment.get(name):
            name = f"{key}_file"
        path = user_path(named).absolute()
        try:
            if both:
                other = key if name == f"{key}_file" else variable(key)
                raise RefnetError(f"{other} and {name} are both set", "Remove one of them.")  # noqa: TRY301  # one path for both
            text, mode = _secret(path, name)
        except RefnetError as error:
            wrong.append(Problem.of(error, key))
            continue
        found[key] = _Raw(text, f"the file {path}", f"{path} (from {name})")
        warnings += [open_secret(path, mode)] if mode & 0o044 else []
    return found, tuple(warnings)


def _beside(file: Given | None, key: str) -> dict[str, str]:
    """The string values beside `key` in its source's table, by key; empty for other keys."""
    table, _, rest = key.partition(".")
    if file is None or table not in TABLES:
        return {}
    name = rest.partition(".")[0]
    found = file.table[table][name]
    return {f"{table}.{name}.{each}": value for each, value in found.items() if isinstance(value, str)}


def _secret(path: Path, name: str) -> tuple[str, int]:
    try:
        read = trust.read(path, LARGEST)
        return read.content.decode().strip(), read.mode
    except RefnetError as error:
        why, hint = error.message, error.hint
    except OSError as error:
        why, hint = error.strerror or str(error), "Put the file there, readable for this user."
    except UnicodeDecodeError:
        why, hint = "it is not UTF-8", "Put the secret there as text, and nothing else."
    raise RefnetError(f"{str(path)[:1000]} (from {name}) is not read: {why}", hint, Exit.USAGE)


def _secret_keys(known: Iterable[str]) -> list[str]:
    return [key for key in known if (found := setting(key)) and found.metadata["secret"]]


def _default_home(environment: Mapping[str, str], root: bool) -> Path:
    if root:
        return Path("/var/lib/refnet")
    data = environment.get("XDG_DATA_HOME")
    if data and data.startswith("/"):
        return Path(data) / "refnet"
    home = user_path("~")
    if not home.is_absolute():
        raise RefnetError(
            "this user has no home folder",
            "Set REFNET_HOME, or HOME, to the absolute path of one.",
            Exit.USAGE,
        )
    return home / ".local" / "share" / "refnet"


def _default_backup_dir(home: Path, root: bool) -> Path:
    system = Path("/var/backups/refnet")
    return system if root or os.access(nearest(system), os.W_OK) else home / "backups"
