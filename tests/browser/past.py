"""Earlier nights: real artifacts under earlier dates, and the runs that would have made them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from refnet.catalog.manifest import EVIDENCE_SUFFIX, FILES_SUFFIX, MANIFEST_SUFFIX, utc
from refnet.catalog.run import Ended, Reason, Run, RunKind

#: Each source with the hour of its backups.
_SOURCES = {"obsidian": 1, "database": 2, "config": 3}
#: Nights, counted back from now, in which the machine was off, or the backup failed.
_OFF, _FAILED = 9, 4
_SUNDAY = 6


@dataclass(frozen=True)
class _Kept:
    """One artifact with what lies beside it."""

    content: bytes
    files: bytes | None
    manifest: dict[str, Any]
    evidence: list[dict[str, Any]]


@dataclass
class Past:
    """Adds nights to the folder `backups` and to the journal of runs."""

    backups: Path
    journal: Path
    _kept: dict[tuple[int, str], _Kept] = field(default_factory=dict)

    def take(self, step: int) -> None:
        """Keep the newest artifacts as the pattern for nights of `step`."""
        for source in _SOURCES:
            newest = max(self._manifests(source), key=lambda path: json.loads(path.read_text())["created"])
            self._kept[step, source] = _read(newest)

    def night(self, step: int, midnight: datetime, ago: int) -> None:
        """Add what the night after `midnight`, `ago` nights before now, would have made."""
        if ago == _OFF:
            return
        for source, hour in _SOURCES.items():
            moment = midnight + timedelta(hours=hour, seconds=ago % 7)
            if source == "config" and moment.weekday() != _SUNDAY:
                continue
            failed = source == "database" and ago == _FAILED
            name = "" if failed else self._write(source, self._kept[step, source], moment)
            self._ran(source, moment, 3.0 + ago % 5 * 0.4, name)

    def forget(self) -> None:
        """Remove what there is: the artifacts, and their runs from the journal; crawls stay."""
        lines = self.journal.read_text(encoding="utf-8").splitlines(keepends=True)
        crawls = [line for line in lines if Run.from_json(line).kind is RunKind.CRAWL]
        self.journal.write_text("".join(crawls), encoding="utf-8")
        for source in _SOURCES:
            for manifest in self._manifests(source):
                _remove(manifest)

    def newest(self, step: int, moment: datetime) -> None:
        """Add the newest artifacts, of `moment`."""
        for source in _SOURCES:
            self._ran(source, moment, 3.2, self._write(source, self._kept[step, source], moment))

    def _manifests(self, source: str) -> list[Path]:
        found = (self.backups / source).glob(f"*{MANIFEST_SUFFIX}")
        return [path for path in found if not path.name.startswith(".")]

    def _write(self, source: str, kept: _Kept, moment: datetime) -> str:
        stem = {"database": "refnet", "obsidian": "vault"}.get(source, source)
        name = f"{stem}_{moment:%Y%m%d_%H%M%S}{'.sql.gz' if source == 'database' else '.tar.gz'}"
        path = self.backups / source / name
        manifest = kept.manifest | {
            "name": name,
            "created": utc(moment),
            "published": utc(moment),
            "shrunk": [],
            "shrunk_from": "",
        }
        evidence = [
            line | {"at": utc(moment + timedelta(seconds=4 + n))} for n, line in enumerate(kept.evidence)
        ]
        _put(path, kept.content)
        if kept.files is not None:
            _put(path.with_name(name + FILES_SUFFIX), kept.files)
        _put(path.with_name(name + EVIDENCE_SUFFIX), "".join(json.dumps(x) + "\n" for x in evidence).encode())
        _put(path.with_name(name + MANIFEST_SUFFIX), json.dumps(manifest).encode())
        return name

    def _ran(self, source: str, moment: datetime, seconds: float, artifact: str) -> None:
        run = Run(
            f"{moment:%Y%m%d-%H%M%S}-{source}",
            RunKind.BACKUP,
            source,
            moment,
            Ended.DONE if artifact else Ended.FAILED,
            seconds,
            None if artifact else Reason.SERVER,
            "" if artifact else "no PostgreSQL server answers at db.lab:5432: Connection refused",
            "" if artifact else "Start the server, or fix host and port in database_url.",
            artifact,
            free=shutil.disk_usage(self.backups).free + (datetime.now(UTC) - moment).days * 10_000_000,
            sent={"nas": 4096} if artifact else {},
        )
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(run.to_json() + "\n")


def damage(artifact: Path) -> None:
    """Add a check that found `artifact` damaged."""
    lines = artifact.with_name(artifact.name + EVIDENCE_SUFFIX)
    manifest = json.loads(artifact.with_name(artifact.name + MANIFEST_SUFFIX).read_text())
    found = {
        "artifact": manifest["sha256"],
        "at": utc(datetime.now(UTC)),
        "level": "intact",
        "outcome": "failed",
        "seconds": 0.2,
        "reasons": [f"{artifact.name}: the bytes are not those of the manifest"],
    }
    with lines.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")


def _read(manifest: Path) -> _Kept:
    values = json.loads(manifest.read_text())
    artifact = manifest.with_name(values["name"])
    files = artifact.with_name(artifact.name + FILES_SUFFIX)
    evidence = artifact.with_name(artifact.name + EVIDENCE_SUFFIX).read_text().splitlines()
    return _Kept(
        artifact.read_bytes(),
        files.read_bytes() if files.exists() else None,
        values,
        [json.loads(line) for line in evidence],
    )


def _remove(manifest: Path) -> None:
    artifact = manifest.with_name(manifest.name.removesuffix(MANIFEST_SUFFIX))
    for ending in (MANIFEST_SUFFIX, EVIDENCE_SUFFIX, FILES_SUFFIX, ""):
        artifact.with_name(artifact.name + ending).unlink(missing_ok=True)


def _put(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
