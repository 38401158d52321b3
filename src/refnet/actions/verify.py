"""verify: check an artifact, first by the store, then by its content, and record the evidence.

The proof of a new artifact begins with the question whether one is due, and how deep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from refnet.actions.backup_result import Backup
from refnet.actions.marks import carried
from refnet.catalog.artifact import Finding, Maker, OpenArtifact, Progress, Proof, silent, stopped_by
from refnet.catalog.catalog import Catalog
from refnet.catalog.evidence import MOST_ROW_DIGESTS, Fault
from refnet.catalog.manifest import Entry, Evidence, Level, Outcome
from refnet.catalog.next_artifact import ALL, Proving
from refnet.catalog.source_name import LOCAL
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError, worst
from refnet.sources import kind_of, source_of
from refnet.store.local import LocalStore

EXITS = {Outcome.PASSED: Exit.DONE, Outcome.UNVERIFIED: Exit.UNVERIFIED, Outcome.FAILED: Exit.DAMAGED}
_CHUNK = 1 << 20
#: No artifact before matters.
_ALWAYS = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Verified:
    """The check of one artifact."""

    chosen: OpenArtifact
    proof: Proof
    at: datetime
    seconds: float
    #: Why its evidence could not be recorded, or "".
    unrecorded: str = ""
    #: The objects of the source that no server accepts and nobody has accepted.
    unaccepted: tuple[str, ...] = ()
    #: What came of the check of what its source keeps beside its artifacts: no evidence of this one.
    beside: tuple[Finding, ...] = ()

    @property
    def whole(self) -> Proof:
        """The proof with the findings beside it, for a report of the run."""
        return replace(self.proof, findings=(*self.proof.findings, *self.beside))

    @property
    def exit(self) -> Exit:
        found = EXITS[self.proof.outcome]
        own = Exit.FAILED if found is Exit.DONE and self.unaccepted else found
        return worst([own, *(EXITS[one.outcome] for one in self.beside)])

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.chosen.source,
            "name": self.chosen.name,
            "store": self.chosen.store or None,
            "seconds_in_all": round(self.seconds, 3),
            "unrecorded": self.unrecorded or None,
            "unaccepted": list(self.unaccepted),
            "beside": [one.to_json() for one in self.beside],
            **self.proof.to_json(),
        }


def verify(
    context: Context, chosen: OpenArtifact, level: Level, *, trust: bool = False, drill: bool = False
) -> Verified:
    """Check `chosen` up to `level` and record the result as evidence.

    Args:
        trust: load a foreign dump even if an isolation layer is missing.
        drill: record the check as a drill, which the monitor counts.
    """
    clock, progress = context.clock, context.progress
    started = clock.monotonic()
    written = check_written(chosen, progress)
    read = clock.monotonic() - started
    if all(finding.outcome is Outcome.PASSED for finding in written):
        proof = attempt(context, chosen, level, trust=trust, drill=drill)
        proof = replace(proof, findings=(*written, *proof.findings))
    else:
        proof = Proof(level, None, written)
    proof = replace(proof, seconds={"read the file": read} | proof.seconds)
    at, seconds = clock.now(), clock.monotonic() - started
    if gone := _gone(chosen):
        return Verified(chosen, replace(proof, level=None, findings=(*proof.findings, gone)), at, seconds)
    lines = evidence_of(proof, at, seconds, drill=drill)

    def known() -> tuple[Entry, ...]:
        return (chosen.entry, *context.store.entries(chosen.source)) if chosen.entry else ()

    recorded = record(chosen, proof, lines, known)
    return Verified(chosen, proof, at, seconds, *recorded, beside=beside(context, chosen))


def beside(context: Context, chosen: OpenArtifact, *, share: bool = False) -> tuple[Finding, ...]:
    """Check what the source of `chosen`, which is in the backup folder, keeps beside its artifacts."""
    if chosen.store not in {"", LOCAL} or chosen.entry is None:
        return ()
    try:
        return tuple(source_of(context.settings, chosen.source).beside(context, share=share))
    except RefnetError as error:
        return (stopped_by("what is kept beside the artifacts", error),)


def _gone(chosen: OpenArtifact) -> Finding | None:
    """Finding that `chosen` was deleted meanwhile, or None."""
    try:
        chosen.open().close()
    except (RefnetError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, FileNotFoundError):
            return Finding("the artifact", Outcome.UNVERIFIED, "it was deleted during the check")
    return None


def check_written(artifact: OpenArtifact, progress: Progress = silent) -> tuple[Finding, ...]:
    """Compare the bytes with size and digests in the manifest; retry read errors once.

    Without a manifest there is nothing to compare: the artifact's index is checked next.
    """
    found = _check_written(artifact, progress)
    again = any(finding.whose is Fault.TRANSIENT for finding in found)
    return _check_written(artifact, progress) if again else found


def _check_written(artifact: OpenArtifact, progress: Progress) -> tuple[Finding, ...]:
    manifest = artifact.manifest
    if manifest is None:
        return ()
    findings = [_compare_bytes(artifact, manifest.size, manifest.sha256, progress)]
    if manifest.files_sha256 is not None:
        try:
            artifact.files()
            findings.append(Finding("list of files", Outcome.PASSED))
        except (RefnetError, OSError) as error:
            findings.append(stopped_by("list of files", error))
    return tuple(findings)


def _compare_bytes(artifact: OpenArtifact, size: int, sha256: str, progress: Progress) -> Finding:
    what = "bytes of the file"
    sha, count = hashlib.sha256(), 0
    try:
        with artifact.open() as reader:
            while block := reader.read(_CHUNK):
                sha.update(block)
                count += len(block)
                progress("read the file", count, size)
    except OSError as error:
        return stopped_by(what, error)
    except RefnetError as error:
        if artifact.store and error.code is not Exit.DAMAGED:
            raise  # the remote store does not answer
        return stopped_by(what, error)
    if count != size:
        return Finding(what, Outcome.FAILED, f"{count} bytes, the manifest says {size}")
    if sha.hexdigest() != sha256:
        return Finding(what, Outcome.FAILED, "their SHA-256 differs from the manifest's")
    return Finding(what, Outcome.PASSED)


def comparison(
    context: Context, maker: Maker, known: Iterable[Entry], *, prove: bool, first: bool
) -> tuple[Level | None, Maker]:
    """Level of the proof for the next artifact (None: no proof), and its maker with the right comparison.

    Args:
        maker: the maker of the artifact.
        known: existing artifacts.
        prove: prove it if a proof is due, else read it once; False: neither.
        first: prove it, and digest every row.
    """
    own, digesting = context.settings.of(maker.name), maker.digesting(0)
    settings = Proving(own.prove_every or 0, own.prove_source or "auto")
    if first:
        return Level.PROVEN, maker.digesting(ALL) or maker
    now, entries = _ALWAYS, tuple[Entry, ...]()
    if prove and (settings.every or digesting):
        now, target = context.clock.now(), source_of(context.settings, maker.name).whose()
        entries = Catalog.of(known).about(target, maker.name).of_source(maker.name)
    due = prove and settings.due(entries, now)
    level = Level.PROVEN if due else Level.INTACT if prove else None
    return level, maker.digesting(settings.digest_up_to(entries, now, proves=due)) or maker


def prove(
    context: Context,
    store: LocalStore,
    result: Backup,
    *,
    known: Callable[[], tuple[Entry, ...]],
    level: Level | None,
) -> Backup:
    """Prove a new artifact in `store` up to `level` (None: not at all); record evidence and warnings.

    known: returns the existing artifacts.
    """
    clock, artifact = context.clock, store.artifact(Entry(result.manifest))
    if result.warnings:
        line = Evidence(
            clock.now(), Level.WRITTEN, Outcome.PASSED, result.seconds["dump"], reasons=result.warnings
        )
        result = replace(result, unrecorded=keep(artifact, (line,)))
    if level is None:
        return result
    published = clock.monotonic()
    proof = attempt(context, artifact, level)
    result.seconds["prove"] = clock.monotonic() - published
    now = clock.now()
    lines = evidence_of(proof, now, result.seconds["prove"])
    unrecorded, faulty = record(artifact, proof, lines, known)
    return replace(
        result,
        proof=proof,
        unaccepted=(*result.unaccepted, *faulty),
        unrecorded=unrecorded or result.unrecorded,
        beside=beside(context, artifact, share=True),
    )


def attempt(
    context: Context, artifact: OpenArtifact, level: Level, *, trust: bool = False, drill: bool = False
) -> Proof:
    """Prove `artifact`, whose bytes were already verified.

    A proof that cannot run (no scratch server, no free space) is `could not verify`; damage in the artifact is a
    failure.
    """

    def progress(step: str, done: int, total: int | None) -> None:
        context.progress(f"proof: {step}", done, total)

    try:
        stores = (context.local, context.store)
        options = source_of(context.settings, artifact.source).proof_options(
            progress, trust=trust, stores=stores
        )
        proof = kind_of(artifact.source).opened(artifact).prove(level, replace(options, drill=drill))
    except (RefnetError, OSError) as error:
        found = stopped_by("the proof itself", error)
        hint = f". {error.hint}" if isinstance(error, RefnetError) else ""
        proof = Proof(level, None, (replace(found, reason=f"{found.reason}{hint}"),))
    if artifact.manifest is None:
        return proof
    return replace(proof, level=proof.level or Level.WRITTEN, made=artifact.manifest.compared)


def evidence_of(proof: Proof, at: datetime, seconds: float, *, drill: bool = False) -> tuple[Evidence, ...]:
    """Lines of evidence: the level reached, then failures and unverified checks beyond."""

    def line(level: Level, outcome: Outcome) -> Evidence:
        is_result = outcome is proof.outcome
        return Evidence(
            at,
            level,
            outcome,
            seconds,
            proof.server,
            proof.reasons if is_result else (),
            drill,
            missing_walls=proof.missing_walls,
            fault=proof.fault if is_result else None,
            objects=proof.faulty if is_result else (),
        )

    digests = proof.row_digests if len(proof.row_digests) <= MOST_ROW_DIGESTS else ""
    reached = (replace(line(proof.level, Outcome.PASSED), row_digests=digests),) if proof.level else ()
    if proof.outcome is Outcome.PASSED:
        return reached
    return (*reached, line(_beyond(proof), proof.outcome))


def _beyond(proof: Proof) -> Level:
    """The level at which `proof` stopped."""
    levels = list(Level)
    rank = 0 if proof.level is None else proof.level.rank + 1
    return levels[min(rank, len(levels) - 1)] if proof.outcome is Outcome.FAILED else proof.wanted


def record(
    artifact: OpenArtifact,
    proof: Proof,
    lines: tuple[Evidence, ...],
    known: Callable[[], Iterable[Entry]],
) -> tuple[str, tuple[str, ...]]:
    """Record `lines`, the evidence of `proof`; return the reason of a failure, or "", and unaccepted objects.

    known: returns the artifacts of the source; acceptances of earlier ones also apply to this one.
    """
    unaccepted = proof.faulty
    if unaccepted and artifact.manifest:
        line = carried(known(), artifact.manifest, proof, lines[-1].at)
        lines = (*lines, *([line] if line else []))
        unaccepted = tuple(one for one in unaccepted if not line or one not in line.objects)
    return keep(artifact, lines), unaccepted


def keep(artifact: OpenArtifact, lines: tuple[Evidence, ...]) -> str:
    """Append `lines` to the evidence of `artifact`; return the reason of a failure (a read-only disk), or ""."""
    if artifact.record is None:
        return ""
    try:
        artifact.record(*lines)
    except RefnetError as error:
        return error.message
    return ""
