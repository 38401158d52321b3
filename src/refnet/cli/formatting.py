"""What a terminal shows: local times and columns, beside the sizes and ages of recovery.model.words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from refnet.recovery.model.formatting import age, plain, plural, seconds, size

if TYPE_CHECKING:
    from refnet.recovery.model.artifact import Entry

__all__ = ["age", "databases", "local", "plain", "plural", "print_columns", "seconds", "size"]


def local(moment: datetime) -> str:
    """A moment in the machine's local time."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def databases(entries: Sequence[Entry]) -> dict[str, str]:
    """Of each artifact of a database, by its name, which one that is; nothing where they are all of the same."""
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.model.identity import labels

    of = {entry.name: entry.identity for entry in entries if entry.source is SourceName.DATABASE}
    found = labels(of.values())
    return {name: found[identity] for name, identity in of.items()} if len(found) > 1 else {}


def shrunk(manifest: Mapping[str, Any]) -> str:
    """What shrank in the artifact with that manifest."""
    return f"SHRUNK against {manifest['shrunk_from']}: {plain('; '.join(manifest['shrunk']))}"


def print_columns(rows: Sequence[Sequence[str]], right: tuple[int, ...] = ()) -> None:
    """Print `rows` in columns, those of the numbers in `right` aligned to the right, by what a terminal shows."""
    from rich.cells import cell_len

    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = []
        for column, text in enumerate(row):
            gap = " " * (widths[column] - cell_len(text))
            cells.append(gap + text if column in right else text + gap)
        print("  ".join(cells).rstrip())
