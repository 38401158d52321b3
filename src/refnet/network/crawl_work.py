"""The jobs of a crawl: each asks a provider and writes the answers, one transaction per page.

The providers are Semantic Scholar, and OpenAlex for papers that are unknown there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import quote

import psycopg

from refnet.core import checked
from refnet.network import openalex_answers, scholar_answers
from refnet.network.crawl_levels import DETAILS, EDGES, MOST_IDS, SEEDS, add_seeds
from refnet.network.http_api import Api, ApiServer, RefusedRequestError, UnavailableError
from refnet.network.jobs import Job, Worker
from refnet.network.papers import AnswerError, FoundEdge, FoundPaper
from refnet.network.scholar_answers import EDGE_FIELDS, PAPER_FIELDS, EdgePage
from refnet.network.writing import lock, retried, write_edges, write_papers
from refnet.settings import Settings

#: The most entries of a page.
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
#: The prefix of ids of papers that only OpenAlex knows.
_OPENALEX = "openalex:"
#: Limits per paper, against a server that always names a next page.
_LAST_REFERENCE, _MOST_PAGES = 100_000, 1000
_Cursor = psycopg.Cursor[tuple[Any, ...]]
_NAME, _COUNT = checked.text(1100, shortest=1), checked.integer(0, 2**31 - 1)
_NAMES = checked.each(_NAME, MOST_IDS)
#: Kind of job → check of its payload, as a database may come from elsewhere.
_PAYLOADS = {
    SEEDS: checked.record({"seeds": _NAMES}, more=True),
    DETAILS: checked.record({"ids": _NAMES}, more=True),
    EDGES: checked.record(
        {"id": _NAME, "direction": checked.one_of(("references", "citations"))},
        dict.fromkeys(("offset", "pages", "found", "new", "dropped"), _COUNT),
        more=True,
    ),
}


def scholar_server(settings: Settings) -> ApiServer:
    """Return the server of Semantic Scholar, with its key."""
    key = settings.crawl_api_key
    headers = {"x-api-key": key} if key else {}
    url = settings.crawl_semantic_scholar_url.rstrip("/")
    return ApiServer("Semantic Scholar", url, "crawl.api_key", headers, has_key=bool(key))


def openalex_server(settings: Settings) -> ApiServer:
    """Return the server of OpenAlex, with its key."""
    key = settings.crawl_openalex_key
    params = {"api_key": key} if key else {}
    url = settings.crawl_openalex_url.rstrip("/")
    return ApiServer("OpenAlex", url, "crawl.openalex_key", params=params, has_key=bool(key))


class Scholar:
    """Queries to Semantic Scholar; raises the errors of Api, and AnswerError."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def papers(self, ids: Sequence[str]) -> list[FoundPaper | None]:
        """Return the details of at most MOST_IDS papers; None for an unknown id."""
        try:
            answer = self._api.post("/paper/batch", {"fields": PAPER_FIELDS}, {"ids": [*ids]})
        except RefusedRequestError as error:
            if error.status != 400:
                raise
            if len(ids) == 1 or "no valid paper ids" in error.message.lower():
                return [None] * len(ids)
            half = len(ids) // 2  # one malformed id spoils a batch
            return self.papers(ids[:half]) + self.papers(ids[half:])
        return scholar_answers.papers(answer, len(ids))

    def edges(self, paper: str, direction: str, offset: int) -> EdgePage | None:
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


