"""Plans which roles of an artifact a restore creates on a server; existing roles are never changed."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from refnet.core.errors import RefnetError
from refnet.core.formatting import plural, some
from refnet.sources.permitted import NOTHING, Permitted, Power, digest, shown
from refnet.sources.roles.global_statements import Statement, StatementKind
from refnet.sources.roles.powers import (
    all_powers,
    false_options,
    granting,
    granting_statements,
    needed_powers,
    without,
    without_passwords,
)

#: The order in which they run: a membership needs both roles.
_ORDER = (
    StatementKind.ROLE,
    StatementKind.ATTRIBUTES,
    StatementKind.SETTING,
    StatementKind.COMMENT,
    StatementKind.MEMBERSHIP,
    StatementKind.PARAMETER,
)


@dataclass(frozen=True)
class GlobalsPlan:
    """The plan of a restore of roles."""

    artifact: str
    #: `host:port`.
    server: str
    #: The roles that are created.
    create: tuple[str, ...]
    #: Each power that they get → what permits it.
    powers: Mapping[Power, str]
    #: Each existing role that is not as in the artifact → the kinds of what differs. They stay as they are.
    differing: Mapping[str, tuple[str, ...]]
    #: Missing tablespaces, with the folder of each. They are not created.
    tablespaces: Mapping[str, str]
    #: What runs, in order, in one transaction.
    statements: tuple[Statement, ...]
    #: Each of them stops the restore.
    problems: tuple[RefnetError, ...] = ()
    #: What of the created roles is not restored.
    lost: tuple[str, ...] = ()
    #: Powers that nobody permitted: the roles are created without them.
    withheld: tuple[Power, ...] = ()
    #: The SQL that gives what is withheld.
    granting: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise the first problem; nothing if there is none."""
        if self.problems:
            raise self.problems[0]

    def lines(self) -> Iterator[str]:
        """Yield the plan as text."""
        if self.create:
            yield f"create {plural(len(self.create), 'role')} on {self.server}: {some(self.create)}"
        else:
            yield f"nothing to create: {self.server} has every role of the artifact"
        for power, by in self.powers.items():
            yield f"  {power} ({f'permitted by {by}' if by != 'by name' else 'permitted by name'})"
        for power in self.withheld:
            yield f"  {power} (withheld: nobody permitted it)"
        passwords = sum("PASSWORD" in one.tokens for one in self.statements)
        if self.create:
            yield f"  {plural(passwords, 'password')} in the artifact; a role without one cannot log in by password"
        for one in self.lost:
            yield f"not restored: {one}"
        for role, kinds in self.differing.items():
            yield f"not changed: role {role}, which exists; different: {', '.join(kinds)}"
        for name, folder in self.tablespaces.items():
            yield f"not created: tablespace {name} in {folder}; create the folder, then CREATE TABLESPACE"

    def to_json(self) -> dict[str, Any]:
        return {
            "artifact": self.artifact,
            "server": self.server,
            "create_roles": list(self.create),
            "role_powers": [
                {"role": one.role, "power": one.what, "permit": str(one), "permitted": by or None}
                for one, by in (*self.powers.items(), *((one, "") for one in self.withheld))
            ],
            "granting": list(self.granting),
            "differing": {role: list(kinds) for role, kinds in self.differing.items()},
            "missing_tablespaces": dict(self.tablespaces),
            "not_restored": list(self.lost),
            "problems": [problem.to_json() for problem in self.problems],
        }


@dataclass(frozen=True)
class LiveRoles:
    """The roles of the server that a restore writes."""

    #: `host:port`.
    server: str
    statements: tuple[Statement, ...]
    #: Settings that only a superuser may change.
    limited: Collection[str] = ()
    #: It supports INHERIT and SET of memberships (16 and newer).
    options: bool = True


@dataclass(frozen=True)
class WantedRoles:
    """The roles of an artifact."""

    #: The name of the artifact, and its SHA-256 (hex), which was compared.
    artifact: str
    sha256: str
    statements: tuple[Statement, ...]


