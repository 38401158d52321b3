"""A made-up citation graph of any size, as a provider describes it; determined by seed and size.

Papers are numbered from 0, oldest first, and cite earlier papers, mostly of their own area; all are connected. Every
venue says that it is a sample. Each id contains the paper's number, so no index is needed.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from random import Random
from typing import Any

from refnet.demo.abstracts import AREAS, PaperText, compose, fields, person, venues

_MULTIPLIER, _WORD = 2_654_435_761, 1 << 32
_INVERSE = pow(_MULTIPLIER, -1, _WORD)
_CORPUS, _MAG, _PUBMED, _PMC, _OPENALEX = 270_000_000, 2_900_000_000, 38_000_000, 9_000_000, 4_390_000_000
_FIRST_YEAR, _YEARS = 1985, 41
_INTENTS = ("background", "background", "background", "methodology", "methodology", "result")
#: Prefix of ids with a numeric value → the value of paper 0.
_NUMBERED = {"corpusid": _CORPUS, "mag": _MAG, "pmid": _PUBMED, "pmcid": _PMC}
#: Additional references of which only the title is known, as a share of the edges.
_UNRESOLVED = 0.1
_DOI = re.compile(r"\.(\d{6,9})$", re.ASCII)
_ARXIV = re.compile(r"\d{4}\.(\d{5})(?:v\d+)?", re.ASCII)
_ACL = re.compile(r"\d{4}\.sample-\d\.(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """An entry in a paper's bibliography."""

    #: The number of the cited paper; None: the provider knows only the title.
    paper: int | None
    title: str
    intent: str = ""
    context: str = ""
    is_influential: bool = False


