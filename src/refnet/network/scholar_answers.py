"""Reads the answers of Semantic Scholar's Graph API v1; pure.

Strict in structure: AnswerError. Lenient by field: a field of a wrong type is dropped and counted, the rest is used.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import chain
from typing import Any, Literal

from refnet.core import checked
from refnet.network.papers import (
    ABSTRACT_LIMIT,
    NAME_LIMIT,
    TEXT_LIMIT,
    TITLE_LIMIT,
    AnswerError,
    FoundAuthor,
    FoundEdge,
    FoundPaper,
    Tldr,
    clean,
    normalized,
)

PROVIDER = "semantic_scholar"
PAPER_FIELDS = (
    "paperId,externalIds,title,abstract,year,publicationDate,venue,publicationVenue,journal,publicationTypes,"
    "fieldsOfStudy,s2FieldsOfStudy,openAccessPdf,referenceCount,citationCount,influentialCitationCount,authors,tldr"
)
EDGE_FIELDS = "contextsWithIntent,intents,isInfluential,paperId,externalIds,title,year,citationCount"

#: Key of `externalIds` → scheme of `external_ids`; others (Medline) are dropped.
_SCHEMES = {
    "CorpusId": "corpus_id",
    "DOI": "doi",
    "ArXiv": "arxiv",
    "MAG": "mag",
    "ACL": "acl",
    "PubMed": "pubmed",
    "PubMedCentral": "pmc",
    "DBLP": "dblp",
}
#: The API answers at most 1,000.
_MOST_ENTRIES = 10_000
#: The most authors that are read; a paper of a large experiment has 3,000.
_MOST_AUTHORS = 10_000
_MOST_TEXTS = 100
COUNT = checked.integer(0, 2**31 - 1)
YEAR = checked.integer(1000, 2999)
_URL = re.compile(r"https?://[!-~][ -~]*")


@dataclass(frozen=True, slots=True)
class EdgePage:
    """One page of the references or citations of a paper."""

    edges: tuple[FoundEdge, ...]
    #: The offset of the next page; None at the end.
    next: int | None
    #: OpenAlex's cursor of the next page; "": at the end.
    cursor: str = ""
    provider: str = PROVIDER


@dataclass(frozen=True, slots=True)
class Linked:
    """A paper with its citations, as one document."""

    paper: FoundPaper
    references: tuple[FoundEdge, ...]
    citations: tuple[FoundEdge, ...]
    #: The number of dropped entries and fields (of a wrong type).
    dropped: int


class AnswerFields:
    """The fields of a provider's JSON object; fields of a wrong type are dropped and counted."""

    def __init__(self, values: object) -> None:
        """Read `values`; AnswerError if it is not an object."""
        if type(values) is not dict:
            raise AnswerError("not a JSON object")
        self.values: dict[str, Any] = values
        self.dropped = 0

    def get(self, name: str, check: Callable[[Any], Any]) -> Any:
        """Return the checked field; None if it is missing, null or rejected by `check`."""
        value = self.values.get(name)
        if value is None:
            return None
        try:
            return check(value)
        except ValueError:
            self.dropped += 1
            return None


def line(limit: int = TEXT_LIMIT, *, lines: bool = False) -> Callable[[Any], str | None]:
    """Check for text, and return it cleaned; None if it is then empty."""

    def check(value: Any) -> str | None:
        if type(value) is not str:
            raise ValueError("not text")
        return clean(value, limit, lines=lines) or None

    return check


def day(value: Any) -> date:
    """Check for a date, YYYY-MM-DD, of the years 1000 to 2999."""
    if type(value) is not str or not re.fullmatch(r"[12]\d{3}-\d\d-\d\d", value, re.ASCII):
        raise ValueError("not a date")
    return date.fromisoformat(value)


def url(value: Any) -> str:
    """Check for a URL of http or https, and return it with its spaces escaped."""
    if type(value) is not str or len(value) > TEXT_LIMIT or not _URL.fullmatch(value):
        raise ValueError("not a URL")
    return value.replace(" ", "%20")


def texts(value: Any) -> tuple[str, ...]:
    """Check for a list of texts, and return the first hundred, each once."""
    if type(value) is not list:
        raise ValueError("not a list")
    found = (clean(one, TEXT_LIMIT) for one in value[:_MOST_TEXTS] if type(one) is str)
    return tuple(dict.fromkeys(one for one in found if one))


