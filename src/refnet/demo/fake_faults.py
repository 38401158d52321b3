"""Faults of the fake providers, on demand: at certain requests, and in certain papers.

A specification is a list of rules: `429=2@3-5,batch:truncated@1,html%2,titles%10`. A request fault occurs at the
requests FROM-TO, or at a percentage of them, counted over all requests or those of the named endpoint (references,
citations, batch, paper; of OpenAlex work, works). A content fault occurs in a percentage of the papers. The selection
is the same each time.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Status codes; an HTML page, cut JSON, a late answer, no answer. 429=2 sends `Retry-After: 2`.
REQUEST_FAULTS = ("403", "429", "500", "503", "504", "html", "truncated", "stall", "closed")
#: Odd titles; wrong types; nulls; duplicates in a page; a self-citation; no references (OpenAlex still has them).
CONTENT_FAULTS = ("titles", "types", "nulls", "duplicates", "self", "withheld")
_RULE = re.compile(
    r"(?:(?P<endpoint>[a-z]+):)?(?P<kind>[a-z0-9]+)(?:=(?P<value>\d{1,6}))?"
    r"(?:@(?P<first>\d{1,9})(?:-(?P<last>\d{1,9}))?|%(?P<percent>\d{1,3}))",
    re.ASCII,
)
_TITLES = (
    "../../etc/passwd",
    "C:\\con\\nul: a study\x00",
    "[[Not a link]] | # ^ %%",
    "---\ntitle: yes\n---",
    "\u202etfel ot thgiR\u202c \u05e9\u05dc\u05d5\u05dd",
    "\U0001f4da Reading \U0001f9d1\u200d\U0001f52c together",
    "An exhaustive title " * 25,
    "{{ 7 * 7 }} <script>alert(1)</script> $(reboot)",
    "\ud800 half of a pair",
    " ",
)
_NULLS = dict.fromkeys(
    ("title", "abstract", "venue", "year", "authors", "externalIds", "fieldsOfStudy", "citationCount")
)
_TYPES: Mapping[str, Any] = {
    "title": 7,
    "abstract": ["a"],
    "venue": {"name": "x"},
    "year": "1998",
    "authors": {"name": "x"},
    "externalIds": ["DOI"],
    "fieldsOfStudy": "Physics",
    "citationCount": -3.5,
    "publicationDate": "yesterday",
    "journal": 4,
    "tldr": "short",
}


@dataclass(frozen=True)
class FaultRule:
    """A rule of a specification."""

    kind: str
    #: The endpoint; "": any.
    endpoint: str = ""
    #: Of Retry-After or of a stall, in seconds.
    value: int | None = None
    #: The range of requests, from 1; both 0: use `percent`.
    first: int = 0
    last: int = 0
    percent: int = 0

    def concerns(self, number: int) -> bool:
        """Return whether the fault occurs at this request or in this paper."""
        if not self.percent:
            return self.first <= number <= self.last
        return zlib.crc32(f"{self.kind} {number}".encode()) % 100 < self.percent  # the same in each run


@dataclass(frozen=True)
class Faults:
    """The rules of a specification."""

    rules: tuple[FaultRule, ...] = ()

    @classmethod
    def read(cls, text: str) -> Faults:
        """Read a specification; ValueError with the first invalid rule."""
        return cls(tuple(_rule(one.strip()) for one in text.split(",") if one.strip()))

    def of_request(self, endpoint: str, number: int, of_endpoint: int) -> FaultRule | None:
        """Return the fault of a request, by its number among all requests and among those of its endpoint."""
        for rule in self.rules:
            counted = of_endpoint if rule.endpoint else number
            if rule.kind in REQUEST_FAULTS and rule.endpoint in {"", endpoint} and rule.concerns(counted):
                return rule
        return None

    def has(self, kind: str, paper: int) -> bool:
        """Return whether the paper number `paper` has the content fault `kind`."""
        return any(rule.kind == kind and rule.concerns(paper) for rule in self.rules)

    def spoilt(self, fields: Mapping[str, Any], paper: int) -> Mapping[str, Any]:
        """Return the fields of a paper, with its content faults."""
        if not self.rules:
            return fields
        made = dict(fields)
        if self.has("titles", paper):
            made["title"] = _TITLES[paper % len(_TITLES)]
        for kind, values in (("types", _TYPES), ("nulls", _NULLS)):
            if self.has(kind, paper):
                made.update(values)
        return made


def _rule(text: str) -> FaultRule:
    found = _RULE.fullmatch(text)
    if found is None or found["kind"] not in REQUEST_FAULTS + CONTENT_FAULTS:
        raise ValueError(f"not a fault: {text}")
    if found["kind"] in CONTENT_FAULTS and not found["percent"]:
        raise ValueError(f"a fault of the content needs a percentage: {text}")
    first = int(found["first"] or 0)
    value = int(found["value"]) if found["value"] else None
    return FaultRule(
        found["kind"],
        found["endpoint"] or "",
        value,
        first,
        int(found["last"] or first),
        int(found["percent"] or 0),
    )
