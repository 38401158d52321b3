"""The marks by which RefNet recognizes its notes and their papers. Values in, values out.

A paper is identified by its external ids, each `scheme:value`, or by `title:` and the normalized title if it has none.
Older notes have a row id (`refnet_id`), which another database gives to another paper: it counts only together with
the title.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refnet.network.frontmatter import loaded
from refnet.network.papers import normalized, title_key

IDS_KEY, INDEX_KEY = "refnet_ids", "refnet_index_of"
#: The keys of older notes.
OLD_ID_KEY, OLD_INDEX_KEY = "refnet_id", "refnet_index"
INDEX_TITLE = "Index of "
#: The scheme for a paper with a title but no id.
TITLE = "title"
#: The most ids that are written, and the most that are read.
_MOST_WRITTEN, _MOST_READ = 50, 200
#: The longest id, in bytes, as in the database.
_LONGEST = 1024

_BEGIN = re.compile(r"---[ \t]*\r?\n")
_OURS = re.compile(r"^(?:refnet_ids|refnet_index_of|refnet_id|refnet_index):", re.MULTILINE)
_KEY = re.compile(
    r"^(refnet_ids|refnet_index_of|refnet_id|refnet_index|doi|arxiv|title|year):(.*(?:\n(?:[ \t]+\S|-[ \t]).*)*)",
    re.MULTILINE,
)
#: A list in the form that RefNet writes.
_SIMPLE = re.compile(r'(?:\n[ \t]*- ("?)[^"\'\\#&*!|>%@`{}\[\]\n]+\1)+')
_ENTRY = re.compile(r'\n[ \t]*- "?([^"\n]+)')
_ID = re.compile(r"([a-z][a-z0-9_]{0,63}):(.+)")
_NUMBER = re.compile(r"[0-9]{1,18}")

#: A scheme and a value.
Id = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Mark:
    """The ids of a paper in its note."""

    #: Whether the note is the paper's index note.
    index: bool
    ids: tuple[Id, ...]
    #: Only in an older note without ids: row id, title and year.
    number: int = 0
    title: str = ""
    year: int = 0


def ids_of(ids: Mapping[str, str], more: tuple[Id, ...], title: str | None) -> list[str]:
    """Return the ids for a note: `ids` and `more` (of the same schemes), else the title; [] if there is neither."""
    found = _checked(sorted({*ids.items(), *more})) or [
        (TITLE, key) for key in [title_key(title or "")] if key
    ]
    return [f"{scheme}:{value}" for scheme, value in found[:_MOST_WRITTEN]]


def mark_in(text: str) -> Mark | None:
    """Return the mark of a note that begins with `text`; None if the note is not RefNet's."""
    if not (begin := _BEGIN.match(text)):
        return None
    end = text.find("\n---", begin.end() - 1)
    matter = text[begin.end() : end if end >= 0 else None]
    if not _OURS.search(matter):
        return None
    matter = matter.replace("\r\n", "\n")
    found: dict[str, str] = {}
    for key, value in _KEY.findall(matter):
        found.setdefault(key, value)
    index = INDEX_KEY in found or OLD_INDEX_KEY in found
    ids = _listed(found.get(INDEX_KEY if index else IDS_KEY, ""))
    if not index:
        # as text: YAML takes 2001.10000 for a number
        ids += [
            (scheme, found[scheme].strip().strip("\"'")) for scheme in ("doi", "arxiv") if scheme in found
        ]
    if known := _checked(ids):
        return Mark(index, known)
    number = _NUMBER.fullmatch(found.get(OLD_INDEX_KEY if index else OLD_ID_KEY, "").strip())
    if not number:
        return Mark(index, ()) if {IDS_KEY, INDEX_KEY} & found.keys() else None
    title, year = _value(found.get("title", "")), _value(found.get("year", ""))
    title = title.removeprefix(INDEX_TITLE if index else "") if isinstance(title, str) else ""
    return Mark(index, (), int(number[0]), title, year if type(year) is int else 0)


def _checked(ids: list[Id]) -> tuple[Id, ...]:
    """Normalize `ids` as in the database, without invalid ones."""
    known = (
        (scheme, value if scheme == TITLE else normalized(scheme, value) or value)
        for scheme, value in ids[:_MOST_READ]
    )
    return tuple(
        dict.fromkeys(
            (scheme, value)
            for scheme, value in known
            if value.isprintable() and 0 < len(value.encode()) <= _LONGEST
        )
    )


def _listed(lines: str) -> list[Id]:
    found: Any = _ENTRY.findall(lines) if _SIMPLE.fullmatch(lines.rstrip()) else _value(lines)
    texts = found if isinstance(found, list) else [found]
    matches = (_ID.fullmatch(one.strip()) for one in texts if isinstance(one, str))
    return [(one[1], one[2]) for one in matches if one]


def _value(text: str) -> Any:
    """Return the value of a property; "" if it is invalid."""
    try:
        return loaded(f"key:{text}\n")["key"]
    except (ValueError, LookupError, TypeError):
        return ""


def canvas_ids(text: str) -> tuple[tuple[Id, ...], str]:
    """Return the ids of a canvas's seed, and the path of the seed's note; () and "" if missing."""
    try:
        found = json.loads(text)
        ids = found.get(IDS_KEY, [])
        seeds = [one["file"] for one in found["nodes"] if one.get("id") == "seed" and "file" in one]
    except (ValueError, RecursionError, LookupError, AttributeError, TypeError):
        return (), ""
    matches = [_ID.fullmatch(one) for one in ids if isinstance(one, str)] if isinstance(ids, list) else []
    path = seeds[0] if len(seeds) == 1 and isinstance(seeds[0], str) else ""
    return _checked([(one[1], one[2]) for one in matches if one]), path
