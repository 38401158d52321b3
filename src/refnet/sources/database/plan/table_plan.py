"""The plan of the restore of some tables: which are created, what these need, and which rows change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from refnet.catalog.identity import Identity
from refnet.catalog.manifest import utc
from refnet.core.clock import rounded
from refnet.core.errors import RefnetError
from refnet.sources.database.plan.restore_facts import Destination
from refnet.sources.restore_options import Mode


@dataclass(frozen=True)
class TableSelection:
    """Tables to restore in place."""

    #: `table` or `schema.table`, or patterns of one with `*` and `?`.
    names: tuple[str, ...]
    #: For tables that exist; None: all are expected to be missing.
    mode: Mode | None
    #: All tables of these; a schema that is missing is created.
    schemas: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join((*self.names, *(f"schema {one}" for one in self.schemas)))


@dataclass(frozen=True)
class Difference:
    """Counts of the artifact's and the live rows, compared by primary key."""

    #: Only in the artifact.
    missing: int
    changed: int
    #: Only live.
    extra: int
    same: int


@dataclass(frozen=True)
class Creation:
    """The creation of a table that does not exist any more."""

    #: That are created with it.
    partitions: int
    #: How many objects of each kind belong to them: (2, "index").
    objects: tuple[tuple[int, str], ...]
    #: A sentence for each live table that the definitions touch.
    touches: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        objects = [{"kind": kind, "count": count} for count, kind in self.objects]
        return {"partitions": self.partitions, "objects": objects, "touches": list(self.touches)}


@dataclass(frozen=True)
class TablePlan:
    """The changes of one table."""

    destination: Destination
    #: `schema.table`.
    table: str
    artifact: str
    #: The database that the artifact is of.
    origin: Identity
    #: The time of the artifact's snapshot.
    created: datetime
    #: None: it is created.
    mode: Mode | None
    difference: Difference
    #: Where the live table differs from that in the artifact, a sentence each.
    columns: tuple[str, ...] = ()
    #: None: it exists.
    creation: Creation | None = None

    @property
    def add(self) -> int:
        return self.difference.missing

    @property
    def change(self) -> int:
        return self.difference.changed if self.mode in {Mode.MERGE, Mode.REPLACE} else 0

    @property
    def delete(self) -> int:
        return self.difference.extra if self.mode is Mode.REPLACE else 0

    @property
    def replaces(self) -> bool:
        """Whether a live row would be changed or deleted."""
        return bool(self.change or self.delete)

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.creation or self.add or self.change or self.delete)

    def to_json(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "add": self.add,
            "change": self.change,
            "delete": self.delete,
            "alike": self.difference.same,
            "columns": list(self.columns),
            "creates": self.creation.to_json() if self.creation else None,
        }


@dataclass(frozen=True)
class TablesRestored:
    """The plan or the result of the restore of some tables of one artifact."""

    plans: tuple[TablePlan, ...]
    #: By phase; `apply` only where the rows were written.
    seconds: dict[str, float]
    #: What does not come back, a sentence each.
    notes: tuple[str, ...] = ()
    #: Each of them stops the restore.
    problems: tuple[RefnetError, ...] = ()

    @property
    def done(self) -> bool:
        return "apply" in self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return the sums, and each table; `table` is the name if there is only one."""
        first, tables = self.plans[0], [plan.to_json() for plan in self.plans]
        return {
            "database": first.destination.identity.database,
            "server": first.destination.server,
            "from_database": first.origin.database,
            "from_system_identifier": first.origin.system,
            "table": first.table if len(tables) == 1 else None,
            "artifact": first.artifact,
            "created": utc(first.created),
            "mode": next((plan.mode for plan in self.plans if plan.mode), None),
            **{key: sum(table[key] for table in tables) for key in ("add", "change", "delete", "alike")},
            "tables": tables,
            "notes": list(self.notes),
            "problems": [problem.to_json() for problem in self.problems],
            "done": self.done,
            "seconds": rounded(self.seconds),
        }


#: Of a definition in a hint, in characters.
_LONGEST = 300


@dataclass(frozen=True)
class Missing:
    """A required object that the database lacks."""

    #: table, type, function …
    what: str
    #: `schema.name`.
    name: str
    #: The statement that creates it, in the artifact.
    text: str

    def problem(self) -> RefnetError:
        if self.what == "table":
            hint = f"Restore it as well: --table {self.name}"
        elif len(self.text) <= _LONGEST:
            hint = f"Create it first. Its definition in the artifact: {' '.join(self.text.split())}"
        else:
            hint = "Create it first, by its definition in the artifact."
        return RefnetError(f"{self.what} {self.name} is missing, and the tables need it", hint)


@dataclass(frozen=True)
class TableNeeds:
    """Objects missing from the live database, or in the way."""

    #: `schema.name` of those that no definition creates: extensions' tables, foreign tables.
    undefined: tuple[str, ...] = ()
    #: `schema.name` and kind of what has a name that the definitions create.
    taken: tuple[tuple[str, str], ...] = ()
    schemas: tuple[str, ...] = ()
    objects: tuple[Missing, ...] = ()
    #: Name and schema.
    extensions: tuple[tuple[str, str], ...] = ()
    roles: tuple[str, ...] = ()
    #: Owners and grantors whose rights the login does not have.
    owners: tuple[str, ...] = ()
    #: The login's role.
    user: str = ""
    tablespaces: tuple[str, ...] = ()
    #: Statements that could change more than the tables, or that a newer version may know.
    unknown: tuple[str, ...] = ()

    def problems(self) -> Iterator[RefnetError]:
        """Yield problems that prevent the creation of the tables, with hints."""
        for name in self.undefined:
            yield RefnetError(
                f"the artifact contains no definition of {name}",
                "Create it first: CREATE EXTENSION, if it belongs to one.",
            )
        for name, kind in self.taken:
            yield RefnetError(
                f"{name} exists already, as a {kind}", "Rename or drop it, or restore the complete database."
            )
        for schema in self.schemas:
            yield RefnetError(
                f"schema {schema} is missing", f"CREATE SCHEMA {schema}; or restore it with --schema {schema}"
            )
        for extension, schema in self.extensions:
            yield RefnetError(
                f"extension {extension} is missing, and the tables need it",
                f"CREATE EXTENSION {extension} SCHEMA {schema}",
            )
        for one in self.objects:
            yield one.problem()
        for role in self.roles:
            yield RefnetError(f"role {role} is missing", f"CREATE ROLE {role}")
        for owner in self.owners:
            yield RefnetError(f"the role {self.user} may not act as {owner}", f"GRANT {owner} TO {self.user}")
        for tablespace in self.tablespaces:
            yield RefnetError(f"tablespace {tablespace} is missing", f"CREATE TABLESPACE {tablespace} …")
        for text in self.unknown:
            yield RefnetError(
                f"a statement of the artifact may change more than its table: {text[:_LONGEST]}",
                "Restore the complete database instead.",
            )
