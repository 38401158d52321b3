"""The roles and tablespaces of a server of the settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from refnet import local_postgres, servers, wiring
from refnet.catalog.artifact import Finding, Maker, OpenArtifact
from refnet.catalog.identity import Whose
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural
from refnet.sources.artifact import Artifact
from refnet.sources.base import Permits
from refnet.sources.contents import Difference
from refnet.sources.database.source import OnServer
from refnet.sources.restoring import Request, Work
from refnet.sources.roles import roles_restore
from refnet.sources.roles.globals_artifact import GlobalsArtifact
from refnet.sources.roles.globals_maker import GlobalsMaker
from refnet.store.local import LocalStore


class Roles(OnServer):
    """The global objects of a cluster."""

    called: ClassVar[str] = "the roles of a cluster"
    more_options: ClassVar[tuple[str, ...]] = ("role_powers",)

    def whose(self) -> Whose | None:
        return wiring.identities(self.settings).or_handed_over(self.name).whose

    def maker(
        self,
        *,
        jobs: int | None = None,  # noqa: ARG002  # a small text
        tables: tuple[str, ...] = (),  # noqa: ARG002  # it has none
        into: LocalStore | None = None,  # noqa: ARG002  # it shares nothing
    ) -> Maker:
        target = partial(servers.existing_server, self.settings, self.name)
        binaries = partial(local_postgres.binaries_for, self.settings)
        return GlobalsMaker(self.name, target, binaries, bool(self.own.roles_with_passwords))

    @staticmethod
    def opened(stored: OpenArtifact) -> Artifact:
        return GlobalsArtifact(stored)

    def restoring(self, context: Context, chosen: OpenArtifact, request: Request) -> Work:  # noqa: ARG002
        for refusal in chosen.refusals(anyway=request.damaged_anyway):
            raise refusal
        return roles_restore.RolesWork(chosen, request)

    def undoing(self, context: Context, request: Request) -> Work:  # noqa: ARG002
        raise RefnetError(
            "a restore of roles replaces nothing, so there is nothing to undo",
            "To remove a role that it created: DROP ROLE.",
            Exit.USAGE,
        )

    def problems(self, context: Context, chosen: OpenArtifact, permits: Permits) -> Sequence[RefnetError]:
        if not self.own.url:
            return ()
        return roles_restore.restore_of(context, chosen, role_powers=permits.role_powers).plan().problems

    def recover(self, context: Context, chosen: OpenArtifact, permits: Permits) -> list[str]:
        roles = roles_restore.restore_of(context, chosen, role_powers=permits.role_powers)
        created = plural(len(roles.run().plan.create), "role")
        return [f"{created} of {chosen.name} created on {roles.target.address}"]

    def compare(self, context: Context, chosen: OpenArtifact) -> tuple[Finding, ...]:
        return roles_restore.compare(context, chosen)

    def without(self, chosen: OpenArtifact, what: str, advice: str) -> RefnetError:  # noqa: ARG002
        return super().without(chosen, what, "It has roles: `zcat` prints them.")

    def differences(
        self,
        context: Context,  # noqa: ARG002
        before: OpenArtifact,
        after: OpenArtifact,  # noqa: ARG002
    ) -> Difference:
        raise _not_compared(before, "`zcat` prints each of them.")

    def live_differences(self, context: Context, before: OpenArtifact) -> Difference:  # noqa: ARG002
        raise _not_compared(before, f"`refnet restore {before.source} --plan` shows what differs.")


def _not_compared(artifact: OpenArtifact, advice: str) -> RefnetError:
    return RefnetError(
        f"{artifact.name} has roles, which are not compared as rows or files", advice, Exit.USAGE
    )
