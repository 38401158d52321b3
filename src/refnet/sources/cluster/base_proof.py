"""Proves a base backup: its chain and WAL are recovered in a scratch server, every page is checked, and rows are compared.

`restored`: the server was recovered, and amcheck found nothing in any database. `proven`: the rows of a proven artifact of one
of its databases are equal too (cross_proof.py). That artifact must be younger than the base, so a base that was just made is
`restored`; a later drill proves it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import psycopg

from refnet.catalog.artifact import Finding, OpenArtifact, stopped_by
from refnet.catalog.cluster_base import chain, facts_of
from refnet.catalog.manifest import Entry, Level, Outcome
from refnet.catalog.recovery_target import Archived, Candidate, RecoveryPlan, at_end_of
from refnet.catalog.store import AnyStore
from refnet.core.errors import RefnetError
from refnet.core.formatting import plural
from refnet.proof_run import STRUCTURE, ProofOptions, ProofRun, structure
from refnet.sources.cluster.combined import same_as_combined
from refnet.sources.cluster.cross_proof import compared, cross_plan
from refnet.sources.cluster.recovery_facts import Recovery, archived, candidates, piece
from refnet.sources.cluster.scratch_recovery import Recovered, recovered
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.artifact.sqlgz import NotAnArtifact
from refnet.sources.database.workers import Programs
from refnet.store.remote import RemoteStore

_RECOVERED, _CROSS = "recovery in an empty folder", "cross-proof"
_YOUNGER = (
    "none of its databases has a newer proven artifact: `refnet drill` compares one after the next backup"
)
_CLOSED = "an earlier backup that it depends on is encrypted: run `refnet drill` at a terminal, with the recovery key"
#: How many artifacts of databases are tried, until WAL reaches exactly one.
_MOST_COMPARED = 20
#: Every index of a large server is read; code of an index must not run for ever.
_AMCHECK = {"statement_timeout": f"{24 * 3_600_000}"}


@dataclass(frozen=True)
class Shelf:
    """The artifacts of several stores; of one name, that of the first store counts."""

    stores: Sequence[AnyStore] = ()

    def entries(self, source: str) -> dict[str, tuple[AnyStore, Entry]]:
        """Store and entry of each artifact of `source`, by name."""
        found: dict[str, tuple[AnyStore, Entry]] = {}
        for store in self.stores:
            for entry in store.entries():
                if entry.source == source:
                    found.setdefault(entry.name, (store, entry))
        return found

    @staticmethod
    def is_closed(store: AnyStore) -> bool:
        """Whether its artifacts are encrypted, and the recovery key is not at hand."""
        return isinstance(store, RemoteStore) and not store.trust.opener.recovery


@dataclass(frozen=True)
class BaseProofOptions(ProofOptions):
    """Options of the proof of a base backup, with what it needs beside the artifact."""

    #: Returns the archive of the WAL of a system identifier.
    archive: Callable[[str], WalArchive] | None = None
    shelf: Shelf = Shelf()
    #: The source of base backups, and those of the databases of the same server.
    bases: str = ""
    databases: Sequence[str] = ()

    def artifacts(self) -> Iterator[OpenArtifact]:
        """Yield the proven artifacts of the databases that can be read, newest first."""
        found = [
            (store, entry)
            for source in self.databases
            for store, entry in self.shelf.entries(source).values()
            if entry.proven and not entry.damaged and not self.shelf.is_closed(store)
        ]
        for store, entry in sorted(found, key=lambda one: one[1].created, reverse=True)[:_MOST_COMPARED]:
            yield store.artifact(entry)


def prove(run: ProofRun, stored: OpenArtifact, level: Level, options: ProofOptions) -> Level:
    """Recover and compare `stored`, which is intact; return the level that can be expected of it now."""
    if not isinstance(options, BaseProofOptions) or stored.entry is None:
        why = "it is not in the catalog, so its chain and WAL are unknown"
        run.add(Finding(_RECOVERED, Outcome.UNVERIFIED, why))
        return level
    try:
        return _prove(run, stored.entry, level, options)
    except RefnetError as error:
        run.add(stopped_by(_RECOVERED, error))
    except (psycopg.Error, subprocess.SubprocessError) as error:
        said = str(error).strip().split("\n")[0]
        run.add(Finding("the scratch server", Outcome.UNVERIFIED, said))
    return level


def _prove(run: ProofRun, entry: Entry, level: Level, options: BaseProofOptions) -> Level:
    facts, there = facts_of(entry), options.shelf.entries(options.bases)
    of_server = candidates((one for _, one in there.values()), facts.system_identifier) if facts else []
    base = next((one for one in of_server if one.name == entry.name), None)
    if base is None or base.problem or options.archive is None:
        why = base.problem if base and base.problem else "it is not in the catalog"
        run.add(Finding(_RECOVERED, Outcome.UNVERIFIED, why))
        return level
    links = [there[one.name] for one in chain(entry, (one for _, one in there.values()))]
    if any(options.shelf.is_closed(store) for store, _ in links):
        run.add(Finding(_RECOVERED, Outcome.UNVERIFIED, _CLOSED))
        return Level.INTACT
    archive = options.archive(base.facts.system_identifier)
    wal = archived(archive, archive.covered_until())
    younger, plan = None, at_end_of(base, wal)
    if level is Level.PROVEN:
        younger, plan = next(_younger(options, wal, base), (None, plan))
    pieces = [piece(store.artifact(one)) for store, one in links]
    _recover(run, Recovery(archive, plan, pieces), younger, options)
    if options.drill and len(pieces) > 1 and not run.failed:
        with run.phases.phase("combine"):
            run.add(same_as_combined(pieces, options))
    if level is Level.PROVEN and younger is None:
        run.add(Finding(_CROSS, Outcome.UNVERIFIED, _YOUNGER))
        return Level.RESTORED
    return level


def _recover(
    run: ProofRun, recovery: Recovery, younger: DatabaseArtifact | None, options: BaseProofOptions
) -> None:
    """Carry out `recovery`, check every page, and compare the rows with those of `younger`."""
    with ExitStack() as stack:
        with run.phases.phase("recover"):
            found = stack.enter_context(recovered(recovery, options))
        run.add(Finding(_RECOVERED, Outcome.PASSED))
        run.missing_walls = found.cluster.walls.missing
        run.server = f"PostgreSQL {found.cluster.binaries.version} ({found.cluster.binaries.origin})"
        with run.phases.phase("check pages"):
            run.add(_structure(found))
        if run.failed:
            return
        run.level = Level.RESTORED
        if younger:
            with run.phases.phase("compare"):
                run.add(*_compared(found, younger, options))
            if all(one.outcome is Outcome.PASSED for one in run.findings):
                run.level = Level.PROVEN


def _younger(
    options: BaseProofOptions, there: Archived, base: Candidate
) -> Iterator[tuple[DatabaseArtifact, RecoveryPlan]]:
    """Yield the proven artifacts that `base` and WAL reach exactly, newest first, and the recovery to each."""
    for stored in options.artifacts():
        try:
            artifact = DatabaseArtifact(stored)
            yield artifact, cross_plan(artifact.index, there, [base])
        except (NotAnArtifact, RefnetError):
            continue  # the next one may be reached


def _compared(found: Recovered, artifact: DatabaseArtifact, options: ProofOptions) -> Iterator[Finding]:
    """Findings of the tables that differ, or one that all are equal."""
    findings = compared(found, artifact, options)
    wrong = [one for one in findings if one.outcome is not Outcome.PASSED]
    for one in wrong:
        yield replace(one, what=f"{_CROSS} with {artifact.name}: {one.what}", deviation=None)
    if not wrong:
        yield Finding(f"{_CROSS} with {artifact.name}, {plural(len(findings), 'table')}", Outcome.PASSED)


def _structure(found: Recovered) -> Finding:
    """Run amcheck on every heap and B-tree of every database, catalogs included."""
    program = str(found.cluster.binaries.tool("pg_amcheck"))
    target = found.cluster.target()
    with target.connect() as session:
        known = session.execute("SELECT FROM pg_available_extensions WHERE name = 'amcheck'").fetchone()
    if known is None:
        return Finding(STRUCTURE, Outcome.UNVERIFIED, "the server has no extension amcheck")
    command = [program, "--all", "--install-missing", "--no-password"]
    return structure(*Programs(target.environment(_AMCHECK)).ended(command))
