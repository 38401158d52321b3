"""Plans a restore of a database from facts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from refnet.catalog.manifest import utc
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, refusal
from refnet.core.formatting import sql_name
from refnet.sources.database.plan import restore_facts
from refnet.sources.database.plan.restore_facts import LONGEST_NAME, ServerFacts, WantedBackup, Where

#: Bytes in the server for each byte of COPY text, with indexes, unless the live database's size is known.
_GROWTH = 2.0


@dataclass(frozen=True)
class PlanOptions:
    """Options of a restore."""

    jobs: int
    #: Compare digests, else row counts alone.
    content: bool = True
    #: Create missing roles.
    create_roles: bool = False
    #: Create those as well that the artifact gives powers.
    role_powers: bool = False
    #: The databases, beside the target's own, whose data may be restored.
    permission: restore_facts.Permission = restore_facts.OWN_ORIGIN
    #: How long the previous version is kept, for the plan.
    keep_days: int = 7
    #: The name of the database on the command line, for the plan.
    source: str = "database"
    where: Where = Where.LIVE
    #: The name of the new database, for Where.NEW.
    name: str = ""
    #: Whether a database that is there may be replaced.
    replace: bool = True


@dataclass(frozen=True)
class DatabasePlan:
    """The plan of a restore."""

    wanted: WantedBackup
    facts: ServerFacts
    #: A sentence each, in order.
    steps: tuple[str, ...]
    #: Each of them stops the restore.
    problems: tuple[RefnetError, ...]
    #: For the user, without an effect.
    notes: tuple[str, ...]
    #: The roles that are created first.
    create_roles: tuple[str, ...]
    bytes_needed: int
    #: What a check found wrong with the artifact, else "".
    damage: str = ""

    @property
    def replaces(self) -> bool:
        """Whether a live database would be replaced."""
        return self.facts.live is not None

    @property
    def role_powers(self) -> dict[str, tuple[str, ...]]:
        """Each role that is created → its attributes and memberships."""
        return {role: _powers(self.wanted, self.facts, role) for role in self.create_roles}

    @property
    def runs_as_superuser(self) -> str:
        """The superuser as whom code in the dump runs during the load; "" for other logins."""
        return self.facts.user if self.facts.superuser else ""

    def to_json(self) -> dict[str, Any]:
        wanted, facts, live = self.wanted, self.facts, self.facts.live
        return {
            "artifact": wanted.name,
            "damage": self.damage,
            "created": utc(wanted.moment) if wanted.moment else None,
            "database": facts.database,
            "server": facts.server,
            "server_version": major(facts.version),
            "system_identifier": facts.system,
            "from_database": wanted.database,
            "from_system_identifier": wanted.system,
            "replaces": self.replaces,
            "steps": list(self.steps),
            "problems": [problem.to_json() for problem in self.problems],
            "notes": list(self.notes),
            "create_roles": list(self.create_roles),
            "role_powers": {role: list(found) for role, found in self.role_powers.items()},
            "runs_as_superuser": bool(self.runs_as_superuser),
            "bytes_needed": self.bytes_needed,
            "bytes_free": facts.free,
            "live_bytes": live.size if live else None,
            "connections": [
                {"application": one.application, "user": one.user, "count": one.count}
                for one in (live.sessions if live else ())
            ],
            "tables": self.tables(),
        }

    def check(self) -> None:
        """Raise the first problem, with the number of the others."""
        if self.problems:
            raise refusal(self.problems)

    def tables(self) -> list[dict[str, Any]]:
        """Return a row for each table of either side: its name, its rows in the artifact, live, and the newer ones."""
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


def decide(wanted: WantedBackup, facts: ServerFacts, options: PlanOptions) -> DatabasePlan:
    """Plan the restore of `wanted` on the server with `facts`, which are of the database that it writes."""
    where = options.where
    refused = restore_facts.origin_refusal(wanted.name, wanted.origin, facts.destination, options.permission)
    missing = tuple(role for role in wanted.roles if role not in facts.roles)
    need = bytes_needed(wanted, facts)
    created = tuple(role for role in missing if options.create_roles and role in wanted.powers)
    return DatabasePlan(
        wanted,
        facts,
        (*_steps(wanted, facts, created, where), *_last_steps(facts, options)),
        (
            *([refused] if refused else []),
            *([_exists(facts, where)] if facts.live and (where is Where.NEW or not options.replace) else []),
            *_problems(wanted, facts, missing, created),
            *(() if where is Where.NEW else hindrances(facts)),
            *_powerful(wanted, facts, () if options.role_powers else created),
            *_without_superuser(wanted, facts),
        ),
        tuple(_notes(wanted, facts, need)),
        created,
        need,
    )


def bytes_needed(wanted: WantedBackup, facts: ServerFacts) -> int:
    """Estimate the space that the copy takes on the server, in bytes."""
    guess = int(wanted.bytes * _GROWTH) + (16 << 20)
    return max(guess, facts.live.size if facts.live and not wanted.bytes else 0)


def dated_name(database: str, word: str, local: datetime) -> str:
    """Return `DATABASE_WORD_YYYYMMDD_HHMMSS`, within the length of an identifier."""
    end = f"_{word}_{local:%Y%m%d_%H%M%S}"
    longest = LONGEST_NAME - len(end.encode())
    return database.encode()[:longest].decode(errors="ignore") + end


def major(version: int) -> int:
    return version // 10_000


def _exists(facts: ServerFacts, where: Where) -> RefnetError:
    if where is not Where.NEW:
        return RefnetError(
            f"the database {facts.destination} was created after this restore was planned",
            "Nothing was replaced. Check the plan again (--plan).",
        )
    return RefnetError(
        f"the database {facts.destination} exists already, and --as replaces nothing",
        "Give another name; to replace that database, name it with --to.",
        Exit.USAGE,
    )


def _steps(wanted: WantedBackup, facts: ServerFacts, created: tuple[str, ...], where: Where) -> Iterator[str]:
    if wanted.made_by:
        yield wanted.made_by
    if created:
        named = (
            f"{role} ({', '.join(found)})" if (found := _powers(wanted, facts, role)) else role
            for role in created
        )
        yield f"create the roles {', '.join(named)}, without passwords"
    beside = "" if where is Where.NEW else f" beside {facts.database}"
    yield f"create a database{beside} and load {wanted.name} into it"
    yield "collect planner statistics (ANALYZE)"
    yield (
        "compare the copy with the backup"
        if wanted.tables or wanted.made_by
        else "no comparison: the expected content is unknown"
    )


def _last_steps(facts: ServerFacts, options: PlanOptions) -> Iterator[str]:
    undo = f"`refnet undo {options.source}"
    if options.where is Where.NEW:
        yield f"name it {facts.database}; nothing live is touched"
    elif facts.live:
        yield f"disconnect the sessions of {facts.database}, swap it with the copy in one transaction"
        yield (
            f"keep the previous version on that server until you drop it: {undo} --to URL` restores it"
            if options.where is Where.ELSEWHERE
            else f"keep the previous version for {options.keep_days} days: {undo}` restores it"
        )
    else:
        yield f"rename it to {facts.database}, which no database is called now"


def _problems(
    wanted: WantedBackup, facts: ServerFacts, missing: tuple[str, ...], created: tuple[str, ...]
) -> Iterator[RefnetError]:
    if wanted.partial:
        yield RefnetError(
            f"{wanted.name} contains only some tables and cannot replace the database",
            "Restore one table: --table T --mode missing, or --mode replace.",
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
            f"ALTER ROLE {sql_name(facts.user)} CREATEDB; or restore as another role ({facts.named}).",
        )
    yield from _missing(wanted, facts, missing, created)
    need = bytes_needed(wanted, facts)
    if facts.free is not None and facts.free < need:
        yield RefnetError(
            f"the copy needs about {formatting.size(need)} beside the live database, and {formatting.size(facts.free)} is free",
            "Free space where the server keeps its data.",
        )


def _missing(
    wanted: WantedBackup, facts: ServerFacts, missing: tuple[str, ...], created: tuple[str, ...]
) -> Iterator[RefnetError]:
    if absent := [role for role in missing if role not in created]:
        as_they_were = facts.superuser and wanted.powers.keys() >= set(absent)
        yield RefnetError(
            f"roles missing on the server: {', '.join(absent)}",
            _create(absent)
            + ("; or use --create-roles to create them without passwords." if as_they_were else ";"),
        )
    if created and not facts.superuser:
        yield RefnetError(
            f"the role {facts.user} may not create the roles {', '.join(created)} as they were",
            f"{_create(created)}; or restore as a superuser.",
        )
    if uninstalled := [name for name, _ in wanted.extensions if name not in facts.extensions]:
        yield RefnetError(
            f"extensions not available on the server: {', '.join(uninstalled)}",
            "Install their packages on the server's machine, and retry.",
        )
    if lost := [name for name in wanted.tablespaces if name not in facts.tablespaces]:
        yield RefnetError(
            f"tablespaces missing on the server: {', '.join(lost)}",
            "; ".join(f"CREATE TABLESPACE {sql_name(name)} LOCATION '/FOLDER'" for name in lost)
            + "; the folder is on the server's machine, empty, and belongs to the server's user.",
        )


def _powers(wanted: WantedBackup, facts: ServerFacts, role: str) -> tuple[str, ...]:
    """Powers of `role`, once created, beyond its own objects."""
    there = (one for one in wanted.member_of.get(role, ()) if one in facts.roles)
    return (*wanted.powers.get(role, ()), *(f"member of {one}" for one in there))


def _powerful(wanted: WantedBackup, facts: ServerFacts, created: tuple[str, ...]) -> Iterator[RefnetError]:
    """Refuse powerful roles that only the file asks for: it may be forged."""
    for role in created:
        if found := _powers(wanted, facts, role):
            yield RefnetError(
                f"the role {role} would be created with powers that {wanted.name} asks for: {', '.join(found)}",
                "Create it yourself (CREATE ROLE), or restore with --create-roles --role-powers.",
            )


def _without_superuser(wanted: WantedBackup, facts: ServerFacts) -> Iterator[RefnetError]:
    """Yield what only a superuser can restore."""
    if facts.superuser:
        return
    extensions = [f"extension {name}" for name, _ in wanted.extensions if name in facts.restricted]
    if needed := [*wanted.superuser, *extensions]:
        yield RefnetError(
            f"{facts.user} is not a superuser, and these need one: {formatting.some(needed)}",
            "Restore as a superuser, whose rights the code in the dump then has while it loads.",
        )
    if closed := [name for name in wanted.tablespaces if name in facts.closed_tablespaces]:
        yield RefnetError(
            f"the role {facts.user} may not create objects in the tablespaces {', '.join(closed)}",
            f"GRANT CREATE ON TABLESPACE {', '.join(map(sql_name, closed))} TO {sql_name(facts.user)};"
            " or restore as a superuser.",
        )
    owners = dict.fromkeys((*([wanted.owner] if wanted.owner else []), *wanted.owners))
    if supers := [one for one in owners if one in facts.superusers]:
        yield RefnetError(
            f"{facts.user} is not a superuser, and objects belong to the superuser {', '.join(supers)}",
            "Restore as a superuser. Or give them to another role (REASSIGN OWNED, ALTER DATABASE … OWNER TO), and back up again.",
        )
    if others := [one for one in owners if one not in facts.owners and one not in facts.superusers]:
        yield RefnetError(
            f"the role {facts.user} may not give objects to their owners {', '.join(others)}",
            f"{_membership(others, facts)}; or restore as a superuser.",
        )


def _create(roles: Sequence[str]) -> str:
    """Return the SQL that creates `roles`."""
    return "; ".join(f"CREATE ROLE {sql_name(role)}" for role in roles)


def _membership(roles: Sequence[str], facts: ServerFacts) -> str:
    """SQL that lets the login act as `roles`."""
    inherit = " WITH INHERIT TRUE, SET TRUE" if major(facts.version) >= 16 else ""
    return f"GRANT {', '.join(map(sql_name, roles))} TO {sql_name(facts.user)}{inherit}"


def hindrances(facts: ServerFacts) -> Iterator[RefnetError]:
    """Yield obstacles to renaming the live database."""
    live = facts.live
    if live is None:
        return
    if not live.owned:
        yield RefnetError(
            f"the role {facts.user} does not own {facts.database} (its owner is {live.owner}), so it cannot rename it",
            f"ALTER DATABASE {sql_name(facts.database)} OWNER TO {sql_name(facts.user)}; or restore as a superuser."
            if live.owner in facts.superusers
            else f"{_membership([live.owner], facts)}; or restore as {live.owner} or as a superuser.",
        )
    if live.prepared:
        yield RefnetError(
            f"a prepared transaction is open in {facts.database}: {', '.join(live.prepared)}",
            "COMMIT PREPARED or ROLLBACK PREPARED it, and retry.",
        )
    if live.subscriptions:
        yield RefnetError(
            f"the subscription {', '.join(live.subscriptions)} writes into {facts.database}",
            "ALTER SUBSCRIPTION … DISABLE first; the restored one is disabled and has no slot.",
        )
    if others := [s for s in live.sessions if not s.ours]:
        named = ", ".join(f"{s.application or 'unnamed'} of {s.user}" for s in others)
        yield RefnetError(
            f"the role {facts.user} may not terminate the sessions in {facts.database}: {named}",
            f"Close them, or GRANT pg_signal_backend TO {sql_name(facts.user)}; only a superuser can terminate a superuser's.",
        )


def _notes(wanted: WantedBackup, facts: ServerFacts, need: int) -> Iterator[str]:
    if comes_from := restore_facts.origin_note(wanted.origin, facts.destination):
        yield comes_from
    if facts.free is None:
        yield f"could not verify: free space on the server (about {formatting.size(need)} needed beside the live database)"
    if wanted.version is None:
        yield "could not verify: the PostgreSQL version of the dump"
    elif major(wanted.version) != major(facts.version):
        yield f"it comes from PostgreSQL {major(wanted.version)}, and the server is {major(facts.version)}"
    for name, version in wanted.extensions:
        default = facts.extensions.get(name)
        if default and version and version != default:
            yield f"the extension {name} is created in version {default}; it was {version}"
    if not facts.live:
        return
    for slot in facts.live.slots:
        yield f"the replication slot {slot} stays with the previous version: set up its consumer again"
    gone = [name for name in facts.live.tables if wanted.tables and name not in wanted.tables]
    if gone:
        yield f"only in the live database, and kept in the previous version: {', '.join(sorted(gone))}"
