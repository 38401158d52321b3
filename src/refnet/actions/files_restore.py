"""restore and undo of the configuration and the vault, and their comparison with an artifact."""

from __future__ import annotations

from dataclasses import replace

from refnet import wiring
from refnet.actions.context import Context
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.source import Finding, OpenArtifact
from refnet.recovery.model.source_name import SourceName
from refnet.recovery.sources.files.files_artifact import FilesArtifact
from refnet.recovery.verbs import restore_files, undo_files
from refnet.recovery.verbs.restore_files import Plan, Restored
from refnet.recovery.verbs.undo_files import Undone, UndoPlan

_NO_LIST = "another program made the archive, so it has no list of files to compare with"


def plan(
    context: Context, chosen: OpenArtifact, only: str | None = None, *, damaged_anyway: bool = False
) -> Plan:
    """Return what a restore of `chosen` would do. `only`: the path of one file or folder of it."""
    planned = restore_files.plan(FilesArtifact(chosen), wiring.target(context.settings, chosen.source), only)
    refusals = chosen.refusals(anyway=damaged_anyway)
    return replace(planned, problems=(*refusals, *planned.problems), damage=chosen.damage)


def restore(context: Context, chosen: OpenArtifact, planned: Plan) -> Restored:
    """Do what `planned` says."""
    with context.restore_lock(chosen.source):
        return restore_files.restore(FilesArtifact(chosen), planned, context.clock, context.progress)


def plan_undo(context: Context, source: SourceName) -> UndoPlan:
    """Return what `undo` would do."""
    return undo_files.plan(wiring.target(context.settings, source))


def undo(context: Context, source: SourceName) -> Undone:
    """Swap the previous version and what is live."""
    target = wiring.target(context.settings, source)
    with context.restore_lock(source):
        return undo_files.undo(target, context.clock.now())


def compare(context: Context, chosen: OpenArtifact) -> tuple[Finding, ...]:
    """Compare what is live with an artifact, file by file."""
    planned = plan(context, chosen)
    found, what = planned.changes, f"files of {chosen.source}"
    counts = f"{len(found.added)} missing, {len(found.changed)} changed, {len(found.removed)} more"
    findings = (Finding(what, Outcome.FAILED if found else Outcome.PASSED, counts if found else ""),)
    if planned.listed:
        return findings
    return (*findings, Finding(f"list of {what}", Outcome.UNVERIFIED, _NO_LIST))


def replaced(context: Context, source: SourceName) -> str:
    """Return the live folder of `source` if it has any entry, else ""."""
    folder = wiring.target(context.settings, source).folder
    return str(folder) if folder.is_dir() and any(folder.iterdir()) else ""
