"""The sources of a settings file: `[databases.NAME]`, `[folders.NAME]` and `[clusters.NAME]`, and their conflicts.

Also the rules of `exclude`, in .gitignore syntax, matched by pathspec. A rule is matched against names that anybody may
have made up, so its wildcards are limited: no path takes longer than some milliseconds.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from refnet.catalog.schedule import Retention, When
from refnet.catalog.source_name import LONGEST, bases_name, wrong_name
from refnet.settings import converters, urls
from refnet.settings.converters import InvalidError, key, names
from refnet.settings.times import parse_retention, parse_schedule

#: The tables of sources in refnet.toml.
TABLES = ("databases", "folders", "clusters")
#: The sources of the short form, each with its own keys: field → key; the first one names the source.
SHORT_KEYS = {
    "database": {
        "url": "database_url",
        "restore_url": "database.restore_url",
        "required_tables": "database.required_tables",
    },
    "config": {"path": "config_dir", "entries": "config.entries", "exclude": "exclude.config"},
    "obsidian": {"path": "vault_dir", "exclude": "exclude.obsidian"},
}
#: Each of them → the key that names it.
SHORT = {name: next(iter(of_field.values())) for name, of_field in SHORT_KEYS.items()}
#: The most sources, and the most characters of the name of a cluster.
MOST, LONGEST_CLUSTER = 200, 24
#: The most rules, characters of one, `*` in one name besides one at its end, and `**` in one rule.
MOST_RULES, LONGEST_RULE, MOST_STARS, MOST_DEPTHS = 100, 255, 2, 3
_RULE_USAGE = (
    'Write a list of rules as in .gitignore, such as ["**/.trash/**", "*.tmp"]; ! before a rule takes back.'
)
_STARS = re.compile(r"\*+")


def near_name(name: str) -> str:
    """The valid name closest to `name`, or ""."""
    near = re.sub(r"[^a-z0-9_-]+", "_", name.lower()[:LONGEST]).strip("_-")
    return "" if wrong_name(near) or near in SHORT else near


def exclude_rules(value: Any) -> tuple[str, ...]:
    """Parse ignore rules; InvalidError if one is invalid or too slow."""
    found = names(value)
    if len(found) > MOST_RULES:
        raise InvalidError(f"must have at most {MOST_RULES} rules", "Combine rules with wildcards.")
    for rule in found:
        _check_rule(rule)
    return found


def _check_rule(rule: str) -> None:
    if len(rule) > LONGEST_RULE:
        raise InvalidError(f"must have rules of at most {LONGEST_RULE} characters", _RULE_USAGE)
    parts = rule.removeprefix("!").strip("/").split("/")
    stars = max(len(_STARS.findall(part.rstrip("*"))) for part in parts if part != "**" or len(parts) == 1)
    if stars > MOST_STARS or parts.count("**") > MOST_DEPTHS:
        raise InvalidError(
            f"'{rule}' has too many wildcards: a rule has at most {MOST_STARS} of * in one name (and one at its end), "
            f"and {MOST_DEPTHS} of **",
            "Write a simpler rule.",
        )
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", FutureWarning
            )  # of a rule that a later Python reads in another way
            found = GitIgnoreSpecPattern(rule)
    except (ValueError, re.error, FutureWarning):
        found = None
    if found is None or found.include is None:
        raise InvalidError(f"'{rule}' is not a rule of .gitignore", _RULE_USAGE)


@cache
def matcher(rules: tuple[str, ...]) -> Callable[[str], bool]:
    """Predicate for paths that checked `rules` exclude; the path of a folder ends with a /.

    As in .gitignore, call it for a path only if no parent is excluded.
    """
    from pathspec import GitIgnoreSpec

    match = GitIgnoreSpec.from_lines(rules).match_file
    # a line break is a character like any other in a name, and not one in a regular expression
    return lambda path: match(path.replace("\n", "\0"))


@dataclass(frozen=True)
class SourceSettings:
    """The settings of one source. In `Settings.sources`, None stands for the default; `Settings.of` fills it in."""

    name: str
    #: One of TABLES.
    table: str
    #: The server and its database; None: RefNet's own server.
    url: str | None = key(urls.database_url, secret=True, table="databases clusters")
    #: A file with the URL.
    url_file: Path | None = key(converters.absolute_folder, table="databases clusters")
    #: The same for restores, with a role that may write; None: as url.
    restore_url: str | None = key(urls.database_url, secret=True, table="databases clusters")
    #: A file with that URL.
    restore_url_file: Path | None = key(converters.absolute_folder, table="databases clusters")
    #: Databases of a cluster that are left out, with * and ?.
    exclude_databases: tuple[str, ...] = key(converters.names, default=(), name="exclude", table="clusters")
    #: Back up the SCRAM verifiers of passwords with the roles of a cluster.
    roles_with_passwords: bool | None = key(converters.flag, table="clusters")
    #: Back up the whole server with its WAL as well, to any second: the source CLUSTER-cluster.
    wal: bool | None = key(converters.flag, table="clusters")
    #: The cluster that a database was found in; "": the settings file names it.
    cluster: str = ""
    #: True: its server no longer has that database, and nobody accepted it.
    gone: bool = False
    #: Tables without which an artifact is not intact.
    required_tables: tuple[str, ...] | None = key(converters.names, table="databases")
    #: The protected folder, or the file of an SQLite database; None: not configured.
    path: Path | None = key(converters.absolute_folder, table="folders databases")
    #: The protected entries of it; None: everything.
    entries: tuple[str, ...] | None = key(converters.entries, table="folders")
    #: What is left out: rules as in .gitignore.
    exclude: tuple[str, ...] = key(exclude_rules, default=(), table="folders")
    #: True: leave out what is mounted in the folder.
    one_file_system: bool | None = key(converters.flag, table="folders")
    #: When it is backed up, such as `daily 02:30`, or `off`; without it as `database`, a folder as `obsidian`.
    schedule: When | None = key(parse_schedule)
    #: How long its artifacts are kept, such as `days=14 weekly=8`; None: as those of `database`, of a folder as `obsidian`.
    retention: Retention | None = key(parse_retention)
    #: A smaller artifact is a warning; 0: no check.
    min_bytes: int | None = key(converters.size)
    #: Percent of the last artifact; with less an artifact is shrunk. 0: no check.
    shrunk_tables: int | None = key(converters.percent, table="databases clusters")
    shrunk_rows: int | None = key(converters.percent, table="databases clusters")
    shrunk_bytes: int | None = key(converters.percent)
    shrunk_files: int | None = key(converters.percent, table="folders")
    #: How a backup is compared with it: count, digest or auto; None: as `prove.source`.
    prove_source: str | None = key(converters.proved_source)
    #: Days between two proofs; None: as `prove.every`.
    prove_every: int | None = key(converters.days_between)
    #: Commands instead of those of `hooks`; empty: none.
    before_backup: tuple[tuple[str, ...], ...] | None = key(converters.hooks)
    after_backup: tuple[tuple[str, ...], ...] | None = key(converters.hooks)
    before_restore: tuple[tuple[str, ...], ...] | None = key(converters.hooks)
    after_restore: tuple[tuple[str, ...], ...] | None = key(converters.hooks)
    on_error: tuple[tuple[str, ...], ...] | None = key(converters.hooks)

    @property
    def is_file(self) -> bool:
        """Whether the source is a database file (SQLite)."""
        return self.table == "databases" and self.path is not None

    def key_of(self, field: str) -> str:
        """The key of `field` in the user's spelling: `database_url`, `databases.shop.url`, `clusters.main.url`."""
        if self.name in SHORT:
            return SHORT_KEYS[self.name].get(field, f"{field}.{self.name}")
        return f"clusters.{self.cluster}.{field}" if self.cluster else f"{self.table}.{self.name}.{field}"


