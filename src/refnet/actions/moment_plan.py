"""The plan of a restore of a database as of a moment, from the catalog and the index of the WAL.

Nothing is recovered for it. What the database has at that moment, and needs of its server, is known after the recovery: the
command without --plan shows that before it asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from refnet import servers
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import utc
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.formatting import age, noted, plain, some
from refnet.sources.cluster.recovery_facts import Recovery
from refnet.sources.database.database_restore import described, plan_before
from refnet.sources.database.plan.restore_facts import WantedBackup
from refnet.sources.database.plan.restore_plan import DatabasePlan
from refnet.sources.restoring import Columns, RestoreRequest

_LATER = (
    "the rows, roles and extensions of that moment are known after the recovery: without --plan, the command shows what"
    " changes, and asks"
)


@dataclass(frozen=True)
class Moment:
    """A database as of a moment, before it is recovered."""

    source: SourceName
    #: Its name on the server.
    database: str
    at: datetime
    recovery: Recovery

    @property
    def name(self) -> str:
        """The file name of its artifact, which is in no catalog."""
        return f"{self.source}_as_of_{self.at:%Y%m%d_%H%M%S}.sql.gz"

    @classmethod
    def of(cls, context: Context, source: SourceName, at: datetime, recovery: Recovery) -> Moment:
        """`at`: shown in the zone of the settings."""
        database = servers.database_name(context.settings, source)
        return cls(source, database, at.astimezone(context.clock.zone), recovery)

    @property
    def made_by(self) -> str:
        """The step that makes it."""
        until = self.recovery.plan.stops
        return f"recover the server to {until} in a scratch server, and dump {self.database} there"

    def wanted(self) -> WantedBackup:
        """What is known of it."""
        facts = self.recovery.plan.base.facts
        return WantedBackup(
            self.name,
            facts.major * 10_000,
            self.at,
            None,
            0,
            system=facts.system_identifier,
            database=self.database,
            made_by=self.made_by,
        )

    def road(self, context: Context) -> str:
        """Why the server is recovered, and no artifact restored."""
        said = f"as of {self.recovery.plan.stops}, from {self.recovery.plan.base.name} and WAL"
        there = Catalog.of(context.store.entries(self.source), context.clock.now())
        before = there.newest_complete(self.source, self.at)
        return f"{said}; {before.name} is {age(self.at - before.created)} older" if before else said


@dataclass(frozen=True)
class MomentPlan:
    """What a restore by WAL would do."""

    moment: Moment
    request: RestoreRequest
    #: Sentences.
    notes: tuple[str, ...]
    #: The address of the server that is written.
    server: str
    #: Of the whole database; None: of tables.
    whole: DatabasePlan | None

    @classmethod
    def of(cls, context: Context, moment: Moment, request: RestoreRequest) -> MomentPlan:
        """RefnetError if the server that is written cannot be asked."""
        notes = (moment.road(context), *moment.recovery.plan.notes, _LATER)
        server = servers.restoring(context.settings, moment.source, existing=True).address
        if request.tables or request.schemas:
            return cls(moment, request, notes, server, None)
        whole = plan_before(context, moment.source, moment, request)
        return cls(moment, request, notes, server, replace(whole, notes=(*notes, *whole.notes)))

    @property
    def problems(self) -> Sequence[RefnetError]:
        return self.whole.problems if self.whole else ()

    @property
    def _tables(self) -> list[str]:
        """Tables as they were asked for, and all those of schemas."""
        return [*self.request.tables, *(f"{schema}.*" for schema in self.request.schemas)]

    def to_json(self) -> dict[str, Any]:
        recovery = {"recovery": self.moment.recovery.to_json()}
        if self.whole:
            return self.whole.to_json() | recovery
        return recovery | {
            "artifact": self.moment.name,
            "created": utc(self.moment.at),
            "database": self.moment.database,
            "server": self.server,
            "tables": [{"table": one} for one in self._tables],
            "mode": self.request.mode,
            "notes": list(self.notes),
            "problems": [],
            "done": False,
        }

    def describe(self) -> Iterator[str | Columns]:
        """The plan as text."""
        yield from self.moment.recovery.described()
        if self.whole:
            yield from described(self.whole)
            return
        mode = f", mode {self.request.mode}" if self.request.mode else ""
        what = f"{some([*map(plain, self._tables)])} of {self.moment.database} on {self.server}"
        yield f"Restore {what} from {self.moment.name}{mode}:"
        yield f"  1. {plain(self.moment.made_by)}"
        yield "  2. compare the rows with the live ones, and change those"
        yield from noted(self.notes)
