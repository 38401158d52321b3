"""The providers of papers: Semantic Scholar, and OpenAlex for papers that are unknown there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import quote

from refnet.network import openalex_answers, scholar_answers
from refnet.network.http_api import Api, RefusedError, Server
from refnet.network.papers import AnswerError, FoundEdge, FoundPaper
from refnet.network.scholar_answers import EDGE_FIELDS, PAPER_FIELDS, Page
from refnet.settings import Settings

#: The most ids of a batch, and the most entries of a page.
MOST_IDS = 500
_MOST_ENTRIES = 1000
#: Semantic Scholar gives no entries from this offset on.
LAST_ENTRY = 9999
_ENDS: Mapping[str, Literal["citedPaper", "citingPaper"]] = {
    "references": "citedPaper",
    "citations": "citingPaper",
}
#: Scheme of an id by which OpenAlex finds a work → its prefix there; best scheme first.
_WORKS = {"openalex": "", "doi": "doi:", "pubmed": "pmid:", "mag": "mag:"}
_SELECTED = 50


def scholar_server(settings: Settings) -> Server:
    """Return the server of Semantic Scholar, with its key."""
    key = settings.crawl_api_key
    headers = {"x-api-key": key} if key else {}
    url = settings.crawl_semantic_scholar_url.rstrip("/")
    return Server("Semantic Scholar", url, "crawl.api_key", headers, has_key=bool(key))


def openalex_server(settings: Settings) -> Server:
    """Return the server of OpenAlex, with its key."""
    key = settings.crawl_openalex_key
    params = {"api_key": key} if key else {}
    url = settings.crawl_openalex_url.rstrip("/")
    return Server("OpenAlex", url, "crawl.openalex_key", params=params, has_key=bool(key))


class Scholar:
    """Queries to Semantic Scholar; raises the errors of Api, and AnswerError."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def papers(self, ids: Sequence[str]) -> list[FoundPaper | None]:
        """Return the details of at most MOST_IDS papers; None for an unknown id."""
        try:
            answer = self._api.post("/paper/batch", {"fields": PAPER_FIELDS}, {"ids": [*ids]})
        except RefusedError as error:
            if error.status != 400:
                raise
            if len(ids) == 1 or "no valid paper ids" in error.message.lower():
                return [None] * len(ids)
            half = len(ids) // 2  # one malformed id spoils a batch
            return self.papers(ids[:half]) + self.papers(ids[half:])
        return scholar_answers.papers(answer, len(ids))

    def edges(self, paper: str, direction: str, offset: int) -> Page | None:
        """Return a page of a paper's references or citations from `offset` on; None for an unknown id."""
        limit = min(_MOST_ENTRIES, LAST_ENTRY - offset)
        params = {"fields": EDGE_FIELDS, "offset": str(offset), "limit": str(limit)}
        answer = self._api.get(f"/paper/{quote(paper, safe=':/')}/{direction}", params)
        if answer is None:
            return None
        page = scholar_answers.edges(answer, _ENDS[direction])
        if page.next is not None and page.next <= offset:
            raise AnswerError("`next` is not an offset after the page that was asked for")
        return page


class OpenAlex:
    """Queries to OpenAlex; raises the errors of Api, and AnswerError. Without a key it asks only for single works."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def work(self, ids: Mapping[str, str]) -> tuple[FoundPaper, list[FoundEdge]] | None:
        """Return the details and the references of the paper with `ids`; None if it is unknown."""
        scheme = next((one for one in _WORKS if one in ids), None)
        if scheme is None:
            return None
        answer = self._api.get(f"/works/{quote(_WORKS[scheme] + ids[scheme], safe=':/')}", {})
        found = None if answer is None else openalex_answers.work(answer)
        if found is None:
            return None
        return found, [FoundEdge(one) for one in self._named(openalex_answers.references(answer))]

    def _named(self, works: Sequence[str]) -> list[FoundPaper]:
        """Return papers for OpenAlex's ids; with an API key also their titles and other ids."""
        bare = {one: FoundPaper(openalex_answers.PROVIDER, {"openalex": one}) for one in works}
        if not self._api.server.has_key:
            return [*bare.values()]
        for begin in range(0, len(works), _SELECTED):
            part = works[begin : begin + _SELECTED]
            params = {"filter": f"openalex:{'|'.join(part)}", "per-page": str(_SELECTED)}
            for one in openalex_answers.works(self._api.get("/works", params)):
                if (name := one.ids.get("openalex")) in bare:
                    bare[name] = one
        return [*bare.values()]
