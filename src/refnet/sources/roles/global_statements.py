"""Strict parser for `pg_dumpall --globals-only`: nothing else is ever sent to a server.

A statement is compared by its shape: N is a name, S a string, 0 a number; keywords are themselves. The shapes are those
that pg_dumpall of 15 to 18 writes. `GRANTED BY` is dropped: since PostgreSQL 16 a grantor needs the ADMIN OPTION, which
the first superuser of another server does not have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

#: The most bytes of a text, and its most statements. A server with 100,000 roles writes about 20 MB.
LONGEST = 64 << 20
MOST_STATEMENTS = 500_000
#: The most names, strings, keywords and marks of a text: 100,000 roles have about 3 million.
MOST_TOKENS = 5_000_000

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|^\\(?:un)?restrict\ [A-Za-z0-9]{1,128}$)
    |(?P<N>"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)
    |(?P<S>'(?:[^']|'')*'|E'(?:[^'\\]|''|\\.)*')
    |(?P<word>[A-Z]+)
    |(?P<number>-?[0-9]+(?:\.[0-9]+)?)
    |(?P<mark>[=,;()])""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
#: Two tokens that touch, and that a server could read as one: E'…', U&'…', 1e5.
_CLASPED = re.compile(r"""[A-Za-z0-9_$"'][A-Za-z0-9_$"']""")


class StatementKind(StrEnum):
    """The kind of a statement."""

    ROLE = "role"
    ATTRIBUTES = "attributes"
    SETTING = "setting"
    COMMENT = "comment"
    MEMBERSHIP = "membership"
    PARAMETER = "privilege on a parameter"
    LABEL = "security label"
    TABLESPACE = "tablespace"
    OF_TABLESPACE = "property of a tablespace"
    #: For the session that runs the text; RefNet sets its own.
    SESSION = "session"


_ATTRIBUTE = (
    r"(?:NO)?(?:SUPERUSER|INHERIT|CREATEROLE|CREATEDB|LOGIN|REPLICATION|BYPASSRLS)|CONNECTION LIMIT 0"
)
_MEMBER = r"(?:ADMIN|INHERIT|SET) (?:OPTION|TRUE|FALSE)"
_SHAPES = {
    kind: re.compile(shape)
    for kind, shape in {
        StatementKind.ROLE: "CREATE ROLE N",
        StatementKind.ATTRIBUTES: rf"ALTER ROLE N WITH(?: (?:{_ATTRIBUTE}|PASSWORD S|VALID UNTIL S))+",
        StatementKind.SETTING: r"ALTER ROLE N SET N TO S(?: , S)*",
        StatementKind.COMMENT: "COMMENT ON ROLE N IS S",
        StatementKind.MEMBERSHIP: rf"GRANT N TO N(?: WITH {_MEMBER}(?: , {_MEMBER})*)?(?: GRANTED BY N)?",
        StatementKind.PARAMETER: r"GRANT (?:ALL|SET|ALTER SYSTEM|SET , ALTER SYSTEM) ON PARAMETER N TO (?:N|PUBLIC)"
        r"(?: WITH GRANT OPTION)?",
        StatementKind.LABEL: "SECURITY LABEL FOR N ON (?:ROLE|TABLESPACE) N IS S",
        StatementKind.TABLESPACE: "CREATE TABLESPACE N OWNER N LOCATION S",
        StatementKind.OF_TABLESPACE: r"ALTER TABLESPACE N SET \( N = [NS0](?: , N = [NS0])* \)"
        r"|(?:GRANT|REVOKE)(?: GRANT OPTION FOR)? (?:ALL|CREATE) ON TABLESPACE N (?:TO|FROM) (?:N|PUBLIC)"
        r"(?: WITH GRANT OPTION)?"
        "|COMMENT ON TABLESPACE N IS S",
        StatementKind.SESSION: "SET N = [NS0]|SET SESSION AUTHORIZATION N|RESET SESSION AUTHORIZATION",
    }.items()
}
#: The place of the subject among the names of a statement, where it is not the first.
_SUBJECT = {StatementKind.MEMBERSHIP: 1, StatementKind.PARAMETER: 1, StatementKind.LABEL: 1}


class NotGlobalsError(ValueError):
    """The text is not output of pg_dumpall."""


@dataclass(frozen=True)
class Statement:
    """One statement."""

    kind: StatementKind
    #: The role or the tablespace that it is about; "" for PUBLIC and of a session.
    subject: str
    #: Its tokens as they stand in the text, without comments.
    tokens: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The text for a server, each name in quotes: without them `all` and `current_user` would be keywords."""
        return " ".join(quoted(one) if _is_name(one) else one for one in self.tokens)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name in it, in order."""
        return tuple(unquoted(one) for one in self.tokens if _is_name(one))

    def without(self, keyword: str, words: int) -> Statement:
        """The statement without `keyword` and following tokens, `words` in total; unchanged without it."""
        if keyword not in self.tokens:
            return self
        at = self.tokens.index(keyword)
        return Statement(self.kind, self.subject, self.tokens[:at] + self.tokens[at + words :])


def unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def quoted(name: str) -> str:
    return name if name.startswith('"') else f'"{name}"'


def _is_name(token: str) -> bool:
    return token[0] in '"_' or token[0].islower()


def read(text: str) -> Iterator[Statement]:
    """Yield the statements of `text`; NotGlobalsError for an unknown statement, or too many."""
    tokens: list[str] = []
    shape: list[str] = []
    count = 0
    for number, (kind, token) in enumerate(_tokens(text)):
        if number == MOST_TOKENS:
            raise NotGlobalsError(f"it has more than {MOST_TOKENS:,} words")
        if token == ";":  # noqa: S105  # of the lexer
            count += 1
            if count > MOST_STATEMENTS:
                raise NotGlobalsError(f"it has more than {MOST_STATEMENTS:,} statements")
            yield _statement(tokens, " ".join(shape))
            tokens, shape = [], []
        else:
            tokens.append(token)
            shape.append({"N": "N", "S": "S", "number": "0"}.get(kind, token))
    if tokens:
        raise NotGlobalsError("its last statement has no end")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or "\0" in found[0]:
            raise NotGlobalsError(f"line {text.count(chr(10), 0, at) + 1} is not output of pg_dumpall")
        kind, at = found.lastgroup or "", found.end()
        if kind == "space":
            continue
        if _CLASPED.fullmatch(text[at - 1 : at + 1]):
            raise NotGlobalsError(f"line {text.count(chr(10), 0, at) + 1} is not output of pg_dumpall")
        yield kind, found[0]


def _statement(tokens: list[str], shape: str) -> Statement:
    kind = next((kind for kind, pattern in _SHAPES.items() if pattern.fullmatch(shape)), None)
    if kind is None:
        raise NotGlobalsError(f"it has a statement that pg_dumpall does not write: {shape[:80]}")
    names = [unquoted(one) for one in tokens if _is_name(one)]
    at = _SUBJECT.get(kind, 0)
    subject = names[at] if kind is not StatementKind.SESSION and at < len(names) else ""
    return Statement(kind, subject, tuple(tokens)).without("GRANTED", 3)


def counted(statements: Iterable[Statement]) -> dict[str, int]:
    """Number of roles, memberships, tablespaces and passwords in `statements`."""
    listed = tuple(statements)
    found = Counter(one.kind for one in listed)
    return {
        "roles": found[StatementKind.ROLE],
        "memberships": found[StatementKind.MEMBERSHIP],
        "tablespaces": found[StatementKind.TABLESPACE],
        "passwords": sum(one.kind is StatementKind.ATTRIBUTES and "PASSWORD" in one.tokens for one in listed),
    }
