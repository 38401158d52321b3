"""verify: how far does an artifact hold? The store's own check first, then the source's; evidence is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Entry, Evidence, Level, Outcome
from refnet.recovery.model.source import Finding, OpenArtifact, Progress, Proof, Source, silent
from refnet.recovery.model.store import Store
from refnet.recovery.verbs.choose import Chosen

EXITS = {Outcome.PASSED: Exit.DONE, Outcome.UNVERIFIED: Exit.UNVERIFIED, Outcome.FAILED: Exit.DAMAGED}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Verified:
    """What came of a check of one artifact; `unrecorded` says why its evidence could not be kept."""

    chosen: Chosen
    proof: Proof
    at: datetime
    seconds: float
    unrecorded: str = ""

    @property
    def exit(self) -> Exit:
        return EXITS[self.proof.outcome]


def verify(
    chosen: Chosen,
    source: Source,
    level: Level,
    *,
    now: Callable[[], datetime],
    clock: Callable[[], float],
    drill: bool = False,
    progress: Progress = silent,
) -> Verified:
    """Check `chosen` up to `level` and keep what was found as evidence.

    Args:
        source: of the same name as the artifact's.
        now: the time for the evidence; `clock`: seconds, for how long things take.
        drill: whether this is a drill, which monitor counts.
    """
    started = clock()
    written = check_written(chosen.held, progress)
    read = clock() - started
    if Outcome.FAILED in {finding.outcome for finding in written}:
        proof = Proof(level, None, written)
    else:
        proof = attempt(source, chosen.held, level, progress)
        proof = replace(proof, findings=(*written, *proof.findings))
    proof = replace(proof, seconds={"read the file": read} | proof.seconds)
    at, seconds = now(), clock() - started
    lines = evidence_of(proof, at, seconds, drill=drill)
    return Verified(chosen, proof, at, seconds, keep(chosen.store, chosen.entry, lines))


def check_written(held: OpenArtifact, progress: Progress = silent) -> tuple[Finding, ...]:
    """The store's level: the bytes have the size and the digest of the manifest, the list of files its own.

    Nothing is found where there is no manifest: then the artifact's own index judges it.
    """
    manifest = held.manifest
    if manifest is None:
        return ()
    findings = [_compare_bytes(held, manifest.size, manifest.sha256, progress)]
    if manifest.files_sha256 is not None:
        try:
            held.files()
            findings.append(Finding("list of files", Outcome.PASSED))
        except RefnetError as error:
            findings.append(Finding("list of files", Outcome.FAILED, error.message))
    return tuple(findings)


def _compare_bytes(held: OpenArtifact, size: int, sha256: str, progress: Progress) -> Finding:
    what = "bytes of the file"
    sha, count = hashlib.sha256(), 0
    try:
        with held.open() as reader:
            while block := reader.read(_CHUNK):
                sha.update(block)
                count += len(block)
                progress("read the file", count, size)
    except OSError as error:
        return Finding(what, Outcome.FAILED, f"cannot be read: {error.strerror or error}")
    if count != size:
        return Finding(what, Outcome.FAILED, f"{count} bytes, the manifest says {size}")
    if sha.hexdigest() != sha256:
        return Finding(what, Outcome.FAILED, "their SHA-256 is not the manifest's")
    return Finding(what, Outcome.PASSED)


def attempt(source: Source, held: OpenArtifact, level: Level, progress: Progress = silent) -> Proof:
    """The source's proof of `held`, whose bytes are known to be right.

    A proof that could not be had (no scratch server, no room) is `could not verify`, never a failure; damage
    that the source meets in the artifact is a failure.
    """
    try:
        proof = source.prove(held, level, progress)
    except RefnetError as error:
        outcome = Outcome.FAILED if error.code is Exit.DAMAGED else Outcome.UNVERIFIED
        proof = Proof(level, None, (Finding("the proof itself", outcome, f"{error.message}. {error.hint}"),))
    if proof.level is None and held.manifest is not None:
        proof = replace(proof, level=Level.WRITTEN)
    return proof


def evidence_of(proof: Proof, at: datetime, seconds: float, *, drill: bool = False) -> tuple[Evidence, ...]:
    """The lines that `proof` leaves: what it reached, then what failed or could not be verified beyond that."""

    def line(level: Level, outcome: Outcome) -> Evidence:
        reasons = proof.reasons if outcome is proof.outcome else ()
        return Evidence(
            at, level, outcome, seconds, proof.server, reasons, drill, missing_walls=proof.missing_walls
        )

    reached = (line(proof.level, Outcome.PASSED),) if proof.level else ()
    if proof.outcome is Outcome.PASSED:
        return reached
    return (*reached, line(_beyond(proof), proof.outcome))


def _beyond(proof: Proof) -> Level:
    """The level at which `proof` stopped."""
    levels = list(Level)
    rank = 0 if proof.level is None else proof.level.rank + 1
    return levels[min(rank, len(levels) - 1)] if proof.outcome is Outcome.FAILED else proof.wanted


def keep(store: Store | None, entry: Entry | None, lines: tuple[Evidence, ...]) -> str:
    """Append `lines` to the evidence of `entry`; why that was not possible (a read-only disk), or ''."""
    if store is None or entry is None:
        return ""
    try:
        store.record(entry, *lines)
    except RefnetError as error:
        return error.message
    return ""
