"""Words and sentence patterns of the field, for papers that do not exist."""

from __future__ import annotations

from typing import NamedTuple


class Area(NamedTuple):
    """A part of the field."""

    fields: tuple[str, ...]
    topics: tuple[str, ...]
    methods: tuple[str, ...]
    data: tuple[str, ...]
    #: Name, short name, and `journal` or `conference`.
    venues: tuple[tuple[str, str, str], ...]


AREAS = (
    Area(
        ("Computer Science", "Sociology"),
        ("citation networks", "co-authorship", "delayed recognition", "bibliographic coupling"),
        ("stochastic block models", "main path analysis", "preferential attachment"),
        ("the journals of five disciplines", "two million patents"),
        (
            ("Journal of Citation Studies", "JCS", "journal"),
            ("Conference on the Science of Science", "CSS", "conference"),
        ),
    ),
    Area(
        ("Computer Science",),
        ("query expansion", "learned sparse retrieval", "conversational search", "relevance feedback"),
        ("late interaction", "pseudo-labels", "inverted indexes"),
        ("a web crawl", "the logs of a library catalog"),
        (
            ("Journal of Search and Ranking", "JSR", "journal"),
            ("Conference on Finding Things", "CFT", "conference"),
        ),
    ),
)
TITLES = ("{method} for {topic}", "{topic} in {data}: the case for {method}", "What {data} say about {topic}")
ROLES = (
    ("Much is written about {topic}, and little of it is measured.",),
    ("We apply {method} to {topic}.",),
    ("Our data are {data}.",),
    ("The results hold for every subset that we tried.",),
)
CONTEXTS = (
    "Earlier work on {topic} comes to a similar result.",
    "We follow the approach to {topic} of this paper.",
)
FIRST_NAMES = ("Amara", "Wei", "Ingrid", "Tomasz", "Leila", "Kenji", "Fatima", "Joao", "Priya", "Oksana")
FAMILY_NAMES = (
    "Okafor",
    "Lindqvist",
    "Tanaka",
    "Haddad",
    "Novak",
    "Pereira",
    "Iyer",
    "Kowalski",
    "Chen",
    "Mbeki",
)
