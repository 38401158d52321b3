"""The problems of settings, as `refnet settings` lists them and as the error of every other command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refnet.errors import Exit, RefnetError


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
    def of(cls, error: RefnetError) -> Problem:
        """Return the problem of a file that was not read."""
        return cls(error.message, error.hint)


def error_of(problems: Sequence[Problem]) -> RefnetError:
    """Return the error (USAGE) that names the first of `problems` and the number of the others."""
    first, *others = problems
    more = f" (and {len(others)} more: refnet settings)" if others else ""
    return RefnetError(f"{first.message}{more}", first.hint, Exit.USAGE)


def unknown(key: str, place: str, known: Iterable[str]) -> Problem:
    """Return the problem of `key` at `place`, which is not one of `known`; its value is not repeated."""
    from difflib import get_close_matches  # costs time, and only here

    near = get_close_matches(key, sorted(known), 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return Problem(f"{place}{key} is not a setting", f"{hint}refnet.toml.example lists every setting.", key)
