"""drill: a timed proof of the newest artifact of each source, and a report.

Nothing live is touched: proofs run in scratch servers and folders.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from refnet import __version__
from refnet.actions.choose import Selected
from refnet.actions.copy import read_back_older
from refnet.actions.store import check_due
from refnet.actions.verify import Verified, beside, verify
from refnet.actions.watching import open_watch, report_proof
from refnet.catalog.artifact import Finding, OpenArtifact, Proof
from refnet.catalog.manifest import Level, Manifest, Outcome, utc
from refnet.catalog.run import RunKind
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.context import Context
from refnet.core import formatting
from refnet.core.clock import rounded
from refnet.core.errors import Exit, RefnetError, worst
from refnet.core.files import explained, make_folder, replace_file
from refnet.core.page import render
from refnet.store import disk
from refnet.store.keys import MachineKeys
from refnet.store.live_pieces import OpenedPieces, open_pieces
from refnet.store.remote import RemoteStore
from refnet.telemetry.watch import Watch

#: The purpose of the signatures of reports.
NAMESPACE = "refnet-drill"
_ABSENT = Finding("the artifact", Outcome.UNVERIFIED, "there is no complete artifact of this source")
_OUTCOMES = {
    Exit.DONE: Outcome.PASSED,
    Exit.FAILED: Outcome.UNVERIFIED,  # objects that no server accepts, and nobody has accepted
    Exit.UNVERIFIED: Outcome.UNVERIFIED,
    Exit.DAMAGED: Outcome.FAILED,
}


@dataclass(frozen=True)
class Rehearsal:
    """What a drill of the whole recovery found, beside the proofs of its artifacts."""

    #: Name of the store; `local`: the backup folder.
    store: str
    #: Its place, without a secret.
    shown: str
    #: What a real recovery asks a person for, a phrase each.
    asks: tuple[str, ...]
    #: What it would not bring back, a sentence each.
    misses: tuple[str, ...]
    notes: tuple[str, ...]
    #: What was fetched: copies, bytes, seconds; zeros: nothing had to be.
    copies: int = 0
    size: int = 0
    fetch_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The values for the report."""
        return {
            "store": self.store,
            "shown": self.shown,
            "asks": list(self.asks),
            "misses": list(self.misses),
            "notes": list(self.notes),
            "fetched": {"copies": self.copies, "size": self.size, "seconds": round(self.fetch_seconds, 3)},
        }


@dataclass(frozen=True)
class Drill:
    started: datetime
    seconds: float
    #: One for each artifact.
    results: tuple[Verified, ...]
    #: The sources without an artifact to prove.
    absent: tuple[SourceName, ...] = ()
    #: What came of opening every piece of the store that was read; None: that was not done.
    opened: OpenedPieces | None = None
    #: The way of a whole recovery; None: only the artifacts were proven.
    recovery: Rehearsal | None = None

    @property
    def exit(self) -> Exit:
        """Worst exit code of the results; UNVERIFIED without any."""
        nothing = [Exit.UNVERIFIED] if self.absent or not self.results else []
        opened = [self.opened.exit] if self.opened else []
        missed = [Exit.FAILED] if self.recovery and self.recovery.misses else []
        return worst([*(result.exit for result in self.results), *nothing, *opened, *missed])

    @property
    def restore_seconds(self) -> float:
        """What the restores took in all, with the fetch."""
        restores = sum(sum(one.proof.seconds.values()) for one in self.results)
        return restores + (self.recovery.fetch_seconds if self.recovery else 0.0)

    @property
    def outcome(self) -> Outcome:
        return _OUTCOMES[self.exit]


@dataclass(frozen=True)
class Report:
    #: What the JSON file holds.
    values: dict[str, Any]
    json: Path
    page: Path
    #: The armored signature of `json`; None: this machine has no signing key.
    signature: Path | None = None

    def to_json(self) -> dict[str, Any]:
        signature = str(self.signature) if self.signature else None
        return self.values | {"report": str(self.page), "signature": signature}


def drill(context: Context, selected: Selected, *, again: bool = False) -> tuple[Drill, Report]:
    """Prove the `selected` artifacts and write the report; check the remote stores that are due, and older copies.

    Of a store that is read with the recovery key, every piece is opened, if the newest of every source was selected.

    again: a retry follows soon, so transient failures send no message yet.
    """
    found = prove(context, selected, watch=open_watch(context), again=again)
    if context.remote and context.has_key and selected.everything:
        begun = context.clock.monotonic()
        opened = _opened(context, context.remote)
        found = replace(found, opened=opened, seconds=found.seconds + context.clock.monotonic() - begun)
    return reported(context, found)


def reported(context: Context, found: Drill) -> tuple[Drill, Report]:
    """Write the report of a drill; check the remote stores that are due, and older copies."""
    for sentence in _of_stores(context, found.opened):
        context.note(sentence)
    values = report(found, {"host": platform.node(), "made_by": f"refnet {__version__}"})
    clock = context.clock
    written = write_report(values, context.settings.home / "reports", clock.local(), clock.zone)
    return found, signed(context, written)


def _opened(context: Context, store: RemoteStore) -> OpenedPieces:
    try:
        return open_pieces(store, context.clock.now, context.progress)
    except RefnetError as error:
        why = f"{error.message}; the next drill continues"
        return OpenedPieces(store.name, 0, 0, 0, (), 0, trouble=why)


