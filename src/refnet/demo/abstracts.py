"""Titles, abstracts, names and venues of papers that do not exist, from the vocabulary of the field."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TypeAlias, TypeVar

from refnet.demo import patterns
from refnet.demo import vocabulary as words

AREAS = len(words.AREAS)
_USUAL = 1999
_T = TypeVar("_T")
#: A text, the name of a slot, or alternatives.
_Part: TypeAlias = "str | tuple[str] | list[tuple[_Part, ...]]"
_PIECE = re.compile(r"\[|\]|\||\{\w+\}|[^][|{}]+")
_SMALL = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"}
)
#: Roles of sentences: in every abstract, optional, in a long abstract, in a dense abstract.
_LEAD = (patterns.OPENING, patterns.PROBLEM, patterns.APPROACH)
_REST = (
    patterns.EVIDENCE,
    patterns.DETAIL,
    patterns.FIGURES,
    patterns.FINDING,
    patterns.NUANCE,
    patterns.EARLIER,
    patterns.MEANING,
    patterns.OPEN,
)
_RESULTS = (2, 3)
_LONG = (
    *_LEAD, patterns.EVIDENCE, patterns.FIGURES, patterns.FINDING, patterns.DETAIL, patterns.EARLIER, patterns.NUANCE, patterns.FIGURES,
    patterns.FINDING, patterns.EARLIER, patterns.MEANING, patterns.OPEN,
)  # fmt: skip
_DENSE = (
    patterns.APPROACH, patterns.BREAKDOWN, patterns.BREAKDOWN, patterns.FIGURES, patterns.BREAKDOWN, patterns.EARLIER, patterns.BREAKDOWN,
    patterns.FINDING, patterns.BREAKDOWN, patterns.BREAKDOWN, patterns.EVIDENCE, patterns.BREAKDOWN, patterns.OPEN,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of a paper."""

    title: str
    #: The abstract; any beginning of it reads well.
    sentences: tuple[str, ...]
    #: A summary in one sentence.
    short: str
    #: The words of the paper by the names of their slots.
    values: Mapping[str, str]

    def abstract(self) -> str:
        return " ".join(self.sentences)

    def cited(self, random: Random) -> str:
        """Return a sentence with which another paper cites this one."""
        return _sentence(_pick(patterns.CONTEXTS, random), self.values, random)


@dataclass(frozen=True, slots=True)
class Venue:
    """A venue of papers; its name says that it is a sample."""

    name: str
    short: str
    #: journal or conference.
    kind: str
    number: int


def compose(
    random: Random, area: int, year: int = _USUAL, *, long: bool = False, dense: bool = False
) -> Piece:
    """Return a paper of the area `area` (0 to AREAS - 1) and a year, with 4 to 7 sentences; long: with 14.

    dense: with more sentences, and so many figures that the abstract compresses like a real one.
    """
    about = words.AREAS[area]
    values = _values(about, random) | {"now": str(year)}
    own = random.random() < 0.1
    pattern = _pick(about.titles if own else patterns.TITLES, random)
    if own and not set(pattern) & set("{:"):
        pattern = f"{pattern}: {_pick(patterns.SUBTITLES, random)}".replace("?:", "?")
    title = _said(pattern, values, random)
    roles = _DENSE if dense else _LONG if long else (*_LEAD, *_results(random))
    sentences = tuple(_sentence(_pick(one, random), values, random) for one in roles)
    short = _sentence(_pick((*patterns.APPROACH, *patterns.FINDING), random), values, random)
    return Piece(_capitalized(title, each=random.random() < 0.5), sentences, short, values)


def person(random: Random) -> str:
    """Return a first and a family name."""
    return f"{_pick(words.FIRST_NAMES, random)} {_pick(words.FAMILY_NAMES, random)}"


def venues(area: int) -> list[Venue]:
    """Return the venues of the area `area`."""
    listed = enumerate(words.AREAS[area].venues)
    return [
        Venue(f"{name} (sample)", short, kind, area * 100 + number) for number, (name, short, kind) in listed
    ]


def fields(area: int) -> tuple[str, ...]:
    """Return the fields of study of the area `area`."""
    return words.AREAS[area].fields


