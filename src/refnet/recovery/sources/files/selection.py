"""What of an artifact is restored, and which live entries are exchanged for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.files import OPEN_FOLDER
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.sources.files.listing import FileList, Kind, Listed, top_entries
from refnet.recovery.sources.files.member_names import MAX_PATH, ArchiveError, checked, parent, show, some
from refnet.recovery.sources.files.target import FolderTarget
from refnet.recovery.sources.files.tree import Tree, read_tree


@dataclass(frozen=True)
class Selection:
    """Members of an artifact, and the live entries that they replace.

    `wanted`: the members, as the archive names them. `prefix`: what of their names lies above `folder`, the live
    folder to which `files` (the same members) are relative. `names`: the entries of `folder` that come;
    `gone`: those that go with nothing in their place.
    """

    wanted: tuple[Listed, ...]
    folder: Path
    prefix: str
    names: tuple[str, ...]
    gone: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def files(self) -> FileList:
        return FileList(tuple(one._replace(path=one.path.removeprefix(self.prefix)) for one in self.wanted))

    def live(self, *, whole: bool) -> Tree:
        """What stands in the place of the selection now; with the folder itself where it is exchanged `whole`."""
        try:
            root = os.open(self.folder, OPEN_FOLDER)
        except FileNotFoundError:
            return Tree(FileList(()), ())
        try:
            return read_tree(root, None if whole else {*self.names, *self.gone})
        finally:
            os.close(root)


def select(files: FileList, place: FolderTarget, only: str | None) -> Selection:
    """What of `files` is restored into `place`: everything that may be, or the file or folder `only`.

    RefnetError where `only` is not there, or may not be exchanged.
    """
    if only is not None:
        return _one(files, place, _path(only, place))
    allowed = [one for one in files.files if _may(one.path, place)]
    notes = _left_out(files, place)
    if place.names is not None and not any(one.path != "." for one in allowed):
        raise RefnetError(
            "the archive holds nothing that config.entries lists",
            "Is it an archive of the configuration? `tar -tzf` shows what it holds.",
            Exit.USAGE,
        )
    if place.whole:
        return Selection(tuple(allowed), place.folder, "", (), (), notes)
    wanted = tuple(one for one in allowed if one.path != ".")
    names = tuple(top_entries(wanted))
    live = _entries(place.folder)
    gone = tuple(name for name in live if name not in names) if place.names is None else ()
    left = sorted(name for name in live if place.names and name in place.names and name not in names)
    if left:
        notes = (*notes, f"not in the artifact, left as they are: {some(left)}")
    return Selection(wanted, place.folder, "", names, gone, notes)


def _may(path: str, place: FolderTarget) -> bool:
    top = path.partition("/")[0]
    return not top.startswith(HIDDEN_PREFIX) and (place.names is None or top in place.names)


def _left_out(files: FileList, place: FolderTarget) -> tuple[str, ...]:
    left = [name for name in top_entries(files.files) if not _may(name, place)]
    if not left:
        return ()
    why = "not listed in config.entries" if place.names is not None else "RefNet's own"
    return (f"in the artifact, but {why}, so left out: {some(left)}",)


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir() if not one.name.startswith(HIDDEN_PREFIX))
    except FileNotFoundError:
        return []


def _path(only: str, place: FolderTarget) -> str:
    """The path of the artifact that the user means by `only`, which may also be that of the live file."""
    inside = only.removeprefix(f"{place.folder}/")
    try:
        path = checked(os.fsencode(inside))
    except ArchiveError as error:
        raise RefnetError(
            f"--only: {error}", "Give a path as it is within the folder.", Exit.USAGE
        ) from error
    if path == "." or not _may(path, place):
        raise RefnetError(
            f"--only: {show(path)} is nothing that may be exchanged",
            "Leave --only out to restore all of it."
            if path == "."
            else "Only what config.entries lists is touched.",
            Exit.USAGE,
        )
    return path


def _one(files: FileList, place: FolderTarget, path: str) -> Selection:
    found = files.by_path.get(path) or _as_shown(files, path)
    if found is None:
        near = get_close_matches(path, files.by_path, 1) if len(files.files) <= 100_000 else []
        raise RefnetError(
            f"--only: {show(path)} is not in the artifact",
            f"Did you mean {show(near[0])}?"
            if near
            else "`refnet diff` shows what differs from what is live.",
            Exit.USAGE,
        )
    path = found.path
    base, name = _standing(place, path)
    start = f"{base}/{name}" if base else name
    ancestors = [
        one for one in _ancestors(files, path) if one.path == start or one.path.startswith(f"{start}/")
    ]
    below = (
        [one for one in files.files if one.path.startswith(f"{path}/")] if found.kind is Kind.FOLDER else []
    )
    return Selection((*ancestors, found, *below), place.folder / base, f"{base}/" if base else "", (name,))


def _as_shown(files: FileList, text: str) -> Listed | None:
    """The one member that a display shows as `text`: a name with control characters, or that is no UTF-8."""
    found = [one for one in files.files if show(one.path, MAX_PATH * 4) == text] if "\\" in text else []
    return found[0] if len(found) == 1 else None


def _ancestors(files: FileList, path: str) -> list[Listed]:
    """The folders that hold `path`, the topmost first."""
    above = []
    while (path := parent(path)) != ".":
        above.append(files.by_path[path])
    return above[::-1]


def _standing(place: FolderTarget, path: str) -> tuple[str, str]:
    """The deepest live folder on the way to `path` (`""`: the place's own), and the entry of it that comes."""
    base = ""
    *folders, last = path.split("/")
    for name in folders:
        live = place.folder / base / name
        if not os.path.lexists(live):
            return base, name
        if live.is_symlink() or not live.is_dir():
            raise RefnetError(
                f"--only: {show(str(live))} is no folder of its own, so nothing is put into it",
                "Move it away, or restore all of it.",
            )
        base = f"{base}/{name}" if base else name
    return base, last
