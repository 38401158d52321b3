"""Finds and reads refnet.toml, and combines file, environment and defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from refnet import trust
from refnet.compose import compose_file
from refnet.errors import Exit, RefnetError
from refnet.settings.table import (
    DEFAULT_ENTRIES,
    Settings,
    absolute_folder,
    is_secret,
    keys,
    user_path,
    variable,
)

FILE_NAME = "refnet.toml"

#: The settings file of the machine, searched last.
SYSTEM_FILE = Path("/etc/refnet") / FILE_NAME
#: The default folder of the logs, in REFNET_HOME.
LOGS = "logs"
#: Names the settings file; `--config` sets it.
CONFIG = "REFNET_CONFIG"
#: Other variables that RefNet reads.
_OTHER_VARIABLES = frozenset({CONFIG, "REFNET_BROKER_PASSWORD"})
#: The largest settings file or file with a secret, in bytes.
LARGEST = 64 * 1024
_DEEPEST = 4
_DOTS = 100
_FROM_ENVIRONMENT = "the environment"
#: The beginning of the origin of a config_dir that is not set.
BY_COMPOSE_FILE = "the Compose file "


@dataclass(frozen=True)
class Given:
    """A settings file."""

    #: The file may not exist yet.
    path: Path
    #: Its TOML.
    table: Mapping[str, Any]
    #: A sentence each.
    warnings: tuple[str, ...] = ()


def load(
    environment: Mapping[str, str], folder: Path, *, root: bool, cores: int, given: Given | None = None
) -> Settings:
    """Return the settings of a process with `environment`, started in `folder`.

    Args:
        environment: the process's variables; REFNET_* override the file.
        folder: the current folder, searched first for refnet.toml; REFNET_HOME and /etc/refnet follow.
        root: the user is root (its home is /var/lib/refnet).
        cores: the machine's cores, the bound of the default of `jobs`.
        given: the file to use; None: search for one.
    """
    home = environment.get("REFNET_HOME")
    home_dir = (
        _parsed("REFNET_HOME", absolute_folder, home, _FROM_ENVIRONMENT)
        if home
        else _default_home(environment, root)
    )
    file, unread = (given, ()) if given else _find(environment, folder, home_dir)
    texts = {key: (value, str(file.path)) for key, value in flat(file.table).items()} if file else {}
    secrets, warnings = _secret_files(environment)
    texts |= secrets | _variables(environment)
    values = _values(texts)
    if "home" in values and not home:
        home_dir = values["home"]
    defaults = _defaults(home_dir, root=root, cores=cores)
    origins = {key: origin for key, (_, origin) in texts.items()}
    if "config_dir" not in values:
        found, origins["config_dir"] = _by_compose_file(folder)
        defaults |= found
    return Settings(
        **defaults | values,
        file=file.path if file else None,
        origins={key: origin for key, origin in origins.items() if origin},
        warnings=(*unread, *(file.warnings if file else ()), *warnings),
    )


def _values(texts: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """Parse `texts`, key → (value, origin), and return the values by the names of Settings."""
    values: dict[str, Any] = {}
    for key, (value, origin) in texts.items():
        if key not in keys():
            raise _unknown(key, origin, sorted(keys()))
        values[keys()[key].name] = _parsed(key, keys()[key].metadata["parse"], value, origin)
    return values


def _defaults(home: Path, *, root: bool, cores: int) -> dict[str, Any]:
    """Return the defaults that depend on the machine."""
    return {
        "home": home,
        "backup_dir": _default_backup_dir(home, root),
        "vault_dir": home / "vault",
        "jobs": max(1, min(cores, 8)),
        "log_folder": Path("/var/log") if root else home / LOGS,
    }


def _by_compose_file(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the defaults of the configuration in `folder`, and their origin; both empty without a Compose file.

    A folder that others could have made is not a default: root would back up, and recover, what they chose.
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


def read_file(path: Path) -> Given | None:
    """Read the settings file at `path`; None if there is none, RefnetError if it is not trusted."""
    try:
        found = trust.read(path, LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            return None
        raise RefnetError(
            f"{path} is a link to nothing", "Remove it, or fix its target.", Exit.USAGE
        ) from None
    except RefnetError as error:
        if not os.path.lexists(path):
            return None  # another user's folder without the file
        raise RefnetError(f"{path} is not read: {error.message}", error.hint, Exit.USAGE) from None
    except OSError as error:
        raise RefnetError(
            f"{path} cannot be read: {error.strerror}", "Make it readable for this user.", Exit.USAGE
        ) from None
    table = parse(found.content, str(path))
    open_secrets = found.readable_by_others and any(
        is_secret(key, value) for key, value in flat(table).items()
    )
    return Given(path, table, (_readable(path, found.mode),) if open_secrets else ())


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Parse `content`; RefnetError about `name` if it is not TOML."""
    try:
        if max(map(bytes.count, content.splitlines() or [b""], repeat(b"."))) > _DOTS:
            raise ValueError("a line contains too many dots")  # noqa: TRY301  # tomllib takes minutes for such a key
        return tomllib.loads(content.decode())
    except ValueError as error:  # not UTF-8, not TOML, a number that is too long
        why = str(error)
    except RecursionError:
        why = "it is nested too deeply"
    raise RefnetError(f"{name} is not TOML: {why}", "Fix that line; see refnet.toml.example.", Exit.USAGE)


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `table` with dotted keys, down to the keys of settings."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and f"{prefix}{key}" not in keys() and prefix.count(".") < _DEEPEST:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def secret_file_variable(key: str) -> str:
    """Return the environment variable that names a file with the secret `key`."""
    return f"{variable(key)}_FILE"


