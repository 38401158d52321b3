"""Every setting: its key, its default, what it takes.

Written out rather than taken from a library: `refnet --help` and every script pay for this import, and
`refnet settings` must name each value's origin. A key `recover.services` is REFNET_RECOVER_SERVICES.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from refnet.compose import COMPOSE_FILES

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DIGITS = re.compile(r"[0-9]{1,18}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    if _CONTROL.search(value):
        raise ValueError("must not hold control characters")
    return value.strip()


def user_path(text: str | Path) -> Path:
    """`text` as a path; a `~` is a home, where there is such a user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # Path's own raises where there is none


def absolute_folder(value: Any) -> Path:
    """`value` as the path of a folder; ValueError where it is none, or relative."""
    path = user_path(_text(value))
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _count(value: Any) -> int:
    if not _is_whole(value):
        raise ValueError("must be a whole number")
    number = int(value)
    if not 1 <= number <= 64:
        raise ValueError("must be between 1 and 64")
    return number


def _log_folder(value: Any) -> Path | None:
    return None if value == "none" else absolute_folder(value)


def _is_whole(value: Any) -> bool:
    """Whether `value`, from TOML or as a text, is a number of at most 18 digits."""
    if isinstance(value, str):
        return bool(_DIGITS.fullmatch(value))
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18


def _names(value: Any) -> tuple[str, ...]:
    items = [item for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) and item.strip() for item in items):
        raise ValueError("must be a list of names")
    return tuple(map(_text, items))


def _url(value: Any) -> str:
    text = _text(value)
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URI that begins with postgresql://")
    return text


DEFAULT_ENTRIES = ("|".join(COMPOSE_FILES), ".env", "refnet.toml?", "monitoring/?", "scripts/?", "docs/?")


@dataclass(frozen=True)
class Retention:
    """How long artifacts of a source are kept: each for `days`, and beyond that one for so many days, weeks,
    months and years that have one.
    """

    days: int
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    def __str__(self) -> str:
        return " ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name))


def _retention(value: Any) -> Retention:
    """`days=7 weekly=4` or a table of the same names; what is left out is 0."""
    wrong = ValueError("must be like 'days=7 daily=0 weekly=4 monthly=12 yearly=3'")
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.replace(",", " ").split()]
        value = {name: int(number) if _DIGITS.fullmatch(number) else None for name, _, number in pairs}
    names = {f.name for f in fields(Retention)}
    if not isinstance(value, dict) or not value or not value.keys() <= names:
        raise wrong
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= 36_500 for n in value.values()):
        raise wrong
    return Retention(**({"days": 0} | value))


def _bytes(value: Any) -> int:
    if not _is_whole(value):
        raise ValueError("must be a number of bytes")
    return int(value)


def _percent(value: Any) -> int:
    if not _is_whole(value) or int(value) > 100:
        raise ValueError("must be a number from 0 to 100")
    return int(value)


def _seconds(value: Any) -> int:
    if not _is_whole(value) or int(value) < 1:
        raise ValueError("must be a number of seconds, 1 or more")
    return int(value)


def _services(value: Any) -> str | None:
    if value not in ("local", "compose", "none"):
        raise ValueError("must be local, compose or none")
    return None if value == "none" else str(value)


def _web_urls(value: Any) -> tuple[str, ...]:
    """Apprise's URLs: a list, or a text with spaces between them."""
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) and "://" in item for item in items):
        raise ValueError("must be a list of URLs")
    return tuple(map(_text, items))


def _ping_url(value: Any) -> str:
    text = _text(value)
    if not text.startswith(("https://", "http://")):
        raise ValueError("must be a URL that begins with https:// or http://")
    return text


def _level(value: Any) -> str:
    if value not in ("debug", "info", "warning", "error"):
        raise ValueError("must be debug, info, warning or error")
    return str(value)


def _broker_url(value: Any) -> str:
    text = _text(value)
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"redis", "rediss"} and parts.hostname and (parts.port or 6379)
        known = known or (parts.scheme == "redis+socket" and parts.path.startswith("/"))
    except ValueError:
        known = False
    if not known:  # the value is not repeated: it may hold a password
        raise ValueError("must be redis://HOST:PORT/NUMBER, rediss://… or redis+socket:///PATH")
    return text


def _key(
    parse: Callable[[Any], Any],
    *,
    default: Any = None,
    name: str | None = None,
    secret: bool = False,
    says: str,
) -> Any:
    return field(default=default, metadata={"parse": parse, "name": name, "secret": secret, "says": says})


