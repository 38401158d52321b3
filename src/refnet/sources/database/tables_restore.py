"""The restore of some tables of a database as it is asked for, and its undo: the plan as text, hooks, the result.

`restore/tables_in_place.py` reads the rows, compares them, and writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

from refnet import wiring
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.formatting import local, noted, plain, plural, seconds
from refnet.servers import ActsOn
from refnet.sources.database import saved_tables
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.database_restore import DatabaseRestore, restore_of
from refnet.sources.database.plan.restore_facts import origin_label
from refnet.sources.database.plan.table_plan import Creation, TablePlan, TableSelection, TablesRestored
from refnet.sources.database.restore.tables_in_place import Staged, staged
from refnet.sources.restore_options import Mode
from refnet.sources.restoring import RestoreDone, RestoreRequest, RestoreWork, Said


class TablesRestore(RestoreWork):
    """A restore of tables. Its plan stages their rows in a session that `run` continues."""

    plans_long = True
    planned: TablesRestored
    staged: Staged

    def __init__(self, restore: DatabaseRestore, selection: TableSelection, request: RestoreRequest) -> None:
        self.restore, self.selection, self.request = restore, selection, request
        self.title = str(selection)
        self.acts_on = ActsOn.of(restore.context.settings, restore.source)

    def plan(self, context: Context) -> TablesRestored:
        stored, request = self.restore.dump.stored, self.request
        for refusal in () if request.plan else stored.refusals(anyway=request.damaged_anyway):
            raise refusal
        clock = context.clock.monotonic
        began = clock()
        restore = replace(self.restore, context=context)
        staged = self.staged = self.held.enter_context(_staged(restore, self.selection))
        self.planned = TablesRestored(staged.plans, {"plan": clock() - began}, staged.notes, staged.problems)
        return self.planned

    def describe(self) -> Iterator[str]:
        for plan in self.planned.plans:
            yield from _described(plan)
        if superuser := self.staged.superuser:
            yield (
                f"note: {superuser} is a superuser, so code in the definitions (constraints, functions in indexes) runs with its"
                " rights: see docs/runbook.md, Restore without a superuser"
            )
        yield from noted(self.planned.notes, self.planned.problems)
        for line in self.restore.hooks:
            yield f"note: hook {line}"

    def question(self) -> str:
        changed = [plan.table for plan in self.planned.plans if plan.replaces]
        if self._nothing or not changed:
            return ""
        return f"Change or delete rows of {', '.join(changed)} in {self.restore.target.display}?"

    @property
    def _nothing(self) -> bool:
        return all(plan.nothing for plan in self.planned.plans)

    def run(self, context: Context) -> RestoreDone:
        planned, restore, clock = self.planned, self.restore, context.clock.monotonic
        if self._nothing:
            return RestoreDone(planned.to_json(), ())
        began = clock()
        existing = [one.table for one in planned.plans if not one.creation and not one.nothing]
        if existing:
            self.request.keep(restore.context, restore.source, existing)
        with restore.around():
            notes = self.staged.apply()
        taken = {**planned.seconds, "apply": clock() - began}
        done = replace(planned, seconds=taken, notes=(*planned.notes, *notes))
        lines = (*(Said(note, always=True) for note in noted(notes)), *self._said(done))
        return RestoreDone(done.to_json(), lines)

    def _said(self, done: TablesRestored) -> Iterator[Said]:
        restore = self.restore
        of = origin_label(done.plans[0].origin, done.plans[0].destination)
        tables = ", ".join(plain(plan.table) for plan in done.plans)
        verb, taken = "is" if len(done.plans) == 1 else "are", seconds(sum(done.seconds.values()))
        yield Said(
            f"{tables} of {restore.target.display} {verb} restored from {restore.dump.name} (of {of}) in {taken}"
        )
        created = [plain(plan.table) for plan in done.plans if plan.creation]
        if any(not one.creation and not one.nothing for one in done.plans):
            yield Said(f"  `refnet undo {restore.source}` brings back the rows that it replaced")
        if created:
            yield Said(f"  {', '.join(created)}: created; `undo` does not remove them")


def _staged(restore: DatabaseRestore, selection: TableSelection) -> AbstractContextManager[Staged]:
    """Read the rows of the selected tables, and plan their restore in place."""
    dump, progress = restore.dump, restore.context.progress
    if not isinstance(dump, DatabaseArtifact):
        raise RefnetError(
            f"{dump.name} is a foreign dump, so single tables cannot be restored from it",
            "Restore all of it under another name, and copy the rows.",
        )
    return staged(restore.target, dump.with_digests(), selection, restore.options.permission, progress)


def undo_of_tables(context: Context, source: SourceName, request: RestoreRequest) -> TablesRestore | None:
    """The restore that undoes the last restore of tables; None if a later one replaced the whole database."""
    found = saved_tables.newest(context.settings, source)
    whole = (one.mark.at for one in wiring.previous_databases(context.settings, source).read().records)
    if found is None or any(at > found.at for at in whole):
        return None
    selection = TableSelection(found.tables, Mode.REPLACE)
    restore = restore_of(context, source, found.artifact, RestoreRequest(tables=found.tables))
    undo = TablesRestore(restore, selection, request)
    undo.names_target = False
    return undo


def _described(plan: TablePlan) -> Iterator[str]:
    how = f", mode {plan.mode}" if plan.mode else ", which does not exist: create it"
    yield (
        f"Restore {plain(plan.table)} of {plan.destination} from {plan.artifact} of {local(plan.created)}"
        f" (of {origin_label(plan.origin, plan.destination)}){how}:"
    )
    if plan.creation:
        yield from _creation(plan.creation, plan.add)
        return
    yield (
        f"  {plural(plan.add, 'row')} to add, {plan.change:,} to change, {plan.delete:,} to delete,"
        f" {plan.difference.same:,} the same"
    )
    for column in plan.columns:
        yield f"  {plain(column)}"
    if plan.nothing:
        yield "  nothing to do"


def _creation(creation: Creation, rows: int) -> Iterator[str]:
    counts = ((creation.partitions, "partition"), *creation.objects)
    objects = [
        f"{count:,} {_WORDS.get(word, (word, word + 's'))[count > 1]}" for count, word in counts if count
    ]
    yield f"  {', '.join([plural(rows, 'row'), *objects])}"
    for sentence in creation.touches:
        yield f"  {plain(sentence)}"


#: Words with a plural of their own.
_WORDS = {"index": ("index", "indexes"), "policy": ("policy", "policies")}
