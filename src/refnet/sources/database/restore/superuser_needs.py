"""Finds in the SQL of a schema what only a superuser can restore, and the owners of its objects.

pg_restore writes a line before each entry: its name, type, schema and owner. The result is only for the plan; during the
load the server decides.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"^-- Name: ([^\n]*)$", re.MULTILINE)
_TABLESPACE = "; Tablespace: "
#: Only a superuser restores entries of these types.
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
#: Or of these, where their statement matches: type → (pattern, name in the plan).
_BY_STATEMENT = {
    "ACL": (re.compile(r"^SET SESSION AUTHORIZATION ", re.MULTILINE), "privileges that others granted on"),
    "CAST": (re.compile(r" WITHOUT FUNCTION"), "cast without a function"),
    "PUBLICATION": (re.compile(r" FOR ALL (?:TABLES|SEQUENCES)"), "publication of everything"),
}
_FUNCTIONS = frozenset({"AGGREGATE", "FUNCTION", "PROCEDURE"})
#: Matched before a function's body.
_UNTRUSTED = re.compile(
    r"^    LANGUAGE (?:(?P<language>c|internal|plperlu|plpython3u|pltclu)\b|[^\n]*\bLEAKPROOF\b)",
    re.MULTILINE,
)
_BODY = re.compile(r"^    (?:AS |BEGIN ATOMIC|RETURN )", re.MULTILINE)


@dataclass(frozen=True)
class Needs:
    """The requirements of a schema on the role that restores it."""

    #: Roles that own its objects.
    owners: tuple[str, ...] = ()
    #: What only a superuser restores, by kind and name.
    superuser: tuple[str, ...] = ()


def needs(*sections: str) -> Needs:
    """Requirements of the `sections` of a schema."""
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
    """Yield each entry of the SQL `text`: type, name, owner, statement."""
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
    """Kind of an entry that only a superuser can restore, else ""."""
    if kind in _FUNCTIONS:
        body = _BODY.search(statement)
        said = _UNTRUSTED.search(statement, 0, body.start() if body else len(statement))
        if said is None:
            return ""
        return f"function in {said['language']}" if said["language"] else "leakproof function"
    if kind in _BY_STATEMENT:
        pattern, what = _BY_STATEMENT[kind]
        return what if pattern.search(statement) else ""
    return _SUPERUSERS.get(kind, "")
