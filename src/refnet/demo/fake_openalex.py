"""The answers of a fake OpenAlex, from a made-up graph: single works, lists by their ids, and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from refnet.demo.fake_answers import Answer
from refnet.demo.fake_graph import FakeGraph

_SITE = "https://openalex.org/"
_MOST = 200
_NOT_FOUND = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"


class Works:
    """OpenAlex's works of `graph`."""

    def __init__(self, graph: FakeGraph) -> None:
        self.graph = graph

    def answer(self, rest: str, query: Mapping[str, str]) -> Answer:
        """Answer a request of the path `rest` below /openalex/."""
        if rest == "works":
            return self._listed(query)
        number = self.find(rest.removeprefix("works/"))
        return Answer(404, _NOT_FOUND) if number is None else Answer(200, self.work(number))

    def find(self, identifier: str) -> int | None:
        """Return the number of the work with this id (OpenAlex's, or doi:, mag:, pmid:); None if unknown."""
        if identifier[:1] == "W" and identifier[1:].isascii() and identifier[1:].isdigit():
            number = int(identifier[1:12]) - int(self.graph.openalex_id(0)[1:])
            return number if 0 <= number < self.graph.papers else None
        return self.graph.find(identifier) if identifier.startswith(("doi:", "mag:", "pmid:")) else None

    def _listed(self, query: Mapping[str, str]) -> Answer:
        """Answer a list of works by their ids, the only filter that RefNet asks for."""
        name, _, value = query.get("filter", "").partition(":")
        if name != "openalex":
            return _refused(f"{name} is not a valid field.")
        count = query.get("per-page", "25")
        if not (count.isascii() and count.isdigit() and len(count) < 4 and 1 <= int(count) <= _MOST):
            return _refused("per-page parameter must be between 1 and 200")
        found = dict.fromkeys(map(self.find, value.split("|")[:100]))
        results = [self.work(number) for number in found if number is not None][: int(count)]
        return Answer(200, {"meta": {"count": len(results)}, "results": results, "group_by": []})

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


def _refused(why: str) -> Answer:
    return Answer(403, {"error": "Invalid query parameters error.", "message": why})


def _inverted(words: Iterable[str]) -> dict[str, list[int]]:
    index: dict[str, list[int]] = {}
    for position, word in enumerate(words):
        index.setdefault(word, []).append(position)
    return index