def _values(about: words.Area, random: Random) -> dict[str, str]:
    """Draw the words of a paper: slot → words."""
    values = {"name": _pick(words.NAME_BEGINNINGS, random) + _pick(words.NAME_ENDS, random)}
    values["topic"], values["other"] = _two(about.topics, random)
    values["method"], values["method2"] = _two(about.methods, random)
    values["data"], values["data2"] = _two(about.data, random)
    values["finding"], values["finding2"] = _two(about.findings, random)
    values["problem"], values["people"] = _pick(about.problems, random), _pick(about.people, random)
    values["measure"], values["measure2"] = _pick(about.measures, random), _pick(about.costs, random)
    return values


def _two(choices: Sequence[str], random: Random) -> tuple[str, str]:
    """Draw two different choices."""
    count = len(choices)
    first = int(random.random() * count)
    return choices[first], choices[(first + 1 + int(random.random() * (count - 1))) % count]


def _results(random: Random) -> list[tuple[str, ...]]:
    """Draw one to four of the optional roles, in order, with at least one result."""
    chosen = {_pick(_RESULTS, random), *random.sample(range(len(_REST)), int(random.random() * 4))}
    return [_REST[position] for position in sorted(chosen)]


def _who(random: Random) -> str:
    first, second = (_pick(words.FAMILY_NAMES, random) for _ in range(2))
    return (f"{first} et al.", f"{first} and {second}", first)[int(random.random() * 3)]


#: Slot → a figure or word for a paper of a year, drawn at each use.
_DRAWN: Mapping[str, Callable[[Random, int], str]] = {
    "pct": lambda random, _: f"{random.random() ** 2 * 80 + 0.6:.1f}%",
    "score": lambda random, _: f"0.{300 + int(random.random() * 250)}",
    "score2": lambda random, _: f"0.{560 + int(random.random() * 400)}",
    "fine": lambda random, _: f"0.{int(random.random() * 90_000) + 10_000}",
    "p": lambda random, _: f"0.0{1 + int(random.random() * 48):02}",
    "big": lambda random, _: f"{int(1200 * 600 ** random.random()):,}",
    "small": lambda random, _: str(3 + int(random.random() * 44)),
    "small2": lambda random, _: str(60 + int(random.random() * 90)),
    "year": lambda random, now: str(now - 6 - int(random.random() * 24)),
    "year2": lambda random, now: str(now - 1 - int(random.random() * 4)),
    "sum": lambda random, _: f"{random.getrandbits(256):064x}",
    "code": lambda random, _: f"{random.getrandbits(40):010x}",
    "field": lambda random, _: _pick(words.DISCIPLINES, random),
    "who": lambda random, _: _who(random),
}


@cache
def _parsed(pattern: str) -> tuple[_Part, ...]:
    """Parse a pattern into parts."""
    pieces = _PIECE.findall(pattern)[::-1]
    parts = _parts(pieces)[0]
    if pieces:
        raise ValueError(f"not a pattern: {pattern}")
    return parts


def _parts(pieces: list[str]) -> list[tuple[_Part, ...]]:
    """Take the alternatives up to the next `]` from the end of `pieces`."""
    found: list[list[_Part]] = [[]]
    while pieces:
        piece = pieces.pop()
        if piece == "]":
            break
        if piece == "|":
            found.append([])
        elif piece == "[":
            found[-1].append(_parts(pieces))
        else:
            found[-1].append((piece[1:-1],) if piece[0] == "{" else piece)
    return [tuple(one) for one in found]


def _said(pattern: str, values: Mapping[str, str], random: Random) -> str:
    said: list[str] = []
    _say(_parsed(pattern), values, random, said)
    return "".join(said)


def _say(parts: tuple[_Part, ...], values: Mapping[str, str], random: Random, said: list[str]) -> None:
    for part in parts:
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, tuple):
            said.append(values[part[0]] if part[0] in values else _DRAWN[part[0]](random, int(values["now"])))
        else:
            _say(part[int(random.random() * len(part))], values, random, said)


def _sentence(pattern: str, values: Mapping[str, str], random: Random) -> str:
    text = _said(pattern, values, random)
    return f"{text[0].upper()}{text[1:].removesuffix('.')}."


def _capitalized(title: str, *, each: bool) -> str:
    """Capitalize a title at its beginning and after a colon; each: every word except small ones."""
    made, first = [], True
    for word in title.split(" "):
        raised = first or (each and word not in _SMALL)
        made.append(word[0].upper() + word[1:] if raised else word)
        first = word[-1] in ":?"
    return " ".join(made)


def _pick(choices: Sequence[_T], random: Random) -> _T:
    return choices[int(random.random() * len(choices))]