def decide(
    wanted: WantedRoles,
    live: LiveRoles,
    permitted: Permitted = NOTHING,
    *,
    withhold: bool = False,
    continued: bool = False,
) -> GlobalsPlan:
    """Plan the creation of roles of `wanted` that `live` lacks; both with or both without passwords.

    Args:
        permitted: the powers that roles may get.
        withhold: create roles without powers that are not permitted; else each of these is a problem.
        continued: also ask for the powers of roles that exist and only lack these: an earlier run has created them.
    """
    live = replace(live, statements=merged(live.statements))
    there = {one.subject for one in live.statements if one.kind is StatementKind.ROLE}
    asked = _Asked(wanted, permitted)
    statements = _supported(asked.statements, live)
    create = tuple(
        one.subject for one in statements if one.kind is StatementKind.ROLE and one.subject not in there
    )
    lacking = _lacking(wanted, live, statements) if continued else ()
    needed = (*needed_powers(statements, frozenset(create), live.limited), *lacking)
    powers = {power: asked.by(power) for power in needed}
    refused = tuple(power for power, by in powers.items() if not by)
    granted = granting(statements, refused, live.limited)
    statements = without(statements, refused, live.limited)
    powerful = () if permitted.everything else {one.role for one in (*asked.page, *powers)}
    secrets = {one.subject for one in statements if one.subject in powerful and "PASSWORD" in one.tokens}
    statements = without_passwords(statements, secrets)
    running = [
        one for one in statements if one.kind in _ORDER and _runs(one, frozenset(create), there | {*create})
    ]
    lost = (
        *_lost(asked.statements, statements, running, create),
        *(
            f"the password of {shown(one)}, as it has powers, and who forges a backup knows it: \\password in psql sets one"
            for one in create
            if one in secrets
        ),
    )
    given = tuple(power for power in lacking if powers[power])
    running += granting_statements(statements, given, live.limited)
    running.sort(key=lambda one: _ORDER.index(one.kind))
    return GlobalsPlan(
        wanted.artifact,
        live.server,
        create,
        {power: by for power, by in powers.items() if by},
        _differing(statements, live.statements, there),
        _folders(statements, live.statements),
        tuple(running),
        () if withhold else tuple(_powerful(wanted.artifact, refused)),
        lost,
        refused,
        granted,
    )


class _Asked:
    """The statements of an artifact, and the powers that are permitted of those that it asks for."""

    def __init__(self, wanted: WantedRoles, permitted: Permitted) -> None:
        self.statements, self._permitted, self._sha256 = merged(wanted.statements), permitted, wanted.sha256
        listed = all_powers(self.statements)
        #: The powers whose digest a page of this artifact has.
        self.page, self._digest = frozenset(listed), digest(listed)

    def by(self, power: Power) -> str:
        """The reason why a role may get `power`, for display; "": nobody permitted it. A page permits only what it lists."""
        return self._permitted.by(power, self._sha256, self._digest if power in self.page else "")


def _supported(statements: tuple[Statement, ...], live: LiveRoles) -> tuple[Statement, ...]:
    """`statements` as the server supports them: before 16 without INHERIT and SET."""
    return statements if live.options else tuple(map(without_options, statements))


def _lacking(wanted: WantedRoles, live: LiveRoles, statements: tuple[Statement, ...]) -> tuple[Power, ...]:
    """Powers that roles of `live` lack which are otherwise as in the artifact."""
    existing = {one.subject for one in live.statements if one.kind is StatementKind.ROLE}
    alike = existing - {*unlike(wanted, live, NOTHING)}
    has = {*needed_powers(live.statements, alike, live.limited), *all_powers(live.statements)}
    needed = needed_powers(statements, alike, live.limited)
    return tuple(one for one in needed if one.role in alike and one not in has)


def unlike(wanted: WantedRoles, live: LiveRoles, permitted: Permitted) -> tuple[str, ...]:
    """Roles and tablespaces of `wanted` that `live` lacks or has otherwise; powers that nobody permitted may be missing."""
    asked, there = _Asked(wanted, permitted), merged(live.statements)
    statements = _supported(asked.statements, live)
    roles = frozenset(one.subject for one in statements if one.kind is StatementKind.ROLE)
    given = {*all_powers(statements), *needed_powers(statements, roles, live.limited)}
    has = {*all_powers(there), *needed_powers(there, roles, live.limited)}
    missing = {one for one in given - has if not asked.by(one)}
    expected = without(statements, missing, live.limited)
    existing = {one.subject for one in there if one.kind is StatementKind.ROLE}
    differing = _differing(expected, there, existing)
    return (*sorted(roles - existing), *differing, *_folders(statements, there))


def _folders(wanted: tuple[Statement, ...], live: tuple[Statement, ...]) -> dict[str, str]:
    """Return the tablespaces of `wanted` that are missing in `live`, with their folders."""
    existing = {one.subject for one in live if one.kind is StatementKind.TABLESPACE}
    return {
        one.subject: one.tokens[-1].removeprefix("E").strip("'")
        for one in wanted
        if one.kind is StatementKind.TABLESPACE and one.subject not in existing
    }