@dataclass
class Crawler:
    """Does the jobs that `worker` claims."""

    worker: Worker
    scholar: Scholar
    openalex: OpenAlex
    #: Why OpenAlex is no longer asked; "": it is asked.
    without_openalex: str = field(default="", init=False)

    def do(self, job: Job) -> None:
        """Do a job, and mark it as done. Raises the errors of Api, AnswerError, LostClaimError, psycopg.Error."""
        try:
            job = replace(job, payload=_PAYLOADS[job.kind](job.payload))
            if job.kind == EDGES and job.paper_id is None:
                raise ValueError("no paper")  # noqa: TRY301
        except ValueError as error:
            self._refuse(job, str(error))
            return
        do = {EDGES: self._edges, DETAILS: self._details, SEEDS: self._seeds}
        do[job.kind](job)

    def _refuse(self, job: Job, error: str) -> None:
        """Fail a job with an invalid payload finally, and drop the payload: reports add up payloads."""
        with self.worker.connection.transaction(), self.worker.connection.cursor() as cursor:
            self.worker.keep(cursor, job, {})
            self.worker.failed(cursor, job, f"the payload of this job is invalid: {error}")

    def _seeds(self, job: Job) -> None:
        names: list[str] = job.payload["seeds"]
        found = self.scholar.papers(names)
        unknown = [name for name, paper in zip(names, found, strict=True) if paper is None]

        def write(cursor: _Cursor) -> None:
            papers = write_papers(cursor, [one for one in found if one])
            add_seeds(cursor, _crawl(job), papers)
            self.worker.done(cursor, job, {**job.payload, "unknown": unknown})

        retried(self.worker.connection, write)

    def _details(self, job: Job) -> None:
        names: list[str] = job.payload["ids"]
        known = [name for name in names if not name.startswith(_OPENALEX)]
        answers = dict(zip(known, self.scholar.papers(known), strict=True)) if known else {}
        found = [one for name, paper in answers.items() if paper for one in _with_asked(name, paper)]
        unknown = [name for name in names if answers.get(name) is None]
        works = {name: self._work(_ids_of(name)) for name in unknown}
        found += [work[0] for work in works.values() if work]

        def write(cursor: _Cursor) -> None:
            write_papers(cursor, found)
            missing = [name for name, work in works.items() if not work]
            self.worker.done(cursor, job, {**job.payload, "unknown": missing})

        retried(self.worker.connection, write)

    def _edges(self, job: Job) -> None:
        state: dict[str, Any] = {"offset": 0, "pages": 0, "found": 0, "new": 0, **job.payload}
        last = LAST_ENTRY if state["direction"] == "citations" else _LAST_REFERENCE
        is_last = False
        while not is_last:
            page, provenance = self._page(job, state)
            state["pages"] += 1
            if page.next is not None and (page.next >= last or state["pages"] >= _MOST_PAGES):
                state["is_cut"] = True
            is_last = page.next is None or state.get("is_cut", False)
            self._write_page(job, state, page, provenance, is_last=is_last)

    def _page(self, job: Job, state: Mapping[str, Any]) -> tuple[EdgePage, str]:
        """Return the next page and its provider: OpenAlex if Semantic Scholar has no data or is down."""
        name, offset = state["id"], state["offset"]
        is_fallback = state["direction"] == "references" and offset == 0
        page: EdgePage | None = None
        try:
            if not name.startswith(_OPENALEX):
                page = self.scholar.edges(name, state["direction"], offset)
        except UnavailableError as error:
            if error.limited or not is_fallback:
                raise
            found = self._references(job)
            if not found:
                raise
            return found, "openalex"
        if (page is None or not page.edges) and is_fallback and (found := self._references(job)):
            return found, "openalex"
        return page or EdgePage((), None), "semantic_scholar"

    def _references(self, job: Job) -> EdgePage | None:
        """Return a paper's references by OpenAlex, on one page; None if OpenAlex has none."""
        rows = self.worker.connection.execute(_IDS, [job.paper_id]).fetchall()
        work = self._work(dict(rows))
        return EdgePage(tuple(work[1]), None) if work and work[1] else None

    def _work(self, ids: Mapping[str, str]) -> tuple[FoundPaper, list[FoundEdge]] | None:
        """Ask OpenAlex for a paper; None if it is unknown there, or OpenAlex is unavailable, which stops no crawl."""
        if self.without_openalex:
            return None
        try:
            return self.openalex.work(ids)
        except (UnavailableError, RefusedRequestError) as error:
            if not isinstance(error, RefusedRequestError) or error.is_final:
                self.without_openalex = str(error)
            return None
        except AnswerError:
            return None

    def _write_page(
        self, job: Job, state: dict[str, Any], page: EdgePage, provenance: str, *, is_last: bool
    ) -> None:
        def write(cursor: _Cursor) -> None:
            lock(cursor)
            row = cursor.execute(
                _PAPER, [job.id]
            ).fetchone()  # a merge may have moved the job to another paper
            if row is None or row[0] is None:  # somebody deleted the paper, and the job with it
                return
            new = write_edges(cursor, row[0], state["direction"], page.edges, provenance)
            after = {**state, "found": state["found"] + len(page.edges), "new": state["new"] + new}
            if is_last:
                cursor.execute(_FETCHED[state["direction"]], [row[0]])
                self.worker.done(cursor, job, after)
            else:
                self.worker.keep(cursor, job, after | {"offset": page.next})
            written.update(after | {"offset": page.next})

        written: dict[str, Any] = {}
        retried(self.worker.connection, write)
        state.update(written)


def _crawl(job: Job) -> int:
    assert job.crawl_id is not None  # noqa: S101  # every job of a crawl has one
    return job.crawl_id


def _with_asked(name: str, paper: FoundPaper) -> Sequence[FoundPaper]:
    """Return `paper`; also a paper with the requested id if the provider has merged the two."""
    asked = _ids_of(name)
    scholar, corpus = paper.ids.get("semantic_scholar"), paper.ids.get("corpus_id")
    if scholar and corpus and asked.get("semantic_scholar", scholar) != scholar:
        return paper, FoundPaper(paper.provenance, asked | {"corpus_id": corpus})
    return (paper,)


def _ids_of(name: str) -> dict[str, str]:
    """Return {scheme: value} of an id in the form of requests."""
    prefix, colon, value = name.partition(":")
    if not colon:
        return {"semantic_scholar": name}
    scheme = {"corpusid": "corpus_id", "pmid": "pubmed", "pmcid": "pmc"}.get(prefix.lower(), prefix.lower())
    return {scheme: value}


_IDS = """
SELECT scheme, min(value) FROM external_ids WHERE paper_id = %s AND scheme IN ('openalex', 'doi', 'pubmed', 'mag')
GROUP BY scheme
"""
_PAPER = "SELECT paper_id FROM jobs WHERE id = %s"
_FETCHED = {
    "references": "UPDATE papers SET references_fetched_at = now() WHERE id = %s",
    "citations": "UPDATE papers SET citations_fetched_at = now() WHERE id = %s",
}
