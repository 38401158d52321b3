"""Papers as entries of BibTeX, RIS and CSL-JSON, and their citation keys; pure.

BibTeX is what biber reads: `doi` and `url` are verbatim there, every other field is LaTeX.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import quote

Row = Mapping[str, Any]

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
#: Words that a key does not take from a title.
_SMALL = frozenset("a an and are as at by for from in is of on or the to with".split())  # noqa: SIM905
#: Letters that Unicode does not split into an ASCII letter and a mark.
_LETTERS = str.maketrans({"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th"})
#: The fewest characters of a suffix, which tells papers with the same key apart.
_SUFFIX = 6


class _Kind(NamedTuple):
    """A kind of publication: in BibTeX, with the field of the venue; in RIS; in CSL-JSON."""

    bibtex: str
    place: str
    ris: str
    csl: str


#: Type of publication → kind; the first type that a paper has counts.
_KINDS = {
    "Book": _Kind("book", "publisher", "BOOK", "book"),
    "BookSection": _Kind("incollection", "booktitle", "CHAP", "chapter"),
    "Conference": _Kind("inproceedings", "booktitle", "CPAPER", "paper-conference"),
    "JournalArticle": _Kind("article", "journal", "JOUR", "article-journal"),
    "Review": _Kind("article", "journal", "JOUR", "article-journal"),
}
_OTHER = _Kind("misc", "howpublished", "GEN", "article")


def citation_keys(papers: Iterable[tuple[int, str | None, int | None, str | None, str]]) -> dict[int, str]:
    """Return row id → key such as `lovelace1843notes`: the first author, the year, the first long word of the title.

    papers: row id, first author, year, title, and the id that the world gives to the paper. Of papers with the same
    key, the one with the least such id has it, and the others get a suffix made from theirs. So keys depend on no row
    id, and a paper that is found later seldom changes one: CorpusIds rise.
    """
    same: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for number, name, year, title, identity in papers:
        words = [word for word in plain_words(title or "") if word not in _SMALL]
        family = plain_words(split_name(name or "")[0])
        same[f"{family[-1] if family else 'paper'}{year or ''}{words[0] if words else ''}"].append(
            (identity, number)
        )
    keys = {}
    for base, found in same.items():
        (_, first), *others = sorted(found)
        keys[first] = base
        taken = {base}
        for identity, number in others:
            digest = sha256(f"{identity} {'' if identity else number}".encode()).hexdigest()
            key = next(one for size in range(_SUFFIX, 65) if (one := f"{base}-{digest[:size]}") not in taken)
            taken.add(key)
            keys[number] = key
    return keys


def plain_words(text: str) -> list[str]:
    """Return the words of `text` in lower case ASCII letters and digits."""
    folded = unicodedata.normalize("NFKD", text.lower().translate(_LETTERS))
    ascii_only = "".join(one for one in folded if not unicodedata.combining(one))
    return re.findall(r"[a-z0-9]+", re.sub(r"['’]", "", ascii_only))


def split_name(name: str) -> tuple[str, str]:
    """Return the family name, with particles such as `van der`, and the given names; "" if there are none."""
    if "," in name:
        family, _, given = name.partition(",")
        return family.strip(), given.strip()
    words = name.split()
    last = len(words) - 1
    at = next((n for n in range(1, last) if words[n][0].islower()), max(last, 0))
    return " ".join(words[at:]), " ".join(words[:at])


def bibtex(key: str, row: Row) -> str:
    kind, journal = _kind(row), row["journal"] or {}
    fields = {
        "title": _protected(row["title"] or ""),
        "author": " and ".join(map(_author, row["authors"])),
        "year": str(row["year"] or ""),
        kind.place: _latex(row["venue"] or ""),
        "volume": _latex(journal.get("volume")),
        "pages": _latex(journal.get("pages")).replace("–", "--"),
        "doi": _verbatim(row["doi"] or ""),
        "eprint": _verbatim(row["arxiv"] or ""),
        "eprinttype": "arxiv" if row["arxiv"] else "",
        "url": _verbatim(row["url"] or ""),
        "keywords": ", ".join(_latex(one.replace(",", " ")) for one in row["fields_of_study"]),
        "abstract": _latex(row["abstract"]),
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@{kind.bibtex}{{{key},\n{lines}}}\n\n"


def ris(key: str, row: Row) -> str:
    kind, journal = _kind(row), row["journal"] or {}
    first, _, last = str(journal.get("pages") or "").replace("–", "-").partition("-")
    fields = [
        ("TY", kind.ris),
        ("ID", key),
        *(("AU", ", ".join(filter(None, split_name(name)))) for name in row["authors"]),
        ("TI", row["title"]),
        ("PY", row["year"]),
        ("DA", (row["published_on"] or "").replace("-", "/")),
        ("PB" if kind.ris == "BOOK" else "T2", row["venue"]),
        ("VL", journal.get("volume")),
        ("SP", first),
        ("EP", last),
        ("DO", row["doi"]),
        ("UR", row["url"]),
        *(("KW", one) for one in row["fields_of_study"]),
        ("AB", row["abstract"]),
    ]
    lines = ((tag, _line(value)) for tag, value in fields)
    return "".join(f"{tag}  - {text}\n" for tag, text in lines if text) + "ER  - \n\n"


def csl(key: str, row: Row) -> str:
    """Return the item of one paper, on one line."""
    journal, names = row["journal"] or {}, map(split_name, row["authors"])
    date = [int(part) for part in (row["published_on"] or str(row["year"] or "")).split("-") if part]
    values = {
        "id": key,
        "type": _kind(row).csl,
        "title": row["title"],
        "author": [{"family": family, "given": given} if given else {"literal": family} for family, given in names],
        "issued": {"date-parts": [date]} if date else None,
        "publisher" if _kind(row).csl == "book" else "container-title": row["venue"],
        "volume": _line(journal.get("volume")),
        "page": _line(journal.get("pages")),
        "DOI": row["doi"],
        "URL": row["url"],
        "keyword": ", ".join(row["fields_of_study"]),
        "abstract": row["abstract"],
    }  # fmt: skip
    return json.dumps({name: value for name, value in values.items() if value}, ensure_ascii=False)


def _kind(row: Row) -> _Kind:
    return next((kind for name, kind in _KINDS.items() if name in row["types"]), _OTHER)


def _line(value: object) -> str:
    """Return a value as text of one line, without characters that cannot be shown."""
    text = "" if value is None else str(value)
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _latex(value: object) -> str:
    return "".join(_LATEX.get(one, one) for one in _line(value))


def _verbatim(text: str) -> str:
    """Return a DOI or a URL as biber reads it: nothing is escaped, but what would end the field is encoded."""
    return "".join(one if one.isprintable() and one not in "\\{} " else quote(one) for one in text)


def _protected(title: str) -> str:
    """Protect words with inner capitals in a title, as a style may write titles in lower case."""
    return " ".join(
        f"{{{_latex(word)}}}" if re.search(r"\w[A-Z]", word) else _latex(word) for word in title.split()
    )


def _author(name: str) -> str:
    """Return a name, in braces if BibTeX would take it for several names or for more than family and given name."""
    escaped = _latex(name)
    several = name.count(",") > 1 or re.search(r"\b(?:and|others)\b", name, re.IGNORECASE)
    return f"{{{escaped}}}" if several else escaped