def server_of(url: str) -> tuple[str, str]:
    """Host with port, and database, of a valid database URL."""
    rest = url.partition("://")[2]
    user, at, after = rest.partition("@")
    rest = after if at and "/" not in user else rest
    place, _, query = rest.partition("?")
    server, _, database = place.partition("/")
    given = dict(parse_qsl(query))
    hosts = given.get("host", unquote(server)).lower() or "localhost"
    port = given.get("port", "")
    hosts = ",".join(
        host if re.search(r":\d+$", host) else f"{host}:{port or 5432}" for host in hosts.split(",")
    )
    name = given.get("dbname") or unquote(database) or unquote(user.partition(":")[0] if at else "")
    return hosts, name


def conflicts(sources: Mapping[str, SourceSettings], backup_dir: Path) -> Iterator[tuple[str, str, str]]:
    """Yield conflicts among sources: key, reason, hint."""
    yield from _same_databases(sources.values())
    for one in sources.values():
        if one.url and one.restore_url and server_of(one.url)[1] != server_of(one.restore_url)[1]:
            hint = "Give the same database, with the role that restores."
            yield one.key_of("restore_url"), "not the database of the url", hint
    yield from _shared_folders(sources.values(), backup_dir)


def _same_databases(sources: Iterable[SourceSettings]) -> Iterator[tuple[str, str, str]]:
    known: dict[tuple[str, str], str] = {}
    for one in sources:
        if one.table == "databases" and one.url:
            at = one.key_of("url")
            if (other := known.setdefault(server_of(one.url), at)) != at:
                hint = "Name another database, or remove one of the two."
                yield at, f"the same database as {other}", hint
    files: dict[str, str] = {}
    for one in (each for each in sources if each.is_file):
        at, file = f"databases.{one.name}.path", os.path.realpath(one.path or "")
        if one.url or one.restore_url:
            yield at, "a database has a url or a path", "Remove one of the two."
        elif (other := files.setdefault(file, at)) != at:
            yield at, f"the same file as {other}", "Remove one of the two."


