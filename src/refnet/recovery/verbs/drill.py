"""drill: a proof with a clock for the newest artifact of each source, and a report of it.

Nothing live is touched: a source proves in scratch places of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

from refnet.errors import Exit
from refnet.files import make_folder
from refnet.recovery.model.artifact import Level, Manifest, Outcome, SourceName, utc
from refnet.recovery.model.source import Progress, Source, silent
from refnet.recovery.stores import disk
from refnet.recovery.verbs.choose import Chosen
from refnet.recovery.verbs.drill_page import page
from refnet.recovery.verbs.verify import EXITS, Verified, verify


@dataclass(frozen=True)
class Drill:
    """What a drill found: a result for each artifact, and the sources of which there was none to prove."""

    started: datetime
    seconds: float
    results: tuple[Verified, ...]
    absent: tuple[SourceName, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Failed where one failed; could not verify where one could not, or where there was nothing to prove."""
        outcomes = {result.proof.outcome for result in self.results}
        if self.absent or not self.results:
            outcomes.add(Outcome.UNVERIFIED)
        return next(o for o in (Outcome.FAILED, Outcome.UNVERIFIED, Outcome.PASSED) if o in outcomes)

    @property
    def exit(self) -> Exit:
        return EXITS[self.outcome]


def drill(
    chosen: list[Chosen],
    absent: tuple[SourceName, ...],
    prover: Callable[[SourceName], Source],
    *,
    now: Callable[[], datetime],
    clock: Callable[[], float],
    progress: Progress = silent,
    around: Callable[[Chosen, Callable[[], Verified]], Verified] = lambda _one, act: act(),
) -> Drill:
    """Prove each of `chosen` with a clock, and record it as a drill; `absent` sources have no whole artifact.

    `around` surrounds each proof: it calls what it is given, and looks at what comes of it.
    """
    started, start = now(), clock()

    def prove(one: Chosen) -> Verified:
        source = prover(one.source)
        return verify(one, source, Level.PROVEN, now=now, clock=clock, drill=True, progress=progress)

    results = tuple(around(one, partial(prove, one)) for one in chosen)
    return Drill(started, clock() - start, results, absent)


def report(found: Drill, facts: Mapping[str, str]) -> dict[str, Any]:
    """The drill as plain values: what the JSON file holds and what the page shows.

    Times are UTC, durations seconds, sizes bytes. `facts` says where it ran (host, RefNet's version).
    """
    return {
        "format": 1,
        "started": utc(found.started),
        "seconds": round(found.seconds, 3),
        "outcome": found.outcome.value,
        **facts,
        "sources": [_result(result, found.started) for result in found.results]
        + [
            {
                "source": source.value,
                "outcome": Outcome.UNVERIFIED.value,
                "findings": [
                    {
                        "what": "the artifact",
                        "outcome": Outcome.UNVERIFIED.value,
                        "reason": "there is no whole artifact of this source",
                    }
                ],
            }
            for source in found.absent
        ],
    }


def _result(result: Verified, started: datetime) -> dict[str, Any]:
    proof = result.proof
    return {
        "source": result.chosen.source.value,
        "outcome": proof.outcome.value,
        "level": proof.level.value if proof.level else None,
        "artifact": result.chosen.name,
        **_made(result.chosen.held.manifest, started),
        "server": proof.server,
        "missing_walls": list(proof.missing_walls),
        "recovery_seconds": round(sum(proof.seconds.values()), 3),
        "seconds": {phase: round(taken, 3) for phase, taken in proof.seconds.items()},
        "findings": [
            {"what": f.what, "outcome": f.outcome.value, "reason": f.reason} for f in proof.findings
        ],
        "rows": list(proof.rows),
        "unrecorded": result.unrecorded or None,
    }


def _made(manifest: Manifest | None, started: datetime) -> dict[str, Any]:
    """What the manifest says; nothing where there is none."""
    if manifest is None:
        return {}
    return {
        "created": utc(manifest.created),
        "age_seconds": round((started - manifest.created).total_seconds()),
        "size": manifest.size,
        "sha256": manifest.sha256,
        "unchecked": list(manifest.unchecked),
        "details": {
            name: value for name, value in manifest.details.items() if not isinstance(value, (dict, list))
        },
    }


def write_report(
    values: dict[str, Any], folder: Path, local: datetime, zone: tzinfo | None
) -> tuple[Path, Path]:
    """Write the JSON and the page into `folder`, for this user alone; their paths."""
    make_folder(folder)
    stem = f"drill_{local:%Y%m%d_%H%M%S}"
    text = json.dumps(values, ensure_ascii=False, indent=2, default=str) + "\n"
    return (
        disk.write_new(folder, stem, ".json", text.encode()),
        disk.write_new(folder, stem, ".html", page(values, zone).encode()),
    )
