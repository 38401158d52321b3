"""A paper as a note of an Obsidian vault: file name, frontmatter, text and links. Values in, text out."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from refnet.core.formatting import plural
from refnet.network import EXTRACT_MODEL
from refnet.network.frontmatter import BEGIN, END, IDS_KEY, OLD_ID_KEY, Id, dumped, ids_of, renewed

TAG = "paper"

_MAX_NAME = 255
_TITLE_CHARS = 80
_MOST_AUTHORS = 12
#: The most lines of a list that may be incomplete: citing papers, papers without a note.
_MOST_LINES = 100
_BREAKS_LINKS = re.compile(r'[#|^:%\[\]/\\<>"?*`\x00-\x1f\x7f]+')
#: Characters in a note's path that break links; users may move notes.
_BREAKS_PATH = re.compile(r"[#|^\[\]\x00-\x1f]|%%|::|\\")
#: The characters of Markdown's and Obsidian's links, tags and formulas; then those that count in pairs.
_SPECIAL = re.compile(r"[\\\[\]#<*_`~$]")
_PAIRS = re.compile(r"([%=:])(?=\1)|<(?=%)")
_NOT_IN_TEXT = str.maketrans(dict.fromkeys("[]|%`", " "))
_HTML = re.compile(r"<(?=[A-Za-z/!?])")
_FIELD = re.compile(r":(?=:)")
_WEB = re.compile(r"https?://[!-;=?-~]+")
#: Characters in a URL that Obsidian first takes for a link, code or a comment.
_NOT_IN_WEB = re.compile(r"[\[\]`|\\^{}$]|%(?![0-9A-Fa-f]{2})|:(?=:)")
_OF_DIRECTION = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Paper:
    """The content of a note."""

    id: int
    title: str | None = None
    authors: tuple[str, ...] = ()
    year: int | None = None
    venue: str | None = None
    abstract: str | None = None
    summary: str | None = None
    #: As counted by the provider.
    citation_count: int | None = None
    provenance: str = ""
    #: Scheme → value.
    ids: Mapping[str, str] = field(default_factory=dict)
    #: Row ids of the papers that this paper cites, and of those that cite it.
    references: tuple[int, ...] = ()
    cited_by: tuple[int, ...] = ()
    #: The model that wrote the summary.
    model: str = ""
    #: The position among all papers by PageRank, from 1.
    rank: int | None = None
    open_access_url: str | None = None
    #: Row id, kind and strength of each related paper, closest first.
    related: tuple[tuple[int, str, int], ...] = ()
    #: Further ids, of the same schemes as `ids`.
    more_ids: tuple[Id, ...] = ()
    #: Row ids of the authors, in the order of `authors`.
    author_ids: tuple[int, ...] = ()
    #: The fields of study.
    topics: tuple[str, ...] = ()
    #: How others cite it: row id of the citing paper, its words, whether the citation is influential.
    quotes: tuple[tuple[int, str, bool], ...] = ()
    #: The path of its PDF in the vault; "": none.
    pdf: str = ""

    @property
    def names(self) -> list[str] | None:
        """The ids by which the note is found again; None if there are neither ids nor a title."""
        return ids_of(self.ids, self.more_ids, self.title) or None

    @cached_property
    def heading(self) -> str:
        """The title, or an id if there is none."""
        title = self.title or ""
        if not title.isascii():
            title = _OF_DIRECTION.sub("", title)
        if title := " ".join(title.split()):
            return title
        scheme, value = min(self.ids.items(), default=("paper", str(self.id)))
        return f"{scheme} {value}"


@dataclass(frozen=True)
class PaperLink:
    """A paper as other notes refer to it."""

    #: The path of the note in the vault, without `.md`; "": no note.
    path: str
    text: str
    year: int | None = None
    #: See `Paper.rank`.
    rank: int | None = None

    @cached_property
    def line(self) -> str:
        """The link to the note; only the title if there is no note or its path would break a link."""
        year = f" ({self.year})" if self.year else ""
        if not self.path or _BREAKS_PATH.search(self.path):
            return f"{plain(self.text)}{year}"
        return f"[[{self.path}|{link_text(self.text)}]]{year}"

    @cached_property
    def order(self) -> tuple[bool, int, str]:
        """Sort key: papers with a note first, then newest first."""
        return not self.path, -(self.year or 0), self.text


#: Row id of a paper, or scheme and key of an author or a topic → that one as other notes refer to it.
Places = Mapping[int | Id, PaperLink]


def author_key(number: int) -> Id:
    return "author", str(number)


def topic_key(topic: str) -> Id:
    return "topic", topic.casefold()


def name_of(paper: Paper, ending: str = ".md", before: str = "") -> str:
    """Return `Author2020 Short title (id)`: at most 255 bytes with `ending`, safe on every system and in a link.

    The row id makes the name unique even if a file system folds case or Unicode forms; notes are never found by their
    names. `before` is a prefix.
    """
    family = paper.authors[0].split()[-1] if paper.authors and paper.authors[0].split() else ""
    lead = f"{before}{family}{paper.year or ''}"
    end = f" ({paper.id})"
    return f"{safe_name(f'{lead} {_shortened(paper.heading)}', len(ending) + len(end)) or 'Paper'}{end}"


def safe_name(text: str, room: int) -> str:
    """Return `text` as a file name that leaves `room` bytes; "" if nothing is left of it."""
    return _safe(text).encode()[: _MAX_NAME - room].decode(errors="ignore").rstrip(" .")


def render(paper: Paper, places: Places, before: str | None = None) -> str:
    """Return the text of the note of `paper`: new, or `before` with RefNet's part renewed.

    Args:
        places: row id → the paper as links name it.
        before: the existing note; NotOursError if it has no safe place for RefNet's part.
    """
    own, block = _own(paper), _block(paper, places)
    if before is None:  # `read` is its reader's from now on
        return f"---\n{dumped(own)}read: false\n---\n\n{block}\n"
    return renewed(before, own, _OWNED, block)


def _shortened(title: str) -> str:
    if len(title) <= _TITLE_CHARS:
        return title
    return title[:_TITLE_CHARS].rsplit(" ", 1)[0]


def _safe(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        text = "".join(
            " " if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else c for c in text
        )
    return " ".join(_BREAKS_LINKS.sub(" ", text).split()).lstrip(". ").strip()


def _own(paper: Paper) -> dict[str, Any]:
    """Return RefNet's keys of the frontmatter: one type per key, no empty values."""
    values: dict[str, Any] = {
        IDS_KEY: paper.names,
        "title": paper.heading,
        "aliases": [paper.heading],
        "authors": list(paper.authors) or None,
        "year": paper.year,
        "venue": paper.venue,
        "topics": list(paper.topics) or None,
        "doi": paper.ids.get("doi"),
        "arxiv": paper.ids.get("arxiv"),
        "rank": paper.rank,
        "cited_by": len(paper.cited_by),
        "citation_count": paper.citation_count,
        "provenance": paper.provenance or None,
        "tags": [TAG],
    }
    return {key: value for key, value in values.items() if value is not None}


