"""Finds the paper of each note of a vault in the database: by external ids; for older notes by row id and title."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import psycopg

from refnet.network.note_marks import TITLE, Id, Mark
from refnet.network.papers import title_key

_IDS = """
SELECT scheme, value, paper_id FROM external_ids JOIN unnest(%s::text[], %s::text[]) AS asked (scheme, value)
    USING (scheme, value)
"""
_KEYS = f"SELECT '{TITLE}', title_key, id FROM papers WHERE title_key = ANY (%s)"  # noqa: S608
_TITLES = "SELECT id, title, year FROM papers WHERE id = ANY (%s) OR title = ANY (%s)"


@dataclass
class Matches:
    """The papers of the database that marks may refer to."""

    by_id: dict[Id, int]
    #: Normalized title → row ids of papers, each with its year.
    titled: dict[str, dict[int, int | None]] = field(default_factory=lambda: defaultdict(dict))
    #: Row id in an older note → title of that paper in the database.
    titles: dict[int, str | None] = field(default_factory=dict)

    def paper(self, mark: Mark) -> int | str | None:
        """The row id of the paper of `mark`; None if it is not in the database; a sentence if it is ambiguous."""
        if not mark.number:
            return self._of_ids(mark.ids)
        same = self.titled.get(title_key(mark.title) or "", {})
        found = [one for one, year in same.items() if not (year and mark.year) or year == mark.year]
        if mark.number in found:
            return mark.number
        if not found and (known := self.by_id.get(_named(mark.title))):
            return known
        if len(found) == 1:
            return found[0]
        if found:
            return "it has no external id, and several papers have its title"
        if mark.number not in self.titles:
            return None
        return (
            f"it has no external id, and paper {mark.number} of this database has another title,"
            f" {self.titles[mark.number] or 'none'}"
        )

    def _of_ids(self, ids: Iterable[Id]) -> int | str | None:
        found: dict[int, Id] = {}
        for one in ids:
            if one in self.by_id:
                found.setdefault(self.by_id[one], one)
        if len(found) > 1:
            named = " and ".join(f"{scheme}:{value}" for scheme, value in [*found.values()][:3])
            return f"its ids contradict each other: {named} are different papers"
        return next(iter(found), None)


def matches(connection: psycopg.Connection, marks: Sequence[Mark]) -> Matches:
    """Look up all `marks` in the database, in few queries."""
    old = [mark for mark in marks if mark.number]
    ids = {one for mark in marks for one in mark.ids} | {
        named for mark in old if (named := _named(mark.title))[1]
    }
    schemes, values = [one for one, _ in ids], [one for _, one in ids]
    found = Matches({})
    for query, given in (
        (_IDS, [schemes, values]),
        (_KEYS, [[value for scheme, value in ids if scheme == TITLE]]),
    ):
        found.by_id |= {(scheme, value): number for scheme, value, number in connection.execute(query, given)}
    if old:
        titles = [mark.title for mark in old if "\0" not in mark.title]
        for number, title, year in connection.execute(_TITLES, [[mark.number for mark in old], titles]):
            found.titles[number] = title
            found.titled[title_key(title or "") or ""][number] = year
    found.titled.pop("", None)
    return found


def _named(title: str) -> Id:
    """Return the id in a heading without title, such as `cora 35`."""
    scheme, _, value = title.partition(" ")
    return (scheme, value if title.isprintable() and scheme != TITLE else "")
