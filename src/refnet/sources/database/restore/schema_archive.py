"""The archive of a schema (pg_dump's custom format), restored into one database by sections or by entries.

Its table of contents, as `pg_restore -l` prints it, says which task restores which entry.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from psycopg.conninfo import make_conninfo

from refnet.postgres.binaries import Binaries
from refnet.sources.database import server_errors
from refnet.sources.database.artifact.index import Table
from refnet.sources.database.dump.pgdump import for_server, without_lz4
from refnet.sources.database.workers import Programs

_FAILED = re.compile(rb"^pg_restore: from TOC entry ([0-9]{1,10});", re.MULTILINE)
_ERROR = re.compile(rb"^pg_restore: error: ", re.MULTILINE)
_ENDED = re.compile(rb"^pg_restore: warning: errors ignored on restore: ([0-9]{1,10})\n*\Z", re.MULTILINE)
#: An error comes with its SQLSTATE.
_PSQL = ("-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose")


@dataclass(frozen=True)
class Step:
    """A step of a restore: how some entries are restored."""

    programs: Programs
    #: For messages.
    doing: str
    jobs: int = 1
    #: Objects get their owners; else the login of the programs owns them.
    owners: bool = True


@dataclass(frozen=True)
class Archive:
    """An archive and its target database. The programs of each step determine the login."""

    path: Path
    binaries: Binaries
    #: Of the database.
    name: str
    #: The server's major.
    server: int
    #: The server was built without lz4.
    without_lz4: bool
    #: Objects go into their tablespaces.
    tablespaces: bool = True

    def entries(self, programs: Programs, section: str) -> tuple[Item, ...]:
        """Return the table of contents of a section, in its order."""
        command = [*self.tool("pg_restore"), "-l", f"--section={section}", str(self.path)]
        listing = programs.run(command, "reading the schema's table of contents")
        return parse(listing.decode("utf-8", "surrogateescape"))

    def restore(self, step: Step, items: Sequence[Item]) -> None:
        """Restore exactly `items`, without --section, which omits entries that belong to no section."""
        with self._only(step, items) as options:
            if self._needs_text:
                self._restore_as_text(step, options)
            else:
                step.programs.run(self._command(["--exit-on-error", *options]), step.doing)

    def restore_leaves(self, step: Step, items: Sequence[Item]) -> tuple[Item, ...] | None:
        """Restore `items` like `restore`; return the leaves, and comments, that the server refused.

        None if that is unknown, as parallel processes can garble each other's messages: some of the leaves and comments
        that `items` has then may exist.
        """
        if self._needs_text:
            return self._restore_apart(replace(step, jobs=1), items)
        with self._only(step, items) as options:
            stderr = step.programs.attempt(self._command(options), step.doing)
        numbers = {int(number) for number in _FAILED.findall(stderr)}
        failed = tuple(item for item in items if item.dump_id in numbers)
        # The text of a forged entry may contain such lines: then the numbers differ, and the restore fails.
        counts = {len(_ERROR.findall(stderr)), len(failed)}
        ended = _ENDED.search(stderr)
        if ended and step.jobs > 1:  # the number of entries with errors, whose lines can be lost
            counts.add(int(ended[1]))
        known = ended and len(counts) == 1
        if stderr and not (known and all(one.may_fail for one in failed)):
            if step.jobs > 1 and all(one.may_fail for one in items):
                return None
            raise server_errors.of_program("pg_restore", stderr, step.doing)
        return failed

    def _restore_apart(self, step: Step, items: Sequence[Item]) -> tuple[Item, ...]:
        failed = []
        for is_leaf, group in groupby(items, lambda item: item.may_fail):
            for some in [[item] for item in group] if is_leaf else [list(group)]:
                try:
                    self.restore(step, some)
                except server_errors.ServerError:
                    if not is_leaf:
                        raise
                    failed += some
        return tuple(failed)

    def text(self, programs: Programs, items: Sequence[Item]) -> bytes:
        """Return the SQL of `items`."""
        with self._listing(items) as listing:
            command = [*self.tool("pg_restore"), "--file=-", "-L", listing, str(self.path)]
            return programs.run(command, "reading the schema")

    def psql(self) -> tuple[str, ...]:
        """Return the psql command of every load."""
        return (*self.tool("psql"), "-X", "-q", *_PSQL, "-o", "/dev/null")

    def tool(self, name: str) -> tuple[str, ...]:
        return (str(self.binaries.tool(name)), "--no-password")

    @contextmanager
    def _only(self, step: Step, items: Sequence[Item]) -> Iterator[list[str]]:
        """Yield the options of pg_restore for exactly `items`."""
        with self._listing(items) as listing:
            jobs = min(step.jobs, len(items))
            parallel = [f"--jobs={jobs}"] if jobs > 1 else []
            yield [*parallel, *([] if step.owners else ["--no-owner"]), "-L", listing]

    def _command(self, options: Sequence[str]) -> list[str]:
        """Return the command of a restore; it names the entry of an error because it is verbose."""
        into = ["-d", make_conninfo(dbname=self.name)]
        return [*self.tool("pg_restore"), "--verbose", *self._options, *into, *options, str(self.path)]

    @contextmanager
    def _listing(self, items: Sequence[Item]) -> Iterator[str]:
        """Write `items` to a file for pg_restore -L; yield its path."""
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, errors="surrogateescape") as listing:
            listing.writelines(f"{item.line}\n" for item in items)
            listing.flush()
            yield listing.name

    @property
    def _options(self) -> list[str]:
        return [] if self.tablespaces else ["--no-tablespaces"]

    @property
    def _needs_text(self) -> bool:
        """Whether the server is older than pg_restore's output."""
        return self.without_lz4 or self.server < 17 <= self.binaries.major

    def _restore_as_text(self, step: Step, options: Sequence[str]) -> None:
        """Restore by psql without statements that this older server rejects; in one session, to keep their order."""
        chosen = [option for option in options if not option.startswith("--jobs")]
        command = [str(self.binaries.tool("pg_restore")), "--file=-", *self._options, *chosen]
        text = for_server(self.server, step.programs.run([*command, str(self.path)], step.doing))
        step.programs.run(self.psql(), step.doing, [without_lz4(text) if self.without_lz4 else text])


