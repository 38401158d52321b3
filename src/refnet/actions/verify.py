"""verify: check an artifact, first by the store, then by its content, and record the evidence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from refnet.actions.proving import attempt, evidence_of, record
from refnet.catalog.artifact import Finding, OpenArtifact, Progress, Proof, silent, stopped_by
from refnet.catalog.evidence import Fault, Level, Outcome
from refnet.catalog.manifest import Entry
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError

EXITS = {Outcome.PASSED: Exit.DONE, Outcome.UNVERIFIED: Exit.UNVERIFIED, Outcome.FAILED: Exit.DAMAGED}
_CHUNK = 1 << 20


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

    @property
    def exit(self) -> Exit:
        found = EXITS[self.proof.outcome]
        return Exit.FAILED if found is Exit.DONE and self.unaccepted else found

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.chosen.source,
            "name": self.chosen.name,
            "store": self.chosen.store or None,
            "seconds_in_all": round(self.seconds, 3),
            "unrecorded": self.unrecorded or None,
            "unaccepted": list(self.unaccepted),
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
        proof = attempt(context, chosen, level, trust=trust)
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

    return Verified(chosen, proof, at, seconds, *record(chosen, proof, lines, at, known))


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