@dataclass(frozen=True)
class Settings:
    """What is in force. Paths are absolute; None means: not configured.

    file: the settings file that was read. origins: where each value that is no default comes from. warnings: what is
    wrong with the files that were read, and is told at every run.
    """

    home: Path = _key(absolute_folder, default=Path("/"), says="RefNet's own folder")
    database_url: str | None = _key(_url, secret=True, says="the server; none: the embedded one")
    backup_dir: Path = _key(absolute_folder, default=Path("/"), says="where artifacts live")
    vault_dir: Path = _key(absolute_folder, default=Path("/"), says="the Obsidian vault")
    config_dir: Path | None = _key(
        absolute_folder,
        says="the folder of the configuration; none: the current one, if it holds a Compose file",
    )
    jobs: int = _key(_count, default=1, says="parallel workers")
    postgres_bin_dir: Path | None = _key(
        absolute_folder, name="postgres.bin_dir", says="PostgreSQL's programs, before all other places"
    )
    required_tables: tuple[str, ...] | None = _key(
        _names, name="database.required_tables", says="tables without which an artifact is not intact"
    )
    config_entries: tuple[str, ...] = _key(
        _names,
        default=DEFAULT_ENTRIES,
        name="config.entries",
        says="what is protected of config_dir: a|b either, / a folder, ? optional",
    )
    broker_url: str | None = _key(
        _broker_url, secret=True, says="Redis or Valkey, for Celery; none: the embedded one"
    )
    schedule_database: str = _key(
        _text, default="daily 02:00", name="schedule.database", says="when the database is backed up"
    )
    schedule_config: str = _key(
        _text, default="sunday 03:00", name="schedule.config", says="when the configuration is backed up"
    )
    schedule_obsidian: str = _key(
        _text, default="daily 01:00", name="schedule.obsidian", says="when the vault is backed up"
    )
    schedule_prune: str = _key(
        _text, default="daily 04:00", name="schedule.prune", says="when old artifacts are deleted"
    )
    schedule_drill: str = _key(
        _text, default="monthly 1 05:00", name="schedule.drill", says="when a drill runs"
    )
    schedule_monitor: str = _key(
        _text, default="hourly :45", name="schedule.monitor", says="when the backups are looked after"
    )
    schedule_timezone: str | None = _key(
        _text, name="schedule.timezone", says="the schedule's time zone, as Asia/Tokyo; none: the machine's"
    )
    retention_database: Retention = _key(
        _retention,
        default=Retention(days=7),
        name="retention.database",
        says="how long its artifacts are kept",
    )
    retention_config: Retention = _key(
        _retention,
        default=Retention(days=28),
        name="retention.config",
        says="how long its artifacts are kept",
    )
    retention_obsidian: Retention = _key(
        _retention,
        default=Retention(days=30),
        name="retention.obsidian",
        says="how long its artifacts are kept",
    )
    shrunk_tables: int = _key(
        _percent,
        default=90,
        name="shrunk.tables",
        says="percent of the tables of the last artifact that must be left, else it counts as shrunk; 0: none",
    )
    shrunk_rows: int = _key(
        _percent, default=50, name="shrunk.rows", says="the same of the rows of a database"
    )
    shrunk_bytes: int = _key(
        _percent, default=50, name="shrunk.bytes", says="the same of the bytes of rows or files"
    )
    shrunk_files: int = _key(
        _percent, default=50, name="shrunk.files", says="the same of the files of config and obsidian"
    )
    monitor_min_bytes: int = _key(
        _bytes,
        default=0,
        name="monitor.min_bytes",
        says="an artifact smaller than this is a warning; 0: none is",
    )
    recover_services: str | None = _key(
        _services,
        name="recover.services",
        says="what starts services: local, compose or none",
    )
    recover_storage: tuple[str, ...] = _key(
        _names, default=("postgres",), name="recover.storage", says="services that hold data, started first"
    )
    recover_application: tuple[str, ...] = _key(
        _names, default=(), name="recover.application", says="services started when the data is back"
    )
    recover_background: tuple[str, ...] = _key(
        _names, default=(), name="recover.background", says="services started after the application"
    )
    recover_edge: tuple[str, ...] = _key(
        _names, default=(), name="recover.edge", says="services started last: proxies, monitoring"
    )
    recover_health_url: str | None = _key(
        _text, name="recover.health_url", says="what a recovery asks at its end: a URL that answers 200"
    )
    recover_seconds: int = _key(
        _seconds, default=120, name="recover.seconds", says="how long a recovery waits for services"
    )
    notify_urls: tuple[str, ...] = _key(
        _web_urls, default=(), name="notify.urls", secret=True, says="who is told of failures: Apprise's URLs"
    )
    notify_backup_ping: str | None = _key(
        _ping_url, name="notify.backup_ping", secret=True, says="pinged by backups; {source} is filled in"
    )
    notify_drill_ping: str | None = _key(
        _ping_url, name="notify.drill_ping", secret=True, says="pinged by drills; {source} is filled in"
    )
    log_folder: Path | None = _key(
        _log_folder,
        name="log.folder",
        says="where refnet-backup.log and refnet-restore.log go: for root /var/log, else logs in home; none: nowhere",
    )
    log_level: str | None = _key(
        _level,
        name="log.level",
        says="from which level on stderr gets the log; none: commands log nothing there",
    )
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def keys() -> dict[str, Field[Any]]:
    """Every key as refnet.toml spells it, in order."""
    return {f.metadata["name"] or f.name: f for f in fields(Settings) if f.metadata}


def variable(key: str) -> str:
    """The environment variable of a key."""
    return "REFNET_" + key.replace(".", "_").upper()


def is_secret(key: str, value: object) -> bool:
    """Whether `value`, as a settings file gives it to `key`, holds a secret: the URL of a server only with a password."""
    known = keys().get(key)
    if not known or not known.metadata["secret"] or not value:
        return False
    if key not in {"database_url", "broker_url"}:
        return True
    try:
        parts = urlsplit(str(value))
        return bool(parts.password) or "password" in parts.query
    except ValueError:
        return True
