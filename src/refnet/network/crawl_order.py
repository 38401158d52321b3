"""The order of a crawl: seeds in a form that Semantic Scholar accepts, and bounds; pure."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from refnet.core.errors import Exit, RefnetError
from refnet.network.papers import normalized

_FORMS = ("CorpusId", "DOI", "ARXIV", "MAG", "ACL", "PMID", "PMCID", "URL")
#: Scheme with ids that are recognized without a prefix → the prefix that the API expects.
_BARE = {"semantic_scholar": "", "doi": "DOI:", "arxiv": "ARXIV:"}
_LONGEST = 1000
MOST_SEEDS = 10_000
DEEPEST = 10


class Direction(StrEnum):
    """The citations that a crawl follows."""

    REFERENCES = "references"
    CITATIONS = "citations"
    BOTH = "both"

    @property
    def each(self) -> tuple[str, ...]:
        return ("references", "citations") if self is Direction.BOTH else (self.value,)


@dataclass(frozen=True)
class CrawlOrder:
    """The seeds and the bounds of a crawl."""

    #: Ids in the form that the API accepts, each once.
    seeds: tuple[str, ...]
    direction: Direction = Direction.REFERENCES
    #: The greatest level (distance from the seeds).
    depth: int = 1
    #: The most papers to collect with details, seeds included.
    limit: int = 1000

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def order(seeds: list[str], direction: Direction, depth: int, limit: int) -> CrawlOrder:
    """Return the order of a crawl; RefnetError (USAGE) for an invalid id or too many seeds."""
    found = tuple(dict.fromkeys(map(seed_id, seeds)))
    if not 1 <= len(found) <= min(limit, MOST_SEEDS):
        raise RefnetError(
            f"{len(found):,} seeds are more than a crawl of at most {min(limit, MOST_SEEDS):,} papers",
            "Raise --limit, or name fewer ids.",
            Exit.USAGE,
        )
    return CrawlOrder(found, direction, depth, limit)


def seed_id(text: str) -> str:
    """Return a paper's id in the form that the API accepts; RefnetError (USAGE) if `text` is not an id."""
    text = text.strip()
    for scheme, prefix in _BARE.items():
        if value := normalized(scheme, text):
            return prefix + value
    form, colon, value = text.partition(":")
    known = {one.lower(): one for one in _FORMS}.get(form.lower())
    if re.match(r"https?://", text, re.IGNORECASE):
        known, colon, value = "URL", ":", text
    usable = value.isprintable() and not re.search(r"\s", value) and 0 < len(value) <= _LONGEST
    if not (known and colon and usable):
        raise RefnetError(
            f"{text[:100]!r} is not an id of a paper",
            f"Write a DOI such as 10.1145/3292500, arXiv:2106.15928, or {', '.join(f'{one}:…' for one in _FORMS)}.",
            Exit.USAGE,
        )
    return f"{known}:{value}"