def _of_stores(context: Context, opened: OpenedPieces | None) -> Iterator[str]:
    """Check the remote stores; yield a sentence for each problem. `opened`: all of that store was read just now."""
    yield from check_due(context)
    if context.settings.every_store:
        yield from read_back_older(context, opened.store if opened and not opened.trouble else "")


def drilled_since(context: Context, selected: Selected, asked: datetime) -> bool:
    """Whether every `selected` artifact had a drill since `asked`."""
    now = context.clock.now()
    return all(
        one.entry and any(line.drill and asked <= line.at <= now for line in one.entry.evidence)
        for one in selected.chosen
    )


def prove(context: Context, selected: Selected, *, watch: Watch | None = None, again: bool = False) -> Drill:
    """Prove each artifact and record it as a drill. `watch` is told about runs of catalog artifacts."""
    clock = context.clock
    started, start = clock.now(), clock.monotonic()

    def one(chosen: OpenArtifact) -> Verified:
        watched = watch if chosen.entry else None
        run = watched and watched.run(RunKind.DRILL, chosen.source, artifact=chosen.name, again=again)
        with run or nullcontext() as at_work:
            within = replace(context, progress=at_work.logged(context.progress)) if at_work else context
            result = _closed(within, chosen) or verify(within, chosen, Level.PROVEN, drill=True)
            if at_work:
                report_proof(at_work, chosen.name, result.whole)
        return result

    results = tuple(map(one, selected.chosen))
    return Drill(started, clock.monotonic() - start, results, selected.absent)


def _closed(context: Context, chosen: OpenArtifact) -> Verified | None:
    """Result for an encrypted artifact without an available recovery key."""
    if not (context.settings.encryption_local and chosen.store == LOCAL) or context.has_key:
        return None
    why = "it is encrypted, and the recovery key is needed: run `refnet drill` at a terminal, or with --identity-file FILE"
    proof = Proof(Level.PROVEN, None, (Finding("the proof itself", Outcome.UNVERIFIED, why),))
    return Verified(chosen, proof, context.clock.now(), 0.0, beside=beside(context, chosen))


def report(found: Drill, facts: Mapping[str, str]) -> dict[str, Any]:
    """The drill as JSON values, for the report and the page.

    Times are UTC, durations seconds, sizes bytes. `facts`: where it ran (host, RefNet's version).
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
                "source": source,
                "outcome": Outcome.UNVERIFIED.value,
                "findings": [_ABSENT.to_json()],
            }
            for source in found.absent
        ],
        **({"pieces": found.opened.to_json()} if found.opened else {}),
        **({"recovery": found.recovery.to_json()} if found.recovery else {}),
    }


def _result(result: Verified, started: datetime) -> dict[str, Any]:
    proof = result.proof
    return {
        "source": result.chosen.source,
        "outcome": proof.outcome,
        "level": proof.level,
        "artifact": result.chosen.name,
        **_made(result.chosen.manifest, started),
        "server": proof.server,
        "missing_walls": list(proof.missing_walls),
        "recovery_seconds": round(sum(proof.seconds.values()), 3),
        "seconds": rounded(proof.seconds),
        "findings": [finding.to_json() for finding in (*proof.findings, *result.beside)],
        "rows": list(proof.rows),
        "unrecorded": result.unrecorded or None,
    }


def _made(manifest: Manifest | None, started: datetime) -> dict[str, Any]:
    """Facts from the manifest; empty without one."""
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


def write_report(values: dict[str, Any], folder: Path, local: datetime, zone: tzinfo | None) -> Report:
    """Write the JSON and the page into `folder`, readable only by this user."""
    make_folder(folder)
    stem = f"drill_{local:%Y%m%d_%H%M%S}"
    return Report(
        values,
        disk.write_new(folder, stem, ".json", _text(values)),
        disk.write_new(folder, stem, ".html", page(values, zone).encode()),
    )


def page(values: Mapping[str, Any], zone: tzinfo | None = None) -> str:
    """The report `values` as a page, with times in `zone` (None: the machine's)."""
    return formatting.utf8(render("drill.html.j2", zone, report=values, columns_of=_columns, text=_shown))


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """Return the columns of `rows`: name, and True if it has only numbers."""
    names = dict.fromkeys(key for row in rows for key in row)
    return [
        (name, all(_is_number(row.get(name)) for row in rows if row.get(name) is not None)) for name in names
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(name: str, value: Any) -> str:
    """Return `value` of the column or detail `name` for display."""
    if not _is_number(value):
        return str(value)
    if name.endswith("bytes"):
        return formatting.size(value)
    return formatting.seconds(value) if name == "seconds" else f"{value:,}"


def signed(context: Context, report: Report) -> Report:
    """Sign `report` if this machine has a signing key; failures become a note."""
    keys, path = MachineKeys.in_home(context.settings.home), report.json.with_name(f"{report.json.name}.sig")
    if not keys.signing_file.exists():
        return report
    try:
        signature = keys.sign(_text(report.values), NAMESPACE)
        with explained(path):
            replace_file(path, signature.encode())
    except RefnetError as error:
        context.note(f"the report is not signed: {error.message}")
        return report
    return replace(report, signature=path)


def _text(values: dict[str, Any]) -> bytes:
    return formatting.utf8(json.dumps(values, ensure_ascii=False, indent=2, default=str) + "\n").encode()
