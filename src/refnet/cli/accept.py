"""`refnet accept`: accept a source that shrank, or that has objects that no server accepts."""

from __future__ import annotations

from refnet.actions import accept as action
from refnet.actions.accept import Acceptance, GoneAcceptance
from refnet.cli import options
from refnet.cli.completion import ALIASES
from refnet.cli.context import context, ends_at_plan, print_json
from refnet.cli.output import say
from refnet.core.formatting import plain


def accept(
    artifact: options.ListedArtifact, *, plan: options.Plan = False, as_json: options.Json = False
) -> None:
    """Accept an artifact that shrank.

    It also accepts objects of its source that cannot be restored. With the name of a source, it accepts that the source
    is gone.

    Later artifacts are compared with it, the previous one is no longer kept, and later artifacts with the same objects
    are accepted too.
    """
    here = context()
    if lost := action.plan_gone(here, ALIASES.get(artifact, artifact)):
        if not ends_at_plan(lost, _print_gone, plan=plan, as_json=as_json):
            gone = action.accept_gone(here, lost)
            print_json(gone.to_json()) if as_json else say(
                f"accepted: {gone.source} is gone; its artifacts stay"
            )
        return
    planned = action.plan(here, artifact)
    if ends_at_plan(planned, _print, plan=plan, as_json=as_json):
        return
    done = action.accept(here, planned)
    print_json(done.to_json()) if as_json else say(f"accepted: {done.entry.name}")


def _print_gone(planned: GoneAcceptance) -> None:
    what = f"the cluster {planned.cluster} no longer has the database {planned.database}"
    print(plain(f"Accept that {what if planned.cluster else f'{planned.source} is not backed up any more'}:"))
    print(
        f"  1. the monitor forgets {planned.source}; its artifacts stay, and `refnet restore` can still use them"
    )


def _print(planned: Acceptance) -> None:
    entry = planned.entry
    if entry.unaccepted:
        print(plain(f"Accept {entry.name}: no server accepts {'; '.join(entry.faulty)}:"))
        print(
            "  1. verify, backup and monitor no longer report these objects; a restore still leaves them out"
        )
    if not entry.shrunk:
        return
    shrank = "; ".join(entry.manifest.shrunk)
    print(plain(f"Accept {entry.name}: {shrank}, against {entry.manifest.shrunk_from}:"))
    print(f"  1. later artifacts are compared with {entry.name}")
    print("  2. `refnet prune` no longer keeps the last proven artifact before it")
