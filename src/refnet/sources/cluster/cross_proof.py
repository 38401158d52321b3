"""Cross-proof: an artifact of a database against its server, recovered to the moment of the artifact's snapshot.

Both come from the server by different roads: rows by COPY, and files with WAL. If they are equal, base backup, WAL and
replay are proven by content. A snapshot sees a set of transactions; a recovery has a prefix of the WAL. Commits may become
visible in another order than they are in the WAL (they wait for a standby, or synchronous_commit is off): then no prefix is
exactly what the snapshot sees, and nothing can be said. Sequences and unlogged tables are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, pairwise
from typing import Self

from refnet.catalog import wal
from refnet.catalog.artifact import Finding
from refnet.catalog.recovery_target import (
    Archived,
    Candidate,
    RecoveryPlan,
    Wanted,
    decide,
    timeline_of,
)
from refnet.catalog.wal import CommitRecord
from refnet.core.errors import Exit, RefnetError
from refnet.proof_run import ProofOptions
from refnet.sources.cluster.scratch_recovery import Recovered
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.proof.compare import sequences
from refnet.sources.database.workers import Workers

#: So much later than the snapshot no transaction commits that it sees; so much earlier, none that it does not see.
_LATER, _EARLIER = timedelta(minutes=1), timedelta(hours=1)
_OTHER_ORDER = "transactions became visible in a different order than they were committed in the WAL"
_NOT_BEFORE = "the archive has no commit from before the artifact"
_UNLOGGED = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relpersistence = 'u'
"""
_XIDS = 1 << 32


@dataclass(frozen=True)
class Snapshot:
    """The transactions that a snapshot sees."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse PostgreSQL's `xmin:xmax:xip,…`; ValueError if malformed."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(one) for one in running.split(",") if one))

    def sees(self, xid: int) -> bool:
        """Whether it sees the committed transaction `xid`, of which the WAL has only 32 bits."""
        whole = self.xmax - (self.xmax - xid) % _XIDS
        whole += _XIDS if self.xmax - whole > _XIDS // 2 else 0
        return whole < self.xmin or (whole < self.xmax and whole not in self.running)

    def end(self, stretches: Iterable[Iterable[CommitRecord]], until: datetime) -> int | None:
        """Position of the first commit that it does not see; None: it sees all.

        Args:
            stretches: commits in the order of the WAL; between two stretches WAL is missing.
            until: no later commit is looked at.

        ValueError if it sees a commit after one that it does not see; or if the WAL from before it is missing, so that an
        earlier commit may be the first one.
        """
        is_after = False
        for commits in stretches:
            first, is_after = None, False
            for one in commits:
                if first is not None and one.time > until:
                    break
                if self.sees(one.xid):
                    is_after = True
                    if first is not None:
                        raise ValueError(_OTHER_ORDER)
                elif first is None:
                    first = one.lsn
                    if not is_after:
                        raise ValueError(_NOT_BEFORE)
            if first is not None:
                return first
        if not is_after:
            raise ValueError(_NOT_BEFORE)
        return None


def cross_plan(index: Index, there: Archived, bases: Sequence[Candidate]) -> RecoveryPlan:
    """The recovery of one of `bases` to exactly what the snapshot of an artifact sees.

    RefnetError (UNVERIFIED) if the WAL does not tell, or has not arrived; as `decide` if no base reaches it.
    """
    text, moment = index.server.get("snapshot"), datetime.fromisoformat(index.snapshot)
    server = index.server["system_identifier"]
    if not text or not server:
        raise _unknown(f"the artifact does not record its {'server' if text else 'snapshot'}")
    if server not in {one.facts.system_identifier for one in bases}:
        raise _unknown("the artifact is of another server")
    if not there.timelines:
        raise _unknown("there is no WAL")
    timeline = timeline_of(Wanted(time=moment), there)
    try:
        end = Snapshot.read(text).end(_stretches(there, timeline, moment - _EARLIER), moment + _LATER)
    except ValueError as error:
        raise _unknown(str(error)) from None
    if end is not None:
        return decide(Wanted(lsn=end, before=True, timeline=timeline), there, bases)
    if there.covered is None or there.covered < moment:
        raise _unknown("the WAL of its moment has not arrived")
    return decide(Wanted(timeline=timeline), there, bases)


def _stretches(there: Archived, timeline: int, since: datetime) -> Iterator[Iterator[CommitRecord]]:
    """Yield the commits on the path of `timeline` from one before `since` on, cut where a segment is missing."""
    path, known, start = there.path(timeline), there.last_commits(), partial(wal.start_of, size=there.size)
    later = next((at for at, name in enumerate(path) if name in known and known[name] >= since), len(path))
    names = path[max((at for at, name in enumerate(path[:later]) if name in known), default=0) :]
    pairs = enumerate(pairwise(names), 1)
    cuts = [at for at, (one, other) in pairs if one in there.cut or start(other) != start(one) + there.size]
    for begin, end in pairwise((0, *cuts, len(names))):
        yield chain.from_iterable(map(there.commits, names[begin:end]))


def _unknown(why: str) -> RefnetError:
    return RefnetError(f"no exact moment: {why}", "Compare a later artifact.", Exit.UNVERIFIED)


def compared(found: Recovered, artifact: DatabaseArtifact, options: ProofOptions) -> tuple[Finding, ...]:
    """Compare the rows of `artifact` with its database in the recovered server; a finding for each table."""
    target = found.cluster.target(str(artifact.index.database["name"]))
    with target.connect() as session:
        unlogged = {f"table {schema}.{name}" for schema, name in session.execute(_UNLOGGED).fetchall()}
    workers = Workers(found.cluster.binaries, options.jobs, options.progress)
    left_out = {*unlogged, sequences(artifact.index)}
    findings = artifact.compare(target, workers, content=True)
    return tuple(one for one in findings if one.what not in left_out)
