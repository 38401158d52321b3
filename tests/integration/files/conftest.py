"""A vault and a configuration, their artifacts in a local store, and restores of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refnet.actions.backup import Options
from refnet.actions.backup import make as backup
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.settings import Settings
from refnet.sources.folder import folder_restore, restore_files
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.sources.folder.files_maker import FilesMaker
from refnet.sources.folder.scope import EVERYTHING, ConfigEntry, Scope, listed_names, parse_entries
from refnet.sources.folder.target import FolderTarget, target_of
from refnet.store.local import LocalStore

ENTRIES = ("compose.yaml", ".env", "docs/?", "scripts/?")


@dataclass(frozen=True)
class World:
    """One source, live in `folder`; its store; what can be done with it."""

    source: SourceName
    folder: Path
    root: Path
    scope: Scope = EVERYTHING

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.root / "backups")

    @property
    def swaps(self) -> Path:
        """Where the journals of restores lie."""
        return self.root / "home" / "swaps"

    @property
    def wanted(self) -> tuple[ConfigEntry, ...] | None:
        return parse_entries(ENTRIES) if self.source == SourceName.CONFIG else None

    @property
    def place(self) -> FolderTarget:
        names = listed_names(self.wanted) if self.wanted else None
        return target_of(self.source, self.folder, names, self.swaps, self.scope)

    def backup(self) -> OpenArtifact:
        source = FilesMaker(self.source, self.folder, self.wanted, self.swaps, scope=self.scope)
        settings = Settings(home=self.root / "home", backup_dir=self.store.root)
        made = backup(Context(settings, Clock(now, zone=UTC)), source, self.store, Options(prove=False))
        return self.store.artifact(Entry(made.manifest))

    def plan(self, held: OpenArtifact, *only: str, merge: bool = False) -> restore_files.FolderPlan:
        return restore_files.plan(FilesArtifact(held), self.place, only, merge=merge)

    def restore(self, held: OpenArtifact, *only: str, merge: bool = False) -> restore_files.RestoredFolder:
        planned = self.plan(held, *only, merge=merge)
        return restore_files.restore(FilesArtifact(held), planned, Clock())

    def undo(self) -> folder_restore.FolderUndone:
        return folder_restore.undo(self.place, now())

    def leftovers(self) -> list[str]:
        """The names of RefNet's own entries beside and in the folder."""
        return sorted(
            path.name
            for parent in {self.folder.parent, self.folder}
            for path in (parent.iterdir() if parent.exists() else ())
            if path.name.startswith(".refnet-")
        )


def now() -> datetime:
    return datetime.now(UTC)


def contents(folder: Path) -> dict[str, bytes | str | None]:
    """Path → content, a link's target, None for a folder; without what RefNet keeps there."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
        if not path.relative_to(folder).parts[0].startswith(".refnet-")
    }


@pytest.fixture
def contents_of() -> Callable[[Path], dict[str, bytes | str | None]]:
    return contents


@pytest.fixture
def vault(tmp_path: Path) -> World:
    return vault_in(tmp_path)


def vault_in(root: Path) -> World:
    """A vault below `root`."""
    folder = root / "live" / "vault"
    (folder / "papers" / "deep").mkdir(parents=True)
    (folder / ".obsidian").mkdir()
    (folder / ".obsidian" / "app.json").write_text("{}")
    for number in range(5):
        (folder / "papers" / f"note {number}.md").write_text(f"# Note {number}\n" * 30)
    (folder / "papers" / "deep" / "two\nlines 📚.md").write_text("deep")
    (folder / "papers" / "deep" / "link.md").symlink_to("../note 1.md")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o750)
    return World(SourceName.OBSIDIAN, folder, root)


@pytest.fixture
def config(tmp_path: Path) -> World:
    folder = tmp_path / "clone"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "src").mkdir()
    (folder / "src" / "main.py").write_text("print()\n")
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("a")
    (folder / "docs" / "b.md").write_text("b")
    (folder / "compose.yaml").write_text("services: {}\n")
    (folder / ".env").write_text("SECRET=1\n")
    (folder / ".env").chmod(0o600)
    return World(SourceName.CONFIG, folder, tmp_path)


@pytest.fixture(params=["vault", "config"])
def world(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)


def spoil(world: World) -> None:
    """Add, change and remove something of everything that is protected."""
    if world.source == SourceName.OBSIDIAN:
        (world.folder / "papers" / "note 3.md").write_text("spoilt")
        (world.folder / "papers" / "note 4.md").unlink()
        (world.folder / "new.md").write_text("new")
        (world.folder / "papers" / "deep" / "link.md").unlink()
    else:
        (world.folder / ".env").write_text("SECRET=2\n")
        (world.folder / "docs" / "a.md").unlink()
        (world.folder / "docs" / "c.md").write_text("c")
        (world.folder / "compose.yaml").unlink()
        (world.folder / "src" / "main.py").write_text("print(1)\n")
