"""Failures as a user sees them: two lines and an exit code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command but `monitor` and `check`, which have their own."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNVERIFIED = 3
    DAMAGED = 4
    LOCKED = 5
    CONFIRM = 6


_WORST_FIRST = (Exit.DAMAGED, Exit.FAILED, Exit.USAGE, Exit.LOCKED, Exit.CONFIRM, Exit.UNVERIFIED)


def worst(codes: Iterable[Exit]) -> Exit:
    """Return the exit code of several results: the worst of `codes`, DONE if there are none."""
    found = set(codes)
    return next((code for code in _WORST_FIRST if code in found), Exit.DONE)


def nearest(value: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """The choice most similar to `value`, or named in it as in `databases.NAME.schedule`; "" if none is."""
    given, known = value.strip().lower()[:100], list(choices)
    inside = (part for part in given.split(".") if part in known)
    return next(inside, "") or next(iter(get_close_matches(given, known, 1, cutoff)), "")


def did_you_mean(value: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """ "Did you mean …? " for a hint, with the choice nearest to `value`; "" if none is near."""
    found = nearest(value, choices, cutoff)
    return f"Did you mean {found}? " if found else ""


class RefnetError(Exception):
    """A failure that is reported to the user: what is wrong, what to do, and the exit code.

    Neither line may contain a password, not even in a URL. `transient`: the same run may succeed later (a server that
    is down, a lock, a full disk).
    """

    def __init__(self, message: str, hint: str, code: Exit = Exit.FAILED, transient: bool = False) -> None:
        super().__init__(message, hint, int(code), transient)
        self.message = message
        self.hint = hint
        self.code = Exit(code)
        self.transient = transient

    def __str__(self) -> str:
        return self.message

    def to_json(self) -> dict[str, str]:
        return {"message": self.message, "hint": self.hint}

    def __reduce__(self) -> tuple[type[RefnetError], tuple[str, str, int, bool]]:
        """Pickle every subclass as a plain RefnetError."""
        return RefnetError, (self.message, self.hint, int(self.code), self.transient)


def refusal(problems: Sequence[RefnetError]) -> RefnetError:
    """Return the first of `problems`, with the number of the others."""
    first, more = problems[0], len(problems) - 1
    return (
        RefnetError(f"{first.message} (and {more} more: see --plan)", first.hint, first.code)
        if more
        else first
    )
