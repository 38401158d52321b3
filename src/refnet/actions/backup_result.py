"""The result of a backup."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refnet.catalog.artifact import Finding, Proof
from refnet.catalog.manifest import SOURCE_ROWS, Manifest, Outcome
from refnet.core.clock import rounded
from refnet.core.errors import Exit, RefnetError, worst

if TYPE_CHECKING:
    from refnet.actions.copy import Copied


@dataclass(frozen=True)
class Backup:
    manifest: Manifest
    #: None: the proof was left out.
    proof: Proof | None
    #: Seconds by phase.
    seconds: dict[str, float]
    #: A sentence each about how it was made.
    warnings: tuple[str, ...] = ()
    #: Why its evidence could not be recorded, or "".
    unrecorded: str = ""
    path: Path = Path()
    #: An earlier run made it; see `Options.since` and `if_older`.
    earlier: bool = False
    #: What was copied to each remote store.
    copies: tuple[Copied, ...] = ()
    #: The copies that are missing.
    uncopied: RefnetError | None = None
    #: What a user has to accept: that it shrank, and objects of the source.
    unaccepted: tuple[str, ...] = ()
    #: What came of the check of what its source keeps beside its artifacts.
    beside: tuple[Finding, ...] = ()
    #: A proof that could not run is a result of its own.
    must_prove: bool = True

    @property
    def damaged(self) -> bool:
        """Whether the proof failed."""
        return self.proof is not None and self.proof.outcome is Outcome.FAILED

    @property
    def unproven(self) -> bool:
        """Whether a required proof could not run."""
        could_not = self.proof is not None and self.proof.outcome is Outcome.UNVERIFIED
        return could_not and self.must_prove

    @property
    def differs(self) -> bool:
        """Whether the restored rows differ from the digests of the database."""
        findings = self.proof.findings if self.proof else ()
        return any(one.what == SOURCE_ROWS and one.outcome is Outcome.FAILED for one in findings)

    @property
    def exit(self) -> Exit:
        """DAMAGED if the proof failed; FAILED if a copy or an acceptance is missing; UNVERIFIED without a required proof."""
        found = {
            Exit.DAMAGED: self.damaged,
            Exit.FAILED: bool(self.unaccepted),
            Exit.UNVERIFIED: self.unproven,
        }
        codes = [code for code, is_so in found.items() if is_so]
        return worst([*codes, *([self.uncopied.code] if self.uncopied else [])])

    @property
    def outcome(self) -> str:
        if self.damaged:
            return "damaged"
        if self.uncopied:
            return "not copied"
        return "not proven" if self.unproven else "done before" if self.earlier else "done"

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.manifest.source,
            "outcome": self.outcome,
            "path": str(self.path),
            "manifest": json.loads(self.manifest.to_json()),
            "proof": self.proof.to_json() if self.proof else None,
            "seconds": rounded(self.seconds),
            "warnings": list(self.warnings),
            "unrecorded": self.unrecorded or None,
            "unaccepted": list(self.unaccepted),
            "beside": [one.to_json() for one in self.beside],
            "copies": [one.to_json() for one in self.copies],
        }