#: Every key that RefNet may write and does not share with the user.
_OWNED = frozenset(
    {
        *(IDS_KEY, OLD_ID_KEY, "title", "authors", "year", "venue", "topics", "doi", "arxiv"),
        *("rank", "cited_by", "citation_count", "provenance"),
    }
)


def _block(paper: Paper, places: Places) -> str:
    parts = [BEGIN, f"# {plain(paper.heading)}"]
    lines = (
        " · ".join(facts)
        for facts in (_facts(paper, places), _topics(paper, places), _web(paper), _counts(paper))
    )
    parts += [line for line in lines if line]
    if paper.summary and not (paper.abstract and paper.model == EXTRACT_MODEL):  # its sentences follow anyway
        text = "\n".join(f"> {line}" for line in filter(None, map(plain, paper.summary.splitlines())))
        parts.append(f"> [!summary] Summary{f' by {plain(paper.model)}' if paper.model else ''}\n{text}")
    if paper.abstract:
        parts.append(f"## Abstract\n\n{plain(paper.abstract)}")
    known = [places[one] for one in {*paper.references} if one in places]
    noted = [one for one in known if one.path]
    parts += section("References", noted, len(noted), [one for one in known if not one.path])
    parts += section("Cited by", [places[one] for one in {*paper.cited_by} if one in places])
    if quotes := [(places[one], plain(text), weight) for one, text, weight in paper.quotes if one in places]:
        said = (f"“{text}” — {by.line}{', influential' * weight}" for by, text, weight in quotes)
        parts.append(f"## How others cite it\n\n{listed(said)}")
    if related := _related(paper, places):
        parts.append(f"## Related\n\n{related}")
    return "\n\n".join([*parts, END])


