"""The notes of authors and topics in a vault: who wrote several papers here, and what they are about.

An author has a note if a provider names an id, so that two people of one name never share one. Such a note is found by its
ids again; a topic by its name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from refnet.core.formatting import plural
from refnet.network.frontmatter import BEGIN, END, NAMED_KEYS, PAPER_KEYS, Id, dumped, renewed
from refnet.network.note import Places, author_key, listed, plain, safe_name, section, topic_key
from refnet.network.papers import normalized
from refnet.network.vault_files import digest
from refnet.network.vault_rows import NOTED, NotedPapers

#: The most topics with a note, and the most papers listed of a topic.
_TOPICS, _LISTED = 200, 100
_OWNED = frozenset({*NAMED_KEYS, *PAPER_KEYS, "title", "orcid"})
_SITES = {"orcid": ("ORCID", "https://orcid.org/"), "semantic_scholar": ("Semantic Scholar", "https://www.semanticscholar.org/author/")}  # fmt: skip
_NUMBER = re.compile(r"[0-9]{1,18}")

_AUTHORS = """
SELECT a.id, a.name, a.orcid, a.semantic_scholar_id, array_agg(DISTINCT p.id)
FROM authors a JOIN paper_authors w ON w.author_id = a.id JOIN papers p ON p.id = w.paper_id
WHERE (a.orcid IS NOT NULL OR a.semantic_scholar_id IS NOT NULL) AND NOTED
GROUP BY a.id HAVING count(*) > 1 OR a.orcid = ANY (%(orcid)s) OR a.semantic_scholar_id = ANY (%(semantic_scholar)s)
ORDER BY a.id
""".replace("NOTED", NOTED)
_TOPIC_PAPERS = """
SELECT topic, array_agg(DISTINCT p.id) FROM papers p CROSS JOIN LATERAL unnest(p.fields_of_study) AS topic
WHERE topic <> '' AND NOTED GROUP BY topic ORDER BY topic
""".replace("NOTED", NOTED)


@dataclass
class NamedNote:
    """An author or a topic, with the papers that have notes."""

    #: author or topic.
    kind: str
    #: As in Places.
    key: Id
    name: str
    #: What the world calls it.
    ids: tuple[Id, ...]
    #: Row ids of papers.
    papers: list[int]
    #: Makes the file name unique.
    suffix: str = ""

    @property
    def folder(self) -> str:
        return f"{self.kind}s"

    @property
    def path(self) -> str:
        """The path of a new note in the vault, without `.md`."""
        end = f" ({self.suffix})" if self.suffix else ""
        return f"{self.folder}/{safe_name(self.name, len(end) + 3) or self.kind}{end}"

    def render(self, places: Places, before: str | None = None) -> str:
        """Return the text of the note: new, or `before` with RefNet's part renewed (see `note.render`)."""
        key = next(key for key, kind in NAMED_KEYS.items() if kind == self.kind)
        own: dict[str, Any] = {
            key: [f"{scheme}:{value}" for scheme, value in self.ids],
            "title": self.name,
            "aliases": [self.name],
            "orcid": dict(self.ids).get("orcid"),
            "tags": [self.kind],
        }
        own = {name: value for name, value in own.items() if value is not None}
        block = "\n\n".join([BEGIN, f"# {plain(self.name)}", *self._parts(places), END])
        return (
            f"---\n{dumped(own)}---\n\n{block}\n" if before is None else renewed(before, own, _OWNED, block)
        )

    def _parts(self, places: Places) -> Iterator[str]:
        if web := " · ".join(self._web()):
            yield web
        known = [places[one] for one in self.papers if one in places]
        yield f"{plural(len(known), 'paper')} here."
        if self.kind == "author":
            yield from section("Papers", known, len(known))
        else:
            best = sorted(known, key=lambda place: (place.rank or 1 << 40, place.order))[:_LISTED]
            left = [f"and {len(known) - len(best):,} more"] if len(known) > len(best) else []
            yield f"## Papers, by rank\n\n{listed([*(place.line for place in best), *left])}"

    def _web(self) -> Iterator[str]:
        for scheme, value in self.ids:
            if scheme in _SITES and (normalized(scheme, value) == value or _NUMBER.fullmatch(value)):
                name, site = _SITES[scheme]
                yield f"{name}: <{site}{value}>"


def named_notes(
    connection: psycopg.Connection, wanted: NotedPapers, there: Collection[Id]
) -> list[NamedNote]:
    """Return the authors with several noted papers or an id in `there`, the ids of existing notes; then the topics."""
    kept = {name: [value for scheme, value in there if scheme == name] for name in _SITES}
    found = [
        NamedNote("author", author_key(number), " ".join(name.split()) or "Author", _ids(orcid, scholar), papers, str(number))
        for number, name, orcid, scholar, papers in connection.execute(_AUTHORS, vars(wanted) | kept)
    ]  # fmt: skip
    topics: dict[Id, NamedNote] = {}
    for name, papers in connection.execute(_TOPIC_PAPERS, vars(wanted)):
        key = topic_key(name)
        if key in topics:
            topics[key].papers += papers
        else:
            suffix = "" if safe_name(name, 3) == name else digest(name.encode())[:6]
            topics[key] = NamedNote("topic", key, name, (key,), papers, suffix)
    return found + sorted(topics.values(), key=lambda one: -len(one.papers))[:_TOPICS]


def _ids(orcid: str | None, scholar: str | None) -> tuple[Id, ...]:
    given = (("orcid", orcid), ("semantic_scholar", scholar))
    return tuple((scheme, value) for scheme, value in given if value)
