"""Reads what a researcher has: BibTeX, RIS, CSL-JSON, Zotero's CSV, a list of ids, or a folder of notes.

Every file is hostile: bounded, and what cannot be read is named with its line while the rest is used.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.extras import needed
from refnet.core.files import OPEN_FILE, explained, opened
from refnet.network.crawls import MOST_SEEDS, seed_id
from refnet.network.frontmatter import described
from refnet.network.papers import TITLE_LIMIT, clean, normalized

with needed("network"):
    import rispy
    from bibtexparser.entrypoint import parse_string
    from bibtexparser.library import Library
    from bibtexparser.model import Entry as BibtexEntry

#: The largest file, in bytes, and how much of a note is read.
_LARGEST, _HEAD = 32 << 20, 1 << 16
#: bibtexparser logs what it cannot parse, which is in its result too.
logging.getLogger("bibtexparser").setLevel(logging.CRITICAL + 1)
#: The longest line of a list, and the longest entry of BibTeX, in characters.
_LINE, _ENTRY = 4000, 1 << 18
#: The most columns of CSV; Zotero writes 87.
_COLUMNS = 1000
#: Scheme → the prefix that the API expects; in this order an entry's ids are tried.
_PREFIXES = {"doi": "DOI:", "arxiv": "ARXIV:", "pubmed": "PMID:", "pmc": "PMCID:"}
#: Scheme → the fields that may hold such an id, in any format, in lower case.
_FIELDS = {
    "doi": ("doi", "url", "urls", "note"),
    "arxiv": ("arxiv", "eprint", "url", "urls", "note"),
    "pubmed": ("pmid", "pubmed"),
    "pmc": ("pmcid",),
}
_TITLES = ("title", "primary_title", "shorttitle")
_YEARS = ("year", "date", "issued", "publication_year", "publication year")
#: LaTeX in a title: accents, commands, and what only groups.
_ACCENT = re.compile(r"\\[\"'`^~=.uvHtcdbrk]\s*\{?\s*\\?([A-Za-z])\}?")
_COMMAND = re.compile(r"\\[A-Za-z]+\s*|[{}$\\]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a bibliography."""

    #: For messages: `line 12`, `entry 3`, or the path of a note.
    where: str
    #: In the form that the API accepts; "" if the entry has no id.
    id: str
    title: str
    year: int | None


@dataclass
class Bibliography:
    """The entries of a file or a folder, and a sentence for each part that cannot be read."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Add an entry; without id and title it is a problem. RefnetError (USAGE) for more than MOST_SEEDS."""
        if entry.id or entry.title:
            self.entries.append(entry)
            self._check()
        else:
            self.lack(f"{entry.where}: no title, no DOI, no other id")

    def lack(self, problem: str) -> None:
        """Add a sentence about what cannot be read; the same RefnetError."""
        self.problems.append(problem)
        self._check()

    def _check(self) -> None:
        if len(self.entries) + len(self.problems) > MOST_SEEDS:
            raise RefnetError(
                f"there are more than {MOST_SEEDS:,} entries", "Split the bibliography.", Exit.USAGE
            )


def read(path: Path) -> Bibliography:
    """Read the file or the folder of notes at `path`; RefnetError if it cannot be read, or has no entry."""
    found = Bibliography()
    with explained(path):
        is_folder, is_file = path.is_dir(), path.is_file()
    if not (is_folder or is_file):
        raise RefnetError(f"{path} is neither a file nor a folder", "Check the path.", Exit.USAGE)
    if is_folder:
        _notes(path, found)
    else:
        _READERS.get(path.suffix.lower(), _list)(_text(path), found)
    if not found.entries and not found.problems:
        raise RefnetError(
            f"{path} has no entry",
            "Name a file of BibTeX, RIS, CSL-JSON, CSV or ids, or a folder of notes with `doi:`.",
            Exit.USAGE,
        )
    return found