def section(
    title: str, found: Collection[PaperLink], most: int = _MOST_LINES, more: Collection[PaperLink] = ()
) -> list[str]:
    """Return a heading and a list of links: at most `most` of `found`, then `more`; [] if both are empty."""
    lines = [one.line for one in sorted(found, key=lambda place: place.order)[:most]]
    lines += [one.line for one in sorted(more, key=lambda place: place.order)[:_MOST_LINES]]
    if left := len(found) + len(more) - len(lines):
        lines.append(f"and {left:,} more")
    return [f"## {title}\n\n{listed(lines)}"] if lines else []


def listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _facts(paper: Paper, places: Places) -> Iterable[str]:
    known = (*paper.author_ids, *[0] * len(paper.authors))
    pairs = zip(paper.authors[:_MOST_AUTHORS], known, strict=False)
    authors = ", ".join(_named(name, places.get(author_key(number))) for name, number in pairs)
    if left := len(paper.authors) - _MOST_AUTHORS:
        authors += f" and {left:,} more" if left > 0 else ""
    return filter(None, (authors, plain(paper.venue or ""), str(paper.year or "")))


def _topics(paper: Paper, places: Places) -> Iterable[str]:
    return (_named(topic, places.get(topic_key(topic))) for topic in paper.topics)


def _named(name: str, place: PaperLink | None) -> str:
    return place.line if place else plain(name)


def _web(paper: Paper) -> Iterable[str]:
    for name, base, value in (
        ("DOI", "https://doi.org/", paper.ids.get("doi")),
        ("arXiv", "https://arxiv.org/abs/", paper.ids.get("arxiv")),
        ("Open access", "", paper.open_access_url),
    ):
        if value:
            url = f"{base}{value}"
            if _WEB.fullmatch(url):
                url = _NOT_IN_WEB.sub(lambda found: f"%{ord(found[0]):02X}", url)
                yield f"{name}: <{url}>"
            else:
                yield f"{name}: {plain(value)}"
    if paper.pdf:
        yield PaperLink(paper.pdf, "PDF").line


def _counts(paper: Paper) -> Iterable[str]:
    if paper.rank:
        yield f"Rank {paper.rank:,}"
    yield f"Cited by {len(paper.cited_by):,} here"
    if paper.citation_count is not None:
        yield f"{plural(paper.citation_count, 'citation')} in all"


def _related(paper: Paper, places: Places) -> str:
    why: dict[int, list[str]] = {}
    for other, kind, strength in paper.related:
        if other in places:
            many = "s" if strength != 1 else ""
            text = f"shares {strength} reference{many}"
            if kind == "co_citation":
                text = f"cited together by {strength} paper{many}"
            why.setdefault(other, []).append(text)
    return listed(f"{places[other].line}: {', '.join(texts)}" for other, texts in why.items())


def plain(text: str) -> str:
    """Escape the characters of Markdown's and Obsidian's links, tags and comments in `text`; one line.

    The result contains no code, neither for Dataview (which needs a code span or block) nor for Templater (which runs
    `<% %>` anywhere in a new note), and no property (Dataview's `name:: value`).
    """
    text = " ".join(text.split())
    if _SPECIAL.search(text):
        text = _SPECIAL.sub(r"\\\g<0>", text)
    return _PAIRS.sub(r"\g<0>\\", text) if "%" in text or "==" in text or "::" in text else text


def link_text(text: str) -> str:
    text = _FIELD.sub(": ", _HTML.sub("< ", text.translate(_NOT_IN_TEXT)))
    return " ".join(text.split()) or "paper"
