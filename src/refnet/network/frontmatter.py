"""RefNet's parts of a note: some keys of the frontmatter, one block, and the marks. Values in, text out.

RefNet owns the block between its two comments and its own keys. Every other byte is the user's and stays: other keys,
their order and comments, text above and below the block, line ends.

By the marks RefNet recognizes its notes and their papers, authors and topics. A paper is identified by its external ids, each
`scheme:value`, or by `title:` and the normalized title if it has none. Older notes have a row id (`refnet_id`), which
another database gives to another paper: it counts only together with the title.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refnet.core.extras import needed
from refnet.network.papers import normalized, title_key

with needed("network"):
    import yaml

BEGIN = "%%refnet: this block is written by RefNet; write above or below it%%"
END = "%%/refnet%%"

#: Keys with entries of both RefNet and the user.
_SHARED_LISTS = frozenset({"aliases", "tags"})
_FRONTMATTER = re.compile(r"\A---[ \t]*\r?\n(?P<yaml>.*?)^---[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE)
#: Text that needs no quotes in YAML, unless it is one of _WORDS.
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9 ,.()/&+;'_-]*[A-Za-z0-9.)])?")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})

#: The keys of ids.
IDS_KEY, INDEX_KEY = "refnet_ids", "refnet_index_of"
#: Key of the note of an author or a topic → what it is the note of.
NAMED_KEYS = {"refnet_author": "author", "refnet_topic": "topic"}
#: The keys of older notes.
OLD_ID_KEY, OLD_INDEX_KEY = "refnet_id", "refnet_index"
PAPER_KEYS = frozenset({IDS_KEY, INDEX_KEY, OLD_ID_KEY, OLD_INDEX_KEY})
INDEX_TITLE = "Index of "
#: The scheme for a paper with a title but no id.
TITLE = "title"
#: The most ids that are written, and the most that are read.
_MOST_WRITTEN, _MOST_READ = 50, 200
#: The longest id, in bytes, as in the database.
_LONGEST = 1024

_BEGIN = re.compile(r"---[ \t]*\r?\n")
_OURS = re.compile(
    r"^(?:refnet_ids|refnet_index_of|refnet_id|refnet_index|refnet_author|refnet_topic):", re.MULTILINE
)
_KEY = re.compile(
    r"^(refnet_ids|refnet_index_of|refnet_id|refnet_index|refnet_author|refnet_topic|doi|arxiv|title|year):(.*(?:\n(?:[ \t]+\S|-[ \t]).*)*)",
    re.MULTILINE,
)
#: A list in the form that RefNet writes.
_SIMPLE = re.compile(r'(?:\n[ \t]*- ("?)[^"\'\\#&*!|>%@`{}\[\]\n]+\1)+')
_ENTRY = re.compile(r'\n[ \t]*- "?([^"\n]+)')
_ID = re.compile(r"([a-z][a-z0-9_]{0,63}):(.+)")
_NUMBER = re.compile(r"[0-9]{1,18}")

#: A scheme and a value.
Id = tuple[str, str]


class NotOursError(ValueError):
    """A note without a safe place for RefNet's part, which must not be changed."""


def dumped(values: Mapping[str, Any]) -> str:
    """Format `values` (texts, integers, lists of texts) as YAML, one property after the other."""
    lines = []
    for key, value in values.items():
        if not isinstance(value, list):
            lines.append(f"{key}: {scalar(value)}\n")
        else:
            lines.append(f"{key}:\n" + "".join(f"  - {scalar(one)}\n" for one in value))
    return "".join(lines)


def scalar(value: Any) -> str:
    """Format a value as YAML, on one line."""
    if not isinstance(value, str):  # a user's entry may have any type
        return str(value) if type(value) is int else _flow(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    text = value.replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("<%", "<\\u0025")  # Templater runs it, wherever it stands in a new note
    if not text.isprintable():
        text = "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in text)
    return f'"{text}"'


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=1 << 30)
    return text.strip()[1:-1]


