"""Papers, authors and citations as read from a provider's answers; pure."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from typing import Any

TITLE_LIMIT = 4000
ABSTRACT_LIMIT = 50_000
NAME_LIMIT = 500
#: The limit of any other text: a venue, a URL, a type.
TEXT_LIMIT = 2000
_ID_LIMIT = 1024
#: In bytes; a longer key is cut and ends with a hash, so that it fits into an index.
_KEY_LIMIT = 900


class AnswerError(ValueError):
    """The structure of a provider's answer differs from its documentation."""


@dataclass(frozen=True, slots=True)
class FoundAuthor:
    """An author of a paper."""

    name: str
    #: Semantic Scholar's authorId.
    scholar_id: str | None = None
    #: Without the prefix https://orcid.org/.
    orcid: str | None = None


@dataclass(frozen=True, slots=True)
class Tldr:
    """The provider's own summary of a paper."""

    text: str
    model: str


@dataclass(frozen=True, slots=True)
class FoundPaper:
    """A paper as one answer describes it; None or () for missing values."""

    #: The provider: semantic_scholar, openalex.
    provenance: str
    #: Scheme of `external_ids` → normalized value; empty if only the title is known.
    ids: Mapping[str, str] = field(default_factory=dict)
    title: str | None = None
    abstract: str | None = None
    year: int | None = None
    published_on: date | None = None
    venue: str | None = None
    #: The provider's object, with bounded texts.
    publication_venue: Mapping[str, Any] | None = None
    #: name, volume, pages.
    journal: Mapping[str, str] | None = None
    publication_types: tuple[str, ...] = ()
    fields_of_study: tuple[str, ...] = ()
    open_access_url: str | None = None
    #: As counted by the provider, like the next two.
    reference_count: int | None = None
    citation_count: int | None = None
    influential_citation_count: int | None = None
    authors: tuple[FoundAuthor, ...] = ()
    tldr: Tldr | None = None
    #: Whether the answer has the paper's metadata, instead of only mentioning it in a citation.
    detailed: bool = False


@dataclass(frozen=True, slots=True)
class FoundEdge:
    """One citation, as seen from the requested paper."""

    #: The other end.
    paper: FoundPaper
    is_influential: bool | None = None
    intents: tuple[str, ...] = ()
    #: [{"context": text, "intents": [text]}]
    contexts: tuple[Mapping[str, Any], ...] = ()


#: Control characters, lone surrogates, and marks that change the direction of text.
_UNWANTED = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufeff\uffff]"
)
_SPACES = re.compile(r"[^\S\n]+")
_LINE_ENDS = re.compile(r"\s*[\n\r\x0b\x0c\x85\u2028\u2029]\s*")


def clean(text: str, limit: int, *, lines: bool = False) -> str:
    """Return `text` in NFC, at most `limit` characters, without control characters and lone surrogates.

    White space is collapsed. `lines` keeps line ends, as one line feed each.
    """
    text = unicodedata.normalize("NFC", _UNWANTED.sub("", text[: 4 * limit]))
    text = _SPACES.sub(" ", _LINE_ENDS.sub("\n", text)) if lines else " ".join(text.split())
    return text.strip()[:limit].rstrip()


def title_key(title: str) -> str | None:
    """Return the key of a paper of which only the title is known; None if the title is empty.

    Ignores case, Unicode forms, punctuation and white space; at most 1,024 bytes.
    """
    folded = unicodedata.normalize("NFKC", clean(title, TITLE_LIMIT)).casefold()
    words = re.findall(r"\w+", folded.replace("_", " "))
    key = " ".join(words) if words else folded
    encoded = key.encode()
    if len(encoded) > _KEY_LIMIT:
        key = f"{encoded[:_KEY_LIMIT].decode(errors='ignore')} {sha256(encoded).hexdigest()}"
    return key or None


def normalized(scheme: str, value: object) -> str | None:
    """Return the id `value` in the form of `external_ids`; None if it is not an id of `scheme`.

    A DOI is in lower case without its URL, an arXiv id without version, a CorpusId in digits. The number 0 is no id: it
    would merge unrelated papers.
    """
    if type(value) is int and 0 <= value < 1 << 63:
        value = str(value)
    if type(value) is not str or len(value) > _ID_LIMIT:
        return None
    found = _NORMALIZE.get(scheme, _OTHER)(value.strip())
    if found is None or not found.isprintable() or " " in found:
        return None
    return found if 0 < len(found.encode()) <= _ID_LIMIT else None


def _matching(pattern: str, fold: Callable[[str], str] = str.lower) -> Callable[[str], str | None]:
    """Return a function: the folded first group of `pattern` if it matches the entire id, else None."""
    compiled = re.compile(pattern, re.IGNORECASE | re.ASCII)

    def match(value: str) -> str | None:
        found = compiled.fullmatch(value)
        return fold(found[1]) if found else None

    return match


_NORMALIZE: Mapping[str, Callable[[str], str | None]] = {
    "semantic_scholar": _matching(r"([0-9a-f]{40})"),
    "corpus_id": _matching(r"(?:CorpusId:)?0*([1-9][0-9]{0,18})"),
    "mag": _matching(r"(?:MAG:)?0*([1-9][0-9]{0,18})"),
    "doi": _matching(r"(?:doi:\s*|https?://(?:dx\.)?doi\.org/)?(10\.[0-9.]{1,40}/[!-~]+)"),
    "arxiv": _matching(
        r"(?:arXiv:|https?://arxiv\.org/(?:abs|pdf)/)?"
        r"([0-9]{4}\.[0-9]{4,5}|[a-z.-]+/[0-9]{7})(?:v[0-9]+)?(?:\.pdf)?"
    ),
    "pubmed": _matching(r"(?:PMID:|https?://pubmed\.ncbi\.nlm\.nih\.gov/)?0*([1-9][0-9]{0,18})/?"),
    "pmc": _matching(
        r"(?:PMCID:|https?://(?:www\.)?ncbi\.nlm\.nih\.gov/pmc/articles/)?(?:PMC)?0*([1-9][0-9]{0,18})/?"
    ),
    "orcid": _matching(r"(?:https?://orcid\.org/)?([0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X])", str.upper),
    "openalex": _matching(r"(?:https://openalex\.org/)?(W[1-9][0-9]{0,18})", str.upper),
}
_OTHER = _matching(r"(.+)", str)
