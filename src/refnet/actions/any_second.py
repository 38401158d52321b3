"""A database of a cluster as of any second: its server is recovered into a scratch server, from base backups and WAL."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
from psycopg import sql

from refnet import local_postgres, servers
from refnet.actions.cluster_databases import with_member
from refnet.actions.moment_plan import Moment
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import utc
from refnet.catalog.recovery_target import AfterTheEndError, parse_moment
from refnet.catalog.source_name import BASES, SourceName
from refnet.catalog.wal import lsn_text
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import NEW_FILE, explained, make_folder, opened
from refnet.core.formatting import plain, some
from refnet.core.processes import run
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.postgres.tempdirs import private_folder
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.sources.cluster.recovery_facts import Recovery, decided
from refnet.sources.cluster.scratch_recovery import Recovered, recovered, with_settings
from refnet.sources.cluster.stream_status import streamed
from refnet.sources.database.dump.parallel_dump import DatabaseMaker
from refnet.sources.database.restore.previous_databases import databases_on
from refnet.sources.restore_options import AsOf
from refnet.store.local import new_manifest
from refnet.store.open_artifacts import artifact_in

#: Time limit of the program that writes one table, in seconds.
_SECONDS = 24 * 3600.0
_TABLES = """
SELECT n.nspname::text, c.relname::text, pg_catalog.pg_table_size(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY 1, 2
"""


@dataclass(frozen=True)
class TableAsOf:
    """A table of a recovered database."""

    schema: str
    name: str
    #: On the server's disk, without indexes.
    bytes: int

    @property
    def quoted(self) -> str:
        """The pattern of pg_dump that matches only this table."""
        return ".".join('"' + part.replace('"', '""') + '"' for part in (self.schema, self.name))


@dataclass(frozen=True)
class DatabaseAsOf:
    """A database in a scratch server, as of a moment."""

    source: SourceName
    name: str
    recovery: Recovery
    found: Recovered

    @property
    def reader(self) -> Target:
        """Logs in as the role that reads everything and writes nothing."""
        return self.found.cluster.target(self.name, self.found.reader)

    @property
    def tables(self) -> tuple[TableAsOf, ...]:
        with self.reader.connect(READER_SETTINGS) as session:
            return tuple(TableAsOf(*row) for row in session.execute(_TABLES).fetchall())

    def table(self, asked: str) -> TableAsOf:
        """The table `name` or `schema.name`; RefnetError (USAGE) if there is none, or several."""
        every = self.tables
        found = [one for one in every if asked in {one.name, f"{one.schema}.{one.name}"}]
        if len(found) == 1:
            return found[0]
        names = [f"{one.schema}.{one.name}" for one in found or every]
        what = "is ambiguous: several tables" if found else "is not a table"
        hint = f"Give one of: {some(names)}." if names else f"{self.name} had no tables: give another moment."
        raise RefnetError(f"{asked} {what} of {self.name} at that moment", hint, Exit.USAGE)

    def write(self, table: TableAsOf, file: Path) -> None:
        """Write the definition and the rows of `table` to the new `file` as SQL; as CSV if its name ends so."""
        with explained(file), opened(file, NEW_FILE) as handle, os.fdopen(os.dup(handle), "wb") as out:
            try:
                (self._write_csv if file.suffix.lower() == ".csv" else self._write_sql)(table, out)
            except BaseException:
                file.unlink()
                raise

    def _write_sql(self, table: TableAsOf, out: BinaryIO) -> None:
        program = str(self.found.cluster.binaries.tool("pg_dump"))
        done = run(
            [program, f"--table={table.quoted}", "--no-owner", "--no-privileges"],
            _SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            env=self.reader.environment(),
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise RefnetError(
                f"pg_dump of the scratch server failed: {plain(said[0]) if said else done.returncode}",
                "Retry; `--psql` opens the whole database instead.",
            )

    def _write_csv(self, table: TableAsOf, out: BinaryIO) -> None:
        query = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT (FORMAT csv, HEADER)")
        named = query.format(sql.Identifier(table.schema, table.name))
        try:
            with self.reader.connect(READER_SETTINGS) as session, session.cursor().copy(named) as rows:
                out.writelines(rows)
        except psycopg.Error as error:
            said = error.diag.message_primary or "the scratch server failed"
            raise RefnetError(
                f"{table.quoted} cannot be read: {plain(said)}",
                "Retry; `--psql` opens the whole database instead.",
            ) from error

    def to_json(self) -> dict[str, Any]:
        reached, plan = self.found.reached, self.recovery.plan
        return {
            "source": self.source,
            "database": self.name,
            "asked": plan.stops,
            "base": plan.base.name,
            "timeline": plan.timeline,
            "segments": len(plan.segments),
            "reached": lsn_text(reached.lsn),
            "last_commit": utc(reached.commit) if reached.commit else None,
            "notes": list(plan.notes),
        }


def _bases(settings: Settings, source: SourceName) -> SourceName:
    if found := streamed(settings, source):
        return found
    own = settings.sources.get(source)
    hint = (
        f"Give the source of one of its databases; `refnet restore {source} --into DIR` restores the whole server."
        if own and own.table == BASES
        else "Set wal = true in the cluster's table [clusters.NAME]; `refnet check` says what its server lacks."
    )
    raise RefnetError(f"{source} is not a database of a cluster whose WAL is archived", hint, Exit.USAGE)


@contextmanager
def database_as_of(
    context: Context, source: SourceName, moment: AsOf, recovery: Recovery | None = None
) -> Iterator[DatabaseAsOf]:
    """Recover the server of the database `source` to `moment` in a scratch server, which ends with the block.

    recovery: as it was decided for that moment; None: it is decided now.
    """
    context = with_member(context, source)
    bases = _bases(context.settings, source)
    name = servers.database_name(context.settings, source)
    recovery = recovery or decided(context, bases, moment)
    for sentence in recovery.plan.notes:
        context.note(sentence)
    options = source_of(context.settings, source).proof_options(context.progress)
    with recovered(recovery, options) as found:
        _check_there(found, name)
        yield DatabaseAsOf(source, name, recovery, found)


def _check_there(found: Recovered, name: str) -> None:
    if name not in (there := databases_on(found.cluster.target())):
        raise RefnetError(
            f"the database {name} did not exist at that moment", f"There were: {some(there)}.", Exit.USAGE
        )


def maker_as_of(settings: Settings, source: SourceName, found: Recovered, at: datetime) -> DatabaseMaker:
    """The maker of an artifact of the database `source` in the recovered server `found`, which is as of `at`."""
    name = servers.database_name(settings, source)
    target, binaries = found.cluster.target(name), partial(local_postgres.binaries_for, settings)
    with_settings(found, name)
    return DatabaseMaker(source, lambda: target, binaries, settings.jobs, as_of=at)


@contextmanager
def artifact_as_of(context: Context, moment: Moment) -> Iterator[OpenArtifact]:
    """An artifact of a database as of `moment`, made in a scratch server; it is in no catalog.

    It is restored and compared as any artifact, and its file ends with the block; the server has ended before.
    """
    source, name = moment.source, moment.name
    place = context.settings.home / "scratch"
    make_folder(place)
    with private_folder(place) as folder:
        with database_as_of(context, source, AsOf(moment.at.isoformat()), moment.recovery) as found:
            maker = maker_as_of(context.settings, source, found.found, moment.at)
            with explained(folder), (folder / name).open("xb") as out:
                made = maker.dump(out, context.progress)
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        manifest = new_manifest(source, name, made, digest, (folder / name).stat().st_size)
        yield replace(artifact_in(source, folder / name, manifest), notes=(moment.road(context),))


def _ends_nearer(context: Context, source: SourceName, at: str, error: RefnetError) -> bool:
    """Whether the WAL ends before `at`, but after the artifact that would be restored."""
    if not isinstance(error, AfterTheEndError) or error.until is None:
        return False
    there = Catalog.of(context.store.entries(source), context.clock.now())
    before = there.newest_complete(source, parse_moment(at, context.clock.zone))
    return before is None or before.created < error.until


def moment_by_wal(context: Context, source: SourceName, at: str) -> Moment | None:
    """The database `source` as of exactly `at`; None: its WAL does not reach that moment, or is not archived.

    RefnetError (USAGE) for a malformed time, and where WAL ends before `at`, but nearer than an artifact.
    """
    bases = None if context.remote else streamed(context.settings, source)
    if bases is None:
        return None
    try:
        recovery = decided(context, bases, AsOf(at))
    except RefnetError as error:
        if error.code is Exit.USAGE or _ends_nearer(context, source, at, error):
            raise
        context.note(f"an artifact is restored, because WAL does not reach {at}: {error.message}")
        return None
    return Moment.of(context, source, parse_moment(at, context.clock.zone), recovery)
