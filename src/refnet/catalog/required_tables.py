"""Tables that every complete artifact of a database must contain."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Outcome

MIGRATIONS = "refnet_migrations"
#: The tables of RefNet's own schema, each with columns that identify it.
NETWORK: Mapping[str, frozenset[str]] = {
    "papers": frozenset({"title_key", "provenance", "details_fetched_at"}),
    "citations": frozenset({"citing_id", "cited_id", "is_influential", "provenance"}),
    "summaries": frozenset({"paper_id", "prompt_version", "model", "content"}),
    "jobs": frozenset({"paper_id", "claimed_by", "claimed_until", "dedupe_key"}),
}
#: Schema and name of a table → its columns.
Tables = Mapping[tuple[str, str], Collection[str]]


@dataclass(frozen=True)
class Required:
    """The required tables of a database."""

    #: `table` or `schema.table`, from the settings; None: the tables of RefNet's own schema, if it is recognized.
    names: tuple[str, ...] | None = None
    #: The database of the settings, or None; artifacts of other databases need not contain its tables.
    database: str | None = None

    def check(self, tables: Tables, database: str | None) -> Iterator[Finding]:
        """Yield a finding per required table. `tables`: the tables of `database` (None: unknown)."""
        found = {name for _, name in tables} | {f"{schema}.{name}" for schema, name in tables}
        for name in self._of(tables, database):
            reason = "" if name in found else "missing from the artifact"
            outcome = Outcome.FAILED if reason else Outcome.PASSED
            yield Finding(f"required table {name}", outcome, reason)

    def _of(self, tables: Tables, database: str | None) -> tuple[str, ...]:
        if self.names is None:
            return tuple(NETWORK) if _is_network(tables) else ()
        another = database is not None and self.database is not None and database != self.database
        return () if another else self.names


#: Nothing is required.
NOTHING = Required(())


def _is_network(tables: Tables) -> bool:
    """Whether the schema is RefNet's own, by its table of migrations or any of its tables."""
    return any(
        name == MIGRATIONS or (name in NETWORK and NETWORK[name] <= set(columns))
        for (_, name), columns in tables.items()
    )
