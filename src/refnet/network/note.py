"""A paper as a note of an Obsidian vault: its name, its frontmatter, the block that RefNet owns. Values in, text out.

RefNet owns the block between its two comments and some keys of the frontmatter; every other line is its reader's
and stays unchanged.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refnet.extras import needed

with needed("network"):
    import yaml

BEGIN = "%%refnet: this block is written by RefNet; write above or below it%%"
END = "%%/refnet%%"
ID_KEY = "refnet_id"
TAG = "paper"

_MAX_NAME = 255 - len(".md")
_TITLE_CHARS = 80
_BREAKS_LINKS = re.compile(r'[#|^:%\[\]/\\<>"?*\x00-\x1f\x7f]+')
_FRONTMATTER = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?)^---[ \t]*$\n?", re.DOTALL | re.MULTILINE)


class NotOursError(ValueError):
    """A note that RefNet must not touch, as its content has no safe place for RefNet's part."""


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
    citation_count: int | None = None
    provenance: str = ""
    #: Scheme → value.
    ids: Mapping[str, str] = field(default_factory=dict)
    #: Ids of the papers that it cites.
    references: tuple[int, ...] = ()

    @property
    def heading(self) -> str:
        """The title, or an id if there is none."""
        if self.title:
            return " ".join(self.title.split())
        scheme, value = min(self.ids.items(), default=("paper", str(self.id)))
        return f"{scheme} {value}"


@dataclass(frozen=True)
class Place:
    """The path of a paper's note in the vault, without `.md`, and the text of links to it."""

    path: str
    text: str


def name_of(paper: Paper) -> str:
    """Return `Author2020 Short title (id)`: at most 255 bytes with `.md`, safe on every system and in a link.

    The id makes it unique even where a file system folds case or Unicode forms.
    """
    family = paper.authors[0].split()[-1] if paper.authors and paper.authors[0].split() else ""
    lead = f"{family}{paper.year or ''}"
    end = f" ({paper.id})"
    begin = _safe(f"{lead} {_shortened(paper.heading)}")
    begin = begin.encode()[: _MAX_NAME - len(end)].decode(errors="ignore").rstrip(" .")
    return f"{begin or 'Paper'}{end}"


def render(paper: Paper, places: Mapping[int, Place], before: str | None = None) -> str:
    """Return the note of `paper`: a new one, or `before` with RefNet's part renewed.

    Args:
        places: the place of each paper's note, for links to references.
        before: the existing note. NotOursError if it has no safe place for RefNet's part.
    """
    own, block = _own(paper), _block(paper, places)
    if before is None:
        return f"---\n{_dump(own)}---\n\n{block}\n"
    matter, rest = _split(before)
    return f"---\n{_merged(matter, own)}---\n{_with_block(rest, block)}"


def id_in(text: str) -> int | None:
    """Return the id of the paper whose note `text` is, or None."""
    found = _FRONTMATTER.match(text)
    match = re.search(rf"^{ID_KEY}: *([0-9]{{1,19}}) *$", found["yaml"], re.MULTILINE) if found else None
    return int(match[1]) if match else None


def _shortened(title: str) -> str:
    if len(title) <= _TITLE_CHARS:
        return title
    return title[:_TITLE_CHARS].rsplit(" ", 1)[0]


