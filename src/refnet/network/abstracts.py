"""Titles, abstracts, names and venues of papers that do not exist, from the vocabulary of the field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from refnet.network import vocabulary as words

AREAS = len(words.AREAS)


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of a paper."""

    title: str
    #: The abstract; any beginning of it reads well.
    sentences: tuple[str, ...]
    fields: tuple[str, ...]
    #: A summary in one sentence.
    short: str
    topic: str

    def abstract(self) -> str:
        return " ".join(self.sentences)

    def cited(self, random: Random) -> str:
        """Return a sentence with which another paper cites this one."""
        return _pick(words.CONTEXTS, random).format(topic=self.topic)


@dataclass(frozen=True, slots=True)
class Venue:
    """A journal or conference; `name` says that it is a sample."""

    name: str
    short: str
    #: journal or conference.
    kind: str
    number: int


def compose(random: Random, area: int) -> Piece:
    """Return a paper of the area `area`, from 0 to AREAS - 1."""
    about = words.AREAS[area]
    topic, method, data = (_pick(one, random) for one in (about.topics, about.methods, about.data))
    title = _pick(words.TITLES, random).format(topic=topic, method=method, data=data)
    sentences = tuple(_pick(one, random).format(topic=topic, method=method, data=data) for one in words.ROLES)
    return Piece(
        title[0].upper() + title[1:],
        sentences,
        about.fields,
        f"This paper applies {method} to {topic}.",
        topic,
    )


def person(random: Random) -> str:
    """Return a first and a family name."""
    return f"{_pick(words.FIRST_NAMES, random)} {_pick(words.FAMILY_NAMES, random)}"


def venue(random: Random, area: int) -> Venue:
    """Return a venue of the area `area`."""
    number = int(random.random() * len(words.AREAS[area].venues))
    name, short, kind = words.AREAS[area].venues[number]
    return Venue(f"{name} (sample)", short, kind, area * 100 + number)


def _pick(choices: Sequence[str], random: Random) -> str:
    return choices[int(random.random() * len(choices))]
