"""A proof as lines for people and as JSON. The word `proven` stands only where something was proven."""

from __future__ import annotations

from typing import Any

from refnet.cli import formatting
from refnet.recovery.model.artifact import Evidence, Level, Outcome
from refnet.recovery.model.source import Proof


def headline(proof: Proof) -> str:
    """The outcome in one line: how far it holds, in how long."""
    beyond = f" beyond {proof.level.value}" if proof.level else ""
    if proof.outcome is Outcome.FAILED:
        return f"DAMAGED{beyond}"
    if proof.outcome is Outcome.UNVERIFIED:
        return f"could not verify{beyond or ' anything'}"
    return (proof.level.value if proof.level else "nothing") + _counted(proof)


def _counted(proof: Proof) -> str:
    rows = [row["rows"] for row in proof.rows if isinstance(row.get("rows"), int)]
    return (
        f" ({formatting.plural(len(rows), 'table')}, {formatting.plural(sum(rows), 'row')})" if rows else ""
    )


def details(proof: Proof) -> list[str]:
    """A line for each thing that did not pass, failures first; then the walls that the scratch server lacked."""
    marks = {Outcome.FAILED: "failed", Outcome.UNVERIFIED: "could not verify"}
    findings = sorted(
        (finding for finding in proof.findings if finding.outcome in marks),
        key=lambda finding: finding.outcome is not Outcome.FAILED,
    )
    told = (f"{marks[f.outcome]}: {f.what}" + (f": {f.reason}" if f.reason else "") for f in findings)
    missing = (
        [f"without walls: {', '.join(proof.missing_walls)} (install bubblewrap)"]
        if proof.missing_walls
        else []
    )
    return [formatting.plain(line) for line in [*told, *missing]]


def values(proof: Proof) -> dict[str, Any]:
    """The proof for --json. `level` is what it reached; seconds by phase."""
    return {
        "outcome": proof.outcome.value,
        "level": proof.level.value if proof.level else None,
        "server": proof.server,
        "missing_walls": list(proof.missing_walls),
        "seconds": {phase: round(taken, 3) for phase, taken in proof.seconds.items()},
        "findings": [
            {"what": f.what, "outcome": f.outcome.value, "reason": f.reason} for f in proof.findings
        ],
        "rows": list(proof.rows),
    }


def evidence(line: Evidence) -> str:
    """A line of evidence in words."""
    if line.accepts:
        return "accepted"
    if line.revokes:
        return "what passed before counts no more"
    if line.outcome is Outcome.PASSED:
        return line.level.value
    before = list(Level)[line.level.rank - 1].value if line.level.rank else "nothing"
    return f"{line.outcome.value} beyond {before}"
