"""All settings: their keys, defaults and values.

This is not a library's work: `refnet --help` and every script pay for this import, and `refnet settings` must name
each value's origin. The key `recover.services` is REFNET_RECOVER_SERVICES.
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
        raise ValueError("must be text that is not empty")
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters")
    return value.strip()


def user_path(text: str | Path) -> Path:
    """Return `text` as a path; `~` is a home, if there is such a user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # Path's own raises if there is none


def absolute_folder(value: Any) -> Path:
    """Return `value` as the path of a folder; ValueError if it is not an absolute path."""
    path = user_path(_text(value))
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _count(value: Any) -> int:
    if not _is_integer(value):
        raise ValueError("must be a whole number")
    number = int(value)
    if not 1 <= number <= 64:
        raise ValueError("must be between 1 and 64")
    return number


def _log_folder(value: Any) -> Path | None:
    return None if value == "none" else absolute_folder(value)


def _is_integer(value: Any) -> bool:
    """Return whether `value`, from TOML or as text, is an integer of at most 18 digits."""
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
    """The retention of a source's artifacts."""

    #: Each artifact is kept for so many days.
    days: int
    #: Of the newest days with an artifact, one is kept for each.
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    def __str__(self) -> str:
        return " ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name))


def _retention(value: Any) -> Retention:
    """Parse `days=7 weekly=4` or a table with these names; a missing one is 0."""
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
    if not _is_integer(value):
        raise ValueError("must be a number of bytes")
    return int(value)


def _percent(value: Any) -> int:
    if not _is_integer(value) or int(value) > 100:
        raise ValueError("must be a number from 0 to 100")
    return int(value)


def _seconds(value: Any) -> int:
    if not _is_integer(value) or int(value) < 1:
        raise ValueError("must be a number of seconds, 1 or more")
    return int(value)


def _services(value: Any) -> str | None:
    if value not in ("local", "compose", "none"):
        raise ValueError("must be local, compose or none")
    return None if value == "none" else str(value)


def _web_urls(value: Any) -> tuple[str, ...]:
    """Parse Apprise's URLs: a list, or text with spaces between them."""
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
    if not known:  # the value is not quoted: it may contain a password
        raise ValueError("must be redis://HOST:PORT/NUMBER, rediss://… or redis+socket:///PATH")
    return text