def _safe(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    text = "".join(
        " " if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else c for c in text
    )
    return " ".join(_BREAKS_LINKS.sub(" ", text).split()).lstrip(".").strip()


def _own(paper: Paper) -> dict[str, Any]:
    """Return RefNet's keys of the frontmatter: one type per key, no empty values."""
    values: dict[str, Any] = {
        ID_KEY: paper.id,
        "title": paper.heading,
        "aliases": [paper.heading],
        "authors": list(paper.authors) or None,
        "year": paper.year,
        "venue": paper.venue,
        "doi": paper.ids.get("doi"),
        "arxiv": paper.ids.get("arxiv"),
        "citation_count": paper.citation_count,
        "provenance": paper.provenance or None,
        "tags": [TAG],
    }
    return {key: value for key, value in values.items() if value is not None}


#: Every key that RefNet may write; the lists below are joined with the reader's entries.
_OWN_KEYS = frozenset(
    {ID_KEY, "title", "authors", "year", "venue", "doi", "arxiv", "citation_count", "provenance"}
)
_SHARED_LISTS = frozenset({"aliases", "tags"})


def _dump(values: Mapping[str, Any]) -> str:
    text: str = yaml.dump(
        dict(values), Dumper=yaml.CSafeDumper, allow_unicode=True, sort_keys=False, width=1 << 30
    )
    return text


def _split(note: str) -> tuple[str, str]:
    """Split `note` into the YAML of its frontmatter and the rest."""
    found = _FRONTMATTER.match(note)
    if not found:
        raise NotOursError("it has no frontmatter")
    return found["yaml"], note[found.end() :]


def _merged(matter: str, own: dict[str, Any]) -> str:
    """Return the frontmatter with RefNet's keys renewed and all others unchanged, comments and order included."""
    try:
        root = yaml.compose(matter, Loader=yaml.CSafeLoader)
        values = yaml.load(matter, Loader=yaml.CSafeLoader)  # a safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an invalid date or number
        raise NotOursError(f"its frontmatter is not valid YAML: {str(error).splitlines()[0]}") from error
    except (LookupError, AttributeError) as error:  # of PyYAML, for `!!bool maybe`, `!!int ''`, `!!timestamp`
        raise NotOursError("its frontmatter is not valid YAML: a value does not fit its tag") from error
    if root is None:
        return _dump(own) + matter
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise NotOursError("its frontmatter is not a list of properties, one per line")
    own = {
        key: _joined(value, values.get(key)) if key in _SHARED_LISTS else value for key, value in own.items()
    }
    lines = matter.splitlines(keepends=True)
    begins = [key.start_mark.line for key, _ in root.value]
    kept = lines[: begins[0]] if begins else lines
    for (key, _), begin, end in zip(root.value, begins, [*begins[1:], len(lines)], strict=True):
        if key.value not in _OWN_KEYS | _SHARED_LISTS:
            kept += lines[begin:end]
        else:
            kept += [line for line in lines[begin + 1 : end] if line.startswith("#")]
    return _dump(own) + "".join(kept)


def _joined(ours: Sequence[str], theirs: object) -> list[Any]:
    """Return RefNet's entries of a list, then the reader's; a single text counts as a list of one."""
    found = theirs if isinstance(theirs, list) else [theirs] if theirs is not None else []
    return [*ours, *(one for one in found if one not in ours)]


def _with_block(rest: str, block: str) -> str:
    """Return `rest` with RefNet's block replaced, or put first if there is none."""
    begins, ends = rest.count(BEGIN), rest.count(END)
    if (begins, ends) == (0, 0):
        return f"\n{block}\n{rest}"
    begin, end = rest.find(BEGIN), rest.find(END)
    if (begins, ends) != (1, 1) or end < begin:
        raise NotOursError("the comments that begin and end RefNet's block are not one pair")
    return rest[:begin] + block + rest[end + len(END) :]


def _block(paper: Paper, places: Mapping[int, Place]) -> str:
    parts = [BEGIN, f"# {_plain(paper.heading)}"]
    facts = [", ".join(map(_plain, paper.authors)), _plain(paper.venue or ""), str(paper.year or "")]
    if line := " · ".join(fact for fact in facts if fact):
        parts.append(line)
    if doi := paper.ids.get("doi"):
        parts.append(f"<https://doi.org/{doi}>" if re.fullmatch(r"[!-;=?-~]+", doi) else _plain(doi))
    if paper.abstract:
        parts.append(f"## Abstract\n\n{_plain(paper.abstract)}")
    if paper.summary:
        parts.append(f"## Summary\n\n{_prose(paper.summary)}")
    linked = sorted((places[one].text, places[one].path) for one in set(paper.references) if one in places)
    if linked:
        lines = "\n".join(f"- [[{path}|{_link_text(text)}]]" for text, path in linked)
        parts.append(f"## References\n\n{lines}")
    return "\n\n".join([*parts, END])


def _plain(text: str) -> str:
    """Return `text` on one line, with the characters of Markdown's and Obsidian's links, tags and comments escaped."""
    text = re.sub(r"([\\\[\]#<*_`~])", r"\\\1", " ".join(text.split()))
    return text.replace("%%", r"%\%").replace("==", r"=\=")


def _prose(text: str) -> str:
    """Return foreign Markdown, with wiki links and comments escaped, which could dangle or end RefNet's block."""
    text = text.replace("[[", r"\[\[").replace("]]", r"\]\]").replace("%%", r"%\%")
    return re.sub(r"^(#+ )", r"##\1", text.strip(), flags=re.MULTILINE)


def _link_text(text: str) -> str:
    return " ".join(re.sub(r"[\[\]|%]", " ", text).split()) or "paper"
