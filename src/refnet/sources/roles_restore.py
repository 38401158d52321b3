"""restore of the roles of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from refnet import servers
from refnet.context import Context
from refnet.core.formatting import some
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target, server_version
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.globals_plan import GlobalsPlan
from refnet.recovery.model.source import Finding, OpenArtifact
from refnet.recovery.sources.globals.globals_artifact import GlobalsArtifact
from refnet.recovery.verbs import restore_globals
from refnet.recovery.verbs.restore_globals import RestoredGlobals
from refnet.sources.identify import take_over


@dataclass(frozen=True)
class GlobalsRestore:
    """The restore of the roles in an artifact to a server."""

    artifact: GlobalsArtifact
    target: Target
    binaries: Binaries
    #: Create also roles with powers.
    role_powers: bool = False
    #: Called after a restore.
    after: Callable[[], None] = lambda: None

    def plan(self) -> GlobalsPlan:
        return restore_globals.plan(self.target, self.binaries, self.artifact, role_powers=self.role_powers)

    def run(self) -> RestoredGlobals:
        done = restore_globals.restore(
            self.target, self.binaries, self.artifact, role_powers=self.role_powers
        )
        self.after()
        return done


def compare(context: Context, chosen: OpenArtifact) -> tuple[Finding, ...]:
    """Compare the roles of the server with an artifact."""
    plan = restore_of(context, chosen, role_powers=True).plan()
    wrong = (*plan.create, *plan.differing, *plan.tablespaces)
    reason = f"missing or not as in the artifact: {some(wrong)}" if wrong else ""
    return (Finding("roles", Outcome.FAILED if wrong else Outcome.PASSED, reason),)


def restore_of(
    context: Context, chosen: OpenArtifact, to: str | None = None, *, role_powers: bool = False
) -> GlobalsRestore:
    """Return the restore of `chosen` to the server of its cluster, or to that of the URL `to`."""
    own = context.settings.of(chosen.source)
    key = f"clusters.{own.cluster}.{'restore_url' if own.restore_url else 'url'}"
    target = Target.from_url(to or own.restore_url or own.url or "", "--to" if to else key)
    with target.connect() as session:
        binaries = servers.binaries_for(context.settings, server_version(session))
    after = partial(take_over, context, chosen.source, chosen) if to is None else lambda: None
    return GlobalsRestore(GlobalsArtifact(chosen), target, binaries, role_powers, after)
