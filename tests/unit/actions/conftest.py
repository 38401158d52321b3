"""A small honest source: it writes lines, and proves them by reading them back."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.memory_store import MemoryStore

from refnet.catalog.artifact import Finding, Made, OpenArtifact, Progress, Proof, Turn, at_once, silent
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Store
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.proof_run import ProofOptions
from refnet.settings import Settings
from refnet.sources.contents import Artifact
from refnet.sources.database.source import Database
from refnet.sources.folder.source import Folder
from refnet.store.local import LocalStore

NOW = datetime(2026, 11, 25, 17, 0, 1, tzinfo=UTC)


@dataclass
class Lines:
    """A source of `lines`, stored deflated; `name` is the source that it stands for.

    `created`: the moment that it holds. `says`: what an artifact says of itself. `reaches`: what a proof on this machine can reach. `refuses`: what it
    raises instead of a proof.
    """

    lines: list[str] = field(default_factory=lambda: ["one", "two"])
    name: SourceName = SourceName.DATABASE
    created: datetime = NOW
    says: Made | None = None
    reaches: Level = Level.PROVEN
    refuses: RefnetError | None = None

    def digesting(self, up_to: int) -> None:
        return None

    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        data = "\n".join(self.lines).encode()
        out.write(zlib.compress(data))
        progress("dump", len(data), len(data))
        return Made(self.created, {"rows": len(self.lines), "content": hashlib.sha256(data).hexdigest()})

    def prove(self, held: OpenArtifact, level: Level, progress: Progress = silent) -> Proof:
        if self.refuses:
            raise self.refuses
        try:
            with held.open() as reader:
                data = zlib.decompress(reader.read())
        except zlib.error as error:
            return Proof(level, None, (Finding("inflates", Outcome.FAILED, str(error)),))
        findings = [Finding("inflates", Outcome.PASSED)]
        rows = ({"name": "lines", "rows": data.count(b"\n") + 1, "bytes": len(data)},)
        content = held.manifest.details.get("content") if held.manifest else None
        if content and hashlib.sha256(data).hexdigest() != content:
            findings.append(Finding("lines", Outcome.FAILED, "other lines came back"))
            return Proof(level, Level.RESTORED, tuple(findings), "scratch 1", {"load": 1.0}, rows)
        reached = min(level, self.reaches, key=lambda one: one.rank)
        if reached is not level:
            findings.append(Finding("lines", Outcome.UNVERIFIED, "no scratch place here"))
        return Proof(level, reached, tuple(findings), "scratch 1", {"load": 1.0, "compare": 0.5}, rows)


#: Of the running test: its homes, and the sources of its labs.
_homes: list[Path] = []
_proves: list[Any] = []


def _opened(real: Callable[[OpenArtifact], Artifact], held: OpenArtifact) -> Artifact:
    return LinesArtifact(_proves[-1], held) if _proves else real(held)


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where a test makes a lab, every artifact is one of its source; of several, of the last one."""
    for kind in (Database, Folder):
        monkeypatch.setattr(kind, "opened", partial(_opened, kind.opened))
    yield
    _proves.clear()


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    """The REFNET_HOME of a lab."""
    _homes.append(tmp_path / "lab")
    yield _homes[-1]
    _homes.pop()


@dataclass(frozen=True)
class Lab:
    """What an action works with: this store, and this source for every artifact."""

    store: Store
    proves: Any
    clock: Clock
    settings: Settings = field(
        default_factory=lambda: Settings(home=_homes[-1], backup_dir=_homes[-1] / "backups")
    )
    progress: Progress = silent

    @property
    def local(self) -> Store:
        return self.store

    @property
    def catalog(self) -> Store:
        return self.store

    def __post_init__(self) -> None:
        _proves.append(self.proves)


@dataclass(frozen=True)
class LinesArtifact(Artifact):
    source: Lines
    held: OpenArtifact

    def describe(self, _created: datetime, /) -> Made | None:
        return self.source.says

    def prove(self, level: Level, options: ProofOptions) -> Proof:
        return self.source.prove(self.held, level, options.progress)


@pytest.fixture
def lines() -> type[Lines]:
    return Lines


@pytest.fixture
def clock() -> Callable[[], float]:
    """A clock that moves on by a second each time that it is read."""
    ticks = count()
    return lambda: float(next(ticks))


@pytest.fixture
def now() -> Callable[[], datetime]:
    """The time, a minute later each time."""
    minutes: Iterator[int] = count()
    return lambda: NOW + timedelta(minutes=next(minutes))


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "backups") if request.param == "local" else MemoryStore()
