"""The rules of `exclude`, in .gitignore syntax, matched by pathspec.

A rule is matched against names that anybody may have made up, so its wildcards are limited: no path takes longer than
some milliseconds.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from refnet.settings.converters import InvalidError, names

#: The most rules, characters of one, `*` in one name besides one at its end, and `**` in one rule.
MOST_RULES, LONGEST, MOST_STARS, MOST_DEPTHS = 100, 255, 2, 3
_USAGE = (
    'Write a list of rules as in .gitignore, such as ["**/.trash/**", "*.tmp"]; ! before a rule takes back.'
)
_STARS = re.compile(r"\*+")


def rules(value: Any) -> tuple[str, ...]:
    """Parse ignore rules; InvalidError if one is invalid or too slow."""
    found = names(value)
    if len(found) > MOST_RULES:
        raise InvalidError(f"must have at most {MOST_RULES} rules", "Combine rules with wildcards.")
    for rule in found:
        _check(rule)
    return found


def _check(rule: str) -> None:
    if len(rule) > LONGEST:
        raise InvalidError(f"must have rules of at most {LONGEST} characters", _USAGE)
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
        raise InvalidError(f"'{rule}' is not a rule of .gitignore", _USAGE)


@cache
def matcher(rules: tuple[str, ...]) -> Callable[[str], bool]:
    """Predicate for paths that checked `rules` exclude; the path of a folder ends with a /.

    As in .gitignore, call it for a path only if no parent is excluded.
    """
    from pathspec import GitIgnoreSpec

    match = GitIgnoreSpec.from_lines(rules).match_file
    # a line break is a character like any other in a name, and not one in a regular expression
    return lambda path: match(path.replace("\n", "\0"))