def _find(environment: Mapping[str, str], folder: Path, home: Path) -> tuple[Given | None, tuple[str, ...]]:
    """Return the settings file, and a sentence for a folder that could not be searched."""
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


def _variables(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the values of REFNET_* variables, by key."""
    known = {variable(key): key for key in keys()}
    others = _OTHER_VARIABLES | {secret_file_variable(key) for key in _secret_keys()}
    found: dict[str, tuple[str, str]] = {}
    for name, value in environment.items():
        if not name.startswith("REFNET_") or name in others:
            continue
        if name not in known:
            raise _unknown(name, _FROM_ENVIRONMENT, sorted(known))
        if value:
            found[known[name]] = (value, _FROM_ENVIRONMENT)
    return found


def _secret_files(
    environment: Mapping[str, str],
) -> tuple[dict[str, tuple[str, str]], tuple[str, ...]]:
    """Return the contents of files that REFNET_*_FILE name, by key, and a warning for each that others can read."""
    found: dict[str, tuple[str, str]] = {}
    warnings: list[str] = []
    for key in _secret_keys():
        name = secret_file_variable(key)
        if not (named := environment.get(name)):
            continue
        if environment.get(variable(key)):
            raise RefnetError(f"{variable(key)} and {name} are both set", "Remove one of them.", Exit.USAGE)
        path = user_path(named).absolute()
        text, mode = _secret(path, name)
        found[key] = (text, f"the file {path}")
        warnings += [_readable(path, mode)] if mode & 0o044 else []
    return found, tuple(warnings)


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
    raise RefnetError(f"{path} (from {name}) is not read: {why}", hint, Exit.USAGE)


def _secret_keys() -> list[str]:
    return [key for key, field in keys().items() if field.metadata["secret"]]


def _readable(path: Path, mode: int) -> str:
    return f"{path} contains secrets, and others can read it (mode {mode:04o}): chmod 600 {path}"


def _parsed(key: str, parse: Callable[[Any], Any], value: Any, origin: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise RefnetError(
            f"{key} (from {origin}) {error}",
            "refnet.toml.example shows every setting and its values.",
            Exit.USAGE,
        ) from None


def _unknown(key: str, origin: str, known: list[str]) -> RefnetError:
    from difflib import get_close_matches  # costs time, and only here

    near = get_close_matches(key, known, 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return RefnetError(
        f"{key} (from {origin}) is not a setting",
        f"{hint}refnet.toml.example lists every setting.",
        Exit.USAGE,
    )


def _default_home(environment: Mapping[str, str], root: bool) -> Path:
    if root:
        return Path("/var/lib/refnet")
    data = environment.get("XDG_DATA_HOME")
    return (Path(data) if data and data.startswith("/") else Path.home() / ".local" / "share") / "refnet"


def _default_backup_dir(home: Path, root: bool) -> Path:
    system = Path("/var/backups/refnet")
    nearest = next(folder for folder in (system, *system.parents) if folder.exists())
    return system if root or os.access(nearest, os.W_OK) else home / "backups"
