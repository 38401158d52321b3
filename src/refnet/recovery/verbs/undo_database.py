"""Undoes the last restore of a database: the previous version and the live one exchange their names again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from refnet.errors import RefnetError
from refnet.postgres.session import Target
from refnet.recovery.model.previous import Mark, Why
from refnet.recovery.model.restore_plan import Facts, Rows, dated_name, hindrances
from refnet.recovery.sources.database.admin_session import Session, Statement, alone, maintenance
from refnet.recovery.sources.database.restore import previous_databases
from refnet.recovery.sources.database.restore.previous_databases import PreviousDatabase
from refnet.recovery.sources.database.restore.server_facts import facts
from refnet.recovery.sources.database.restore.swap_databases import Rename, exchange
from refnet.recovery.sources.database.rows import row_counts
from refnet.recovery.stores.previous_records import Known, PreviousVersions
from refnet.recovery.verbs.restore_database import closed, forget_gone, free_name, previous_versions


@dataclass(frozen=True)
class UndoPlan:
    """What an undo would do.

    `back`: the previous version that comes back. `doubts`: why it may not be what it seems; only one that was asked
    for by name has any. `written`: `schema.table` of the live one → its rows, of these the newer ones were written
    since the exchange. `notes` are to be known.
    """

    back: PreviousDatabase
    doubts: tuple[str, ...]
    facts: Facts
    problems: tuple[RefnetError, ...]
    written: Mapping[str, Rows]
    notes: tuple[str, ...] = ()

    @property
    def replaces(self) -> bool:
        """Whether something live would be replaced."""
        return self.facts.live is not None

    def check(self) -> None:
        """RefnetError where something stops the plan."""
        if self.problems:
            raise self.problems[0]


@dataclass(frozen=True)
class Undone:
    """What an undo did. `kept`: the database that was live, where there was one."""

    database: str
    back: PreviousDatabase
    kept: str | None


def plan(target: Target, previous: PreviousVersions, name: str | None = None) -> UndoPlan:
    """What an undo of the database of `target` would do; RefnetError where nothing is kept of it.

    Args:
        previous: what restores and undos recorded.
        name: this previous version, recorded or not; None: the last one that is recorded.
    """
    with maintenance(target) as admin:
        return _plan(admin, target, previous, name, count=True)


def undo(
    target: Target, previous: PreviousVersions, name: str | None = None, *, now: Callable[[], datetime]
) -> Undone:
    """Bring the previous version back under the live name; the live one is kept in its turn."""
    with maintenance(target) as admin, alone(admin, target.name):
        decided = _plan(admin, target, previous, name, count=False)
        decided.check()
        back, live = decided.back, target.name
        also: list[Statement] = [
            previous_databases.comment_on(live, back.mark.comment),
            previous_databases.limit_of(live, back.mark.limit),
        ]
        comes = Rename(back.name, live, back.oid)
        if not decided.replaces:
            exchange(admin, target, [comes], also)
            forget_gone(admin, previous, live)
            return Undone(live, back, None)
        mark = Mark(live, Why.UNDONE, now(), artifact=back.mark.artifact)
        aside = previous_versions(
            admin, live, free_name(admin, dated_name(live, "undone", now().astimezone())), back.oid, mark
        )
        previous.add(aside)
        exchange(admin, target, [Rename(live, aside.name, aside.oid), comes], [*closed(aside), *also])
        forget_gone(admin, previous, live)
        return Undone(live, back, aside.name)


def _plan(
    admin: Session, target: Target, previous: PreviousVersions, name: str | None, *, count: bool
) -> UndoPlan:
    known = previous.read()
    candidates = previous_databases.of_database(
        previous_databases.marked(admin, known.records), target.name, Why.RESTORED, Why.UNDONE
    )
    back = _named(candidates, target, name) if name else _last(candidates, known, target)
    found = facts(admin, target, {})
    rows = row_counts.rows(target, back.mark.snapshot or None) if count and found.live else {}
    written = {table: one for table, one in rows.items() if one.newer}
    doubts = tuple(_doubts(back, found))
    problems = list(hindrances(found))
    if doubts and not name:
        problems = [_doubtful(back, doubts, target), *problems]
    others = [f"{one.name} is unknown: {one.doubt}" for one in candidates if one.doubt and one != back]
    return UndoPlan(
        back, doubts if name else (), found, tuple(problems), written, (*known.unreadable, *others)
    )


def _named(candidates: tuple[PreviousDatabase, ...], target: Target, name: str) -> PreviousDatabase:
    for one in candidates:
        if one.name == name:
            return one
    raise RefnetError(
        f"{name} is no previous version of {target.name}: nothing records it, and its comment is not RefNet's",
        "`refnet undo database --plan` names them; any other database you rename yourself.",
    )


def _last(candidates: tuple[PreviousDatabase, ...], known: Known, target: Target) -> PreviousDatabase:
    """The last recorded previous version; RefnetError where there is none."""
    recorded = [one for one in candidates if not one.doubt]
    if recorded:
        return recorded[-1]
    if candidates:
        last = candidates[-1]
        raise RefnetError(
            f"no previous version of {target.name} is recorded; {last.name} is unknown: {last.doubt}",
            f"See `refnet undo database {last.name} --plan`; to bring it back, leave out --plan.",
        )
    raise RefnetError(
        f"no previous version of {target.name} is there, so there is nothing to undo",
        known.unreadable[0]
        if known.unreadable
        else "A restore keeps the old one for 7 days; `refnet list` shows the artifacts.",
    )


def _doubts(back: PreviousDatabase, found: Facts) -> Iterator[str]:
    if back.doubt:
        yield f"{back.name} is unknown: {back.doubt}; it belongs to {back.owner}"
    if back.record and found.live and found.live.oid != back.record.live:
        yield (
            f"{found.database} is not the database that took the place of {back.name}"
            f" (oid {found.live.oid}, recorded {back.record.live}); it belongs to {found.live.owner}"
        )


def _doubtful(back: PreviousDatabase, doubts: tuple[str, ...], target: Target) -> RefnetError:
    return RefnetError(
        doubts[0], f"If {back.name} is to become {target.name}: `refnet undo database {back.name}`."
    )
