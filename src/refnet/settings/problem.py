"""Problems of settings: their words, and those of names and contradictions of sources and stores.

`refnet settings` lists them; all other commands raise the first as an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

from refnet.catalog.source_name import GLOBALS, LOCAL, wrong_name
from refnet.core.errors import Exit, RefnetError
from refnet.settings import stores
from refnet.settings.converters import InvalidError
from refnet.settings.document import Given, dotted
from refnet.settings.sources import (
    LONGEST_CLUSTER,
    MOST,
    SHORT,
    TABLES,
    SourceSettings,
    clusters_of_one_server,
    conflicts,
    names_of_bases,
    near_name,
)
from refnet.settings.stores import STORES, StoreSettings
from refnet.settings.table import Settings

#: The most characters of a value or a key in a message.
_LONGEST = 80
#: A URL with a user or a query, another place with one, or the private key of age.
_SECRET = re.compile(r":.*[@?]|[@?].*:|:.*=|SECRET-KEY", re.IGNORECASE | re.DOTALL)
#: The most stores, and the most problems that are listed: to search the nearest setting for each takes time.
_MOST_STORES, MOST_PROBLEMS = 20, 100
_EXAMPLE = "refnet.toml.example lists every setting."


@dataclass(frozen=True)
class Problem:
    """A setting, a variable or a settings file that cannot be used. Neither text contains a secret."""

    #: The file with its line, or the variable; the setting; its value unless it is a secret; the rule.
    message: str
    #: The nearest valid value, if there is one, and what else to write.
    hint: str
    #: The key of the setting; "" if the problem is not about one.
    key: str = ""

    @classmethod
    def of(cls, error: RefnetError, key: str = "") -> Problem:
        """Problem of an unreadable file."""
        return cls(error.message, error.hint, key)

    @property
    def error(self) -> RefnetError:
        """RefnetError (USAGE) about only this problem."""
        return RefnetError(self.message, self.hint, Exit.USAGE)


def error_of(problems: Sequence[Problem]) -> RefnetError:
    """RefnetError about the first of `problems`, with the number of the others."""
    error, others = problems[0].error, len(problems) - 1
    more = f" (and {others} more: refnet settings)" if others else ""
    return RefnetError(f"{error.message}{more}", error.hint, error.code)


def invalid(key: str, named: str, value: Any, error: InvalidError) -> Problem:
    """Problem of an invalid value of `key`, which the message calls `named`; `value` None: secret."""
    shown = "" if value is None or _may_be_secret(value) else f" = {_shown(value)}"
    near = f"Did you mean {short(error.near)}? " if error.near and shown else ""
    return Problem(f"{named}{shown}: {error.rule}", f"{near}{error.usage}", key)


def unknown(name: str, place: str, known: Iterable[str]) -> Problem:
    """Problem of an unknown setting `name`; the message never contains its value."""
    return Problem(f"{place}{short(name)} is not a setting", f"{_near(name, known)}{_EXAMPLE}", name)


def unknown_table(name: str, place: str, known: Iterable[str], inner: Iterable[str] = ()) -> Problem:
    """Problem of an unknown table `name`; `inner`: its subtables."""
    table, _, source = name.partition(".")
    if f"{table}s" in TABLES:
        source = next((one for one in (source, *inner) if not wrong_name(one)), "NAME")
        near = f"Did you mean [{table}s.{source}]? "
    else:
        near = _near(f"[{name}]", (f"[{each}]" for each in known))
    return Problem(f"{place}[{short(name)}] is not a table of settings", f"{near}{_EXAMPLE}", name)


def unusable_name(name: str, place: str, why: str, near: str) -> Problem:
    """Problem of an unusable name of a source or store; `near`: a valid similar name, or ""."""
    again = f"Did you mean {near}? " if near and f".{near}" not in name else ""
    return Problem(f"{place}[{short(name)}]: {why}", f"{again}Give it another name.", name)


def not_a_table(name: str, place: str) -> Problem:
    """Problem of a value in the place of the table `name`."""
    return Problem(f"{place}{name} must be a table", f"Write [{name}] on a line, and its keys below.", name)


def short(text: str) -> str:
    """`text`, shortened if it is long."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _near(name: str, known: Iterable[str]) -> str:
    """ "Did you mean …?" for an unknown key: the same name outside of its table, in that of a source, similar keys."""
    table, dot, key = name.rpartition(".")
    inside = sorted(one for one in known if one.rpartition(".")[0] == table)
    outside = sorted({*known} - {*inside})
    if dot and key in outside:
        return f"Did you mean {key}, outside of the table [{short(table)}]? "
    if of_source := next((one for one in known if one.endswith(f".{key}.{table}")), ""):
        return f"Did you mean {of_source}? "
    if near := get_close_matches(key[:_LONGEST], [one.rpartition(".")[2] for one in inside], 1):
        return f"Did you mean {table}{dot}{near[0]}? "
    near = get_close_matches(name[:_LONGEST], outside, 1, 0.8 if dot else 0.6)
    return f"Did you mean {near[0]}? " if near else ""


