"""`refnet restore database --table T --mode missing|replace`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refnet.cli.process import clock, print_json, progress
from refnet.errors import Exit, RefnetError

if TYPE_CHECKING:
    from refnet.postgres.session import Target
    from refnet.recovery.model.restoring_table import Mode, TablePlan
    from refnet.recovery.verbs.restore_database import Dump


def restore(
    dump: Dump,
    target: Target,
    table: str,
    mode: Mode,
    *,
    plan_only: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Show what the restore of one table would do, ask where live rows would be changed, and do it."""
    from refnet.cli.confirm import confirm
    from refnet.recovery.sources.database.artifact import Artifact
    from refnet.recovery.verbs.restore_table import staged

    if not isinstance(dump, Artifact):
        raise RefnetError(
            f"{dump.name} is not RefNet's, so no single table can be taken out of it",
            "Restore it whole, under another name, and copy the rows.",
        )
    with (
        progress(table) as shown,
        staged(target, dump.reader, table, mode, clock=clock, progress=shown) as work,
    ):
        plan, began, seconds = work.plan, clock(), {"plan": work.seconds}
        if not as_json:
            _print_plan(plan)
        if not plan_only and not plan.nothing:
            if plan.replaces:
                confirm(f"Change or delete rows of {plan.table} in {plan.database}?", force=force)
                began = clock()
            work.apply()
            seconds["apply"] = clock() - began
    if as_json:
        print_json(_values(plan, seconds))
    elif "apply" in seconds:
        from refnet.cli import words

        print(f"{plan.table} is restored from {plan.artifact} in {words.seconds(sum(seconds.values()))}")


def asked(table: str | None, mode: str | None) -> Mode | None:
    """The mode of a restore of one table, None where none is meant; RefnetError where only half of it is given."""
    from refnet.recovery.model.restoring_table import Mode

    if table is None and mode is not None:
        raise RefnetError("--mode is for one table", "Name it with --table.", Exit.USAGE)
    if table is None:
        return None
    try:
        return Mode(mode or "")
    except ValueError:
        raise RefnetError(
            f"'{mode}' is no --mode" if mode else "--table needs a --mode",
            "missing: add rows whose key is not there. replace: make the table what was backed up.",
            Exit.USAGE,
        ) from None


def _print_plan(plan: TablePlan) -> None:
    from refnet.cli import words

    print(
        f"Restore {plan.table} of {plan.database} from {plan.artifact} of {words.local(plan.created)}, mode {plan.mode}:"
    )
    print(
        f"  {words.plural(plan.add, 'row')} to add, {plan.change:,} to change, {plan.delete:,} to delete,"
        f" {plan.difference.alike:,} alike"
    )
    if plan.nothing:
        print("  nothing to do")


def _values(plan: TablePlan, seconds: dict[str, float]) -> dict[str, Any]:
    from refnet.recovery.model.artifact import utc

    return {
        "database": plan.database,
        "table": plan.table,
        "artifact": plan.artifact,
        "created": utc(plan.created),
        "mode": plan.mode,
        "add": plan.add,
        "change": plan.change,
        "delete": plan.delete,
        "alike": plan.difference.alike,
        "done": "apply" in seconds,
        "seconds": {phase: round(taken, 3) for phase, taken in seconds.items()},
    }
