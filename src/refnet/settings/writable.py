"""The keys that a page may write into the settings file, and the places that it may name for a new source or store.

Everything that is not listed here is refused: a token of the web must not become a shell. No key here names a program, a
hook, a credential, a recipient or a signer. Only what is new gets a place: a folder or a file inside of what the settings
protect already, or a bucket without options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.catalog.source_name import wrong_name
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.settings.converters import InvalidError, entry_names
from refnet.settings.known_keys import keys_of, setting
from refnet.settings.sources import SourceSettings
from refnet.settings.stores import STORES
from refnet.settings.table import Settings
from refnet.settings.urls import StoreKind

_CHECKS = ("min_bytes", "shrunk_bytes", "prove_source", "prove_every")
#: The keys that belong to no source and no store.
GENERAL = (
    *("schedule.prune", "schedule.drill", "schedule.monitor", "schedule.timezone"),
    *("retention.previous", "backup.order", "left_out.files", "left_out.databases", "left_out.percent"),
    *("shrunk.tables", "shrunk.rows", "shrunk.bytes", "shrunk.files"),
    *("prove.required", "prove.source", "prove.every", "monitor.min_bytes"),
)
#: Source of the short form → its keys.
OF_SHORT = {
    "database": ("schedule.database", "retention.database", "database.required_tables"),
    "config": ("schedule.config", "retention.config", "exclude.config"),
    "obsidian": ("schedule.obsidian", "retention.obsidian", "exclude.obsidian"),
}
#: All of these keys.
WRITABLE = frozenset((*GENERAL, *(key for own in OF_SHORT.values() for key in own)))
#: Table → the keys of each source or store in it.
IN_TABLE = {
    "databases": ("schedule", "retention", "required_tables", "shrunk_tables", "shrunk_rows", *_CHECKS),
    "folders": ("schedule", "retention", "exclude", "one_file_system", "shrunk_files", *_CHECKS),
    "clusters": ("schedule", "retention", "exclude", "shrunk_tables", "shrunk_rows", *_CHECKS),
    STORES: ("sources", "retention", "share_for", "lock", "extend_locks", "bandwidth", "region"),
}
#: Table → the key with the place, which a page writes only for a new source or store.
PLACES = {"databases": "path", "folders": "path", STORES: "url"}
#: The kinds of stores whose URL names neither a folder of this machine nor a program.
_BUCKETS = frozenset({StoreKind.S3, StoreKind.GS, StoreKind.AZ, StoreKind.SFTP})
#: The most characters of the text of one key.
_LONGEST = 10_000


@dataclass(frozen=True)
class Subject:
    """What one form is about. RefnetError (USAGE) if a page changes nothing of it."""

    #: "": a source of the short form, or what belongs to no source.
    table: str
    #: The name of the source or store; "": what belongs to no source.
    name: str
    #: Whether the settings do not name it yet.
    is_new: bool = False

    def __post_init__(self) -> None:
        known = self.table in IN_TABLE if self.table else self.name in {"", *OF_SHORT}
        if self.is_new and (why := wrong_name(self.name)):
            raise RefnetError(f"'{plain(self.name)[:100]}': {why}", "Give it another name.", Exit.USAGE)
        if not known or (self.is_new and self.table not in PLACES):
            raise RefnetError(
                f"no page changes '{plain(f'{self.table} {self.name}')[:100]}'",
                "/settings/set-up lists what pages change.",
                Exit.USAGE,
            )

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that a page may write; of what is new also the place, first."""
        if not self.table:
            return OF_SHORT.get(self.name, GENERAL)
        own = (PLACES[self.table],) if self.is_new else ()
        return tuple(f"{self.table}.{self.name}.{key}" for key in (*own, *IN_TABLE[self.table]))

    @property
    def source(self) -> str:
        """The source or cluster; "": it is none."""
        return "" if self.table == STORES else self.name

    def key_of(self, name: str) -> str:
        """The key of the source's `schedule` or `retention`."""
        return f"{self.table}.{self.name}.{name}" if self.table else f"{name}.{self.name}"

    def values(self, settings: Settings, given: Mapping[str, str]) -> dict[str, Any]:
        """Key → value for TOML, None: remove it; RefnetError (USAGE) for a key or a place that no page writes."""
        for key, text in given.items():
            if key not in self.keys:
                raise _by_hand(f"no page writes the setting '{plain(key)[:100]}'")
            if len(text) > _LONGEST:
                raise RefnetError(f"{key} has more than {_LONGEST:,} characters", "Shorten it.", Exit.USAGE)
            if self.is_new and key == self.keys[0]:
                check_place(settings, self.table, text.strip())
        return {key: value_of(key, text) if text.strip() else None for key, text in given.items()}


def subject(settings: Settings, table: str, name: str) -> Subject:
    """The subject of a form about `name` in `table`, new if the settings do not name it."""
    there = {(one.table, one.name) for one in settings.named}
    return Subject(table, name, is_new=bool(table) and (table, name) not in there)


def value_of(key: str, text: str) -> Any:
    """The value for TOML that a field of a form means: of a list one item a line. It is not checked."""
    field = setting(key)
    kind, one = str(field.type) if field else "", text.strip()
    if kind.startswith("tuple"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    if kind.startswith("bool") and one in {"true", "false"}:
        return one == "true"
    if kind.startswith("int") and one.isascii() and one.isdigit() and len(one) <= 18:
        return int(one)
    return one


def text_of(key: str, value: Any) -> str | None:
    """The text of a field for the `value` in the settings file; None: a form cannot show it."""
    field = setting(key)
    if isinstance(value, dict):
        return (
            str(field.metadata["convert"](value))
            if field and str(field.type).startswith("Retention")
            else None
        )
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_place(settings: Settings, table: str, text: str) -> None:
    """Raise RefnetError (USAGE) unless a page may name the place `text` of a new source or store of `table`."""
    name = PLACES[table]
    try:
        place = keys_of(table)[name].metadata["convert"](text)
    except InvalidError as error:
        raise RefnetError(f"{name} {error.rule}", error.usage, Exit.USAGE) from None
    if isinstance(place, Path):
        _check_inside(settings, place)
    elif place.kind not in _BUCKETS or place.options:
        raise _by_hand(
            "a page names only stores of the kinds s3, gs, az and sftp, without options in the URL"
        )


def _check_inside(settings: Settings, path: Path) -> None:
    """Raise RefnetError unless a source that is a folder protects `path`, with all links followed; nothing of RefNet's."""
    folders = [one for one in settings.sources.values() if one.table == "folders"]
    if not any(_protects(one, path) for one in folders) or is_inside(path, settings.home):
        raise _by_hand("a page names only places inside of a folder that is a source already")


def _protects(source: SourceSettings, path: Path) -> bool:
    """Whether `path` is inside of the folder of `source`, and of one of its entries if it has some."""
    if source.path is None or not is_inside(path, source.path):
        return False
    name = Path(os.path.realpath(path)).relative_to(os.path.realpath(source.path)).parts[0]
    return not source.entries or name in {one for entry in source.entries for one in entry_names(entry)}


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` is inside of `folder`, and not `folder` itself, with all links followed."""
    real, outer = os.path.realpath(path), os.path.realpath(folder)
    return real != outer and os.path.commonpath((real, outer)) == outer


def _by_hand(why: str) -> RefnetError:
    return RefnetError(
        why, "Add the lines to the settings file by hand; refnet.toml.example has them.", Exit.USAGE
    )
