"""`refnet restore` of the roles of a cluster."""

from __future__ import annotations

import typer

from refnet.actions.choose import choose_to_restore
from refnet.cli import options, render
from refnet.cli.context import context, ends_at_plan, log_subject, print_json
from refnet.cli.output import say
from refnet.core.errors import Exit, worst
from refnet.core.formatting import plain, plural
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.globals_plan import GlobalsPlan
from refnet.sources.roles_restore import restore_of


def restore(asked: options.RestoreOptions, place: options.StoreOptions, *, role_powers: bool) -> None:
    """Create the roles that the server does not have; what exists stays as it is."""
    here = context(place, key=True)
    log_subject(here, asked.source)
    chosen = choose_to_restore(here, asked.source, asked.artifact, asked.at)
    log_subject(here, asked.source, chosen.name)
    for refusal in chosen.refusals(anyway=asked.damaged_anyway):
        raise refusal
    if not asked.as_json:
        render.print_chosen(chosen)
    work = restore_of(here, chosen, asked.to, role_powers=role_powers)
    planned = work.plan()
    if ends_at_plan(planned, _print_plan, plan=asked.plan, as_json=asked.as_json):
        raise typer.Exit(worst(problem.code for problem in planned.problems))
    planned.check()
    done = work.run()
    if asked.as_json:
        print_json(done.to_json())
    elif done.finding.outcome is Outcome.PASSED:
        created = plural(len(done.plan.create), "role")
        say(f"created {created} of {chosen.name} on {planned.server}, compared; nothing else was changed")
    if done.finding.outcome is Outcome.FAILED:
        print(f"{planned.server}: {plain(done.finding.reason)}")
        raise typer.Exit(Exit.DAMAGED)


def _print_plan(planned: GlobalsPlan) -> None:
    print(f"Restore the roles of {planned.artifact}; nothing that exists is changed:")
    for line in planned.lines():
        print(f"  {plain(line)}")
    render.print_notes((), planned.problems)