def loaded(text: str) -> Any:
    """Parse YAML, with safe types only; ValueError with the reason if it is invalid."""
    try:
        return yaml.load(text, Loader=yaml.CSafeLoader)  # a safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an invalid date or number
        raise ValueError(str(error).splitlines()[0]) from error
    except (LookupError, AttributeError, ArithmeticError, TypeError) as error:
        # of PyYAML, for `!!bool maybe`, `!!int ''`, `!!timestamp`, and for numbers of base 60
        raise ValueError("a value does not fit its tag") from error


def renewed(before: str, own: Mapping[str, Any], owned: Collection[str], block: str) -> str:
    """Return the note `before` with RefNet's part renewed; NotOursError if there is no safe place for the part.

    Args:
        own: RefNet's keys and their values.
        owned: every key that RefNet may write; keys that are not in `own` are removed.
        block: the new block, with its two comments.
    """
    found = _FRONTMATTER.match(before)
    if not found:
        raise NotOursError("it has no frontmatter")
    begin, end = found.span("yaml")
    line_end = "\r\n" if before[:begin].endswith("\r\n") else "\n"
    matter = _merged(found["yaml"], own, owned, line_end)
    closing = before[end : found.end()]
    if not closing.endswith("\n"):
        closing += line_end
    rest = _with_block(before[found.end() :], block.replace("\n", line_end), line_end)
    return f"{before[:begin]}{matter}{closing}{rest}"


def _merged(matter: str, own: Mapping[str, Any], owned: Collection[str], line_end: str) -> str:
    """Return the frontmatter with RefNet's keys renewed in place; unchanged keys keep their bytes."""

    def written(values: Mapping[str, Any]) -> str:
        return dumped(values).replace("\n", line_end)

    if matter.startswith(written(own)):
        return matter
    root, values = _parsed(matter)
    if root is None:
        return written(own) + matter
    wanted = {
        key: _joined(value, values.get(key), values.get("title")) if key in _SHARED_LISTS else value
        for key, value in own.items()
    }
    lines = matter.splitlines(keepends=True)
    begins = [key.start_mark.line for key, _ in root.value]
    #: Key (RefNet's by name, others by node) → its lines.
    kept: dict[object, list[str]] = {None: lines[: begins[0]]}
    for (key, _), begin, end in zip(root.value, begins, [*begins[1:], len(lines)], strict=True):
        found, name = lines[begin:end], key.value
        if name not in owned and name not in _SHARED_LISTS:
            kept[key] = found
        elif name not in kept and name in wanted and _same(wanted[name], values.get(name)):
            kept[name] = found
        else:  # changed, no longer written by RefNet, or duplicate
            new = [written({name: wanted[name]})] if name in wanted and name not in kept else []
            kept[name if new else key] = new + [line for line in found[1:] if line.startswith("#")]
    return "".join(line for part in _completed(kept, wanted, written) for line in part)


def _completed(
    kept: Mapping[object, list[str]], wanted: Mapping[str, Any], written: Callable[[Mapping[str, Any]], str]
) -> list[list[str]]:
    """Insert the keys of `wanted` that `kept` lacks, at their usual position."""
    names = [*kept]
    for before, name in zip([None, *wanted], wanted, strict=False):
        if name not in kept:
            names.insert(names.index(before) + 1, name)
    return [kept[name] if name in kept else [written({str(name): wanted[str(name)]})] for name in names]


def _parsed(matter: str) -> tuple[Any, Any]:
    """Return the node of a frontmatter and its values; (None, None) if it is empty."""
    try:
        root = yaml.compose(matter, Loader=yaml.CSafeLoader)
        values = loaded(matter)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise NotOursError(f"its frontmatter is not valid YAML: {str(error).splitlines()[0]}") from error
    if root is not None and (not isinstance(root, yaml.MappingNode) or root.flow_style):
        raise NotOursError("its frontmatter is not a list of properties, one per line")
    return root, values


def _same(new: Any, found: Any) -> bool:
    return type(new) is type(found) and new == found