def paper(answer: object) -> FoundPaper | None:
    """Return the paper of an answer with PAPER_FIELDS; None for null, or without id and title.

    AnswerError if `answer` is neither null nor a paper.
    """
    return None if answer is None else read_paper(_paper_fields(answer), detailed=True)


def papers(answer: object, asked: int) -> list[FoundPaper | None]:
    """Return the papers of a batch in the order of the `asked` ids; None for an unknown id.

    AnswerError if `answer` is not a list with an entry for each id.
    """
    if type(answer) is not list or len(answer) != asked:
        raise AnswerError(f"not a list of {asked} papers")
    return [read_paper(AnswerFields(one), detailed=True) if type(one) is dict else None for one in answer]


def found(answer: object) -> list[FoundPaper]:
    """Return the papers of a search that have one of the ids that requests take, best first.

    AnswerError if `answer` is not a list of papers in `data`.
    """
    entries = AnswerFields(answer).values.get("data") or []
    if type(entries) is not list or len(entries) > _MOST_ENTRIES:
        raise AnswerError("no list of papers in `data`")
    papers = (read_paper(AnswerFields(one), detailed=False) for one in entries if type(one) is dict)
    return [
        one for one in papers if one and one.ids.keys() & {"semantic_scholar", "doi", "arxiv", "corpus_id"}
    ]


def edges(answer: object, end: Literal["citedPaper", "citingPaper"]) -> EdgePage:
    """Return a page of /references (`citedPaper`) or /citations (`citingPaper`).

    AnswerError if `answer` is not a page, or if `next` does not follow it. Entries without id and title are left out.
    """
    page = AnswerFields(answer)
    entries = page.values.get("data", ())
    if entries is None:  # the publisher has withdrawn the list
        entries = []
    if type(entries) is not list or len(entries) > _MOST_ENTRIES:
        raise AnswerError("no list of citations in `data`")
    objects = [AnswerFields(one) for one in entries if type(one) is dict]
    if entries and not objects:
        raise AnswerError("no citation in `data`")
    return EdgePage(tuple(edge for one in objects if (edge := _edge(one, end))), _next(page))


def linked(answer: object) -> Linked | None:
    """Return a paper with its embedded `references` and `citations`; None for null.

    AnswerError if `answer` is not such a paper. An embedded paper counts as detailed if it has an id and authors.
    """
    if answer is None:
        return None
    fields = _paper_fields(answer)
    found = read_paper(fields, detailed=True)
    references, citations = (_inlined(fields, name) for name in ("references", "citations"))
    return Linked(found, references, citations, fields.dropped) if found else None


def _paper_fields(answer: object) -> AnswerFields:
    fields = AnswerFields(answer)
    if not fields.values.keys() & {"paperId", "title"}:
        raise AnswerError("neither `paperId` nor `title`")
    return fields


def _inlined(fields: AnswerFields, name: str) -> tuple[FoundEdge, ...]:
    entries = fields.values.get(name) or []
    if type(entries) is not list or len(entries) > _MOST_ENTRIES:
        raise AnswerError(f"`{name}` is not a list of at most {_MOST_ENTRIES:,} papers")
    objects = [AnswerFields(one) for one in entries if type(one) is dict]
    found = [read_paper(one, detailed=_has_details(one.values)) for one in objects]
    fields.dropped += len(entries) - len(objects) + sum(one.dropped for one in objects)
    return tuple(FoundEdge(one) for one in found if one)


def _has_details(values: Mapping[str, Any]) -> bool:
    # An entry without id is a line of the bibliography, often not even a paper.
    return values.get("paperId") is not None and "authors" in values


def _next(page: AnswerFields) -> int | None:
    found, offset = page.values.get("next"), page.values.get("offset", 0)
    if found is None:
        return None
    if type(found) is not int or type(offset) is not int or not 0 <= offset < found < 1 << 31:
        raise AnswerError("`next` is not an offset after this page")
    return found


def _edge(entry: AnswerFields, end: str) -> FoundEdge | None:
    other = entry.values.get(end)
    found = read_paper(AnswerFields(other), detailed=False) if type(other) is dict else None
    if found is None:
        return None
    return FoundEdge(
        found,
        is_influential=entry.get("isInfluential", checked.flag),
        intents=entry.get("intents", texts) or (),
        contexts=entry.get("contextsWithIntent", _contexts) or (),
    )


