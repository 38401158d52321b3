"""`refnet restore SOURCE --table T --mode missing|replace`, of a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from refnet.actions.acting import ActsOn
from refnet.actions.database_restore import DatabaseRestore
from refnet.cli import render
from refnet.cli.context import confirm, print_json, with_progress
from refnet.cli.output import output, say
from refnet.errors import Exit, RefnetError
from refnet.recovery.model import formatting
from refnet.recovery.model.origin import origin_label
from refnet.recovery.model.table_plan import Mode, TablePlan, TableSelection, TablesRestored


def restore(
    work: DatabaseRestore, selection: TableSelection, *, plan_only: bool, force: bool, as_json: bool
) -> None:
    """Print what the restore of some tables would do, ask before live rows are changed, and do it."""
    clock, target = work.context.clock.monotonic, work.target
    began = clock()
    with (
        with_progress(work.context, ", ".join(selection.names)) as shown,
        replace(work, context=shown).tables(selection) as staged,
    ):
        plans, seconds = staged.plans, {"plan": clock() - began}
        if not as_json and (plan_only or not output.quiet):
            for plan in plans:
                _print_plan(plan)
        if not plan_only and not all(plan.nothing for plan in plans):
            if changed := [plan.table for plan in plans if plan.replaces]:
                confirm(f"Change or delete rows of {', '.join(changed)} in {target.display}?", force=force)
            began = clock()
            staged.apply()
            seconds["apply"] = clock() - began
    result = TablesRestored(plans, seconds)
    if as_json:
        print_json(result.to_json() | ActsOn.of(work.context.settings).to_json())
    elif result.done:
        of = origin_label(plans[0].origin, plans[0].destination)
        done = ", ".join(formatting.plain(plan.table) for plan in plans)
        verb = "is" if len(plans) == 1 else "are"
        taken = formatting.seconds(sum(seconds.values()))
        say(f"{done} of {target.display} {verb} restored from {work.dump.name} (of {of}) in {taken}")


def asked(tables: Sequence[str] | None, mode: Mode | None) -> TableSelection | None:
    """Return the tables to restore, None without any; RefnetError where only one of both options is given."""
    if not tables and mode:
        raise RefnetError("--mode requires --table", "Name each table with --table.", Exit.USAGE)
    if tables and not mode:
        raise RefnetError(
            "--table requires --mode",
            "missing adds rows whose key is missing; replace restores the table to its state in the backup.",
            Exit.USAGE,
        )
    return TableSelection(tuple(tables), mode) if tables and mode else None


def _print_plan(plan: TablePlan) -> None:
    print(
        f"Restore {formatting.plain(plan.table)} of {plan.destination} from {plan.artifact} of {render.local(plan.created)}"
        f" (of {origin_label(plan.origin, plan.destination)}), mode {plan.mode}:"
    )
    print(
        f"  {formatting.plural(plan.add, 'row')} to add, {plan.change:,} to change, {plan.delete:,} to delete,"
        f" {plan.difference.same:,} the same"
    )
    if plan.nothing:
        print("  nothing to do")