def _joined(ours: Sequence[str], theirs: object, title: object) -> list[Any]:
    """Join RefNet's entries of a list with the user's, in the user's order; the former `title` counts as RefNet's.

    A single text counts as a list of one.
    """
    found = theirs if isinstance(theirs, list) else [theirs] if theirs is not None else []
    former = title if isinstance(title, str) else None  # comparing other values may take very long
    kept = [one for one in found if one in ours or one != former]
    return [*(one for one in ours if one not in kept), *kept]


def _with_block(rest: str, block: str, line_end: str) -> str:
    """Return `rest` with RefNet's block replaced, or with the block first if it had none."""
    begins, ends = rest.count(BEGIN), rest.count(END)
    if (begins, ends) == (0, 0):
        return f"{line_end}{block}{line_end}{rest}"
    begin, end = rest.find(BEGIN), rest.find(END)
    if (begins, ends) != (1, 1) or end < begin:
        raise NotOursError("the comments around RefNet's block are not one pair")
    return rest[:begin] + block + rest[end + len(END) :]


@dataclass(frozen=True, slots=True)
class NoteMark:
    """The ids of a paper in its note; of an author or a topic in theirs."""

    #: Whether the note is the paper's index note.
    index: bool
    ids: tuple[Id, ...]
    #: Only in an older note without ids: row id, title and year.
    number: int = 0
    title: str = ""
    year: int = 0
    #: author or topic; "": a paper.
    kind: str = ""


def ids_of(ids: Mapping[str, str], more: tuple[Id, ...], title: str | None) -> list[str]:
    """Return the ids for a note: `ids` and `more` (of the same schemes), else the title; [] if there is neither."""
    found = _checked(sorted({*ids.items(), *more})) or [
        (TITLE, key) for key in [title_key(title or "")] if key
    ]
    return [f"{scheme}:{value}" for scheme, value in found[:_MOST_WRITTEN]]


def mark_in(text: str) -> NoteMark | None:
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
    if not PAPER_KEYS & found.keys():
        key = next((key for key in NAMED_KEYS if key in found), "")
        return NoteMark(index=False, ids=_checked(_listed(found[key])), kind=NAMED_KEYS[key]) if key else None
    index = INDEX_KEY in found or OLD_INDEX_KEY in found
    ids = _listed(found.get(INDEX_KEY if index else IDS_KEY, ""))
    if not index:
        # as text: YAML takes 2001.10000 for a number
        ids += [
            (scheme, found[scheme].strip().strip("\"'")) for scheme in ("doi", "arxiv") if scheme in found
        ]
    if known := _checked(ids):
        return NoteMark(index, known)
    number = _NUMBER.fullmatch(found.get(OLD_INDEX_KEY if index else OLD_ID_KEY, "").strip())
    if not number:
        return NoteMark(index, ()) if {IDS_KEY, INDEX_KEY} & found.keys() else None
    title, year = _value(found.get("title", "")), _value(found.get("year", ""))
    title = title.removeprefix(INDEX_TITLE if index else "") if isinstance(title, str) else ""
    return NoteMark(index, (), int(number[0]), title, year if type(year) is int else 0)


def described(text: str) -> dict[str, str]:
    """Return the properties doi, arxiv, title and year of any note that begins with `text`, as text."""
    found = _FRONTMATTER.match(text)
    pairs = _KEY.findall(found["yaml"].replace("\r\n", "\n")) if found else []
    values = {key: value.strip().strip("\"'") for key, value in reversed(pairs)}
    return {key: values[key] for key in ("doi", "arxiv", "title", "year") if values.get(key)}


def tags_in(text: str) -> list[str]:
    """Return the property `tags` of a note, in lower case; [] if there is none that can be read."""
    found = _FRONTMATTER.match(text)
    try:
        values = loaded(found["yaml"]) if found else None
    except ValueError:
        return []
    tags = values.get("tags") if isinstance(values, dict) else None
    listed = re.split(r"[,\s]+", tags) if isinstance(tags, str) else tags
    return [one.lower() for one in listed if isinstance(one, str)] if isinstance(listed, list) else []


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