def _text(path: Path) -> str:
    with explained(path), path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise RefnetError(f"{path} is larger than {_LARGEST >> 20} MiB", "Split the file.", Exit.USAGE)
    return _decoded(data).replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes) -> str:
    """Decode a file in UTF-8, in UTF-16 with its mark, or in the Windows-1252 (or Latin-1) of older reference managers."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    text = data.decode("utf-8-sig", "replace")
    if "\ufffd" in text and not re.search(
        r"[^\x00-\x7f\ufffd]", text
    ):  # not one valid character beyond ASCII
        return data.decode("cp1252", "replace")
    return text


def _bibtex(text: str, found: Bibliography) -> None:
    for line, match, rest in _split(text, r"^[ \t]*@[ \t]*(\w{1,50})[ \t]*([{(])"):
        if match[1].lower() in {"comment", "string", "preamble"}:
            continue
        where = f"line {line}"
        try:
            checked.text(_ENTRY)(rest)
            entries = _bibtex_entries(parse_string(f"@{match[1]}{match[2]}{rest}\n"))
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError, RuntimeError):
            entries = []
        for entry in entries:
            found.add(_entry(where, {one.key.lower(): one.value for one in entry.fields}))
        if not entries:
            found.lack(f"{where}: the entry is not closed, is too long, or has no key")


def _bibtex_entries(library: Library) -> list[BibtexEntry]:
    """Return the entries of `library`, also those that give a field twice."""
    inner = (block.ignore_error_block for block in library.failed_blocks)
    return [*library.entries, *(one for one in inner if isinstance(one, BibtexEntry))]


def _split(text: str, beginning: str) -> Iterator[tuple[int, re.Match[str], str]]:
    """Yield line, match and following text of each match of `beginning`: an entry that is broken spoils no other."""
    found = re.finditer(beginning, text, re.MULTILINE)  # a large file has millions
    match, line, before = next(found, None), 1, 0
    while match:
        following = next(found, None)
        line += text.count("\n", before, match.start())
        before = match.start()
        yield line, match, text[match.end() : following.start() if following else len(text)].rstrip()
        match = following


def _ris(text: str, found: Bibliography) -> None:
    for line, match, rest in _split(text, r"^TY  ?- ?"):
        where = f"line {line}"
        end = "" if re.search(r"^ER  ?-", rest, re.MULTILINE) else "\nER  - "
        try:
            for values in rispy.loads(f"{match[0]}{rest}{end}\n", skip_unknown_tags=True):
                found.add(_entry(where, values))
        except (ValueError, LookupError, AttributeError, TypeError, OSError, rispy.parser.ParseError):
            found.lack(f"{where}: the record cannot be read")


def _csl(text: str, found: Bibliography) -> None:
    try:
        values = checked.parsed(text, _LARGEST)
    except ValueError as fault:
        raise RefnetError(
            f"the bibliography is {fault}", "Export it again as CSL-JSON.", Exit.USAGE
        ) from None
    items = values.get("items", values.get("references")) if isinstance(values, dict) else values
    for number, item in enumerate(items if isinstance(items, list) else [items], 1):
        fields = item if isinstance(item, dict) else {}
        found.add(_entry(f"entry {number}", {str(name).lower(): value for name, value in fields.items()}))


def _csv(text: str, found: Bibliography) -> None:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    line = 2
    try:
        if len(reader.fieldnames or ()) > _COLUMNS:
            raise RefnetError(
                f"the bibliography has more than {_COLUMNS:,} columns", "Export it again.", Exit.USAGE
            )
        for row in reader:
            found.add(_entry(f"line {line}", {str(name).lower(): value for name, value in row.items()}))
            line = reader.line_num + 1
    except csv.Error as error:
        found.lack(f"line {line}: {error}")


def _list(text: str, found: Bibliography) -> None:
    """Read a list: ids or a title on each line; `#` begins a comment."""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        ids = _ids_in(line[:_LINE])
        for known in ids:
            found.add(Entry(f"line {number}", known, "", None))
        if not ids:
            found.add(Entry(f"line {number}", "", clean(line, TITLE_LIMIT) if " " in line else "", None))


def _ids_in(line: str) -> list[str]:
    """Return the id that is the line, or the ids that are its words; [] if it has other words."""
    for parts in ([line], line.split()):
        with suppress(RefnetError):
            return [seed_id(one.rstrip(".,;")) for one in parts]
    return []


_READERS: Mapping[str, Callable[[str, Bibliography], None]] = {
    ".bib": _bibtex,
    ".bibtex": _bibtex,
    ".ris": _ris,
    ".json": _csl,
    ".csv": _csv,
}


def _notes(folder: Path, found: Bibliography) -> None:
    """Read the notes with `doi:` or `arxiv:` below `folder`; hidden folders and symbolic links are left out."""
    with explained(folder):
        for at, folders, names in os.walk(folder):
            folders[:] = sorted(one for one in folders if one[0] != ".")
            for name in sorted(one for one in names if one.endswith(".md")):
                path = Path(at, name)
                try:
                    with opened(path, OPEN_FILE) as handle:
                        text = os.read(handle, _HEAD).decode(errors="replace")
                except OSError:
                    continue  # a link, or not the reader's
                fields = described(text)
                if fields.keys() & {"doi", "arxiv"}:
                    found.add(_entry(str(path.relative_to(folder)), fields))


def _entry(where: str, fields: Mapping[str, object]) -> Entry:
    texts = {name: one for name, value in fields.items() if (one := _flat(value))}
    title = next((texts[name] for name in _TITLES if name in texts), "")
    title = " ".join(title[: 4 * TITLE_LIMIT].split())  # so no pattern meets many spaces
    title = clean(_COMMAND.sub("", _ACCENT.sub(r"\1", title)), TITLE_LIMIT)
    year = re.search(r"\b([12][0-9]{3})\b", " ".join(texts[name][:100] for name in _YEARS if name in texts))
    return Entry(where, _id(texts), title, int(year[1]) if year else None)


def _flat(value: Any, depth: int = 3) -> str:
    """Return a value of any format as text; lists are joined by spaces."""
    if isinstance(value, str):
        return value.strip()
    if type(value) is int:
        return str(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return " ".join(filter(None, (_flat(one, depth - 1) for one in [*inner][:20]))) if depth else ""


def _id(texts: Mapping[str, str]) -> str:
    """Return the first id of an entry in the form that the API accepts; "" if it has none."""
    for scheme, prefix in _PREFIXES.items():
        for name in _FIELDS[scheme]:
            for word in re.sub(r"[\\{}\"]", "", texts.get(name, "")[:_LINE]).split()[:20]:
                if value := normalized(scheme, word.rstrip(".,;")):
                    return prefix + value
    return ""
