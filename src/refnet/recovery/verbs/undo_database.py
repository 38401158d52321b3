"""Undoes the last restore of a database: the kept one and the live one exchange their names again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from refnet.errors import RefnetError
from refnet.postgres.session import Target
from refnet.recovery.model.restoring import Facts, Rows, dated_name, hindrances
from refnet.recovery.sources.database import kept, since
from refnet.recovery.sources.database.facts import facts
from refnet.recovery.sources.database.kept import Kept, Why
from refnet.recovery.sources.database.maintenance import Session, Statement, alone, maintenance
from refnet.recovery.sources.database.swap import exchange
from refnet.recovery.verbs.restore_database import free_name, put_aside


@dataclass(frozen=True)
class UndoPlan:
    """What an undo would do.

    `back`: the kept database that comes back. `written`: `schema.table` of the live one → its rows, of these
    the newer ones were written since the exchange.
    """

    back: Kept
    facts: Facts
    problems: tuple[RefnetError, ...]
    written: Mapping[str, Rows]

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
    back: Kept
    kept: str | None


def plan(target: Target) -> UndoPlan:
    """What an undo of the database of `target` would do; RefnetError where nothing is kept of it."""
    with maintenance(target) as admin:
        return _plan(admin, target, count=True)


def undo(target: Target, *, now: Callable[[], datetime]) -> Undone:
    """Bring the kept database back under the live name; the live one is kept in its turn."""
    with maintenance(target) as admin, alone(admin, target.name):
        decided = _plan(admin, target, count=False)
        decided.check()
        back, live = decided.back, target.name
        comment = kept.comment_on(live, back.comment)
        if not decided.replaces:
            exchange(admin, target, [(back.name, live)], [comment])
            return Undone(live, back, None)
        name = free_name(admin, dated_name(live, "undone", now().astimezone()))
        aside = put_aside(admin, target, Why.UNDONE, now(), name, artifact=back.artifact)
        also: list[Statement] = [kept.comment_on(aside.name, aside.mark()), comment]
        exchange(admin, target, [(live, aside.name), (back.name, live)], also)
        return Undone(live, back, aside.name)


def _plan(admin: Session, target: Target, *, count: bool) -> UndoPlan:
    candidates = kept.of_database(kept.marked(admin), target.name, Why.RESTORED, Why.UNDONE)
    if not candidates:
        raise RefnetError(
            f"no database is kept of {target.name}, so there is nothing to undo",
            "A restore keeps the old one for 7 days; `refnet list` shows the artifacts.",
        )
    back = candidates[-1]
    found = facts(admin, target, {})
    rows = since.rows(target, back.snapshot or None) if count and found.live else {}
    written = {name: one for name, one in rows.items() if one.newer}
    return UndoPlan(back, found, tuple(hindrances(found)), written)
