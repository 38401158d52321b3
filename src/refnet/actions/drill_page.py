"""The report of a drill as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

from refnet.core import formatting
from refnet.recovery.page import render


def page(report: Mapping[str, Any], zone: tzinfo | None = None) -> str:
    """Return the page for `report` (actions.drill.report), with times in `zone` (None: the machine's)."""
    return render("drill.html.j2", zone, report=report, columns_of=_columns, text=_text)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """Return the columns of `rows`: name, and True if it has only numbers."""
    names = dict.fromkeys(key for row in rows for key in row)
    return [
        (name, all(_is_number(row.get(name)) for row in rows if row.get(name) is not None)) for name in names
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(name: str, value: Any) -> str:
    """Return `value` of the column or detail `name` for display."""
    if not _is_number(value):
        return str(value)
    if name.endswith("bytes"):
        return formatting.size(value)
    return formatting.seconds(value) if name == "seconds" else f"{value:,}"
