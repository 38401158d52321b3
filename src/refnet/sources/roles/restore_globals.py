"""Creates missing roles of an artifact on a server in one transaction; existing roles stay unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Outcome
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import admin_session, restore_lock
from refnet.sources.roles.global_statements import read
from refnet.sources.roles.globals_artifact import GlobalsArtifact
from refnet.sources.roles.globals_dump import dumped
from refnet.sources.roles.globals_plan import GlobalsPlan, decide

#: Restores of roles share one lock on a server; no database has this name.
_LOCK = "roles of this server"
#: The major since which a membership has INHERIT and SET.
_WITH_OPTIONS = 16
#: The settings that only a superuser may change.
_LIMITED = "SELECT name FROM pg_catalog.pg_settings WHERE context IN ('superuser', 'superuser-backend')"


@dataclass(frozen=True)
class RestoredGlobals:
    """A restore of roles."""

    plan: GlobalsPlan
    #: The comparison of the created roles with the artifact.
    finding: Finding

    def to_json(self) -> dict[str, Any]:
        return {**self.plan.to_json(), "comparison": self.finding.to_json()}


def plan(
    target: Target, binaries: Binaries, artifact: GlobalsArtifact, *, role_powers: bool = False
) -> GlobalsPlan:
    """Plan of `restore` on the server of `target`."""
    live = tuple(read(dumped(binaries, target)))
    with target.connect(READER_SETTINGS, encoding="UTF8") as session:
        limited = {name for (name,) in session.execute(_LIMITED).fetchall()}
        options = server_version(session) >= _WITH_OPTIONS
    return decide(
        artifact.name,
        target.address,
        artifact.statements,
        live,
        limited=limited,
        role_powers=role_powers,
        options=options,
    )


def restore(
    target: Target, binaries: Binaries, artifact: GlobalsArtifact, *, role_powers: bool = False
) -> RestoredGlobals:
    """Create the missing roles, and compare them with the artifact; RefnetError if nothing was created."""
    with admin_session(target) as admin, restore_lock(admin, _LOCK):
        planned = plan(target, binaries, artifact, role_powers=role_powers)
        planned.check()
        try:
            with admin.transaction():
                for one in planned.statements:
                    admin.execute(sql.SQL(one.sql))  # read strictly before
        except psycopg.Error as error:
            raise server_errors.of_server(error, "creating roles") from error
        after = decide(
            artifact.name, target.address, artifact.statements, tuple(read(dumped(binaries, target)))
        )
    wrong = [role for role in planned.create if role in after.differing or role in after.create]
    reason = f"not as in the artifact: {', '.join(wrong)}" if wrong else ""
    outcome = Outcome.FAILED if wrong else Outcome.PASSED
    return RestoredGlobals(planned, Finding("created roles", outcome, reason))