def read_paper(fields: AnswerFields, *, detailed: bool) -> FoundPaper | None:
    """Return the paper of `fields`; None if it has neither a valid id nor a title."""
    get = fields.get
    found = FoundPaper(
        PROVIDER,
        _ids(fields),
        title=get("title", line(TITLE_LIMIT)),
        abstract=get("abstract", line(ABSTRACT_LIMIT, lines=True)),
        year=get("year", YEAR),
        published_on=get("publicationDate", day),
        venue=get("venue", line()),
        publication_venue=get("publicationVenue", _venue),
        journal=get("journal", _journal),
        publication_types=get("publicationTypes", texts) or (),
        fields_of_study=_topics(fields),
        open_access_url=get("openAccessPdf", _pdf),
        reference_count=get("referenceCount", COUNT),
        citation_count=get("citationCount", COUNT),
        influential_citation_count=get("influentialCitationCount", COUNT),
        authors=get("authors", authors(_author)) or (),
        tldr=get("tldr", _tldr),
        detailed=detailed,
    )
    return found if found.ids or found.title else None


def _ids(fields: AnswerFields) -> dict[str, str]:
    named = fields.get("externalIds", _object) or {}
    given = {"semantic_scholar": fields.values.get("paperId"), "corpus_id": fields.values.get("corpusId")}
    given |= {scheme: named[name] for name, scheme in _SCHEMES.items() if named.get(name) is not None}
    ids = {}
    for scheme, value in given.items():
        if value is None:
            continue
        if kept := normalized(scheme, value):
            ids[scheme] = kept
        else:
            fields.dropped += 1
    return ids


def _topics(fields: AnswerFields) -> tuple[str, ...]:
    """Return the fields of study: first those of the sources, then those that Semantic Scholar's model adds."""
    found = ((fields.get("fieldsOfStudy", texts) or ()), (fields.get("s2FieldsOfStudy", _categories) or ()))
    return tuple(dict.fromkeys(chain(*found)))[:_MOST_TEXTS]


def _categories(value: Any) -> tuple[str, ...]:
    if type(value) is not list:
        raise ValueError("not a list")
    return texts([one.get("category") for one in value[:_MOST_TEXTS] if type(one) is dict])


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise ValueError("not an object")
    return value


def _some(value: Any, names: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any] | None:
    """Check for an object, and return its nonempty fields among `names`."""
    fields = AnswerFields(_object(value))
    return {name: found for name, check in names.items() if (found := fields.get(name, check))} or None


def _venue(value: Any) -> dict[str, Any] | None:
    one, several = line(), lambda found: list(texts(found))
    names = {"id": one, "name": one, "type": one, "issn": one, "url": url, "alternate_names": several}
    return _some(value, names)


def _journal(value: Any) -> dict[str, str] | None:
    return _some(value, dict.fromkeys(("name", "volume", "pages"), line()))


def _pdf(value: Any) -> str | None:
    address = _object(value).get("url")
    return url(address) if address else None


def authors(read: Callable[[AnswerFields], FoundAuthor | None]) -> Callable[[Any], tuple[FoundAuthor, ...]]:
    """Check for a list, and return the authors that `read` finds in its first 10,000 objects."""

    def check(value: Any) -> tuple[FoundAuthor, ...]:
        if type(value) is not list:
            raise ValueError("not a list")
        found = (read(AnswerFields(one)) for one in value[:_MOST_AUTHORS] if type(one) is dict)
        return tuple(one for one in found if one)

    return check


def _author(fields: AnswerFields) -> FoundAuthor | None:
    name = fields.get("name", line(NAME_LIMIT))
    return FoundAuthor(name, fields.get("authorId", line(64))) if name else None


def _tldr(value: Any) -> Tldr | None:
    fields = AnswerFields(_object(value))
    text = fields.get("text", line(TEXT_LIMIT * 2))
    return Tldr(text, fields.get("model", line(100)) or "tldr") if text else None


def _contexts(value: Any) -> tuple[dict[str, Any], ...]:
    if type(value) is not list:
        raise ValueError("not a list")
    entries = [AnswerFields(one) for one in value[:_MOST_TEXTS] if type(one) is dict]
    found = [(one.get("context", line()), list(one.get("intents", texts) or ())) for one in entries]
    return tuple({"context": context, "intents": intents} for context, intents in found if context)
