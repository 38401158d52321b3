"""Report of all settings: value, origin, default, description. Secrets are hidden."""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import Field, dataclass
from functools import cache
from typing import Any

from refnet.settings.known_keys import all_keys, setting, variable
from refnet.settings.reading import Examined
from refnet.settings.sources import SourceSettings
from refnet.settings.stores import STORES, StoreSettings
from refnet.settings.table import Settings, keys
from refnet.settings.times import OFF, parse_schedule

_DESCRIBED = re.compile(r"(?P<text>(?:^    #: .*\n)*)^    (?P<name>\w+): .* = key\(", re.MULTILINE)


@dataclass(frozen=True)
class ShownSetting:
    """One setting. Values are those of JSON; None: not set, or invalid."""

    key: str
    value: Any
    #: Whether there is no problem with it.
    valid: bool
    #: Where the value is from.
    origin: str
    #: The environment variable that sets it.
    variable: str
    #: The value without settings; of a named source, the key whose value it then has: "as schedule.database".
    default: Any
    #: "" where the source text of RefNet is not installed.
    description: str

    @property
    def table(self) -> str:
        """The table of the settings file that it stands in, with the name of a source or a store; "refnet": none."""
        return self.key.rpartition(".")[0] or "refnet"

    def to_json(self) -> dict[str, Any]:
        """Return the setting as `refnet settings --json` prints it."""
        names = {"key": self.key, "value": self.value, "valid": self.valid, "from": self.origin}
        return names | {"variable": self.variable, "default": self.default, "description": self.description}


def report(found: Examined) -> list[ShownSetting]:
    """All settings, those of named sources and stores last."""
    wrong = {problem.key for problem in found.problems}
    listed = []
    for key, field in all_keys(found.settings.named).items():
        value, by = (None, "") if key in wrong else _value(found.settings, key, field.name)
        default = f"as {by}" if by and key not in keys() else _shown(field, _default(found, key, field))
        origin = found.settings.origins.get(key, by or "the default")
        said = "" if key in wrong else found.settings.says(key)
        one = (said or _shown(field, value), key not in wrong, origin, variable(key), default)
        listed.append(ShownSetting(key, *one, description_of(key)))
    return listed


def description_of(key: str) -> str:
    """The sentences that describe `key`; "" where the source text of RefNet is not installed."""
    field = setting(key)
    return _descriptions(type_of(key)).get(field.name, "") if field else ""


def text_of(value: Any) -> str:
    """A JSON value as one line, a flag as in TOML."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, list) else str(value)


def type_of(key: str) -> type:
    """The class that declares `key`."""
    if key in keys():
        return Settings
    return StoreSettings if key.startswith(f"{STORES}.") else SourceSettings


def _default(found: Examined, key: str, field: Field[Any]) -> Any:
    return getattr(found.defaults, field.name) if key in keys() else field.default


def _value(settings: Settings, key: str, name: str) -> tuple[Any, str]:
    """The value of `key`, and the key that its default is taken from, or ""."""
    if key in keys():
        return getattr(settings, name), ""
    table, source, last = key.split(".")
    if table == STORES:
        store = settings.stores[source]
        by_url = store.url and last in dict(store.url.options) and key not in settings.origins
        return getattr(store, name), f"{table}.{source}.url" if by_url else ""
    standard = "obsidian" if table == "folders" else "database"
    default = {"min_bytes": "monitor.min_bytes", "one_file_system": "one_file_system"}
    default |= {each: f"{each}.{standard}" for each in ("schedule", "retention")}
    default |= {f"shrunk_{each}": f"shrunk.{each}" for each in ("tables", "rows", "bytes", "files")}
    return getattr(settings.of(source), name), default.get(last, "")


def _shown(field: Field[Any], value: Any) -> Any:
    """`value` of a setting for JSON."""
    if field.metadata["secret"] and value:
        return "(hidden)"
    if isinstance(value, tuple):
        return [shlex.join(one) if isinstance(one, tuple) else one for one in value]
    if value is None and field.metadata["convert"] is parse_schedule:
        return OFF
    return value if isinstance(value, int | None) else str(value)


@cache
def _descriptions(declaring: type) -> dict[str, str]:
    """Descriptions by field, from the comments above the fields; fields below a comment share it."""
    try:
        source = inspect.getsource(declaring)
    except OSError:
        return {}
    found, text = {}, ""
    for match in _DESCRIBED.finditer(source):
        lines = [line.strip().removeprefix("#: ") for line in match["text"].splitlines()]
        text = " ".join(lines).replace("None:", "not set:").replace("True:", "true:") or text
        found[match["name"]] = text[:1].upper() + text[1:]
    return found