_LINE = re.compile(r"([0-9]{1,10}); ([0-9]{1,10}) ([0-9]{1,10}) (.*)")
_EVENT_TRIGGER = re.compile(r"(?:COMMENT - |SECURITY LABEL - )?EVENT TRIGGER ")
_RELATION, _CONSTRAINT = 1259, 2606  # the oids of pg_class and pg_constraint


@dataclass(frozen=True)
class Item:
    """One entry."""

    #: As pg_restore printed it.
    line: str
    dump_id: int
    #: The oids of the object's catalog and of the object, in the source.
    catalog: int
    oid: int
    #: Kind, schema, name and owner.
    what: str

    @property
    def is_index(self) -> bool:
        return self.catalog == _RELATION and self.what.startswith("INDEX ")

    @property
    def is_key(self) -> bool:
        return self.catalog == _CONSTRAINT and self.what.startswith("CONSTRAINT ")

    @property
    def is_foreign_key(self) -> bool:
        return self.catalog == _CONSTRAINT and self.what.startswith("FK CONSTRAINT ")

    @property
    def is_in_turn(self) -> bool:
        """Whether it is a trigger, or attaches an index of a partition."""
        return self.what.startswith(("TRIGGER ", "INDEX ATTACH "))

    @property
    def is_leaf(self) -> bool:
        """Whether only comments depend on it."""
        return self.is_foreign_key or self.is_refresh or self.is_label

    @property
    def may_fail(self) -> bool:
        """Whether it is a leaf or a comment: it can be restored again by itself."""
        return self.is_leaf or self.what.startswith("COMMENT ")

    @property
    def is_of_event_trigger(self) -> bool:
        """Whether it is an event trigger, or the comment or label of one."""
        return _EVENT_TRIGGER.match(self.what) is not None

    @property
    def is_label(self) -> bool:
        return self.what.startswith("SECURITY LABEL ")

    @property
    def is_refresh(self) -> bool:
        return self.what.startswith("MATERIALIZED VIEW DATA ")


def parse(text: str) -> tuple[Item, ...]:
    """Return the entries of `pg_restore -l`, in its order; its comments begin with `;`."""
    matches = (_LINE.fullmatch(line) for line in text.split("\n"))
    return tuple(Item(m[0], int(m[1]), int(m[2]), int(m[3]), m[4]) for m in matches if m)


@dataclass(frozen=True)
class Shares:
    """The entries of post-data by the task that restores them."""

    #: Oid of a table → its entries.
    keys: dict[int, list[Item]]
    indexes: dict[int, list[Item]]
    #: Oid of the table, oid of the table that it refers to, entry.
    foreign: list[tuple[int, int, Item]]
    #: Everything else, in order.
    rest: list[Item]


def share(items: Sequence[Item], tables: Iterable[Table]) -> Shares:
    """Separate entries that can be restored once their tables, copied in blocks, are loaded.

    A foreign key needs both tables: it comes early only if both are copied in blocks.
    """
    blocks = {table.oid: table for table in tables if table.blocks}
    owner = {oid: table.oid for table in blocks.values() for oid in table.keys}
    refers = {
        int(oid): (table.oid, referred)
        for table in blocks.values()
        for oid, referred in table.foreign_keys.items()
        if referred in blocks
    }
    shares = Shares({}, {}, [], [])
    for item in items:
        if item.is_index and item.oid in owner:
            shares.indexes.setdefault(owner[item.oid], []).append(item)
        elif item.is_key and item.oid in owner:
            shares.keys.setdefault(owner[item.oid], []).append(item)
        elif item.is_foreign_key and item.oid in refers:
            shares.foreign.append((*refers[item.oid], item))
        else:
            shares.rest.append(item)
    return shares
