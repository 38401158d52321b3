"""Powers of the roles in the statements of pg_dumpall: what lets a role act as others, read everything, or run code."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator

from refnet.sources.permitted import Power, shown
from refnet.sources.roles.global_statements import Statement, StatementKind

#: Attributes with which a role acts as others, reads all rows, or reads all changes.
ATTRIBUTES = ("SUPERUSER", "CREATEROLE", "REPLICATION", "BYPASSRLS")
#: Such settings that servers 14 to 18 show only to superusers and pg_read_all_settings: a page is made without these rights.
_HIDDEN = frozenset(
    {
        *("dynamic_library_path", "session_preload_libraries", "output_plugin_libraries"),
        *("extension_control_path", "extension_destdir"),
    }
)


def _power(one: Statement, limited: Collection[str]) -> Iterator[Power]:
    """Yield the powers that the statement gives, memberships left out."""
    if one.kind is StatementKind.ATTRIBUTES:
        yield from (Power(one.subject, word) for word in one.tokens if word in ATTRIBUTES)
    elif one.kind is StatementKind.PARAMETER and one.subject:
        yield Power(one.subject, f"may change {shown(one.names[0])}")
    elif one.kind is StatementKind.SETTING and _is_limited(one.names[1], limited):
        value = " ".join(one.tokens[one.tokens.index("TO") + 1 :])
        yield Power(one.subject, f"sets {shown(one.names[1])} to {json.dumps(value)[1:-1]}")


def _is_limited(setting: str, limited: Collection[str]) -> bool:
    """Whether only a superuser may set it. A setting of a language (`plperl.…`) may be code."""
    name = setting.lower()
    return name in limited or name in _HIDDEN or (name.startswith("pl") and "." in name)


def _membership(one: Statement) -> Power:
    return Power(one.subject, f"member of {shown(one.names[0])}")


def all_powers(statements: Iterable[Statement], limited: Collection[str]) -> tuple[Power, ...]:
    """Every power of every role in `statements`, sorted: what a page lists.

    A membership counts if its role is a predefined one, or has powers itself. limited: the settings that only a superuser may
    change.
    """
    listed = tuple(statements)
    found = {power for one in listed for power in _power(one, limited)}
    members = [one for one in listed if one.kind is StatementKind.MEMBERSHIP]
    while True:
        powerful = {power.role for power in found}
        more = {
            _membership(one) for one in members if one.names[0].startswith("pg_") or one.names[0] in powerful
        }
        if more <= found:
            return tuple(sorted(found))
        found |= more


def needed_powers(
    statements: Iterable[Statement], create: Collection[str], limited: Collection[str]
) -> tuple[Power, ...]:
    """Powers that the roles in `create` get, sorted: their own, and memberships in roles that exist already."""
    found = set[Power]()
    for one in statements:
        if one.subject not in create:
            continue
        if one.kind is StatementKind.MEMBERSHIP:
            found |= {_membership(one)} if one.names[0] not in create else set()
        else:
            found.update(_power(one, limited))
    return tuple(sorted(found))


def without(
    statements: Iterable[Statement], powers: Collection[Power], limited: Collection[str]
) -> tuple[Statement, ...]:
    """`statements` that give none of `powers`; the rest of each statement stays."""
    found = list[Statement]()
    for one in statements:
        if one.kind is StatementKind.MEMBERSHIP:
            if _membership(one) not in powers:
                found.append(one)
        elif one.kind is StatementKind.ATTRIBUTES:
            taken = {power.what for power in _power(one, limited)} & {
                p.what for p in powers if p.role == one.subject
            }
            tokens = tuple(f"NO{word}" if word in taken else word for word in one.tokens)
            found.append(Statement(one.kind, one.subject, tokens))
        elif not {*_power(one, limited)} & {*powers}:
            found.append(one)
    return tuple(found)


def granting_statements(
    statements: Iterable[Statement], powers: Collection[Power], limited: Collection[str]
) -> tuple[Statement, ...]:
    """Statements that give `powers` to roles that exist, and change nothing else."""
    found = list[Statement]()
    for one in statements:
        if one.kind is StatementKind.MEMBERSHIP:
            found += [one] if _membership(one) in powers else []
            continue
        given = [power for power in _power(one, limited) if power in powers]
        if given and one.kind is StatementKind.ATTRIBUTES:
            words = tuple(power.what for power in given)
            found.append(Statement(one.kind, one.subject, (*one.tokens[:4], *words)))
        elif given:
            found.append(one)
    return tuple(found)


def granting(
    statements: Iterable[Statement], powers: Collection[Power], limited: Collection[str]
) -> tuple[str, ...]:
    """The SQL that gives `powers`, a statement each."""
    return tuple(one.sql for one in granting_statements(statements, powers, limited))
