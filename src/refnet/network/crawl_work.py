"""The jobs of a crawl: each asks a provider and writes the answers, one transaction per page.

The providers are Semantic Scholar, and OpenAlex for papers that are unknown there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar
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
#: The schemes by which OpenAlex lists works.
_FILTERED = ("openalex", "doi")
#: The most ids of a request, and the most works of a page.
_SELECTED = 100
#: The prefix of ids of papers that only OpenAlex knows.
_OPENALEX = "openalex:"
#: The most pages per paper, against a server that always names a next one.
_MOST_PAGES = 1000
_Result = TypeVar("_Result")
_Cursor = psycopg.Cursor[tuple[Any, ...]]
_NAME, _COUNT = checked.text(1100, shortest=1), checked.integer(0, 2**31 - 1)
_NAMES = checked.each(_NAME, MOST_IDS)
#: Kind of job → check of its payload, as a database may come from elsewhere.
_PAYLOADS = {
    SEEDS: checked.record({"seeds": _NAMES}, more=True),
    DETAILS: checked.record({"ids": _NAMES}, more=True),
    EDGES: checked.record(
        {"id": _NAME, "direction": checked.one_of(("references", "citations"))},
        {
            **dict.fromkeys(("offset", "pages", "found", "new", "dropped"), _COUNT),
            "cursor": checked.text(1000),
        },
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
        limit = max(1, min(_MOST_ENTRIES, LAST_ENTRY - offset))  # 0 is refused
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

    def papers(self, ids: Sequence[str]) -> list[FoundPaper | None]:
        """Return the details of papers by ids in the form of requests; None for an unknown one."""
        wanted = {one: _in_openalex(_ids_of(one)) for one in ids}
        listed = _FILTERED if self._api.server.has_key else ()
        found: dict[str, FoundPaper] = {}
        for scheme in listed:
            names = {value: one for one, (of, value) in wanted.items() if of == scheme and "|" not in value}
            for paper in self._listed(scheme, [*names], openalex_answers.FIELDS):
                if (value := paper.ids.get(scheme, "")) in names:
                    found[names[value]] = paper
        for one, (scheme, value) in wanted.items():
            answer = self._work(scheme, value) if scheme and scheme not in listed else None
            if answer is not None and (paper_found := openalex_answers.work(answer)):
                found[one] = paper_found
        return [found.get(one) for one in ids]

    def work(self, ids: Mapping[str, str]) -> tuple[FoundPaper, list[FoundEdge]] | None:
        """Return the details and the references of the paper with `ids`; None if it is unknown."""
        scheme, value = _in_openalex(ids)
        answer = self._work(scheme, value) if scheme else None
        found = None if answer is None else openalex_answers.work(answer)
        if found is None:
            return None
        return found, [FoundEdge(one) for one in self._named(openalex_answers.references(answer))]

    def _work(self, scheme: str, value: str) -> Any:
        path = f"/works/{quote(_WORKS[scheme] + value, safe=':/')}"
        return self._api.get(path, {"select": openalex_answers.FIELDS})

    def cited_by(self, ids: Mapping[str, str], cursor: str) -> EdgePage | None:
        """Return a page of the papers that cite the one with `ids`; None if it is unknown, or without a key.

        cursor: "" for the first page.
        """
        if not self._api.server.has_key:
            return None
        scheme, value = _in_openalex(ids)
        answer = self._work(scheme, value) if scheme and "openalex" not in ids else None
        known = openalex_answers.work(answer) if answer is not None else None
        own = ids.get("openalex") or (known.ids.get("openalex") if known else None)
        if own is None:
            return None
        params = {"filter": f"cites:{own}", "cursor": cursor or "*", "select": openalex_answers.EDGE_FIELDS}
        return openalex_answers.cited_by(self._api.get("/works", params | {"per-page": str(_SELECTED)}))

    def _named(self, works: Sequence[str]) -> list[FoundPaper]:
        """Return papers for OpenAlex's ids; with an API key also their titles and other ids."""
        bare = {one: FoundPaper(openalex_answers.PROVIDER, {"openalex": one}) for one in works}
        if self._api.server.has_key:
            for one in self._listed("openalex", works, openalex_answers.FIELDS):
                if (name := one.ids.get("openalex")) in bare:
                    bare[name] = one
        return [*bare.values()]

    def _listed(self, scheme: str, values: Sequence[str], fields: str) -> Iterator[FoundPaper]:
        """Yield the works with these ids, in requests of as many as OpenAlex takes."""
        for begin in range(0, len(values), _SELECTED):
            part = "|".join(values[begin : begin + _SELECTED])
            params = {"filter": f"{scheme}:{part}", "per-page": str(_SELECTED), "select": fields}
            yield from openalex_answers.works(self._api.get("/works", params))


def _in_openalex(ids: Mapping[str, str]) -> tuple[str, str]:
    """Return the scheme and the value by which OpenAlex finds a paper; ("", "") if there is none."""
    if "arxiv" in ids and "doi" not in ids:
        ids = {**ids, "doi": f"10.48550/arxiv.{ids['arxiv'].lower()}"}
    return next(((scheme, ids[scheme]) for scheme in _WORKS if scheme in ids), ("", ""))


@dataclass
class Crawler:
    """Does the jobs that `worker` claims."""

    worker: Worker
    scholar: Scholar
    openalex: OpenAlex
    #: Whether OpenAlex is asked first, and Semantic Scholar for what it does not know.
    prefers_openalex: bool = False
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
        found = self._papers(names)
        unknown = [name for name in names if name not in found]

        def write(cursor: _Cursor) -> None:
            papers = write_papers(cursor, [*found.values()])
            add_seeds(cursor, _crawl(job), papers)
            self.worker.done(cursor, job, {**job.payload, "unknown": unknown})

        retried(self.worker.connection, write)

    def _details(self, job: Job) -> None:
        names: list[str] = job.payload["ids"]
        answers = self._papers(names)
        found = [one for name, paper in answers.items() for one in _with_asked(name, paper)]

        def write(cursor: _Cursor) -> None:
            write_papers(cursor, found)
            missing = [name for name in names if name not in answers]
            self.worker.done(cursor, job, {**job.payload, "unknown": missing})

        retried(self.worker.connection, write)

    def _papers(self, names: Sequence[str]) -> dict[str, FoundPaper]:
        """Return the details of papers by one provider, and by the other what the first does not know."""
        found = self._by_openalex(names) if self.prefers_openalex else {}
        left = [name for name in names if name not in found and not name.startswith(_OPENALEX)]
        try:
            answers = self.scholar.papers(left) if left else []
        except UnavailableError as error:
            found = found if error.limited or self.prefers_openalex else self._by_openalex(names)
            if len(found) < len(names):  # the others may be known there
                raise
            return found
        found |= {name: one for name, one in zip(left, answers, strict=True) if one}
        if not self.prefers_openalex:
            found |= self._by_openalex([name for name in names if name not in found])
        return {name: found[name] for name in names if name in found}

    def _by_openalex(self, names: Sequence[str]) -> dict[str, FoundPaper]:
        answers = self._asked(lambda: self.openalex.papers(names)) or [] if names else []
        return {name: one for name, one in zip(names, answers, strict=False) if one}

    def _edges(self, job: Job) -> None:
        state: dict[str, Any] = {"offset": 0, "pages": 0, "found": 0, "new": 0, **job.payload}
        is_last = False
        while not is_last:
            page = self._page(job, state)
            state["pages"] += 1
            goes_on = page.next is not None or page.cursor
            if goes_on and ((page.next or 0) >= LAST_ENTRY or state["pages"] >= _MOST_PAGES):
                state["is_cut"] = True
            is_last = not goes_on or state.get("is_cut", False)
            self._write_page(job, state, page, is_last=is_last)

    def _page(self, job: Job, state: Mapping[str, Any]) -> EdgePage:
        """Return the next page: of the other provider if the first has no data, or Semantic Scholar is down."""
        name, offset, direction = state["id"], state["offset"], state["direction"]
        if cursor := state.get("cursor"):  # OpenAlex has begun the list
            return self.openalex.cited_by(self._ids(job), cursor) or EdgePage((), None)
        begins = offset == 0
        if begins and self.prefers_openalex and (found := self._openalex_edges(job, direction)):
            return found
        page: EdgePage | None = None
        try:
            if not name.startswith(_OPENALEX):
                page = self.scholar.edges(name, direction, offset)
        except UnavailableError as error:
            found = None if error.limited or not begins else self._openalex_edges(job, direction)
            if not found:
                raise
            return found
        if (page is None or not page.edges) and begins and (found := self._openalex_edges(job, direction)):
            return found
        return page or EdgePage((), None)

    def _ids(self, job: Job) -> dict[str, str]:
        return dict(self.worker.connection.execute(_IDS, [job.paper_id]).fetchall())

    def _openalex_edges(self, job: Job, direction: str) -> EdgePage | None:
        """Return a paper's references or the first page of its citations by OpenAlex; None if it has none."""
        ids = self._ids(job)
        if direction == "citations":
            page = self._asked(lambda: self.openalex.cited_by(ids, ""))
            return page if page and page.edges else None
        work = self._asked(lambda: self.openalex.work(ids))
        return (
            EdgePage(tuple(work[1]), None, provider=openalex_answers.PROVIDER) if work and work[1] else None
        )

    def _asked(self, ask: Callable[[], _Result | None]) -> _Result | None:
        """Ask OpenAlex; None if it is unavailable, which stops no crawl."""
        if self.without_openalex:
            return None
        try:
            return ask()
        except (UnavailableError, RefusedRequestError) as error:
            if not isinstance(error, RefusedRequestError) or error.is_final:
                self.without_openalex = str(error)
            return None
        except AnswerError:
            return None

    def _write_page(self, job: Job, state: dict[str, Any], page: EdgePage, *, is_last: bool) -> None:
        def write(cursor: _Cursor) -> None:
            lock(cursor)
            row = cursor.execute(
                _PAPER, [job.id]
            ).fetchone()  # a merge may have moved the job to another paper
            if row is None or row[0] is None:  # somebody deleted the paper, and the job with it
                return
            new = write_edges(cursor, row[0], state["direction"], page.edges, page.provider)
            after = {**state, "found": state["found"] + len(page.edges), "new": state["new"] + new}
            if is_last:
                cursor.execute(_FETCHED[state["direction"]], [row[0]])
                self.worker.done(cursor, job, after)
            else:
                self.worker.keep(cursor, job, after | following)
            written.update(after | following)

        following = {"cursor": page.cursor} if page.cursor else {"offset": page.next}
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
SELECT scheme, min(value) FROM external_ids
WHERE paper_id = %s AND scheme IN ('openalex', 'doi', 'pubmed', 'mag', 'arxiv')
GROUP BY scheme
"""
_PAPER = "SELECT paper_id FROM jobs WHERE id = %s"
_FETCHED = {
    "references": "UPDATE papers SET references_fetched_at = now() WHERE id = %s",
    "citations": "UPDATE papers SET citations_fetched_at = now() WHERE id = %s",
}