@dataclass(frozen=True)
class FakeGraph:
    """A graph of `papers` papers and `edges` citations among them."""

    papers: int
    edges: int
    seed: int = 1

    @cached_property
    def _cited(self) -> tuple[array[int], array[int]]:
        """The papers cited by each paper, one paper after the other, and the end of each paper's part."""
        random = self._random("edges")
        shares = list(accumulate(random.random() * min(n, 40) for n in range(self.papers)))
        cited, until = array("L"), array("L", [0])
        for paper in range(self.papers):
            wanted = round(self.edges * shares[paper] / (shares[-1] or 1)) - len(cited)
            cited.extend(sorted(_choose(paper, max(wanted, min(paper, 1)), random)))
            until.append(len(cited))
        return cited, until

    @cached_property
    def _citing(self) -> tuple[array[int], array[int]]:
        """The papers citing each paper, newest first, one paper after the other, and the end of each paper's part."""
        cited, until = self._cited
        counts = [0] * self.papers
        for paper in cited:
            counts[paper] += 1
        ends = array("L", accumulate(counts, initial=0))
        place, citing = list(ends), array("L", bytes(len(cited) * cited.itemsize))
        for paper in range(self.papers - 1, -1, -1):
            for other in cited[until[paper] : until[paper + 1]]:
                citing[place[other]] = paper
                place[other] += 1
        return citing, ends

    def cites(self, number: int) -> array[int]:
        """Return the numbers of the papers that the paper `number` cites."""
        cited, until = self._cited
        return cited[until[number] : until[number + 1]]

    def cited_by(self, number: int) -> array[int]:
        """Return the numbers of the papers that cite the paper `number`, newest first."""
        citing, ends = self._citing
        return citing[ends[number] : ends[number + 1]]

    def references(self, number: int) -> list[Reference]:
        """Return the bibliography of the paper `number`, with entries of which only the title is known."""
        random = self._random(f"references {number}")
        found = [self.link(number, cited) for cited in self.cites(number)]
        wanted = int(len(found) * _UNRESOLVED + random.random())
        found += [
            Reference(None, compose(random, number % AREAS, self.year(number) - 1).title)
            for _ in range(wanted)
        ]
        random.shuffle(found)
        return found

    def link(self, citing: int, cited: int) -> Reference:
        """Return how the paper `citing` cites the paper `cited`."""
        random, text = self._random(f"link {citing} {cited}"), self.text(cited)
        intent = _INTENTS[int(random.random() * len(_INTENTS))]
        context = text.cited(random) if random.random() < 0.7 else ""
        return Reference(cited, text.title, intent if context else "", context, random.random() < 0.08)

    def text(self, number: int) -> PaperText:
        """Return the title and the sentences of the paper `number`."""
        return _text(self.seed, number, self.year(number))

    def year(self, number: int) -> int:
        return _FIRST_YEAR + int(_YEARS * ((number + 1) / (self.papers + 1)) ** 0.6)

    @cached_property
    def seed_ids(self) -> list[str]:
        """The DOIs of 20 good seeds: from the newest quarter, most links first."""
        new = range(self.papers * 3 // 4, self.papers)
        best = sorted(new, key=lambda n: (-min(len(self.cites(n)), 3 * len(self.cited_by(n))), n))
        return [f"DOI:{self.doi(number)}" for number in best[:20]]

    def paper_id(self, number: int) -> str:
        """Return the id of the paper: 40 hexadecimal digits that contain its number."""
        mixed = f"{number * _MULTIPLIER % _WORD:08x}"
        return mixed + hashlib.sha256(f"{self.seed} {mixed}".encode()).hexdigest()[:32]

    def openalex_id(self, number: int) -> str:
        return f"W{_OPENALEX + number}"

    def doi(self, number: int) -> str:
        """Return the DOI of the paper, with the prefix that is reserved for examples."""
        return f"10.5555/sample.{self.seed}.{number:06d}"

    def external_ids(self, number: int) -> dict[str, str | int]:
        """Return the ids of the paper: the provider's name of the scheme → id."""
        ids: dict[str, str | int] = {"MAG": str(_MAG + number), "DOI": self.doi(number)}
        if arxiv := self._arxiv(number):
            ids["ArXiv"] = arxiv
        if number % 7 == 2:
            ids["ACL"] = f"{self.year(number)}.sample-1.{number}"
        if number % 11 == 4:
            ids["PubMed"] = str(_PUBMED + number)
            ids["PubMedCentral"] = str(_PMC + number)
        if number % 2 == 0:
            kind = "conf" if number % 4 else "journals"
            ids["DBLP"] = f"{kind}/sample/{self.people(number)[0][1].split()[-1]}{number}"
        return ids | {"CorpusId": _CORPUS + number}

    def _arxiv(self, number: int) -> str | None:
        year = self.year(number)
        if number % 3 or year < 2008 or number > 99_999:
            return None
        return f"{year % 100:02}{1 + number % 12:02}.{number:05d}"

    def people(self, number: int) -> list[tuple[str, str]]:
        """Return the id and the name of each author."""
        random = self._random(f"people {number}")
        pool = max(self.papers * 2 // 3, 3)
        area = number % AREAS
        writers = {
            int(pool * random.random() ** 1.4) // AREAS * AREAS + area
            for _ in range(1 + int(random.random() ** 2 * 5))
        }
        return [(str(20_000_000 + one), person(self._random(f"person {one}"))) for one in sorted(writers)]

    def find(self, identifier: str) -> int | None:
        """Return the number of the paper with this id, in any form except a URL; None if unknown."""
        found = self._read(identifier.strip())
        return found if found is not None and 0 <= found < self.papers else None

    def _read(self, identifier: str) -> int | None:
        scheme, colon, value = identifier.partition(":")
        scheme = scheme.lower()
        if scheme in _NUMBERED and value.isascii() and value.isdigit():
            return int(value[:12]) - _NUMBERED[scheme]
        if scheme in {"arxiv", "acl"}:
            return self._written(scheme, value)
        doi = (value if scheme == "doi" else identifier).lower()
        if doi.startswith("10."):
            matched = _DOI.search(doi)
            return int(matched[1]) if matched and self.doi(int(matched[1])) == doi else None
        if not colon and re.fullmatch(r"[0-9a-f]{40}", identifier):
            number_found = int(identifier[:8], 16) * _INVERSE % _WORD
            return number_found if self.paper_id(number_found) == identifier else None
        return None

    def _written(self, scheme: str, value: str) -> int | None:
        pattern, name = {"arxiv": (_ARXIV, "ArXiv"), "acl": (_ACL, "ACL")}[scheme]
        matched = pattern.fullmatch(value)
        number = int(matched[1]) if matched else self.papers
        known = self.external_ids(number).get(name) if number < self.papers else None
        same = known and str(known) == (value.partition("v")[0] if scheme == "arxiv" else value)
        return number if same else None

    def _random(self, what: str) -> Random:
        return Random(f"{self.seed} {what}")  # noqa: S311  # made up, not secret

    def paper(self, number: int) -> Mapping[str, Any]:
        """Return every field of the paper as in Semantic Scholar, without citations and references."""
        return _paper(self, number)


@lru_cache(maxsize=20_000)
def _text(seed: int, number: int, year: int) -> PaperText:
    return compose(Random(f"{seed} text {number}"), number % AREAS, year)  # noqa: S311  # made up, not secret


def _choose(paper: int, wanted: int, random: Random) -> set[int]:
    """Draw about `wanted` earlier papers, four of five from the area of `paper`, older ones more often."""
    chosen: set[int] = set()
    for _ in range(3 * wanted):
        if len(chosen) >= min(wanted, paper):
            break
        other = int(paper * random.random() ** 1.7)
        if random.random() < 0.8:
            other += (paper - other) % AREAS
        if other < paper:
            chosen.add(other)
    if paper and not chosen:
        chosen.add(paper - 1)
    return chosen


@lru_cache(maxsize=20_000)
def _paper(graph: FakeGraph, number: int) -> Mapping[str, Any]:
    text, year = graph.text(number), graph.year(number)
    random = Random(f"{graph.seed} paper {number}")  # noqa: S311  # made up, not secret
    area = number % AREAS
    places = venues(area)
    place = places[int(random.random() * len(places))]
    paper_id, citations = graph.paper_id(number), len(graph.cited_by(number))
    open_access = random.random() < 0.6
    first = 1 + int(random.random() * 600)
    journal = {"name": place.name, "volume": str(year - 1970), "pages": f"{first}-{first + 8 + number % 20}"}
    return {
        "paperId": paper_id,
        "corpusId": _CORPUS + number,
        "externalIds": graph.external_ids(number),
        "url": f"https://www.semanticscholar.org/paper/{paper_id}",
        "title": text.title,
        "abstract": text.abstract() if random.random() < 0.93 else None,
        "venue": place.name,
        "publicationVenue": {
            "id": f"00000000-0000-4000-8000-{place.number:012d}",
            "name": place.name,
            "type": place.kind,
            "alternate_names": [place.short],
            "url": f"https://example.org/{place.short.lower()}",
        },
        "year": year,
        "referenceCount": len(graph.references(number)),
        "citationCount": citations,
        "influentialCitationCount": citations // 9,
        "isOpenAccess": open_access,
        "openAccessPdf": {"url": f"https://example.org/{paper_id[:8]}.pdf", "status": "GREEN"} if open_access else None,
        "fieldsOfStudy": list(fields(area)),
        "s2FieldsOfStudy": [{"category": one, "source": "s2-fos-model"} for one in fields(area)],
        "publicationTypes": ["Conference" if place.kind == "conference" else "JournalArticle"],
        "publicationDate": f"{year}-{1 + int(random.random() * 12):02}-{1 + int(random.random() * 28):02}",
        "journal": journal if place.kind == "journal" else None,
        "authors": [{"authorId": key, "name": name} for key, name in graph.people(number)],
        "tldr": {"model": "tldr@v2.0.0", "text": text.short} if random.random() < 0.7 else None,
        "embedding": None,
        "citationStyles": {"bibtex": f"@Article{{Sample{number},\n title = {{{text.title}}},\n year = {{{year}}}\n}}\n"},
    }  # fmt: skip
