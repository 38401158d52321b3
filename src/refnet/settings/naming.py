"""Finds the sources and stores of a settings file, and contradictions among them."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from refnet.catalog.source_name import GLOBALS, LOCAL, wrong_name
from refnet.settings import stores
from refnet.settings.document import Given, dotted
from refnet.settings.problem import Problem, not_a_table, unusable_name
from refnet.settings.sources import (
    LONGEST_CLUSTER,
    MOST,
    SHORT,
    TABLES,
    SourceSettings,
    clusters_of_one_server,
    conflicts,
    near_name,
)
from refnet.settings.stores import STORES, StoreSettings
from refnet.settings.table import Settings

#: The most stores, and the most problems that are listed: to search the nearest setting for each takes time.
_MOST_STORES, MOST_PROBLEMS = 20, 100


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
        *stores.conflicts(settings.stores, standard | folders, settings.clusters, settings.backup_dir),
    ):
        place = file.place(tuple(key.split("."))) if file else ""
        yield Problem(f"{place}{key}: {why}", hint, key)
