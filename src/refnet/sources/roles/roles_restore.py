"""restore of the roles of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from refnet import local_postgres
from refnet.catalog.artifact import Finding, OpenArtifact
from refnet.catalog.manifest import Outcome
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.formatting import noted, plain, plural, some
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target, server_version
from refnet.sources.identify import take_over
from refnet.sources.restoring import Done, Request, Said, Work
from refnet.sources.roles import restore_globals
from refnet.sources.roles.globals_artifact import GlobalsArtifact
from refnet.sources.roles.globals_plan import GlobalsPlan
from refnet.sources.roles.restore_globals import RestoredGlobals


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
    return GlobalsRestore(GlobalsArtifact(chosen), target, binaries, role_powers, after)


class RolesWork(Work):
    """A restore of roles: creates missing roles; existing ones stay unchanged."""

    planned: GlobalsPlan

    def __init__(self, chosen: OpenArtifact, request: Request) -> None:
        self.chosen, self.request = chosen, request

    def plan(self, context: Context) -> GlobalsPlan:
        request = self.request
        self.restore = restore_of(context, self.chosen, request.to, role_powers=request.role_powers)
        self.planned = self.restore.plan()
        return self.planned

    @property
    def problems(self) -> Sequence[RefnetError]:
        return self.planned.problems

    def describe(self) -> Iterator[str]:
        yield f"Restore the roles of {self.planned.artifact}; nothing that exists is changed:"
        for line in self.planned.lines():
            yield f"  {plain(line)}"
        yield from noted((), self.planned.problems)

    def run(self, context: Context) -> Done:  # noqa: ARG002
        done, server = self.restore.run(), self.planned.server
        created = plural(len(done.plan.create), "role")
        said = f"created {created} of {self.chosen.name} on {server}, compared; nothing else was changed"
        passed = done.finding.outcome is Outcome.PASSED
        differs = f"{server}: {plain(done.finding.reason)}" if done.finding.outcome is Outcome.FAILED else ""
        return Done(done.to_json(), (Said(said),) if passed else (), differs)
