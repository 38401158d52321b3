"""What every page of RefNet shares: one self-contained HTML file, no script, nothing from outside, all escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from html import escape
from pathlib import Path

from refnet.recovery.model import formatting

#: An outcome → the word that a page shows, and its CSS class.
MARKS = {
    "passed": ("PASS", "passed"),
    "failed": ("FAIL", "failed"),
    "could not verify": ("COULD NOT VERIFY", "unverified"),
}
_NOTHING = "–"


def document(title: str, header: str, main: str, footer: str) -> str:
    """The whole page. `title` is text; the others are HTML."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
{header}
</header>
<main>
{main}
</main>
<footer>
{footer}
</footer>
</body>
</html>
"""


def mark(outcome: str) -> str:
    """The mark of an outcome."""
    word, kind = MARKS[outcome]
    return f'<span class="mark {kind}">{word}</span>'


def figures(named: Iterable[tuple[str, str]]) -> str:
    """A few large figures side by side: (name, value), both text."""
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in named)
    return f'<dl class="figures">{pairs}</dl>'


def bars(taken: Mapping[str, float], caption: str) -> str:
    """How long each phase took (s), with bars to scale; "" where nothing took any time."""
    total = sum(taken.values())
    if not total:
        return ""
    rows = "\n".join(
        f'<tr><th scope="row">{escape(phase)}</th><td class="number">{seconds(count)}</td>'
        f'<td class="track" aria-hidden="true">'
        f'<span class="bar" style="width:{100 * count / total:.1f}%"></span></td></tr>'
        for phase, count in taken.items()
    )
    return f"""<table class="phases"><caption>{escape(caption)}</caption>
<tbody>
{rows}
</tbody></table>"""


def table(head: Iterable[tuple[str, bool]], rows: Iterable[str]) -> str:
    """A table that scrolls where it is too wide. `head`: (title, whether its column holds numbers); rows: HTML."""
    titles = "".join(f'<th scope="col"{number(numbers)}>{escape(title)}</th>' for title, numbers in head)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def number(numbers: bool = True) -> str:
    """The attribute of a cell that holds a number."""
    return ' class="number"' if numbers else ""


def moment(when: datetime, zone: tzinfo | None) -> str:
    """A moment in `zone` (None: the machine's)."""
    return when.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def seconds(count: float | None) -> str:
    return _NOTHING if count is None else formatting.seconds(count)


def age(count: float | None) -> str:
    return _NOTHING if count is None else formatting.age(timedelta(seconds=count))


def size(count: float | None) -> str:
    return _NOTHING if count is None else formatting.size(count)
