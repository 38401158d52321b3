"""`refnet pin`, `unpin`, `tag`, `accept`, `forget`: what a user decides about single artifacts."""

from __future__ import annotations

from typing import Annotated

import typer

from refnet.actions import marks
from refnet.actions.marks import Acceptance, Forgetting, GoneAcceptance, Marking
from refnet.cli import options
from refnet.cli.completion import ALIASES, artifacts
from refnet.cli.context import confirm, context, ends_at_plan, print_json
from refnet.cli.output import say
from refnet.context import Context
from refnet.core import formatting
from refnet.core.formatting import plain


def pin(
    artifact: options.ListedArtifact,
    *,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="The end of the pin; default: until unpin.")
    ] = None,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Keep an artifact whatever its age.

    Neither prune nor forget deletes it.
    """
    here = context()
    _run(here, marks.pin(here, artifact, until), plan=plan, as_json=as_json)


def unpin(
    artifact: options.ListedArtifact, *, plan: options.Plan = False, as_json: options.Json = False
) -> None:
    """End the pin of an artifact.

    Retention decides about it again.
    """
    here = context()
    _run(here, marks.unpin(here, artifact), plan=plan, as_json=as_json)


def tag(
    artifact: options.ListedArtifact,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="The tags.")],
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the tags.")] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Tag an artifact, or remove its tags.

    `refnet list --tag NAME` finds it.
    """
    here = context()
    _run(here, marks.tag(here, artifact, names, remove=remove), plan=plan, as_json=as_json)


def _run(here: Context, planned: Marking, *, plan: bool, as_json: bool) -> None:
    notes = "; ".join(planned.marks.describe(here.clock.now())) or "neither pinned nor tagged"
    if plan:
        print_json(planned.to_json()) if as_json else print(f"would be {notes}: {planned.entry.name}")
        return
    done = marks.mark(here, planned)
    print_json(done.to_json()) if as_json else say(f"{notes}: {done.entry.name}")


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
    if lost := marks.plan_gone(here, ALIASES.get(artifact, artifact)):
        if not ends_at_plan(lost, _print_gone, plan=plan, as_json=as_json):
            gone = marks.accept_gone(here, lost)
            print_json(gone.to_json()) if as_json else say(
                f"accepted: {gone.source} is gone; its artifacts stay"
            )
        return
    planned = marks.plan_acceptance(here, artifact)
    if ends_at_plan(planned, _print_acceptance, plan=plan, as_json=as_json):
        return
    done = marks.accept(here, planned)
    print_json(done.to_json()) if as_json else say(f"accepted: {done.entry.name}")


def _print_gone(planned: GoneAcceptance) -> None:
    what = f"the cluster {planned.cluster} no longer has the database {planned.database}"
    print(plain(f"Accept that {what if planned.cluster else f'{planned.source} is not backed up any more'}:"))
    print(
        f"  1. the monitor forgets {planned.source}; its artifacts stay, and `refnet restore` can still use them"
    )


def _print_acceptance(planned: Acceptance) -> None:
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


def forget(
    artifact: Annotated[
        list[str],
        typer.Argument(metavar="ARTIFACT", help="Names that `refnet list` shows.", autocompletion=artifacts),
    ],
    *,
    plan: options.Plan = False,
    force: Annotated[bool, typer.Option("--force", "--yes", "-y", help="Do not ask.")] = False,
    force_last: Annotated[
        bool, typer.Option("--force-last", help="Also delete a source's last proven artifact.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Delete artifacts by name.

    A pinned one is never deleted, the last proven one of a source only with --force-last.
    """
    here = context()
    planned = marks.plan_forgetting(here, artifact, force_last=force_last)
    if ends_at_plan(planned, lambda one: _print_forgetting(one, here), plan=plan, as_json=as_json):
        return
    count = formatting.plural(len(planned.entries), "artifact")
    confirm(
        f"Delete {count}? What is deleted cannot be restored.", force=force, what="artifacts would be deleted"
    )
    done = marks.forget(here, planned)
    print_json(done.to_json()) if as_json else say(
        f"deleted {count} ({formatting.size(done.bytes_freed)} at most)"
    )


def _print_forgetting(planned: Forgetting, here: Context) -> None:
    now = here.clock.now()
    print(f"Forget in {here.settings.backup_dir}:")
    for number, entry in enumerate(planned.entries, 1):
        database = f" of {entry.identity.database}" if entry.identity else ""
        about = f"{entry.source}{database}, {formatting.size(entry.manifest.size)}, {entry.state}"
        print(f"  {number}. delete {entry.name} ({about}, {formatting.old(now - entry.made)})")
        if why := planned.needed.get(entry.name):
            print(f"     {why}")