def _may_be_secret(value: Any) -> bool:
    """Whether `value` may be a secret at the wrong key: a URL with a password, or a recovery key."""
    return isinstance(value, str) and bool(_SECRET.search(value))


def _shown(value: Any) -> str:
    """`value` in TOML, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"
    if isinstance(value, list):
        return "[…]" if value else "[]"
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    return json.dumps(short(value), ensure_ascii=False) if isinstance(value, str) else str(value)


def named_in(file: Given, wrong: list[Problem]) -> tuple[dict[str, SourceSettings], dict[str, StoreSettings]]:
    """Return the sources and the stores of `file` by name, without their keys; append the problems of the names to `wrong`."""
    found: dict[str, SourceSettings] = {}
    for table in TABLES:
        for name in _names(file, table, partial(_unusable, found, table), wrong):
            found[name] = SourceSettings(name, table)
    places: dict[str, StoreSettings] = {}
    for name in _names(file, STORES, partial(_unusable_store, places), wrong):
        places[name] = StoreSettings(name)
    return found, places


def _names(file: Given, table: str, unusable: Callable[[str], str], wrong: list[Problem]) -> Iterator[str]:
    """Yield the valid names in the table `table` of `file`; append problems of the others to `wrong`."""
    tables = file.table.get(table, {})
    if not isinstance(tables, dict):
        wrong.append(not_a_table(f"{table}.NAME", file.place((table,))))
        return
    for name, content in tables.items():
        if len(wrong) >= MOST_PROBLEMS:
            return
        path = (table, name)
        if why := unusable(name):
            wrong.append(unusable_name(dotted(path), file.place(path), why, near_name(name)))
        elif not isinstance(content, dict):
            wrong.append(not_a_table(dotted(path), file.place(path)))
        else:
            yield name


def _unusable(found: Mapping[str, SourceSettings], table: str, name: str) -> str:
    if name in SHORT:
        return f"{SHORT[name]} sets the source {name}"
    if why := _taken(name, found):
        return why
    if name.endswith(GLOBALS):
        return f"{GLOBALS} ends the names of roles of clusters"
    if table == "clusters" and len(name) > LONGEST_CLUSTER:
        return f"longer than {LONGEST_CLUSTER} characters; the names of its databases follow it"
    return wrong_name(name) or (f"more than {MOST} sources" if len(found) >= MOST else "")


def _unusable_store(found: Mapping[str, StoreSettings], name: str) -> str:
    if name == LOCAL:
        return f"{LOCAL} is the backup folder"
    wrong = _taken(name, found) or wrong_name(name)
    return wrong or (f"more than {_MOST_STORES} stores" if len(found) >= _MOST_STORES else "")


def _taken(name: str, found: Mapping[str, Any]) -> str:
    same = {one.replace("-", "_"): one for one in found}
    other = same.get(name.replace("-", "_"))
    return f"{found[other].table}.{other} has this name, or the same variables" if other else ""


def contradictions(settings: Settings, file: Given | None, wrong: set[str]) -> Iterator[Problem]:
    """Yield problems of sources and stores: no URL or path, or a conflict with another one.

    wrong: keys with a problem, which are skipped.
    """
    for one in settings.named:
        last = "path" if one.table == "folders" else "url"
        needed = f"{one.table}.{one.name}.{last}"
        if (
            not (getattr(one, last) or (isinstance(one, SourceSettings) and one.is_file))
            and needed not in wrong
        ):
            place = file.place((one.table, one.name)) if file else ""
            yield Problem(f"{place}{needed} is not set", "Set it, or remove the table.", needed)
    if settings.web_metrics_token and settings.web_metrics_token == settings.web_token:
        place, same = file.place(("web", "metrics_token")) if file else "", "web.metrics_token"
        hint = "Use a different token: Prometheus could start restores with it."
        yield Problem(f"{place}{same} is web.token", hint, same)
    standard = {**dict.fromkeys(SHORT), "obsidian": settings.vault_dir}
    folders = {name: one.path for name, one in settings.sources.items() if name not in SHORT}
    for key, why, hint in (
        *conflicts(settings.sources, settings.backup_dir),
        *clusters_of_one_server(settings.clusters.values()),
        *names_of_bases(settings.clusters.values(), settings.sources.values()),
        *stores.conflicts(settings.stores, standard | folders, settings.clusters, settings.backup_dir),
    ):
        place = file.place(tuple(key.split("."))) if file else ""
        yield Problem(f"{place}{key}: {why}", hint, key)
