"""Requirements of the definitions of missing tables, and remedies. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refnet.core.errors import RefnetError

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
