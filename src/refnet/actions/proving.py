"""Proofs of artifacts: whether due and how deep, the attempt, and the recorded evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from refnet.actions.backup_result import Backup
from refnet.actions.marks import carried
from refnet.catalog.artifact import Maker, OpenArtifact, Proof, stopped_by
from refnet.catalog.catalog import Catalog
from refnet.catalog.evidence import MOST_ROW_DIGESTS
from refnet.catalog.manifest import Entry, Evidence, Level, Outcome
from refnet.catalog.next_artifact import ALL, Proving
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.sources import kind_of, source_of
from refnet.store.local import LocalStore

#: No artifact before matters.
_ALWAYS = datetime.max.replace(tzinfo=UTC)


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
    made: Backup,
    *,
    known: Callable[[], tuple[Entry, ...]],
    level: Level | None,
) -> Backup:
    """Prove a new artifact in `store` up to `level` (None: not at all); record evidence and warnings.

    known: returns the existing artifacts.
    """
    clock, artifact = context.clock, store.artifact(Entry(made.manifest))
    if made.warnings:
        line = Evidence(
            clock.now(), Level.WRITTEN, Outcome.PASSED, made.seconds["dump"], reasons=made.warnings
        )
        made = replace(made, unrecorded=keep(artifact, (line,)))
    if level is None:
        return made
    published = clock.monotonic()
    proof = attempt(context, artifact, level)
    made.seconds["prove"] = clock.monotonic() - published
    now = clock.now()
    lines = evidence_of(proof, now, made.seconds["prove"])
    unrecorded, faulty = record(artifact, proof, lines, now, known)
    return replace(
        made,
        proof=proof,
        unaccepted=(*made.unaccepted, *faulty),
        unrecorded=unrecorded or made.unrecorded,
    )


def attempt(context: Context, artifact: OpenArtifact, level: Level, *, trust: bool = False) -> Proof:
    """Prove `artifact`, whose bytes were already verified.

    A proof that cannot run (no scratch server, no free space) is `could not verify`; damage in the artifact is a
    failure.
    """

    def progress(step: str, done: int, total: int | None) -> None:
        context.progress(f"proof: {step}", done, total)

    try:
        options = source_of(context.settings, artifact.source).proof_options(progress, trust=trust)
        proof = kind_of(artifact.source).opened(artifact).prove(level, options)
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
    at: datetime,
    known: Callable[[], Iterable[Entry]],
) -> tuple[str, tuple[str, ...]]:
    """Record `lines`, the evidence of `proof`; return the reason of a failure, or "", and unaccepted objects.

    known: returns the artifacts of the source; acceptances of earlier ones also apply to this one.
    """
    unaccepted = proof.faulty
    if unaccepted and artifact.manifest and (line := carried(known(), artifact.manifest, proof, at)):
        lines = (*lines, line)
        unaccepted = tuple(one for one in unaccepted if one not in line.objects)
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