def _key(
    parse: Callable[[Any], Any],
    *,
    default: Any = None,
    name: str | None = None,
    secret: bool = False,
) -> Any:
    return field(default=default, metadata={"parse": parse, "name": name, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """The settings of a process. Paths are absolute; None: not configured."""

    #: RefNet's own folder.
    home: Path = _key(absolute_folder, default=Path("/"))
    #: The server; None: the embedded one.
    database_url: str | None = _key(_url, secret=True)
    #: The folder of the artifacts.
    backup_dir: Path = _key(absolute_folder, default=Path("/"))
    #: The Obsidian vault.
    vault_dir: Path = _key(absolute_folder, default=Path("/"))
    #: The folder of the configuration; None: the current one, if it contains a Compose file.
    config_dir: Path | None = _key(absolute_folder)
    #: Parallel workers.
    jobs: int = _key(_count, default=1)
    #: The folder of PostgreSQL's programs, searched first.
    postgres_bin_dir: Path | None = _key(absolute_folder, name="postgres.bin_dir")
    #: Tables without which an artifact is not intact.
    required_tables: tuple[str, ...] | None = _key(_names, name="database.required_tables")
    #: The protected entries of config_dir: a|b either, / a folder, ? optional.
    config_entries: tuple[str, ...] = _key(_names, default=DEFAULT_ENTRIES, name="config.entries")
    #: Redis or Valkey, for Celery; None: the embedded one.
    broker_url: str | None = _key(_broker_url, secret=True)
    #: The schedule of the backups of the database.
    schedule_database: str = _key(_text, default="daily 02:00", name="schedule.database")
    #: The schedule of the backups of the configuration.
    schedule_config: str = _key(_text, default="sunday 03:00", name="schedule.config")
    #: The schedule of the backups of the vault.
    schedule_obsidian: str = _key(_text, default="daily 01:00", name="schedule.obsidian")
    #: The schedule of deleting old artifacts.
    schedule_prune: str = _key(_text, default="daily 04:00", name="schedule.prune")
    #: The schedule of drills.
    schedule_drill: str = _key(_text, default="monthly 1 05:00", name="schedule.drill")
    #: The schedule of the monitor.
    schedule_monitor: str = _key(_text, default="hourly :45", name="schedule.monitor")
    #: The schedule's time zone, such as Asia/Tokyo; None: the machine's.
    schedule_timezone: str | None = _key(_text, name="schedule.timezone")
    #: The retention of each source's artifacts.
    retention_database: Retention = _key(_retention, default=Retention(days=7), name="retention.database")
    retention_config: Retention = _key(_retention, default=Retention(days=28), name="retention.config")
    retention_obsidian: Retention = _key(_retention, default=Retention(days=30), name="retention.obsidian")
    #: Percent of the last artifact's tables; with fewer an artifact is shrunk. 0: no check.
    shrunk_tables: int = _key(_percent, default=90, name="shrunk.tables")
    #: The same for the rows of a database.
    shrunk_rows: int = _key(_percent, default=50, name="shrunk.rows")
    #: The same for the bytes of rows or files.
    shrunk_bytes: int = _key(_percent, default=50, name="shrunk.bytes")
    #: The same for the files of config and obsidian.
    shrunk_files: int = _key(_percent, default=50, name="shrunk.files")
    #: A smaller artifact is a warning; 0: no check.
    monitor_min_bytes: int = _key(_bytes, default=0, name="monitor.min_bytes")
    #: How services are started: local or compose; None: they are not.
    recover_services: str | None = _key(_services, name="recover.services")
    #: Services with data, started first.
    recover_storage: tuple[str, ...] = _key(_names, default=("postgres",), name="recover.storage")
    #: Services started when the data is restored.
    recover_application: tuple[str, ...] = _key(_names, default=(), name="recover.application")
    #: Services started after the application.
    recover_background: tuple[str, ...] = _key(_names, default=(), name="recover.background")
    #: Services started last: proxies, monitoring.
    recover_edge: tuple[str, ...] = _key(_names, default=(), name="recover.edge")
    #: A URL that answers 200 at the end of a recovery.
    recover_health_url: str | None = _key(_text, name="recover.health_url")
    #: How long a recovery waits for services, in seconds.
    recover_seconds: int = _key(_seconds, default=120, name="recover.seconds")
    #: Apprise's URLs, which get a message about failures.
    notify_urls: tuple[str, ...] = _key(_web_urls, default=(), name="notify.urls", secret=True)
    #: Pinged by backups; {source} is replaced.
    notify_backup_ping: str | None = _key(_ping_url, name="notify.backup_ping", secret=True)
    #: Pinged by drills; {source} is replaced.
    notify_drill_ping: str | None = _key(_ping_url, name="notify.drill_ping", secret=True)
    #: The folder of refnet-backup.log and refnet-restore.log: for root /var/log, else logs in home; None: no files.
    log_folder: Path | None = _key(_log_folder, name="log.folder")
    #: The lowest level that is logged to stderr; None: none.
    log_level: str | None = _key(_level, name="log.level")
    #: The settings file that was read.
    file: Path | None = None
    #: Key → the source of a value that is not the default.
    origins: Mapping[str, str] = field(default_factory=dict)
    #: Problems of the files that were read, printed at every run.
    warnings: tuple[str, ...] = ()


def keys() -> dict[str, Field[Any]]:
    """Return every key of refnet.toml, in order."""
    return {f.metadata["name"] or f.name: f for f in fields(Settings) if f.metadata}


def variable(key: str) -> str:
    """Return the environment variable of a key."""
    return "REFNET_" + key.replace(".", "_").upper()


def is_secret(key: str, value: object) -> bool:
    """Return whether `value` of `key` in a settings file is a secret; a server's URL is one only with a password."""
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