def _shared_folders(sources: Iterable[SourceSettings], backup_dir: Path) -> Iterator[tuple[str, str, str]]:
    store = os.path.realpath(backup_dir)
    #: Real path → the key that names it, and whether everything in it is protected.
    folders: dict[str, tuple[str, bool]] = {}
    for one in (each for each in sources if each.table == "folders" and each.path):
        at, real = one.key_of("path"), os.path.realpath(one.path or "")
        if one.name in SHORT:  # `refnet check` says what is wrong with it
            folders[real] = (at, not one.entries)
            continue
        if _inside(store, real) or _inside(real, store):
            yield at, f"it and the backup folder {backup_dir} overlap", "Choose a folder outside of it."
        for path, (other, entire) in folders.items():
            outer = (entire and _inside(real, path)) or (not one.entries and _inside(path, real))
            if path == real or (
                outer and other != SHORT["config"]
            ):  # of that, only some entries are protected
                how = "the same folder as" if path == real else "one folder with, or inside of,"
                yield at, f"{how} {other}", "Name each folder once; a restore of one would replace both."
        folders.setdefault(real, (at, not one.entries))


def clusters_of_one_server(clusters: Iterable[SourceSettings]) -> Iterator[tuple[str, str, str]]:
    """Yield clusters of the same server: key, reason, hint."""
    servers: dict[str, str] = {}
    for one in (each for each in clusters if each.url):
        key, server = f"clusters.{one.name}.url", server_of(one.url or "")[0]
        if (other := servers.setdefault(server, key)) != key:
            yield key, f"the same server as {other}", "Name each server once: both would back up all of it."


def names_of_bases(
    clusters: Iterable[SourceSettings], sources: Iterable[SourceSettings]
) -> Iterator[tuple[str, str, str]]:
    """Yield clusters whose base backups would have the name of another source: key, reason, hint."""
    named = {one.name for one in sources if not one.cluster}
    for one in clusters:
        if one.wal and (name := bases_name(one.name)) in named:
            yield (
                f"clusters.{one.name}.wal",
                f"its base backups have the name {name}",
                f"Rename the source {name}.",
            )


def _inside(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder
