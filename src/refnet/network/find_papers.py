"""Finds papers at Semantic Scholar before a crawl: by words, by title, by the entries of a bibliography."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from typing import Any

from refnet.catalog.artifact import Counted, Progress, silent
from refnet.core.errors import Exit, RefnetError
from refnet.network import SESSION, scholar_answers
from refnet.network.bibliography import Bibliography, Entry
from refnet.network.crawl_levels import MOST_IDS
from refnet.network.crawl_work import Scholar, scholar_server
from refnet.network.http_api import Api, RefusedRequestError
from refnet.network.papers import AnswerError, FoundPaper, clean
from refnet.network.rate_limit import Limiter
from refnet.network.reference_formats import plain_words
from refnet.postgres.session import Target
from refnet.settings import Settings

_FIELDS = "paperId,externalIds,title,year,citationCount,authors"
#: The longest query, in characters.
_LONGEST = 500
#: Of one paper's titles: how alike two words are at least, how many words differ, and how many years they are apart.
_ALIKE, _TYPED, _YEARS = 0.75, 2, 2


@dataclass(frozen=True)
class Candidate:
    """A paper that a crawl may start from."""

    #: In the form that the API accepts.
    id: str
    title: str
    year: int | None
    citations: int | None
    #: The first author; "" if none is known.
    author: str
    #: The entry that asked for it; "": a search.
    where: str


@dataclass
class FoundPapers:
    """The papers that were found, and a sentence for each entry that was not."""

    candidates: list[Candidate] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Add the candidates whose papers are not here yet."""
        known = {one.id for one in self.candidates}
        self.candidates += [one for one in candidates if one.id not in known]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def finder(target: Target | None, settings: Settings, say: Callable[[str], None]) -> Iterator[Finder]:
    """Ask Semantic Scholar; RefnetError for an answer that is none.

    target: a migrated database, which has the common rate of requests; None: for a single request, without one.
    """
    with ExitStack() as stack:
        connection = stack.enter_context(target.connect(SESSION)) if target else None
        limiter = Limiter(connection, "semantic_scholar", settings.crawl_requests_per_second)
        api = stack.enter_context(Api(scholar_server(settings), limiter, say=say))
        try:
            yield Finder(api)
        except AnswerError as error:
            raise RefnetError(
                f"unexpected response from Semantic Scholar: {error}",
                "Check crawl.semantic_scholar_url; RefNet supports version 1 of its Graph API.",
            ) from None


class Finder:
    """Searches Semantic Scholar; raises the errors of Api, and AnswerError."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def search(self, words: str, most: int) -> FoundPapers:
        """Return the `most` papers that fit `words` best."""
        params = {"query": clean(words, _LONGEST), "limit": str(most), "fields": _FIELDS}
        if not params["query"]:
            raise RefnetError("there is no word to search for", "Give one or more words.", Exit.USAGE)
        return FoundPapers([_candidate(one, "") for one in self._found("/paper/search", params)[:most]])

    def match(self, bibliography: Bibliography, progress: Progress = silent) -> FoundPapers:
        """Look up every entry: by its id, else by its title. Entries of the same paper are one candidate."""
        papers = self._by_id([one for one in bibliography.entries if one.id])
        found, seen = FoundPapers(unmatched=[*bibliography.problems]), set[str]()
        for number, entry in enumerate(bibliography.entries, 1):
            paper = papers.get(entry.id) or (self._by_title(entry) if entry.title else None)
            if paper is None:
                named = entry.title[:100] or entry.id
                found.unmatched.append(f"{entry.where}: Semantic Scholar does not know {named!r}")
            elif (one := _candidate(paper, entry.where, entry.id)).id not in seen:
                seen.add(one.id)
                found.candidates.append(one)
            progress(Counted("entries", "entries"), number, len(bibliography.entries))
        return found

    def _by_id(self, entries: Sequence[Entry]) -> dict[str, FoundPaper]:
        """Return id → paper, without the unknown ones."""
        scholar, papers = Scholar(self._api), dict[str, FoundPaper]()
        for begin in range(0, len(entries), MOST_IDS):
            part = entries[begin : begin + MOST_IDS]
            answers = scholar.papers([one.id for one in part])
            papers |= {one.id: paper for one, paper in zip(part, answers, strict=True) if paper}
        return papers

    def _by_title(self, entry: Entry) -> FoundPaper | None:
        """Return the paper with the title of `entry`; None if the closest one is another paper."""
        params = {"query": entry.title[:_LONGEST], "fields": _FIELDS}
        try:
            papers = self._found("/paper/search/match", params)
        except RefusedRequestError as error:
            if error.status != 400:
                raise
            papers = []  # it does not take such a title
        return next((one for one in papers[:1] if is_same(entry, one)), None)

    def _found(self, path: str, params: dict[str, str]) -> list[FoundPaper]:
        answer = self._api.get(path, params)
        return [] if answer is None else scholar_answers.found(answer)


def is_same(entry: Entry, paper: FoundPaper) -> bool:
    """Return whether title and year of `entry` are those of `paper`, but for accents, case, punctuation and typing errors."""
    if entry.year and paper.year and abs(entry.year - paper.year) > _YEARS:
        return False
    mine, other = (plain_words(one) or [one.casefold()] for one in (entry.title, paper.title or ""))
    if "".join(mine) == "".join(other):
        return True
    wrong = [(one, two) for one, two in zip(mine, other, strict=False) if one != two]
    return len(mine) == len(other) and len(wrong) <= _TYPED and all(_alike(one, two) for one, two in wrong)


def _alike(one: str, two: str) -> bool:
    """Return whether one word is the other with a typing error; numbers must be equal."""
    numbers = any(character.isdigit() for character in one + two)
    return not numbers and SequenceMatcher(None, one[:50], two[:50]).ratio() >= _ALIKE


def _candidate(paper: FoundPaper, where: str, asked: str = "") -> Candidate:
    ids = paper.ids
    name = (ids.get("semantic_scholar") or asked) or next(
        f"{prefix}:{ids[scheme]}"
        for scheme, prefix in (("doi", "DOI"), ("arxiv", "ARXIV"), ("corpus_id", "CorpusId"))
        if scheme in ids
    )
    author = paper.authors[0].name if paper.authors else ""
    return Candidate(name, paper.title or "", paper.year, paper.citation_count, author, where)
