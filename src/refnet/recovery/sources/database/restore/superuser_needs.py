"""What of a schema only a superuser can restore, and whom its objects belong to, read from its SQL before a load.

pg_restore writes a line before each entry: its name, type, schema and owner. What is read here decides nothing but
what the plan says; the server judges the load itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"^-- Name: ([^\n]*)$", re.MULTILINE)
_TABLESPACE = "; Tablespace: "
#: Entries of these types are a superuser's whatever they say.
_SUPERUSERS = {
    "ACCESS METHOD": "access method",
    "EVENT TRIGGER": "event trigger",
    "FOREIGN DATA WRAPPER": "foreign data wrapper",
    "OPERATOR CLASS": "operator class",
    "OPERATOR FAMILY": "operator family",
    "PROCEDURAL LANGUAGE": "language",
    "PUBLICATION TABLES IN SCHEMA": "publication of a schema",
    "SHELL TYPE": "base type",
    "SUBSCRIPTION": "subscription",
    "TEXT SEARCH PARSER": "text search parser",
    "TEXT SEARCH TEMPLATE": "text search template",
}
#: Others are so where their statement says it: type → (what it says, what to call it).
_BY_STATEMENT = {
    "ACL": (re.compile(r"^SET SESSION AUTHORIZATION ", re.MULTILINE), "privileges that others granted on"),
    "CAST": (re.compile(r" WITHOUT FUNCTION"), "cast without a function"),
    "PUBLICATION": (re.compile(r" FOR ALL (?:TABLES|SEQUENCES)"), "publication of everything"),
}
_FUNCTIONS = frozenset({"AGGREGATE", "FUNCTION", "PROCEDURE"})
#: What a function says of itself before its body.
_TRUST = re.compile(
    r"^    LANGUAGE (?:(?P<language>c|internal|plperlu|plpython3u|pltclu)\b|[^\n]*\bLEAKPROOF\b)",
    re.MULTILINE,
)
_BODY = re.compile(r"^    (?:AS |BEGIN ATOMIC|RETURN )", re.MULTILINE)


@dataclass(frozen=True)
class Needs:
    """What a schema asks of the role that restores it.

    `owners`: whom it gives objects to. `superuser`: what only a superuser restores, by kind and name.
    """

    owners: tuple[str, ...] = ()
    superuser: tuple[str, ...] = ()


def needs(*sections: str) -> Needs:
    """What the SQL of the `sections` of a schema asks for."""
    owners: dict[str, None] = {}
    superuser: dict[str, None] = {}
    for text in sections:
        for kind, name, owner, statement in _entries(text):
            if owner and owner != "-":
                owners[owner] = None
            if what := _superusers(kind, statement):
                superuser[f"{what} {name}"] = None
    return Needs(tuple(owners), tuple(superuser))


def _entries(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Each entry of the SQL `text`: type, name, owner, statement."""
    found = list(_HEADER.finditer(text))
    for one, after in itertools.zip_longest(found, found[1:]):
        head, _, owner = one[1].rpartition("; Owner: ")
        name, _, kind = head.rpartition("; Schema: ")[0].rpartition("; Type: ")
        yield (
            kind,
            name,
            owner.partition(_TABLESPACE)[0],
            text[one.end() : after.start() if after else len(text)],
        )


def _superusers(kind: str, statement: str) -> str:
    """What to call the entry where only a superuser restores it, else ""."""
    if kind in _FUNCTIONS:
        body = _BODY.search(statement)
        said = _TRUST.search(statement, 0, body.start() if body else len(statement))
        if said is None:
            return ""
        return f"function in {said['language']}" if said["language"] else "leakproof function"
    if kind in _BY_STATEMENT:
        pattern, what = _BY_STATEMENT[kind]
        return what if pattern.search(statement) else ""
    return _SUPERUSERS.get(kind, "")
