"""Settings and target folders of a recovery, and which of them come from a backup.

Anyone who can write a backup can write its settings. So programs that a backup names run only after the user has seen and
permitted them, and folders that it names follow stricter rules than those of the user.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from refnet import wiring
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import SourceName, member_name
from refnet.compose import compose_file
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import resolved
from refnet.core.member_names import ArchiveError, show
from refnet.recovery import compose
from refnet.recovery.plan import RESTORES, Stage, restored_in
from refnet.recovery.services import POSTGRES
from refnet.settings import (
    BY_COMPOSE_FILE,
    FILE_NAME,
    LARGEST,
    Given,
    Settings,
    SourceSettings,
    keys,
    load,
    read_file,
    variable,
)
from refnet.sources import Source, hooks, kind_of, source_of
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.sources.restored_places import forms, is_in, is_of_programs, is_of_system, runs
from refnet.store import settings_copies
from refnet.store.source_records import ClusterRecord, SeenDatabases
from refnet.wiring import with_clusters

#: The settings that name a folder of programs → their fields.
BIN_DIRS = {"postgres.bin_dir": "postgres_bin_dir", "prove.bin_dir": "prove_bin_dir"}


@dataclass(frozen=True)
class RecoveryCommand:
    """A command that a recovery runs."""

    stage: Stage
    line: str
    #: Whether it came out of a backup.
    restored: bool
    #: It is a hook, which runs with the restore of its stage.
    hook: bool = False


@dataclass(frozen=True)
class Setup:
    """The setup of a recovery."""

    #: The settings in force, with the folder of the configuration.
    settings: Settings
    #: What names that folder, or "".
    origin: str
    #: Whether the settings file is the configuration's own, which a restore writes.
    own: bool
    notes: tuple[str, ...] = ()
    #: The folders that the set writes: a program in one of them is out of the backup, whatever settings name it.
    folders: tuple[Path, ...] = ()
    #: No setting names the vault, so it goes to the folder that it was backed up from.
    vault_by_manifest: bool = False

    @property
    def commands(self) -> tuple[RecoveryCommand, ...]:
        """Commands of all stages, in order, and restored hooks of later backups."""
        stages = dict.fromkeys((*RESTORES, *_KEYS))
        found = (command for stage in stages for command in (*self._hooks(stage), *self._of(stage)))
        return tuple(dict.fromkeys((*found, *self._later())))

    def _hooks(self, stage: Stage) -> Iterator[RecoveryCommand]:
        """Hooks of the restores in `stage`."""
        for source in restored_in(stage, wiring.known(self.settings)):
            for moment in ("before_restore", "after_restore", "on_error"):
                for line, restored in self._of_moment(source, moment):
                    yield RecoveryCommand(stage, line, restored, hook=True)

    def _later(self) -> Iterator[RecoveryCommand]:
        """Restored hooks of backups: the next backup does not ask, so they are permitted here."""
        for source in wiring.known(self.settings):
            for moment in ("before_backup", "after_backup"):
                for line, restored in self._of_moment(source, moment):
                    if restored:
                        yield RecoveryCommand(
                            Stage.CONFIG, f"{line} ({moment}, run by later backups)", restored
                        )

    def _of_moment(self, source: SourceName, moment: str) -> Iterator[tuple[str, bool]]:
        """Command lines of a hook, and whether each comes from the backup."""
        own = self.settings.sources.get(source)
        is_own = own and getattr(own, moment) is not None
        key = f"{own.table}.{source}.{moment}" if own and is_own else f"hooks.{moment}"
        folder = hooks.current_folder(self.settings)
        for words in hooks.commands(self.settings, source, moment):
            restored = (self.own and self._from_file(key)) or runs(words, folder, self.folders)
            yield hooks.line(words), restored

    def knows(self, source: SourceName) -> bool:
        """Whether the settings name `source`."""
        return source in wiring.known(self.settings)

    def source(self, name: SourceName) -> Source:
        """The source `name`; RefnetError if nothing may be restored to its place."""
        self.folder(name)
        return source_of(self.settings, name)

    def replaced(self, name: SourceName) -> str:
        """What a restore of the source `name` would replace; "": nothing."""
        return self.source(name).replaced() if self.knows(name) else ""

    def stands(self, entry: Entry) -> bool:
        """Whether what an earlier run restored from `entry` is still there."""
        return self.knows(entry.source) and self.source(entry.source).stands(entry)

    def folder(self, source: SourceName) -> Path | None:
        """Target folder of `source`, or None; RefnetError if nothing may be restored there."""
        if not kind_of(source).has_path:
            return None
        own = self.settings.of(source)
        if source == SourceName.CONFIG:
            said_by_backup = self.origin in {BY_MANIFEST, _BY_COPY}
        else:
            by_manifest = source == SourceName.OBSIDIAN and self.vault_by_manifest
            said_by_backup = by_manifest or (self.own and self._from_file(own.key_of("path")))
        return own.path and _checked(own, own.path, said_by_backup)

    def services(self, stage: Stage) -> tuple[str, ...]:
        """Services that `stage` starts."""
        names: tuple[str, ...] = getattr(self.settings, keys()[_KEYS[stage]].name) if stage in _KEYS else ()
        return names

    def _of(self, stage: Stage) -> list[RecoveryCommand]:
        names = self.services(stage)
        if not names:
            return []
        if self.settings.recover_services == "compose":
            folder = self.settings.config_dir
            file = folder and (compose_file(folder) or folder / "compose.yaml")
            line = shlex.join([*compose.program_words(), "--file", str(file), "up", "--detach", *names])
            return [RecoveryCommand(stage, line, True)]  # the Compose file itself came out of the backup
        if self.settings.recover_services == "local":
            own = self.own and self._from_file(_KEYS[stage])
            commands = [(name, shlex.split(name)) for name in names if name != POSTGRES]
            return [
                RecoveryCommand(stage, name, own or runs(words, Path.cwd(), self.folders))
                for name, words in commands
            ]
        return []

    def _from_file(self, key: str) -> bool:
        return self.settings.origins.get(key) == str(self.settings.file)


#: What says where the configuration goes, where nobody set it.
BY_MANIFEST = "the folder that it was backed up from"
_BY_COPY = "the settings beside the artifacts"
_KEYS = {
    Stage.CONFIG: "recover.storage",
    Stage.VAULT: "recover.application",
    Stage.BACKGROUND: "recover.background",
    Stage.EDGE: "recover.edge",
}


@dataclass(frozen=True)
class Machine:
    """State of the machine before a recovery."""

    environment: Mapping[str, str]
    #: The current folder.
    folder: Path
    #: The settings file that came with the copies of a store, its path and content; None: see the backup folder.
    copy: tuple[Path, bytes] | None = None
    #: It stands for an empty machine: settings files that are here do not count.
    empty: bool = False


def setup(
    machine: Machine,
    entries: Mapping[SourceName, Entry],
    *,
    trusting: bool = False,
    planned: bool = False,
) -> Setup:
    """Setup from the current settings, else from the refnet.toml of the configuration.

    On an empty machine the configuration returns to the folder that it was backed up from.

    Args:
        entries: the set to recover.
        trusting: use the program folder named by a backup's settings.
        planned: assume that the configuration of the set is already restored.
    """
    folder = machine.folder
    cores = len(os.sched_getaffinity(0))
    made = partial(load, machine.environment, root=os.geteuid() == 0, cores=cores, search=not machine.empty)
    settings = made(folder)
    entry = entries.get(SourceName.CONFIG)
    target, origin = _config_dir(settings, entry)
    notes: tuple[str, ...] = ()
    own = target / FILE_NAME if target and (entry or not machine.empty) else None
    if own and settings.file in {None, own}:
        given, notes = _own_file(settings, own, entry, planned=planned)
        try:
            settings = made(folder, given=given) if given else settings
        except RefnetError as error:
            if not planned:  # its own stage tells
                raise
            notes = (*notes, f"the settings in the backup cannot be used: {show(error.message)}")
    is_copy = settings.file is None and bool(entries)
    if is_copy:
        settings, more = _of_copy(partial(made, folder), machine.copy, settings, entries)
        notes = (*notes, *more)
        if settings.config_dir and not target:
            target, origin = settings.config_dir, _BY_COPY
    if target:
        settings = replace(settings, config_dir=target)
    vault = None if "vault_dir" in settings.origins else _recorded(entries.get(SourceName.OBSIDIAN))
    if vault:
        settings = replace(settings, vault_dir=vault)
    notes = (*notes, *_elsewhere(settings, entries))
    folders = _folders(settings, entries)
    is_own = settings.file is not None and (
        is_copy or is_in(settings.file, folders) or _came_back(settings, settings.file, target, entry)
    )
    if not trusting:
        settings, more = _without_programs(settings, folders, is_own=is_own)
        notes = (*notes, *more)
    full = with_clusters(settings, _seen(settings, entries))
    return Setup(full, origin, is_own, notes, folders, vault_by_manifest=vault is not None)


def _without_programs(
    settings: Settings, folders: Collection[Path], *, is_own: bool
) -> tuple[Settings, tuple[str, ...]]:
    """`settings` without the folders of programs that a backup may have named, or written; and notes.

    Args:
        folders: what the recovery writes.
        is_own: the settings file may be out of the backup.
    """
    notes: tuple[str, ...] = ()
    for name, field in BIN_DIRS.items():
        programs: Path | None = getattr(settings, field)
        said_by_backup = is_own and settings.origins.get(name) == str(settings.file)
        if programs and (said_by_backup or is_in(programs, folders)):
            why = "the setting comes" if said_by_backup else "the programs may come"
            notes = (*notes, f"{name} {programs} is not used: {why} from a backup")
            without: dict[str, Any] = {field: None}
            settings = replace(settings, **without)
    return settings, notes


def _elsewhere(settings: Settings, entries: Mapping[SourceName, Entry]) -> Iterator[str]:
    """Warn about folders restored elsewhere than where they were backed up from.

    Containers that make the backups of a stack have other paths than the machine.
    """
    if settings.recover_services == "compose":
        return
    for source, entry in entries.items():
        known = source in wiring.known(settings) and kind_of(source).has_path
        target, recorded = settings.of(source).path if known else None, _recorded(entry)
        if target and recorded and resolved(target) != resolved(recorded):
            yield f"{source} goes to {show(str(target))}; it was backed up from {show(str(recorded))}"


def _folders(settings: Settings, entries: Iterable[SourceName]) -> tuple[Path, ...]:
    """Folders that a recovery of `entries` writes, as configured and with links resolved."""
    there = [one for one in entries if kind_of(one).has_path and one in wiring.known(settings)]
    found = [path for one in there if (path := settings.of(one).path)]
    return tuple(dict.fromkeys(form for one in found for form in forms(one)))


def unnamed(machine: Machine, entries: Mapping[SourceName, Entry]) -> tuple[SourceName, ...]:
    """Sources of a set to fetch that no settings name; () if its configuration may name them."""
    if SourceName.CONFIG in entries:
        return ()
    known = wiring.known(setup(machine, entries).settings)
    return tuple(one for one in entries if one not in known)


def _seen(settings: Settings, entries: Mapping[SourceName, Entry]) -> dict[str, SeenDatabases]:
    """Databases of each cluster: those seen last, and those of the set."""
    found = {}
    for cluster in settings.clusters:
        of_set = [
            entry.identity.database
            for source, entry in entries.items()
            if entry.identity and source == member_name(cluster, entry.identity.database)
        ]
        known = ClusterRecord.at(settings.home, cluster).read().databases
        found[cluster] = SeenDatabases(tuple(dict.fromkeys((*known, *of_set))))
    return found


def _of_copy(
    made: Callable[..., Settings],
    given: tuple[Path, bytes] | None,
    settings: Settings,
    entries: Mapping[SourceName, Entry],
) -> tuple[Settings, tuple[str, ...]]:
    """Settings from the copy beside the set `entries`, else `settings`; and notes."""
    moment = max(entry.published for entry in entries.values())
    try:
        found = given or settings_copies.newest(settings.backup_dir, moment + settings_copies.SOON_AFTER)
        if not found:
            return settings, ()
        copied = made(given=Given.of(*found))
    except RefnetError as error:
        where = "that came with the copies" if given else "in the backup folder"
        why = f"{show(error.message)}. {show(error.hint)}"
        return settings, (f"the settings {where} cannot be used: {why}",)
    return replace(copied, backup_dir=settings.backup_dir), ()


def _config_dir(settings: Settings, entry: Entry | None) -> tuple[Path | None, str]:
    """Folder of the configuration, and what names it: the settings, the set, or a Compose file here."""
    said = settings.origins.get("config_dir", "")
    if settings.config_dir and not said.startswith(BY_COMPOSE_FILE):
        return settings.config_dir, said
    if recorded := _recorded(entry):
        return recorded, BY_MANIFEST
    return settings.config_dir, said


def _recorded(entry: Entry | None) -> Path | None:
    """Folder that `entry` was backed up from, if recorded."""
    folder = entry.manifest.details.get("folder") if entry else None
    says_one = isinstance(folder, str) and folder.startswith("/") and folder.isprintable()
    return Path(folder) if says_one and isinstance(folder, str) else None


def _own_file(
    settings: Settings, own: Path, entry: Entry | None, *, planned: bool
) -> tuple[Given | None, tuple[str, ...]]:
    """The configuration's own settings file, and notes: the live one, else the one in the set.

    planned: prefer the one in the set.
    """
    if planned and entry:
        try:
            if found := _in_archive(settings, own, entry):
                return found, ()
        except (ArchiveError, RefnetError) as error:
            return None, (f"the settings in {entry.name} cannot be used: {show(str(error))}",)
    try:
        return read_file(own), ()
    except RefnetError as error:  # restored by root as what it was before: a user's file
        try:
            found = _in_archive(settings, own, entry) if entry else None
        except ArchiveError:
            raise error from None
        if not found:
            raise
        return found, ()


def _in_archive(settings: Settings, own: Path, entry: Entry) -> Given | None:
    content = FilesArtifact(wiring.store(settings).artifact(entry)).file(FILE_NAME, LARGEST)
    return None if content is None else Given.of(own, content, f"{FILE_NAME} in {entry.name}")


def _came_back(settings: Settings, file: Path, target: Path | None, entry: Entry | None) -> bool:
    """Whether a restore may have written `file`: it is in a target folder, or equals the file in the backup."""
    if resolved(file.parent) in {resolved(folder) for folder in (target, _recorded(entry)) if folder}:
        return True
    try:
        found = _in_archive(settings, file, entry) if entry else None
    except (ArchiveError, RefnetError):
        return False
    return found is not None and found == replace(read_file(file) or found, warnings=())


def _checked(own: SourceSettings, folder: Path, said_by_backup: bool) -> Path:
    """The `folder` of the source `own`; RefnetError if nothing may be restored there."""
    places = forms(folder)
    if any(map(is_of_system, places)) or (said_by_backup and any(map(is_of_programs, places))):
        raise RefnetError(
            f"{own.name} is not restored to {show(str(folder))}: that folder belongs to the system, or contains other data",
            f"Name a folder of its own: {variable(own.key_of('path'))}=FOLDER.",
            Exit.USAGE,
        )
    return folder
