"""The answers of the fake providers, from a made-up graph.

Semantic Scholar: its paths, fields, pages and errors. OpenAlex: single works, lists by their ids, and errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refnet.demo.fake_faults import Faults
from refnet.demo.fake_graph import FakeGraph, Reference

_MOST_IDS, _MOST_ITEMS, _LAST = 500, 1000, 10_000
#: The most papers of a page of a search, and the last one that a search reaches.
_MOST_FOUND, _LAST_FOUND = 100, 1000
_EDGE_FIELDS = frozenset({"contexts", "intents", "contextsWithIntent", "isInfluential"})
_NESTED = (
    "authors",
    "citations",
    "references",
    "embedding",
    "tldr",
    "publicationVenue",
    "journal",
    "openAccessPdf",
)
_SITE = "https://openalex.org/"
_MOST_WORKS, _MOST_OF_A_FILTER = 200, 100
#: The fields of a work that `select` may name, those that RefNet reads.
_WORK_FIELDS = frozenset(
    [
        "id",
        "doi",
        "title",
        "display_name",
        "publication_year",
        "publication_date",
        "ids",
        "language",
        "type",
        "primary_location",
        "open_access",
        "biblio",
        "authorships",
        "cited_by_count",
        "referenced_works_count",
        "referenced_works",
        "abstract_inverted_index",
        "primary_topic",
    ]
)
_NOT_FOUND = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
Query = Mapping[str, str]


@dataclass(frozen=True)
class FakeAnswer:
    """An answer to a request."""

    status: int
    #: A JSON value; a string is HTML.
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


def endpoint(path: str) -> str:
    """Return the kind of request for `path`: batch, references, citations, search, match, works, work, or paper."""
    last = path.rpartition("/")[2]
    if last in {"batch", "references", "citations", "search", "match", "works"}:
        return last
    return "work" if path.startswith("/openalex/") else "paper"


class _RefusedError(Exception):
    """A request that is answered with status 400 and this text."""


class ScholarAnswers:
    """The answers of a fake Semantic Scholar for `graph`, with the content faults of `faults`."""

    def __init__(self, graph: FakeGraph, faults: Faults) -> None:
        self.graph, self.faults = graph, faults

    def answer(self, method: str, rest: str, query: Query, body: bytes) -> FakeAnswer:
        """Answer a request for the decoded path `rest` below /graph/v1/paper/."""
        try:
            return self._scholar(method, rest, query, body)
        except _RefusedError as error:
            return FakeAnswer(400, {"error": str(error)})

    def _scholar(self, method: str, rest: str, query: Query, body: bytes) -> FakeAnswer:
        if method == "POST":
            return (
                self._batch(query, body)
                if rest == "batch"
                else FakeAnswer(405, {"error": "Method not allowed"})
            )
        for name in ("references", "citations"):
            if rest.endswith(f"/{name}"):
                return self._edges(rest.removesuffix(f"/{name}"), name, query)
        if rest in {"search", "search/match"}:
            return self._search(query) if rest == "search" else self._match(query)
        wanted = _fields(query, self._known(full=True))
        number = self.graph.find(rest)
        if number is None:
            return FakeAnswer(404, {"error": f"Paper with id {rest} not found"})
        return FakeAnswer(200, self._paper(number, wanted))

    def _known(self, *, full: bool) -> frozenset[str]:
        names = frozenset(self.graph.paper(0))
        return names | {"citations", "references"} if full else names - {"tldr", "embedding"}

    def _batch(self, query: Query, body: bytes) -> FakeAnswer:
        wanted = _fields(query, self._known(full=True))
        ids = _ids(body)
        numbers = [self.graph.find(one) for one in ids]
        if not any(number is not None for number in numbers):
            return FakeAnswer(400, {"error": "No valid paper ids given"})
        found = [None if number is None else self._paper(number, wanted) for number in numbers]
        return FakeAnswer(200, found)

    def _search(self, query: Query) -> FakeAnswer:
        """Answer with the papers that have every word in the title, the most cited first."""
        wanted, words = _fields(query, self._known(full=True)), _words_of(query)
        offset = _number(query, "offset", 0, _LAST_FOUND - 1)
        limit = _number(query, "limit", _MOST_FOUND, _MOST_FOUND)
        found = [n for n in range(self.graph.papers) if words <= _words(self.graph.text(n).title)]
        found.sort(key=lambda n: (-len(self.graph.cited_by(n)), n))
        end = min(offset + limit, _LAST_FOUND)
        page: dict[str, Any] = {"total": len(found), "offset": offset}
        page["data"] = [self._paper(one, wanted) for one in found[offset:end]]
        return FakeAnswer(200, page | ({"next": end} if end < len(found) else {}))

    def _match(self, query: Query) -> FakeAnswer:
        """Answer with the paper whose title is closest, if it has half of the words."""
        wanted, words = _fields(query, self._known(full=True)), _words_of(query)
        shared = ((len(words & _words(self.graph.text(n).title)), -n) for n in range(self.graph.papers))
        best, number = max(shared)
        if 2 * best < len(words):
            return FakeAnswer(404, {"error": "Title match not found"})
        return FakeAnswer(200, {"data": [self._paper(-number, wanted) | {"matchScore": 100.0 * best}]})

    def _edges(self, identifier: str, name: str, query: Query) -> FakeAnswer:
        wanted = _fields(query, self._known(full=False) | _EDGE_FIELDS)
        offset, limit = _number(query, "offset", 0, _LAST - 1), _number(query, "limit", 100, _MOST_ITEMS, 1)
        number = self.graph.find(identifier)
        if number is None:
            return FakeAnswer(404, {"error": f"Paper with id {identifier} not found"})
        items, total = self._page(number, name, wanted, offset, limit)
        page: dict[str, Any] = {"offset": offset, "data": items}
        if offset + limit < min(total, _LAST):
            page["next"] = offset + limit
        return FakeAnswer(200, page)

    def _page(
        self, number: int, name: str, wanted: Sequence[str], offset: int, limit: int
    ) -> tuple[list[dict[str, Any]], int]:
        """Return up to `limit` items from `offset` on, and the total number."""
        end = min(offset + limit, _LAST)
        if name == "references":
            references = self._references(number)
            return [self._cited(one, wanted) for one in references[offset:end]], len(references)
        citing = self.graph.cited_by(number)
        items = [
            _edge(self.graph.link(other, number), wanted)
            | {"citingPaper": self._paper(other, _of_paper(wanted))}
            for other in citing[offset:end]
        ]
        return items, len(citing)

    def _references(self, number: int) -> list[Reference]:
        if self.faults.has("withheld", number):
            return []
        references = self.graph.references(number)
        if self.faults.has("duplicates", number):
            references += references[:3]
        if self.faults.has("self", number):
            references.append(Reference(number, "itself"))
        return references

    def _cited(self, reference: Reference, wanted: Sequence[str]) -> dict[str, Any]:
        names = _of_paper(wanted)
        paper = (
            _bare(reference.title, names) if reference.paper is None else self._paper(reference.paper, names)
        )
        return _edge(reference, wanted) | {"citedPaper": paper}

    def _paper(self, number: int, wanted: Sequence[str]) -> dict[str, Any]:
        paper = self.faults.spoilt(self.graph.paper(number), number)
        given = {"paperId": paper["paperId"]}
        for name in wanted:
            top, _, below = name.partition(".")
            if top in {"citations", "references"}:
                given.setdefault(top, self._linked(number, top))
            elif top == "authors" and below:
                given.setdefault(top, paper[top])
            else:
                given[top] = paper[top]
        return given

    def _linked(self, number: int, name: str) -> list[dict[str, Any]]:
        others = (
            self.graph.cites(number) if name == "references" else self.graph.cited_by(number)[: _LAST - 1]
        )
        return [self._paper(other, ("title",)) for other in others]


def _words_of(query: Query) -> frozenset[str]:
    """Return the words of a search; _RefusedError if there are none."""
    if words := _words(query.get("query", "")):
        return words
    raise _RefusedError("Missing required parameter: [query]")


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _of_paper(wanted: Iterable[str]) -> list[str]:
    return [name for name in wanted if name not in _EDGE_FIELDS]


def _edge(reference: Reference, wanted: Iterable[str]) -> dict[str, Any]:
    contexts = [reference.context] if reference.context else []
    intents = [reference.intent] if reference.intent else []
    with_intent = [{"context": one, "intents": intents} for one in contexts]
    every = {
        "contexts": contexts,
        "intents": intents,
        "contextsWithIntent": with_intent,
        "isInfluential": reference.is_influential,
    }
    return {name: every[name] for name in wanted if name in every}


def _bare(title: str, wanted: Iterable[str]) -> dict[str, Any]:
    """Return a paper of which the provider knows only the title."""
    empty: dict[str, Any] = {"title": title, "authors": [], "venue": ""}
    return {"paperId": None} | {name: empty.get(name) for name in (one.partition(".")[0] for one in wanted)}


def _fields(query: Query, known: frozenset[str]) -> list[str]:
    """Return the requested fields; _RefusedError if one is unknown."""
    wanted = [name.strip() for name in query.get("fields", "title").split(",") if name.strip()]
    unknown = [name for name in wanted if not _is_known(name, known)]
    if unknown:
        raise _RefusedError(f"Unrecognized or unsupported fields: [{', '.join(unknown)}]")
    return wanted


def _is_known(name: str, known: frozenset[str]) -> bool:
    top, dot, _ = name.partition(".")
    return top in known and (not dot or top in _NESTED)


def _number(query: Query, name: str, default: int, most: int, least: int = 0) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= most):
        raise _RefusedError(f"Unacceptable query params: [{name}={text}]")
    return int(text)


def _ids(body: bytes) -> list[str]:
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        raise _RefusedError("The request body is not JSON") from None
    ids = sent.get("ids") if isinstance(sent, dict) else None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise _RefusedError("The request body must contain a list of ids")
    if len(ids) > _MOST_IDS:
        raise _RefusedError(f"Too many ids: at most {_MOST_IDS} are accepted")
    return ids


class OpenAlexAnswers:
    """OpenAlex's works of `graph`."""

    def __init__(self, graph: FakeGraph) -> None:
        self.graph = graph

    def answer(self, rest: str, query: Mapping[str, str]) -> FakeAnswer:
        """Answer a request of the path `rest` below /openalex/."""
        if rest == "works":
            return self._listed(query)
        number = self.find(rest.removeprefix("works/"))
        if number is None:
            return FakeAnswer(404, _NOT_FOUND)
        return self._selected(query, FakeAnswer(200, self.work(number)), [])

    def find(self, identifier: str) -> int | None:
        """Return the number of the work with this id (OpenAlex's, or doi:, mag:, pmid:); None if unknown."""
        if identifier[:1] == "W" and identifier[1:].isascii() and identifier[1:].isdigit():
            number = int(identifier[1:12]) - int(self.graph.openalex_id(0)[1:])
            return number if 0 <= number < self.graph.papers else None
        return self.graph.find(identifier) if identifier.startswith(("doi:", "mag:", "pmid:")) else None

    def _listed(self, query: Mapping[str, str]) -> FakeAnswer:
        """Answer a list of works by their ids, or of those that cite one: the filters that RefNet asks for."""
        name, _, value = query.get("filter", "").partition(":")
        asked = value.split("|")
        if name not in {"openalex", "doi", "cites"}:
            return _openalex_refused(f"{name} is not a valid field.")
        if len(asked) > _MOST_OF_A_FILTER:
            return _openalex_refused(f"Maximum number of values exceeded for {name}.")
        count, cursor = query.get("per-page", "25"), query.get("cursor", "")
        if not (count.isascii() and count.isdigit() and len(count) < 4 and 1 <= int(count) <= _MOST_WORKS):
            return _openalex_refused("per-page parameter must be between 1 and 200")
        if cursor and cursor != "*" and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 9):
            return _openalex_refused("Cursor value is invalid.")
        found = [
            one
            for one in dict.fromkeys(self.find(f"{'doi:' * (name == 'doi')}{one}") for one in asked)
            if one is not None
        ]
        if name == "cites":
            found = [citing for one in found for citing in self.graph.cited_by(one)]
        first = int(cursor) if cursor.isdigit() else 0
        shown, last = found[first : first + int(count)], first + int(count)
        meta = {"count": len(found), "next_cursor": str(last) if cursor and shown else None}
        works = [self.work(number) for number in shown]
        return self._selected(query, FakeAnswer(200, {"meta": meta, "results": works, "group_by": []}), works)

    def _selected(
        self, query: Mapping[str, str], answer: FakeAnswer, works: list[dict[str, Any]]
    ) -> FakeAnswer:
        """Leave only the fields of `select` in the works of an answer."""
        wanted = [one for one in query.get("select", "").split(",") if one]
        if unknown := [one for one in wanted if one not in _WORK_FIELDS]:
            return _openalex_refused(f"{unknown[0]} is not a valid select field")
        for work in works or ([] if "results" in answer.body else [answer.body]):
            for name in [one for one in work if wanted and one not in wanted]:
                del work[name]
        return answer

    def work(self, number: int) -> dict[str, Any]:
        """Return the work of the paper `number`."""
        graph, paper = self.graph, self.graph.paper(number)
        own, doi = _SITE + graph.openalex_id(number), f"https://doi.org/{graph.doi(number)}"
        cited = graph.cites(number)
        place = {"id": None, "display_name": paper["venue"], "type": paper["publicationVenue"]["type"]}
        pdf = (paper["openAccessPdf"] or {}).get("url")
        return {
            "id": own,
            "doi": doi,
            "title": paper["title"],
            "display_name": paper["title"],
            "publication_year": paper["year"],
            "publication_date": paper["publicationDate"],
            "ids": {"openalex": own, "doi": doi, "mag": paper["externalIds"]["MAG"]},
            "language": "en",
            "type": "article",
            "primary_location": {"is_oa": pdf is not None, "pdf_url": pdf, "source": place},
            "open_access": {"is_oa": pdf is not None, "oa_url": pdf},
            "authorships": [
                {
                    "author_position": "middle",
                    "author": {"id": f"{_SITE}A{key}", "display_name": name, "orcid": None},
                }
                for key, name in graph.people(number)
            ],
            "cited_by_count": paper["citationCount"],
            "referenced_works_count": len(cited),
            "referenced_works": [_SITE + graph.openalex_id(other) for other in cited],
            "abstract_inverted_index": _inverted(graph.text(number).abstract().split()),
        }


def _openalex_refused(why: str) -> FakeAnswer:
    return FakeAnswer(403, {"error": "Invalid query parameters error.", "message": why})


def _inverted(words: Iterable[str]) -> dict[str, list[int]]:
    index: dict[str, list[int]] = {}
    for position, word in enumerate(words):
        index.setdefault(word, []).append(position)
    return index
