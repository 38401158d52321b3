"""The parts of a report that several commands print: notes, problems, findings, seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from refnet.actions.choose import Chosen
from refnet.cli import render
from refnet.errors import RefnetError
from refnet.recovery.model.formatting import plain
from refnet.recovery.model.formatting import seconds as spelled
from refnet.recovery.model.source import Finding, Proof


def print_doubts(chosen: Chosen) -> None:
    """Print that a check found the artifact damaged, or that it shrank."""
    if chosen.damage:
        print(f"DAMAGED: {chosen.name}: {chosen.damage}")
    if chosen.entry and chosen.entry.shrunk:
        print(f"{render.shrunk(asdict(chosen.entry.manifest))}: `refnet list` shows the one before")


def print_notes(notes: Iterable[str], problems: Iterable[RefnetError]) -> None:
    for note in notes:
        print(f"note: {plain(note)}")
    for problem in problems:
        print(f"problem: {plain(problem.message)}\n         {plain(problem.hint)}")


def print_proof(title: str, proof: Proof, took: str = "", unrecorded: str = "", indent: int = 10) -> None:
    """Print the outcome after `title`, then the reasons. `unrecorded`: why the evidence was not recorded."""
    print(f"{title} {render.headline(proof)}{took}")
    for line in render.details(proof):
        print(f"{'':{indent}}{line}")
    if unrecorded:
        print(f"{'':{indent}}the evidence could not be recorded: {unrecorded}")


def phases(seconds: Mapping[str, float]) -> str:
    """Return the time of each phase as text."""
    return ", ".join(f"{phase} {spelled(taken)}" for phase, taken in seconds.items())


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {phase: round(taken, 3) for phase, taken in seconds.items()}


def problem_values(problems: Iterable[RefnetError]) -> list[dict[str, str]]:
    return [{"message": one.message, "hint": one.hint} for one in problems]


def finding_values(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [{"what": one.what, "outcome": one.outcome, "reason": one.reason} for one in findings]