def _lost(
    wanted: tuple[Statement, ...],
    kept: Collection[Statement],
    running: Collection[Statement],
    create: Collection[str],
) -> Iterator[str]:
    """What the roles in `create` lose of `wanted`, beside withheld powers: what of it is not `kept`."""
    left, runs = (
        {one.names[:2]: one for one in some_of if one.kind is StatementKind.MEMBERSHIP}
        for some_of in (kept, running)
    )
    for one in wanted:
        if one.subject not in create:
            continue
        if one.kind is StatementKind.LABEL and "ROLE" in one.tokens:
            yield f"the security label of {one.subject} by {one.names[0]}"
        elif one.kind is StatementKind.MEMBERSHIP and (pair := one.names[:2]) in left:
            if pair not in runs:
                yield f"the membership of {one.subject} in {one.names[0]}, as the server has no such role"
            elif off := [option for option in false_options(one) if option not in false_options(runs[pair])]:
                yield f"{' and '.join(off)} FALSE of the membership of {one.subject} in {one.names[0]}, which needs PostgreSQL 16"


def _runs(one: Statement, create: frozenset[str], there: set[str]) -> bool:
    """Whether the statement is about a created role, and all its roles will exist."""
    if one.kind is not StatementKind.MEMBERSHIP:
        return one.subject in create
    pair = one.names[:2]
    return any(name in create for name in pair) and all(
        name in there or name.startswith("pg_") for name in pair
    )


def _powerful(artifact: str, powers: Iterable[Power]) -> Iterator[RefnetError]:
    """Refuse powers that only the file asks for: it may be forged."""
    by_role: dict[str, list[Power]] = defaultdict(list)
    for power in powers:
        by_role[power.role].append(power)
    for found in by_role.values():
        role = str(found[0]).removesuffix(f": {found[0].what}")
        permits = " ".join(f"--permit {shlex.quote(str(power))}" for power in found)
        yield RefnetError(
            f"{artifact} gives the role {role} powers: {', '.join(power.what for power in found)}",
            f"`refnet restore SOURCE --plan` shows all; give {permits}, or create the role yourself (CREATE ROLE).",
        )


def _differing(
    wanted: tuple[Statement, ...], live: tuple[Statement, ...], there: set[str]
) -> dict[str, tuple[str, ...]]:
    """Roles that differ on both sides → kinds of differing statements."""
    both = there & {one.subject for one in wanted if one.kind is StatementKind.ROLE}
    options = knows_options(wanted) and knows_options(live)
    sides = [
        {
            (one.subject, one.kind, comparable(one, passwords=False, options=options))
            for one in side
            if one.subject in both and one.kind in _ORDER
        }
        for side in (wanted, live)
    ]
    kinds: dict[str, set[str]] = defaultdict(set)
    for subject, kind, _ in sides[0] ^ sides[1]:
        kinds[subject].add(str(kind))
    return {role: tuple(sorted(kinds[role])) for role in sorted(kinds)}


def knows_options(statements: Iterable[Statement]) -> bool:
    """Whether memberships state INHERIT, as from servers 16 and newer."""
    return all("INHERIT" in one.tokens for one in statements if one.kind is StatementKind.MEMBERSHIP)


def comparable(statement: Statement, *, passwords: bool = True, options: bool = True) -> tuple[str, ...]:
    """Comparable form: without the folder of a tablespace; `options`: with INHERIT and SET of memberships."""
    if statement.kind is StatementKind.MEMBERSHIP:
        admin = "ADMIN" if "ADMIN" in statement.tokens else ""
        return (*statement.tokens[:4], admin, *(false_options(statement) if options else ()))
    if statement.kind is StatementKind.TABLESPACE:
        return statement.tokens[:-1]
    return statement.tokens if passwords else statement.without("PASSWORD", 2).tokens


def merged(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """One membership for each role and member: since PostgreSQL 16 several roles may grant it, and what one allows is allowed."""
    found: dict[tuple[object, ...], Statement] = {}
    for number, one in enumerate(statements):
        key: tuple[object, ...] = one.names[:2] if one.kind is StatementKind.MEMBERSHIP else (number,)
        found[key] = _both(found[key], one) if key in found else one
    return tuple(found.values())


def _both(one: Statement, other: Statement) -> Statement:
    off = [option for option in false_options(one) if option in false_options(other)]
    options = [["ADMIN", "OPTION"]] if {"ADMIN"} & {*one.tokens, *other.tokens} else []
    options += [["INHERIT", "FALSE" if "INHERIT" in off else "TRUE"]]
    options += [["SET", "FALSE"]] if "SET" in off else []
    listed = [token for option in options for token in (",", *option)]
    return replace(one, tokens=(*one.tokens[:4], "WITH", *listed[1:]))


def without_options(statement: Statement) -> Statement:
    """A membership in the syntax before 16; other statements unchanged."""
    if statement.kind is not StatementKind.MEMBERSHIP:
        return statement
    admin = ("WITH", "ADMIN", "OPTION") if "ADMIN" in statement.tokens else ()
    return replace(statement, tokens=(*statement.tokens[:4], *admin))
