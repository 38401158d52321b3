"""`refnet restore SOURCE --table T --schema S --mode missing|merge|replace`, of a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import typer

from refnet.actions.acting import ActsOn
from refnet.actions.backup import keep_tables
from refnet.cli import render
from refnet.cli.context import confirm, print_json, with_progress
from refnet.cli.output import output, say
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, worst
from refnet.recovery.model.origin import origin_label
from refnet.recovery.model.table_plan import Creation, Mode, TablePlan, TableSelection, TablesRestored
from refnet.sources.database_restore import DatabaseRestore


def restore(
    work: DatabaseRestore, selection: TableSelection, *, plan_only: bool, force: bool, as_json: bool
) -> None:
    """Print what the restore of some tables would do, ask before live rows are changed, and do it."""
    clock, target = work.context.clock.monotonic, work.target
    began = clock()
    with (
        with_progress(work.context, str(selection)) as shown,
        replace(work, context=shown).tables(selection) as staged,
    ):
        planned = TablesRestored(staged.plans, {"plan": clock() - began}, staged.notes, staged.problems)
        if not as_json and (plan_only or not output.quiet):
            _print_plans(planned, staged.superuser)
            for line in work.hooks:
                print(f"note: hook {line}")
        if not plan_only:
            for problem in staged.problems:
                raise problem
        if not plan_only and not all(plan.nothing for plan in planned.plans):
            if changed := [plan.table for plan in planned.plans if plan.replaces]:
                confirm(f"Change or delete rows of {', '.join(changed)} in {target.display}?", force=force)
            began = clock()
            if existing := [one.table for one in planned.plans if not one.creation and not one.nothing]:
                keep_tables(work.context, work.source, existing)
            with work.around():
                notes = staged.apply()
            seconds = {**planned.seconds, "apply": clock() - began}
            planned = replace(planned, seconds=seconds, notes=(*planned.notes, *notes))
            if not as_json:
                render.print_notes(notes, ())
    if as_json:
        print_json(planned.to_json() | ActsOn.of(work.context.settings, work.source).to_json())
    elif planned.done:
        _print_done(planned, work)
    if plan_only and planned.problems:
        raise typer.Exit(worst(problem.code for problem in planned.problems))


def asked(
    tables: Sequence[str] | None, schemas: Sequence[str] | None, mode: Mode | None
) -> TableSelection | None:
    """Return the tables to restore, None without any; RefnetError where only --mode is given."""
    if not tables and not schemas:
        if mode:
            raise RefnetError("--mode requires --table or --schema", "Name each table.", Exit.USAGE)
        return None
    return TableSelection(tuple(tables or ()), mode, tuple(schemas or ()))


def _print_done(done: TablesRestored, work: DatabaseRestore) -> None:
    of = origin_label(done.plans[0].origin, done.plans[0].destination)
    tables = ", ".join(formatting.plain(plan.table) for plan in done.plans)
    verb = "is" if len(done.plans) == 1 else "are"
    taken = formatting.seconds(sum(done.seconds.values()))
    say(f"{tables} of {work.target.display} {verb} restored from {work.dump.name} (of {of}) in {taken}")
    created = [formatting.plain(plan.table) for plan in done.plans if plan.creation]
    if any(not one.creation and not one.nothing for one in done.plans):
        say(f"  `refnet undo {work.source}` brings back the rows that it replaced")
    if created:
        say(f"  {', '.join(created)}: created; `undo` does not remove what was created")


def _print_plans(planned: TablesRestored, superuser: str) -> None:
    for plan in planned.plans:
        _print_plan(plan)
    if superuser:
        print(
            f"note: {superuser} is a superuser: code in the definitions (constraints, functions in indexes) has superuser"
            " rights while the tables are created. To avoid that, see docs/runbook.md, Restore without a superuser"
        )
    render.print_notes(planned.notes, planned.problems)


def _print_plan(plan: TablePlan) -> None:
    how = f", mode {plan.mode}" if plan.mode else ", which does not exist: create it"
    print(
        f"Restore {formatting.plain(plan.table)} of {plan.destination} from {plan.artifact} of {render.local(plan.created)}"
        f" (of {origin_label(plan.origin, plan.destination)}){how}:"
    )
    if plan.creation:
        _print_creation(plan.creation, plan.add)
        return
    print(
        f"  {formatting.plural(plan.add, 'row')} to add, {plan.change:,} to change, {plan.delete:,} to delete,"
        f" {plan.difference.same:,} the same"
    )
    for column in plan.columns:
        print(f"  {formatting.plain(column)}")
    if plan.nothing:
        print("  nothing to do")


def _print_creation(creation: Creation, rows: int) -> None:
    counts = ((creation.partitions, "partition"), *creation.objects)
    objects = [
        f"{count:,} {_WORDS.get(word, (word, word + 's'))[count > 1]}" for count, word in counts if count
    ]
    print(f"  {', '.join([formatting.plural(rows, 'row'), *objects])}")
    for sentence in creation.touches:
        print(f"  {formatting.plain(sentence)}")


#: Words with a plural of their own.
_WORDS = {"index": ("index", "indexes"), "policy": ("policy", "policies")}
