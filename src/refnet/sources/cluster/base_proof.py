"""Proves a base backup: its chain and WAL are recovered in a scratch server, every page is checked, and rows are compared.

`restored`: the server was recovered, and amcheck found nothing in any database. `proven`: the rows of a proven artifact of one
of its databases are equal too (cross_proof.py). That artifact must be younger than the base, so a base that was just made is
`restored`; a later drill proves it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import psycopg

from refnet.catalog.artifact import Finding, OpenArtifact, stopped_by
from refnet.catalog.cluster_base import facts_of
from refnet.catalog.manifest import Entry, Level, Outcome
from refnet.core.errors import RefnetError
from refnet.core.formatting import plural
from refnet.proof_run import ProofOptions, ProofRun
from refnet.sources.cluster.cross_proof import compared, cross_plan
from refnet.sources.cluster.data_folder import Piece
from refnet.sources.cluster.recovery_facts import Recovery, archived, candidates
from refnet.sources.cluster.recovery_target import Archived, Candidate, RecoveryPlan, at_end_of
from refnet.sources.cluster.scratch_recovery import Recovered, recovered
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.artifact.sqlgz import NotAnArtifact
from refnet.sources.database.workers import Programs

_RECOVERED, _STRUCTURE, _CROSS = (
    "recovery in an empty folder",
    "structure of tables and indexes (amcheck)",
    "cross-proof",
)
_YOUNGER = "no proven artifact of its databases is younger than it: `refnet drill` compares one after the next backup"
#: Every index of a large server is read; code of an index must not run for ever.
_AMCHECK = {"statement_timeout": f"{24 * 3_600_000}"}


@dataclass(frozen=True)
class BaseProofOptions(ProofOptions):
    """Options of the proof of a base backup, with what it needs beside the artifact."""

    #: The archive of the WAL of a system identifier.
    archive: Callable[[str], WalArchive] = field(default=WalArchive)  # type: ignore[assignment]
    #: The base backups of the source.
    bases: Callable[[], Iterable[Entry]] = tuple
    #: The chain of one of them.
    chain: Callable[[Entry], Sequence[Piece]] = lambda _entry: ()
    #: Proven artifacts of the databases of the server, newest first.
    artifacts: Callable[[], Iterable[OpenArtifact]] = tuple


def prove(run: ProofRun, stored: OpenArtifact, level: Level, options: ProofOptions) -> Level:
    """Recover and compare `stored`, which is intact; return the level that can be expected of it now."""
    if not isinstance(options, BaseProofOptions) or stored.entry is None:
        why = "its chain and its WAL are found only for an artifact in the catalog"
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
    facts = facts_of(entry)
    base = (
        next(
            (one for one in candidates(options.bases(), facts.system_identifier) if one.name == entry.name),
            None,
        )
        if facts
        else None
    )
    if base is None or base.problem:
        run.add(Finding(_RECOVERED, Outcome.UNVERIFIED, base.problem if base else "it is not in the catalog"))
        return level
    archive = options.archive(base.facts.system_identifier)
    there = archived(archive, archive.covered_until())
    younger = next(_younger(options, there, base), None) if level is Level.PROVEN else None
    plan = younger[1] if younger else at_end_of(base, there)
    with ExitStack() as stack:
        with run.phases.phase("recover"):
            found = stack.enter_context(recovered(Recovery(archive, plan, options.chain(entry)), options))
        run.add(Finding(_RECOVERED, Outcome.PASSED))
        run.missing_walls = found.cluster.walls.missing
        run.server = f"PostgreSQL {found.cluster.binaries.version} ({found.cluster.binaries.origin})"
        with run.phases.phase("check pages"):
            run.add(_structure(found))
        if not run.failed:
            run.level = Level.RESTORED
        if younger:
            with run.phases.phase("compare"):
                run.add(*_compared(found, younger[0], options))
            equal = all(one.outcome is Outcome.PASSED for one in run.findings)
            run.level = Level.PROVEN if run.level and equal else run.level
            return level
    if level is Level.PROVEN:
        run.add(Finding(_CROSS, Outcome.UNVERIFIED, _YOUNGER))
    return Level.RESTORED


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
        return Finding(_STRUCTURE, Outcome.UNVERIFIED, "the server has no extension amcheck")
    command = [program, "--all", "--install-missing", "--no-password"]
    code, output = Programs(target.environment(_AMCHECK)).ended(command)
    outcome = {0: Outcome.PASSED, 2: Outcome.FAILED}.get(code, Outcome.UNVERIFIED)
    said = output.decode(errors="replace").strip().splitlines()
    why = said[0] if said else "pg_amcheck failed without a message"
    return Finding(_STRUCTURE, outcome, "" if outcome is Outcome.PASSED else why)
