"""The roles and tablespaces of a server of the settings, and their restore."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from refnet import local_postgres, servers, wiring
from refnet.catalog.artifact import Finding, Maker, OpenArtifact
from refnet.catalog.identity import Whose
from refnet.catalog.manifest import Outcome
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import noted, plain, plural, some, sql_name
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.sources.base import Permits
from refnet.sources.contents import Artifact
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import admin_session, locked_on_server
from refnet.sources.database.source import OnServer
from refnet.sources.permitted import NOTHING, AskedPowers, ListedRoles, Permitted, Power
from refnet.sources.restoring import RestoreDone, RestoreRequest, RestoreWork, Said, take_over
from refnet.sources.roles.global_statements import NotGlobalsError, Statement, StatementKind, read
from refnet.sources.roles.globals_artifact import GlobalsArtifact, GlobalsMaker, dumped
from refnet.sources.roles.globals_plan import GlobalsPlan, LiveRoles, decide, merged, unlike
from refnet.sources.roles.powers import all_powers
from refnet.store.local import LocalStore

#: Restores of roles share one lock on a server; no database has this name.
_LOCK = "roles of this server"
#: The major since which a membership has INHERIT and SET.
_WITH_OPTIONS = 16
#: Roles of a list that log in and have no password, but for the login itself.
_CANNOT_LOG_IN = (
    "SELECT rolname::text FROM pg_catalog.pg_authid WHERE rolname = ANY(%s) AND rolcanlogin AND rolpassword IS NULL "
    "AND rolname <> current_user ORDER BY 1"
)
#: The settings that only a superuser may change.
_LIMITED = "SELECT name FROM pg_catalog.pg_settings WHERE context IN ('superuser', 'superuser-backend')"


def _logs_in(one: Statement) -> bool:
    return one.kind is StatementKind.ATTRIBUTES and "LOGIN" in one.tokens


class Roles(OnServer):
    """The global objects of a cluster."""

    called: ClassVar[str] = "the roles of a cluster"
    more_options: ClassVar[tuple[str, ...]] = ("role_powers", "permit")
    compared_by: ClassVar[str] = (
        "`refnet restore {source} --plan` shows what differs on the server; `zcat` prints an artifact."
    )

    def whose(self) -> Whose | None:
        return wiring.identities(self.settings).or_handed_over(self.name).whose

    def maker(
        self,
        *,
        jobs: int | None = None,  # noqa: ARG002  # a small text
        tables: tuple[str, ...] = (),  # noqa: ARG002  # it has none
        into: LocalStore | None = None,  # noqa: ARG002  # it shares nothing
        full: bool = False,  # noqa: ARG002  # it is always whole
    ) -> Maker:
        target = partial(servers.existing_server, self.settings, self.name)
        binaries = partial(local_postgres.binaries_for, self.settings)
        return GlobalsMaker(self.name, target, binaries, bool(self.own.roles_with_passwords))

    @staticmethod
    def opened(stored: OpenArtifact) -> Artifact:
        return GlobalsArtifact(stored)

    def restoring(self, context: Context, chosen: OpenArtifact, request: RestoreRequest) -> RestoreWork:  # noqa: ARG002
        for refusal in chosen.refusals(anyway=request.damaged_anyway):
            raise refusal
        return RolesWork(chosen, request)

    def undoing(self, context: Context, request: RestoreRequest) -> RestoreWork:  # noqa: ARG002
        raise RefnetError(
            "a restore of roles replaces nothing, so there is nothing to undo",
            "To remove a role that it created: DROP ROLE.",
            Exit.USAGE,
        )

    def problems(self, context: Context, chosen: OpenArtifact, permits: Permits) -> Sequence[RefnetError]:
        if not self.own.url:
            return ()
        return (
            restore_of(context, chosen, permits.powers, withhold=True, continued=permits.continued)
            .plan()
            .problems
        )

    def powers(self, context: Context, chosen: OpenArtifact, permits: Permits) -> AskedPowers:
        restore = restore_of(context, chosen, permits.powers, withhold=True, continued=permits.continued)
        plan = restore.plan()
        return AskedPowers(restore.artifact.wanted.sha256, plan.powers, plan.withheld, plan.granting)

    def listed_roles(self, chosen: OpenArtifact) -> ListedRoles:
        found = GlobalsArtifact(chosen).statements
        without = (one.subject for one in found if _logs_in(one) and "PASSWORD" not in one.tokens)
        return ListedRoles(all_powers(merged(found)), tuple(without))

    def live_powers(self) -> tuple[Power, ...]:
        target = servers.existing_server(self.settings, self.name)
        with target.connect(READER_SETTINGS, encoding="UTF8") as session:
            binaries = local_postgres.binaries_for(self.settings, server_version(session))
        try:
            return all_powers(merged(read(dumped(binaries, target))))
        except NotGlobalsError as error:
            raise RefnetError(
                f"the roles of the server at {target.address} cannot be read: {error}",
                "Rename the role or the tablespace with the unusual name, then retry.",
            ) from None

    def recover(self, context: Context, chosen: OpenArtifact, permits: Permits) -> list[str]:
        roles = restore_of(context, chosen, permits.powers, withhold=True, continued=permits.continued)
        plan = roles.run().plan
        given = f", {plural(len(plan.powers), 'power')} given to roles" if plan.powers else ""
        created = plural(len(plan.create), "role")
        return [f"{created} of {chosen.name} created on {roles.target.address}{given}"]

    def compare(self, context: Context, chosen: OpenArtifact, permits: Permits) -> tuple[Finding, ...]:
        """Compare the live roles; a power that was withheld may be missing, or have been given since."""
        wrong = restore_of(context, chosen, permits.powers).unlike()
        reason = f"missing or not as in the artifact: {some(wrong)}" if wrong else ""
        return (Finding("roles", Outcome.FAILED if wrong else Outcome.PASSED, reason),)

    def left_to_do(self, context: Context, chosen: OpenArtifact) -> tuple[str, ...]:
        """Lines for psql that give roles of `chosen` without a password one; () where the login may not see which have one."""
        roles = restore_of(context, chosen)
        logins = [one.subject for one in roles.artifact.statements if _logs_in(one)]
        with roles.target.connect(READER_SETTINGS, encoding="UTF8") as session:
            try:
                found = session.execute(_CANNOT_LOG_IN, (logins,)).fetchall()
            except psycopg.errors.InsufficientPrivilege:
                return ()
        return tuple(f"\\password {sql_name(name)}" for (name,) in found)

    def without(self, chosen: OpenArtifact, what: str, advice: str) -> RefnetError:  # noqa: ARG002
        return super().without(chosen, what, "It has roles: `zcat` prints them.")


@dataclass(frozen=True)
class RestoredGlobals:
    """A restore of roles."""

    plan: GlobalsPlan
    #: The comparison of the created roles with the artifact.
    finding: Finding

    def to_json(self) -> dict[str, Any]:
        return {**self.plan.to_json(), "comparison": self.finding.to_json()}


@dataclass(frozen=True)
class GlobalsRestore:
    """The restore of the roles in an artifact to a server: creates the missing ones, and changes no others."""

    artifact: GlobalsArtifact
    target: Target
    binaries: Binaries
    #: The powers that roles may get.
    permitted: Permitted = NOTHING
    #: Create roles without powers that are not permitted, instead of refusing.
    withhold: bool = False
    #: See `decide`.
    continued: bool = False
    #: Called after a restore.
    after: Callable[[], None] = lambda: None

    def _live(self) -> LiveRoles:
        statements = tuple(read(dumped(self.binaries, self.target)))
        with self.target.connect(READER_SETTINGS, encoding="UTF8") as session:
            limited = {name for (name,) in session.execute(_LIMITED).fetchall()}
            options = server_version(session) >= _WITH_OPTIONS
        return LiveRoles(self.target.address, statements, limited, options)

    def plan(self) -> GlobalsPlan:
        return decide(
            self.artifact.wanted,
            self._live(),
            self.permitted,
            withhold=self.withhold,
            continued=self.continued,
        )

    def unlike(self) -> tuple[str, ...]:
        """Roles and tablespaces that are missing or not as in the artifact; see `globals_plan.unlike`."""
        return unlike(self.artifact.wanted, self._live(), self.permitted)

    def run(self) -> RestoredGlobals:
        """Create the missing roles in one transaction, and compare them with the artifact; RefnetError if nothing was created."""
        target = self.target
        with admin_session(target) as admin, locked_on_server(admin, _LOCK):
            planned = self.plan()
            planned.check()
            try:
                with admin.transaction():
                    for one in planned.statements:
                        admin.execute(sql.SQL(one.sql))  # read strictly before
            except psycopg.Error as error:
                raise server_errors.of_server(error, "creating roles") from error
            after = self.unlike()
        wrong = [role for role in planned.create if role in after]
        reason = f"not as in the artifact: {', '.join(wrong)}" if wrong else ""
        outcome = Outcome.FAILED if wrong else Outcome.PASSED
        self.after()
        return RestoredGlobals(planned, Finding("created roles", outcome, reason))


def restore_of(
    context: Context,
    chosen: OpenArtifact,
    permitted: Permitted = NOTHING,
    to: str | None = None,
    *,
    withhold: bool = False,
    continued: bool = False,
) -> GlobalsRestore:
    """Restore of `chosen` to its cluster's server, or to the server of the URL `to`."""
    if to:
        target = Target.from_url(to, "--to")
    else:
        own = context.settings.of(chosen.source)
        key = own.key_of("restore_url" if own.restore_url else "url")
        target = Target.from_url(own.restore_url or own.url or "", key)
    with target.connect() as session:
        binaries = local_postgres.binaries_for(context.settings, server_version(session))
    after = partial(take_over, context, chosen.source, chosen) if to is None else lambda: None
    return GlobalsRestore(GlobalsArtifact(chosen), target, binaries, permitted, withhold, continued, after)


class RolesWork(RestoreWork):
    """A restore of roles: creates missing roles; existing ones stay unchanged."""

    planned: GlobalsPlan

    def __init__(self, chosen: OpenArtifact, request: RestoreRequest) -> None:
        self.chosen, self.request = chosen, request

    def plan(self, context: Context) -> GlobalsPlan:
        request = self.request
        self.restore = restore_of(context, self.chosen, request.powers, request.to)
        self.planned = self.restore.plan()
        return self.planned

    def describe(self) -> Iterator[str]:
        yield f"Restore the roles of {self.planned.artifact}; nothing that exists is changed:"
        for line in self.planned.lines():
            yield f"  {plain(line)}"
        yield from noted((), self.planned.problems)

    def run(self, context: Context) -> RestoreDone:  # noqa: ARG002
        done, server = self.restore.run(), self.planned.server
        created = plural(len(done.plan.create), "role")
        said = f"created {created} of {self.chosen.name} on {server}, compared; nothing else was changed"
        passed = done.finding.outcome is Outcome.PASSED
        differs = f"{server}: {plain(done.finding.reason)}" if done.finding.outcome is Outcome.FAILED else ""
        return RestoreDone(done.to_json(), (Said(said),) if passed else (), differs)
