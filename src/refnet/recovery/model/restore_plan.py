"""What a restore of a database would do, decided from facts that were read before: nothing is asked or changed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from refnet.errors import Exit, RefnetError
from refnet.recovery.model import origin
from refnet.recovery.model.identity import Identity

#: Bytes in the server for each byte of COPY text, with indexes, where nothing better is known.
_GROWTH = 2.0
_LONGEST_NAME = 63  # bytes of a PostgreSQL identifier
_SHOWN = 10
KEEP_DAYS = 7


@dataclass(frozen=True)
class Sessions:
    """Sessions of one program and role in the live database. `ours`: whether we may end them."""

    application: str
    user: str
    count: int
    ours: bool


@dataclass(frozen=True)
class Rows:
    """A live table's rows. `exact`: counted, not the server's estimate. `newer`: of them, those that were
    written after the artifact's snapshot; None where it cannot be known.
    """

    rows: int
    exact: bool
    newer: int | None = None


@dataclass(frozen=True)
class Live:
    """The database that stands under the target's name.

    `size` in bytes. `owned`: whether we may rename it. `oid`: 0 where it is not known. `occupied`: whether it holds any
    table. `prepared`, `slots`, `subscriptions` (enabled ones):
    what holds it beyond sessions. `tables`: `schema.table` → its rows.
    """

    size: int
    owner: str
    owned: bool
    sessions: tuple[Sessions, ...] = ()
    prepared: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    occupied: bool = True
    tables: Mapping[str, Rows] = field(default_factory=dict)
    oid: int = 0


@dataclass(frozen=True)
class Facts:
    """What the server said.

    `version`: 180006. `owners`: roles whose rights we have and whom we may give objects to. `extensions`: those that
    can be installed → versions; `restricted`: those of them that only a superuser installs. `free`: bytes where the
    server keeps its data, None where it cannot be known. `server`: where it answers, for people. `system`: its
    cluster's identifier, None where that is not shown to us.
    """

    database: str
    version: int
    user: str
    superuser: bool
    createdb: bool
    standby: bool
    owners: frozenset[str]
    roles: frozenset[str]
    extensions: Mapping[str, frozenset[str]]
    tablespaces: frozenset[str]
    free: int | None
    live: Live | None
    restricted: frozenset[str] = frozenset()
    server: str = ""
    system: str | None = None

    @property
    def place(self) -> origin.Place:
        """The database that is restored to."""
        occupied = self.live is not None and self.live.occupied
        return origin.Place(Identity(self.database, self.system), self.server, occupied)


@dataclass(frozen=True)
class Wanted:
    """What is to be restored.

    `version`: that of the server that it comes from, 180006; None: not known. `bytes`: of COPY text.
    `tables`: `schema.table` → rows. `owner` None: that of the live database, or whoever restores.
    `owners`: whom its schema gives objects to; `superuser`: what in it only a superuser restores; `powers` and
    `member_of`: role → what it could do beyond its own objects, and the roles that it is in.
    `snapshot` and `system`: PostgreSQL's text of the moment and the cluster that knows it, where recorded.
    `database`: whose it is; None: nobody recorded that.
    """

    name: str
    version: int | None
    moment: datetime | None
    owner: str | None
    bytes: int
    tables: Mapping[str, int] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    extensions: tuple[tuple[str, str], ...] = ()
    tablespaces: tuple[str, ...] = ()
    snapshot: str | None = None
    system: str | None = None
    partial: bool = False
    owners: tuple[str, ...] = ()
    superuser: tuple[str, ...] = ()
    powers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    member_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    database: str | None = None

    @property
    def origin(self) -> Identity | None:
        """Whose data it is."""
        return Identity(self.database, self.system) if self.database else None


@dataclass(frozen=True)
class Plan:
    """What would be done: `steps` in order; `problems` stop it; `notes` are to be known.

    `create_roles`: the roles that are created first. `damage`: what a check found wrong with it, else "". `tables`: a line each, live beside artifact.
    """

    wanted: Wanted
    facts: Facts
    steps: tuple[str, ...]
    problems: tuple[RefnetError, ...]
    notes: tuple[str, ...]
    create_roles: tuple[str, ...]
    bytes_needed: int
    damage: str = ""

    @property
    def replaces(self) -> bool:
        """Whether something live would be replaced."""
        return self.facts.live is not None

    @property
    def role_powers(self) -> dict[str, tuple[str, ...]]:
        """Each role that is created → its powers."""
        return {role: _powers(self.wanted, self.facts, role) for role in self.create_roles}

    @property
    def runs_as_superuser(self) -> str:
        """Whose superuser rights the code in the dump has while it loads, "" where they are none."""
        return self.facts.user if self.facts.superuser else ""

    def check(self) -> None:
        """RefnetError where something stops the plan: the first problem, and how many more there are."""
        if self.problems:
            first, more = self.problems[0], len(self.problems) - 1
            message = f"{first.message} (and {more} more: see --plan)" if more else first.message
            raise RefnetError(message, first.hint, first.code)

    def tables(self) -> list[dict[str, Any]]:
        """Each table of either side: name, rows in the artifact and live, of these the newer ones."""
        live = self.facts.live.tables if self.facts.live else {}
        names = [*self.wanted.tables, *(name for name in live if name not in self.wanted.tables)]
        return [
            {
                "name": name,
                "rows": self.wanted.tables.get(name),
                "live_rows": live[name].rows if name in live else None,
                "live_rows_exact": live[name].exact if name in live else None,
                "written_since": live[name].newer if name in live else None,
            }
            for name in names
        ]


def decide(
    wanted: Wanted,
    facts: Facts,
    *,
    create_roles: bool,
    role_powers: bool = False,
    permission: origin.Permission = origin.OWN,
) -> Plan:
    """The plan to restore `wanted` on a server of which `facts` hold.

    Args:
        create_roles: missing roles are created; `role_powers`: those with powers too.
        permission: from which databases `wanted` may be, beside the target's own.
    """
    foreign = origin.refusal(wanted.name, wanted.origin, facts.place, permission)
    missing = tuple(role for role in wanted.roles if role not in facts.roles)
    need = bytes_needed(wanted, facts)
    created = missing if create_roles else ()
    return Plan(
        wanted,
        facts,
        tuple(_steps(wanted, facts, created)),
        (
            *([foreign] if foreign else []),
            *_problems(wanted, facts, missing, need, create_roles=create_roles),
            *_powerful(wanted, facts, () if role_powers else created),
            *_without_superuser(wanted, facts),
        ),
        tuple(_notes(wanted, facts, need)),
        created,
        need,
    )


def bytes_needed(wanted: Wanted, facts: Facts) -> int:
    """About how much room the copy takes in the server: as the live one does, scaled by what is restored."""
    guess = int(wanted.bytes * _GROWTH) + (16 << 20)
    return max(guess, facts.live.size if facts.live and not wanted.bytes else 0)


def dated_name(database: str, word: str, local: datetime) -> str:
    """`DATABASE_WORD_YYYYMMDD_HHMMSS`, within the length of an identifier."""
    end = f"_{word}_{local:%Y%m%d_%H%M%S}"
    room = _LONGEST_NAME - len(end.encode())
    return database.encode()[:room].decode(errors="ignore") + end


def major(version: int) -> int:
    return version // 10_000


def _steps(wanted: Wanted, facts: Facts, created: tuple[str, ...]) -> Iterator[str]:
    if created:
        told = (
            f"{role} ({', '.join(found)})" if (found := _powers(wanted, facts, role)) else role
            for role in created
        )
        yield f"create the roles {', '.join(told)}, without passwords"
    yield f"make a new database beside {facts.database} and load {wanted.name} into it"
    yield "gather the planner's statistics (ANALYZE)"
    yield (
        "compare the copy with what was backed up"
        if wanted.tables
        else "no comparison: nothing says what it should hold"
    )
    if facts.live:
        yield f"end the sessions in {facts.database}, exchange it for the copy in one transaction"
        yield f"keep the old one for {KEEP_DAYS} days: `refnet undo database` brings it back"
    else:
        yield f"give it the name {facts.database}, which no database has now"


def _problems(
    wanted: Wanted, facts: Facts, missing: tuple[str, ...], need: int, *, create_roles: bool
) -> Iterator[RefnetError]:
    if wanted.partial:
        yield RefnetError(
            f"{wanted.name} holds some tables only, so it is not restored whole",
            "Restore one of them: --table T --mode missing, or --mode replace.",
            Exit.USAGE,
        )
    if facts.standby:
        yield RefnetError("the server is a standby and takes no writes", "Restore on the primary server.")
    if wanted.version and major(wanted.version) > major(facts.version):
        yield RefnetError(
            f"{wanted.name} comes from PostgreSQL {major(wanted.version)} and the server is {major(facts.version)}",
            f"Restore it on PostgreSQL {major(wanted.version)} or newer.",
        )
    if not (facts.superuser or facts.createdb):
        yield RefnetError(
            f"the role {facts.user} may not create databases, and a restore makes a new one",
            f"ALTER ROLE {facts.user} CREATEDB, or restore as another role (REFNET_DATABASE_URL).",
        )
    yield from hindrances(facts)
    yield from _missing(wanted, facts, missing, create_roles=create_roles)
    if facts.free is not None and facts.free < need:
        yield RefnetError(
            f"the copy needs about {_size(need)} beside the live database, and {_size(facts.free)} are free",
            "Free space where the server keeps its data.",
        )


def _missing(
    wanted: Wanted, facts: Facts, missing: tuple[str, ...], *, create_roles: bool
) -> Iterator[RefnetError]:
    if missing and not create_roles:
        yield RefnetError(
            f"the server lacks the roles {', '.join(missing)}",
            "Create them, or give --create-roles to have them created without passwords.",
        )
    if missing and create_roles and not facts.superuser:
        yield RefnetError(
            f"the role {facts.user} may not create the roles {', '.join(missing)} as they were",
            "Restore as a superuser, or create them before.",
        )
    if lacking := [name for name, _ in wanted.extensions if name not in facts.extensions]:
        yield RefnetError(
            f"the server lacks the extensions {', '.join(lacking)}",
            "Install their packages on the server's machine, then run it again.",
        )
    if lost := [name for name in wanted.tablespaces if name not in facts.tablespaces]:
        yield RefnetError(
            f"the server lacks the tablespaces {', '.join(lost)}", "CREATE TABLESPACE with these names first."
        )
    owner = wanted.owner
    if owner and owner in facts.roles and not facts.superuser and owner not in facts.owners:
        yield RefnetError(
            f"the role {facts.user} may not give a database to its owner {owner}",
            f"GRANT {owner} TO {facts.user}, or restore as a superuser.",
        )


def _powers(wanted: Wanted, facts: Facts, role: str) -> tuple[str, ...]:
    """What `role`, once created, could do on the server beyond its own objects."""
    there = (one for one in wanted.member_of.get(role, ()) if one in facts.roles)
    return (*wanted.powers.get(role, ()), *(f"member of {one}" for one in there))


def _powerful(wanted: Wanted, facts: Facts, created: tuple[str, ...]) -> Iterator[RefnetError]:
    """That powers of roles come out of a file, which may be forged."""
    for role in created:
        if found := _powers(wanted, facts, role):
            yield RefnetError(
                f"the role {role} would be created with powers that {wanted.name} asks for: {', '.join(found)}",
                "Create it yourself (CREATE ROLE), or use `refnet restore database --create-roles --role-powers`.",
            )


def _without_superuser(wanted: Wanted, facts: Facts) -> Iterator[RefnetError]:
    """What a restoring login that is no superuser cannot do."""
    if facts.superuser:
        return
    extensions = [f"extension {name}" for name, _ in wanted.extensions if name in facts.restricted]
    if needed := [*wanted.superuser, *extensions]:
        yield RefnetError(
            f"{facts.user} is no superuser, and these need one: {some(needed)}",
            "Restore as a superuser, whose rights the code in the dump then has while it loads.",
        )
    owners = [one for one in wanted.owners if one in facts.roles and one not in facts.owners]
    if owners:
        inherit = " WITH INHERIT TRUE, SET TRUE" if major(facts.version) >= 16 else ""
        yield RefnetError(
            f"the role {facts.user} may not give objects to their owners {', '.join(owners)}",
            f"GRANT {', '.join(owners)} TO {facts.user}{inherit}; or restore as a superuser.",
        )


def hindrances(facts: Facts) -> Iterator[RefnetError]:
    """What keeps the live database from being renamed."""
    live = facts.live
    if live is None:
        return
    if not live.owned:
        yield RefnetError(
            f"the role {facts.user} does not own {facts.database} (its owner is {live.owner}), so it cannot rename it",
            f"Restore as {live.owner} or as a superuser.",
        )
    if live.prepared:
        yield RefnetError(
            f"a prepared transaction holds {facts.database}: {', '.join(live.prepared)}",
            "COMMIT PREPARED or ROLLBACK PREPARED it, then run it again.",
        )
    if live.subscriptions:
        yield RefnetError(
            f"the subscription {', '.join(live.subscriptions)} writes into {facts.database}",
            "ALTER SUBSCRIPTION … DISABLE first; the restored one comes disabled, without a slot.",
        )
    if foreign := [s for s in live.sessions if not s.ours]:
        told = ", ".join(f"{s.application or 'unnamed'} of {s.user}" for s in foreign)
        yield RefnetError(
            f"the role {facts.user} may not end the sessions in {facts.database}: {told}",
            f"Close them, or GRANT pg_signal_backend TO {facts.user}; a superuser's only a superuser ends.",
        )


def _notes(wanted: Wanted, facts: Facts, need: int) -> Iterator[str]:
    if comes_from := origin.note(wanted.origin, facts.place):
        yield comes_from
    if facts.free is None:
        yield f"could not verify: the room on the server (about {_size(need)} are needed beside the live database)"
    if wanted.version is None:
        yield "could not verify: which PostgreSQL the dump comes from"
    for name, version in wanted.extensions:
        known = facts.extensions.get(name, frozenset())
        if known and version and version not in known:
            yield f"the extension {name} comes in another version than {version}: {', '.join(sorted(known))}"
    if not facts.live:
        return
    for slot in facts.live.slots:
        yield f"the replication slot {slot} stays with the old database: set up its consumer anew"
    gone = [name for name in facts.live.tables if wanted.tables and name not in wanted.tables]
    if gone:
        yield f"only in the live database, and in the kept one afterwards: {', '.join(sorted(gone))}"


def some(names: Sequence[str]) -> str:
    """The first of `names`, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
