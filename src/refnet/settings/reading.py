"""Finds refnet.toml, reads it, and puts file, environment and defaults together."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from refnet.errors import Exit, RefnetError
from refnet.settings.table import Settings, absolute_folder, keys, variable

FILE_NAME = "refnet.toml"

#: Read by the program itself, not settings of the system.
_OTHER_VARIABLES = frozenset({"REFNET_BROKER_PASSWORD"})


def load(environment: Mapping[str, str], folder: Path, *, root: bool, cores: int) -> Settings:
    """The settings in force for a process with `environment`, started in `folder`.

    Args:
        environment: the process's variables; REFNET_* win over the file.
        folder: the current folder, the first place of refnet.toml; REFNET_HOME is the second.
        root: whether the user is root (its home is /var/lib/refnet).
        cores: the machine's cores, which bound the default of `jobs`.
    """
    home = environment.get("REFNET_HOME")
    home_dir = (
        _parsed("REFNET_HOME", absolute_folder, home, "the environment")
        if home
        else _default_home(environment, root)
    )
    file = next((f for f in (folder / FILE_NAME, home_dir / FILE_NAME) if f.is_file()), None)
    given: dict[str, tuple[Any, str]] = {}
    for key, value in (_flat(_read(file)) if file else {}).items():
        given[key] = (value, str(file))
    by_variable = {variable(key): key for key in keys()}
    for name, value in environment.items():
        if not name.startswith("REFNET_") or name in _OTHER_VARIABLES:
            continue
        if name not in by_variable:
            raise _unknown(name, "the environment", sorted(by_variable))
        if value:
            given[by_variable[name]] = (value, "the environment")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key, (value, origin) in given.items():
        if key not in keys():
            raise _unknown(key, origin, sorted(keys()))
        values[keys()[key].name] = _parsed(key, keys()[key].metadata["parse"], value, origin)
        origins[key] = origin
    if "home" in values and not home:
        home_dir = values["home"]
    fallback = {
        "home": home_dir,
        "backup_dir": _default_backup_dir(home_dir, root),
        "vault_dir": home_dir / "vault",
        "jobs": max(1, min(cores, 8)),
    }
    for f in keys().values():
        if f.name not in values:
            default = f.default if f.default is not MISSING else None
            values[f.name] = fallback.get(f.name, default)
    return Settings(**values, file=file, origins=origins)


def _parsed(key: str, parse: Callable[[Any], Any], value: Any, origin: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise RefnetError(
            f"{key} (from {origin}) {error}", "`refnet settings` shows every key.", Exit.USAGE
        ) from None


def _unknown(key: str, origin: str, known: list[str]) -> RefnetError:
    return RefnetError(
        f"{key} (from {origin}) is not a setting", f"The settings are: {', '.join(known)}.", Exit.USAGE
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RefnetError(
            f"{file} is not TOML: {error}", "Mend that line; see refnet.toml.example.", Exit.USAGE
        ) from None
    except OSError as error:
        raise RefnetError(
            f"{file} cannot be read: {error.strerror}", "Make it readable for this user.", Exit.USAGE
        ) from None


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and f"{prefix}{key}" not in keys():
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _default_home(environment: Mapping[str, str], root: bool) -> Path:
    if root:
        return Path("/var/lib/refnet")
    data = environment.get("XDG_DATA_HOME")
    return (Path(data) if data and data.startswith("/") else Path.home() / ".local" / "share") / "refnet"


def _default_backup_dir(home: Path, root: bool) -> Path:
    system = Path("/var/backups/refnet")
    nearest = next(folder for folder in (system, *system.parents) if folder.exists())
    return system if root or os.access(nearest, os.W_OK) else home / "backups"
