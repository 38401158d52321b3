"""`refnet forget`: delete artifacts by name."""

from __future__ import annotations

from typing import Annotated

import typer

from refnet.actions import forget as action
from refnet.actions.forget import Forgetting
from refnet.cli import options
from refnet.cli.completion import artifacts
from refnet.cli.context import confirm, context, ends_at_plan, print_json
from refnet.cli.output import say
from refnet.context import Context
from refnet.core import formatting


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
    planned = action.plan(here, artifact, force_last=force_last)
    if ends_at_plan(planned, lambda one: _print(one, here), plan=plan, as_json=as_json):
        return
    count = formatting.plural(len(planned.entries), "artifact")
    confirm(
        f"Delete {count}? What is deleted cannot be restored.", force=force, what="artifacts would be deleted"
    )
    done = action.forget(here, planned)
    print_json(done.to_json()) if as_json else say(
        f"deleted {count} ({formatting.size(done.bytes_freed)} at most)"
    )


def _print(planned: Forgetting, here: Context) -> None:
    now = here.clock.now()
    print(f"Forget in {here.settings.backup_dir}:")
    for number, entry in enumerate(planned.entries, 1):
        database = f" of {entry.identity.database}" if entry.identity else ""
        about = f"{entry.source}{database}, {formatting.size(entry.manifest.size)}, {entry.state}"
        print(f"  {number}. delete {entry.name} ({about}, {formatting.age(now - entry.made)} old)")
        if why := planned.needed.get(entry.name):
            print(f"     {why}")
