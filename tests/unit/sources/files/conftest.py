"""A small vault with everything that is odd in it, and artifacts of folders, made in memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from refnet.catalog.artifact import Made, OpenArtifact, Proof
from refnet.catalog.manifest import Level, Manifest
from refnet.catalog.source_name import SourceName
from refnet.proof_run import ProofOptions
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.sources.folder.files_maker import FilesMaker
from refnet.sources.folder.scope import EVERYTHING, ConfigEntry, Scope

NOW = datetime(2026, 11, 25, 1, 0, tzinfo=UTC)

ODD_NAMES = [
    b"plain.md",
    b"two\nlines.md",
    "引用ネットワーク 📚.md".encode(),
    b'quo\'tes "and" `ticks` $(rm).md',
    b"back\\slash.md",
    b" leading and trailing ",
    b"-rf",
    b"not \xff\xfe utf-8.md",
    b"n" * 252 + b".md",
    "長".encode() * 84 + b".md",
]


@dataclass(frozen=True)
class Artifact:
    """An artifact in memory, as a store would hold it."""

    data: bytes
    made: Made
    manifest: Manifest

    @property
    def held(self) -> OpenArtifact:
        return OpenArtifact(
            SourceName.OBSIDIAN,
            self.manifest.name,
            lambda: io.BytesIO(self.data),
            self.manifest,
            lambda: self.made.files,
        )


Dump = Callable[..., Artifact]


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Notes of odd names, an empty folder, modes, a large note, a link inside; every entry old enough to be settled."""
    folder = tmp_path / "vault"
    (folder / "papers" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / ".obsidian").mkdir(mode=0o700)
    (folder / ".obsidian" / "app.json").write_text("{}")
    for number, name in enumerate(ODD_NAMES):
        (folder / "papers" / os.fsdecode(name)).write_bytes(b"note %d\n" % number * (number * 100))
    (folder / "papers" / "deep" / ("d" * 200)).mkdir()
    (folder / "papers" / "deep" / ("d" * 200) / "long path.md").write_text("found")
    (folder / "empty.md").touch()
    (folder / "script.sh").write_text("#!/bin/sh\n")
    (folder / "script.sh").chmod(0o750)
    (folder / "large.bin").write_bytes(os.urandom(1 << 20) + bytes(2 << 20) + b"end")
    (folder / "papers" / "link.md").symlink_to("../script.sh")
    os.utime(folder / "script.sh", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., FilesMaker]:
    def build(
        folder: Path, *, entries: tuple[ConfigEntry, ...] | None = None, last: OpenArtifact | None = None
    ) -> FilesMaker:
        name = SourceName.OBSIDIAN if entries is None else SourceName.CONFIG
        return FilesMaker(name, folder, entries, jobs=2, last=lambda: last, now=lambda: NOW)

    return build


@pytest.fixture
def dumped(source: Callable[..., FilesMaker]) -> Dump:
    """Dumps a folder; `last` is the artifact before it."""

    def dump(
        folder: Path,
        *,
        last: Artifact | None = None,
        entries: tuple[ConfigEntry, ...] | None = None,
        scope: Scope = EVERYTHING,
    ) -> Artifact:
        out = io.BytesIO()
        made = replace(source(folder, entries=entries, last=last.held if last else None), scope=scope).dump(
            out
        )
        data = out.getvalue()
        name = f"vault_{NOW:%Y%m%d}.tar.gz"
        files = sha256(made.files).hexdigest() if made.files else None
        manifest = Manifest(
            SourceName.OBSIDIAN, name, made.created, len(data), sha256(data).hexdigest(), 0.1,
            files_sha256=files, unchecked=made.unchecked, details=made.details, compared=made.compared,
        )  # fmt: skip
        return Artifact(data, made, manifest)

    return dump


@pytest.fixture
def prove(tmp_path: Path) -> Callable[..., Proof]:
    def run(held: OpenArtifact, level: Level, base: Path = tmp_path / "scratch", memory: int = 0) -> Proof:
        options = ProofOptions(base, lambda *_: pytest.fail("asked for programs"), jobs=2, memory=memory)
        return FilesArtifact(held).prove(level, options)

    return run


@pytest.fixture
def settled() -> Callable[[Artifact], Artifact]:
    """The artifact as if its files had been older when they were read."""

    def settle(artifact: Artifact) -> Artifact:
        details = {**artifact.manifest.details, "settled": True}
        return replace(artifact, manifest=replace(artifact.manifest, details=details))

    return settle
