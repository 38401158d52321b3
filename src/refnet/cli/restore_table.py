"""`refnet restore database --table T --mode missing|replace`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refnet.cli import render
from refnet.cli.context import clock, print_json, progress
from refnet.errors import Exit, RefnetError
from refnet.recovery.model import formatting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from refnet.postgres.session import Target
    from refnet.recovery.model.origin import Permission
    from refnet.recovery.model.table_plan import Mode, TablePlan
    from refnet.recovery.verbs.restore_database import Dump


def restore(
    dump: Dump,
    target: Target,
    tables: Sequence[str],
    mode: Mode,
    *,
    permission: Permission,
    plan_only: bool,
    force: bool,
    as_json: bool,
    about: Mapping[str, Any],
) -> None:
    """Show what the restore of some tables would do, ask where live rows would be changed, and do it.

    about: what --json says beside it of what is acted on.
    """
    from refnet.cli.confirm import confirm
    from refnet.recovery.sources.database.artifact.own_artifact import Artifact
    from refnet.recovery.verbs.restore_table import staged

    if not isinstance(dump, Artifact):
        raise RefnetError(
            f"{dump.name} is not RefNet's, so no table can be taken out of it",
            "Restore it whole, under another name, and copy the rows.",
        )
    with (
        progress(", ".join(tables)) as shown,
        staged(target, dump.reader, tables, mode, permission=permission, clock=clock, progress=shown) as work,
    ):
        plans, began, seconds = work.plans, clock(), {"plan": work.seconds}
        if not as_json:
            for plan in plans:
                _print_plan(plan)
        if not plan_only and not all(plan.nothing for plan in plans):
            if changed := [plan.table for plan in plans if plan.replaces]:
                confirm(f"Change or delete rows of {', '.join(changed)} in {target.display}?", force=force)
                began = clock()
            work.apply()
            seconds["apply"] = clock() - began
    if as_json:
        print_json({**_values(plans, seconds), **about})
    elif "apply" in seconds:
        from refnet.recovery.model.origin import told

        of = told(plans[0].origin, plans[0].place)
        done = ", ".join(formatting.plain(plan.table) for plan in plans)
        verb = "is" if len(plans) == 1 else "are"
        taken = formatting.seconds(sum(seconds.values()))
        print(f"{done} of {target.display} {verb} restored from {dump.name} (of {of}) in {taken}")


def asked(tables: Sequence[str] | None, mode: str | None) -> Mode | None:
    """The mode of a restore of some tables, None where none is meant; RefnetError where only half of it is given."""
    from refnet.recovery.model.table_plan import Mode

    if not tables and mode is not None:
        raise RefnetError("--mode is for some tables", "Name each with --table.", Exit.USAGE)
    if not tables:
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
    from refnet.recovery.model.origin import told

    print(
        f"Restore {formatting.plain(plan.table)} of {plan.place} from {plan.artifact} of {render.local(plan.created)}"
        f" (of {told(plan.origin, plan.place)}), mode {plan.mode}:"
    )
    print(
        f"  {formatting.plural(plan.add, 'row')} to add, {plan.change:,} to change, {plan.delete:,} to delete,"
        f" {plan.difference.alike:,} alike"
    )
    if plan.nothing:
        print("  nothing to do")


def _values(plans: tuple[TablePlan, ...], seconds: dict[str, float]) -> dict[str, Any]:
    """The sums, and each table; `table` is the name where there is but one."""
    from refnet.recovery.model.artifact import utc

    first, tables = plans[0], [_table(plan) for plan in plans]
    return {
        "database": first.place.identity.database,
        "server": first.place.server,
        "from_database": first.origin.database,
        "from_system_identifier": first.origin.system,
        "table": first.table if len(plans) == 1 else None,
        "artifact": first.artifact,
        "created": utc(first.created),
        "mode": first.mode,
        **{key: sum(table[key] for table in tables) for key in ("add", "change", "delete", "alike")},
        "tables": tables,
        "done": "apply" in seconds,
        "seconds": {phase: round(taken, 3) for phase, taken in seconds.items()},
    }


def _table(plan: TablePlan) -> dict[str, Any]:
    return {
        "table": plan.table,
        "add": plan.add,
        "change": plan.change,
        "delete": plan.delete,
        "alike": plan.difference.alike,
    }
