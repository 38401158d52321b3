"""Reads the answers of OpenAlex; pure. Strict in structure and lenient by field, like `scholar_answers`."""

from dataclasses import replace
from typing import Any

from refnet.network.papers import (
    ABSTRACT_LIMIT,
    NAME_LIMIT,
    TITLE_LIMIT,
    AnswerError,
    FoundAuthor,
    FoundEdge,
    FoundPaper,
    clean,
    normalized,
)
from refnet.network.scholar_answers import COUNT, YEAR, AnswerFields, EdgePage, authors, day, line, url

PROVIDER = "openalex"
#: The fields that are read; OpenAlex calls the parameter `select`.
FIELDS = (
    "id,doi,title,display_name,publication_year,publication_date,ids,type,primary_location,open_access,biblio,authorships,"
    "cited_by_count,referenced_works_count,referenced_works,abstract_inverted_index,primary_topic"
)
#: The fields of a paper that is only an end of a citation.
EDGE_FIELDS = "id,doi,title,publication_year,ids,cited_by_count"
_CURSOR = line(1000)

#: Key of OpenAlex's `ids` → scheme of `external_ids`.
_SCHEMES = {"openalex": "openalex", "doi": "doi", "mag": "mag", "pmid": "pubmed", "pmcid": "pmc"}
_MOST_REFERENCES = 10_000
#: The API answers at most 200.
_MOST_WORKS = 1000
_MOST_WORDS = 20_000
_ARXIV_DOI = "10.48550/arxiv."


def work(answer: object) -> FoundPaper | None:
    """Return the paper of a single work; None if it has neither id nor title.

    AnswerError if `answer` is not a work.
    """
    fields = AnswerFields(answer)
    if "id" not in fields.values:
        raise AnswerError("a work without `id`")
    place = _fields(fields.values.get("primary_location"))
    source, access = _fields(place.values.get("source")), _fields(fields.values.get("open_access"))
    kind, subject = fields.get("type", line()), _fields(fields.values.get("primary_topic"))
    subjects = _fields(subject.values.get("field")).get("display_name", line())
    found = FoundPaper(
        PROVIDER,
        _ids(fields),
        title=fields.get("title", line(TITLE_LIMIT)) or fields.get("display_name", line(TITLE_LIMIT)),
        abstract=fields.get("abstract_inverted_index", _abstract),
        year=fields.get("publication_year", YEAR),
        published_on=fields.get("publication_date", day),
        venue=source.get("display_name", line()),
        journal=_journal(source, _fields(fields.values.get("biblio"))),
        publication_types=(kind,) if kind else (),
        fields_of_study=(subjects,) if subjects else (),
        open_access_url=place.get("pdf_url", url) or access.get("oa_url", url),
        reference_count=fields.get("referenced_works_count", COUNT),
        citation_count=fields.get("cited_by_count", COUNT),
        authors=fields.get("authorships", authors(_author)) or (),
        detailed=True,
    )
    return found if found.ids or found.title else None


def works(answer: object) -> list[FoundPaper]:
    """Return the papers of a list of works.

    AnswerError if `answer` is not such a list.
    """
    results = AnswerFields(answer).values.get("results")
    if type(results) is not list or len(results) > _MOST_WORKS:
        raise AnswerError("no list of works in `results`")
    entries = [one for one in results if type(one) is dict and "id" in one]
    return [found for found in map(work, entries) if found]


def cited_by(answer: object) -> EdgePage:
    """Return a page of the works that cite one; AnswerError as for `works`. An empty page is the last one."""
    found = tuple(FoundEdge(replace(one, detailed=False)) for one in works(answer))
    following = _fields(AnswerFields(answer).values.get("meta")).get("next_cursor", _CURSOR)
    return EdgePage(found, None, following or "" if found else "", PROVIDER)


def references(answer: object) -> tuple[str, ...]:
    """Return the OpenAlex ids of a work's references, each once, without the work itself.

    AnswerError if `referenced_works` is not a list.
    """
    fields = AnswerFields(answer)
    listed = fields.values.get("referenced_works")
    if type(listed) is not list or len(listed) > _MOST_REFERENCES:
        raise AnswerError("no list of works in `referenced_works`")
    found = dict.fromkeys(normalized("openalex", one) for one in listed)
    own = normalized("openalex", fields.values.get("id"))
    return tuple(one for one in found if one and one != own)


def _fields(value: object) -> AnswerFields:
    return AnswerFields(value if type(value) is dict else {})


def _ids(fields: AnswerFields) -> dict[str, str]:
    named = _fields(fields.values.get("ids")).values
    given = {scheme: named.get(name) for name, scheme in _SCHEMES.items()}
    given["openalex"] = fields.values.get("id") or given["openalex"]
    given["doi"] = fields.values.get("doi") or given["doi"]
    ids = {scheme: kept for scheme, value in given.items() if (kept := normalized(scheme, value))}
    doi = ids.get("doi", "")
    arxiv = normalized("arxiv", doi.removeprefix(_ARXIV_DOI)) if doi.startswith(_ARXIV_DOI) else None
    return ids | ({"arxiv": arxiv} if arxiv else {})


def _journal(source: AnswerFields, place: AnswerFields) -> dict[str, str] | None:
    if source.values.get("type") != "journal" or not (name := source.get("display_name", line())):
        return None
    pages = [page for end in ("first_page", "last_page") if (page := place.get(end, line(50)))]
    given = {"name": name, "volume": place.get("volume", line(50)), "pages": "-".join(pages)}
    return {key: value for key, value in given.items() if value}


def _author(entry: AnswerFields) -> FoundAuthor | None:
    fields, name = _fields(entry.values.get("author")), line(NAME_LIMIT)
    name = fields.get("display_name", name) or entry.get("raw_author_name", name)
    return FoundAuthor(name, orcid=normalized("orcid", fields.values.get("orcid"))) if name else None


def _abstract(value: Any) -> str | None:
    """Return the text of an inverted index (word → positions)."""
    if type(value) is not dict or len(value) > _MOST_WORDS:
        raise ValueError("not an index of words")
    places: dict[int, str] = {}
    for word, positions in value.items():
        if type(positions) is not list or len(positions) + len(places) > _MOST_WORDS:
            raise ValueError("not a list of positions")
        for position in positions:
            if type(position) is not int or position < 0:
                raise ValueError("not a position")
            places[position] = word
    return clean(" ".join(places[position] for position in sorted(places)), ABSTRACT_LIMIT) or None
