"""Problems of settings: listed by `refnet settings`, raised as an error by all other commands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from refnet.catalog.source_name import wrong_name
from refnet.core.errors import Exit, RefnetError
from refnet.settings.converters import InvalidError
from refnet.settings.sources import TABLES

#: The most characters of a value or a key in a message.
_LONGEST = 80
#: A URL with a user or a query, another place with one, or the private key of age.
_SECRET = re.compile(r":.*[@?]|[@?].*:|:.*=|SECRET-KEY", re.IGNORECASE | re.DOTALL)
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
    """ "Did you mean …?" for an unknown key: the same name outside of its table, then similar keys."""
    table, dot, key = name.rpartition(".")
    inside = sorted(one for one in known if one.rpartition(".")[0] == table)
    outside = sorted({*known} - {*inside})
    if dot and key in outside:
        return f"Did you mean {key}, outside of the table [{short(table)}]? "
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
