"""The marks by which RefNet knows a note of its own and the paper of that note. Values in, values out.

A paper is known by what the world calls it: a list of external ids, each `scheme:value`; `title:` and the normalized title
where nobody has given it an id. Older notes have the number of a row (`refnet_id`), which another database gives to
another paper: it counts only together with the title.
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
#: The scheme of a paper that has a title and no id.
TITLE = "title"
#: The most ids that are written, and that are read.
_MOST_WRITTEN, _MOST_READ = 50, 200
#: The most bytes of an id, as in the database.
_LONGEST = 1024

_BEGIN = re.compile(r"---[ \t]*\r?\n")
_OURS = re.compile(r"^(?:refnet_ids|refnet_index_of|refnet_id|refnet_index):", re.MULTILINE)
_KEY = re.compile(
    r"^(refnet_ids|refnet_index_of|refnet_id|refnet_index|doi|arxiv|title|year):(.*(?:\n(?:[ \t]+\S|-[ \t]).*)*)",
    re.MULTILINE,
)
#: A list as RefNet writes it.
_SIMPLE = re.compile(r'(?:\n[ \t]*- ("?)[^"\'\\#&*!|>%@`{}\[\]\n]+\1)+')
_ENTRY = re.compile(r'\n[ \t]*- "?([^"\n]+)')
_ID = re.compile(r"([a-z][a-z0-9_]{0,63}):(.+)")
_NUMBER = re.compile(r"[0-9]{1,18}")

#: A scheme and a value.
Id = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Mark:
    """The ids of a paper in its note."""

    #: It is the index note of the paper.
    index: bool
    ids: tuple[Id, ...]
    #: In an older note without ids: the number of a row, the title and the year.
    number: int = 0
    title: str = ""
    year: int = 0


def ids_of(ids: Mapping[str, str], more: tuple[Id, ...], title: str | None) -> list[str]:
    """Return how a note names its paper: `ids` and `more` (of the same schemes), else the title; [] if it has none."""
    found = _checked(sorted({*ids.items(), *more})) or [
        (TITLE, key) for key in [title_key(title or "")] if key
    ]
    return [f"{scheme}:{value}" for scheme, value in found[:_MOST_WRITTEN]]


def mark_in(text: str) -> Mark | None:
    """Return the mark of a note that begins with `text`; None: it is not RefNet's."""
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
        # its letters: YAML takes 2001.10000 as a number
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
    """Return those of `ids` that can be ids, as the database has them."""
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
    """Return the value of a property; "" if it is not valid."""
    try:
        return loaded(f"key:{text}\n")["key"]
    except (ValueError, LookupError, TypeError):
        return ""


def canvas_ids(text: str) -> tuple[tuple[Id, ...], str]:
    """Return the ids of the seed of a canvas, and the path of the seed's note; () and "" where it does not say."""
    try:
        found = json.loads(text)
        ids = found.get(IDS_KEY, [])
        seeds = [one["file"] for one in found["nodes"] if one.get("id") == "seed" and "file" in one]
    except (ValueError, RecursionError, LookupError, AttributeError, TypeError):
        return (), ""
    matches = [_ID.fullmatch(one) for one in ids if isinstance(one, str)] if isinstance(ids, list) else []
    path = seeds[0] if len(seeds) == 1 and isinstance(seeds[0], str) else ""
    return _checked([(one[1], one[2]) for one in matches if one]), path
