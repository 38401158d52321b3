"""How long the artifacts of a source are kept."""

from __future__ import annotations

from dataclasses import dataclass, fields


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
    #: The newest artifacts that are kept at any age.
    keep_last: int = 0

    def __str__(self) -> str:
        found = {word: getattr(self, name) for word, name in PERIODS.items()}
        return " ".join(f"{word}={number}" for word, number in found.items() if number)


#: A word of the setting → its field.
PERIODS = {f.name.replace("_", "-"): f.name for f in fields(Retention)}
