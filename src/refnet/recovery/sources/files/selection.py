"""Select what of an artifact is restored, and which live entries it replaces."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.files import OPEN_FOLDER, opened
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.sources.files.listing import FileList, Kind, Listed, top_entries
from refnet.recovery.sources.files.member_names import MAX_PATH, ArchiveError, checked, parent, show, some
from refnet.recovery.sources.files.scope import Scope
from refnet.recovery.sources.files.target import FolderTarget
from refnet.recovery.sources.files.tree import Tree, read_tree


@dataclass(frozen=True)
class Selection:
    """Members of an artifact, and the live entries that they replace."""

    #: The members, as the archive names them.
    members: tuple[Listed, ...]
    #: The live folder that contains the replaced entries.
    folder: Path
    #: The part of the members' paths that leads to `folder`.
    prefix: str
    #: The entries of `folder` that are replaced.
    names: tuple[str, ...]
    #: The entries of `folder` that are removed, with no replacement.
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def files(self) -> FileList:
        """The members, with paths relative to `folder`."""
        return FileList(tuple(one._replace(path=one.path.removeprefix(self.prefix)) for one in self.members))


def against_live(files: FileList, target: FolderTarget, only: str | None = None) -> tuple[Selection, Tree]:
    """Select as `select` does, and read what it replaces.

    Live entries that the rules of `exclude` leave out stay: what the artifact has of them is not selected.
    """
    selection = select(files, target, only)
    scope = target.scope
    if only is not None and _excluded(scope, selection.prefix + selection.names[0]):
        scope = replace(scope, exclude=())  # the user has named it
    try:
        with opened(selection.folder, OPEN_FOLDER) as root:
            live = read_tree(root, scope.of(_top(selection, target, only), selection.prefix))
    except FileNotFoundError:
        return selection, Tree(FileList(()), ())
    if not target.entire or only is not None:
        live = replace(live, files=FileList(tuple(one for one in live.files.files if one.path != ".")))
    return _around(selection, live) if live.excluded else (selection, live)


def _top(selection: Selection, target: FolderTarget, only: str | None) -> frozenset[str] | None:
    """Return the entries to read; None: all."""
    if only is None and target.names is None:
        return None
    return frozenset((*selection.names, *selection.removed))


def _excluded(scope: Scope, path: str) -> bool:
    """Return True if a rule leaves out `path`, as a file or a folder, or one of its parents."""
    out = scope.leaves_out
    if out is None:
        return False
    parts = path.split("/")
    above = ("/".join(parts[:end]) + "/" for end in range(1, len(parts) + 1))
    return out(path) or any(map(out, above))


def _around(selection: Selection, live: Tree) -> tuple[Selection, Tree]:
    """Leave what the rules leave out of the live folder where it is."""
    stays = frozenset(live.excluded)
    above = frozenset(up for path in stays for up in _parents(path))
    members = tuple(
        one
        for one in selection.members
        if stays.isdisjoint((path := one.path.removeprefix(selection.prefix), *_parents(path)))
    )
    names = [name for name in selection.names if name not in stays]
    names += [name for name in selection.removed if name in above]  # replaced by one with what stays
    removed = tuple(name for name in selection.removed if name not in stays | above)
    made = replace(
        selection,
        members=members,
        names=tuple(names),
        removed=removed,
        notes=(
            *selection.notes,
            f"exclude leaves out, and the restore keeps as it is: {some(sorted(stays))}",
        ),
    )
    known = made.files.by_path
    files = tuple(one for one in live.files.files if one.path in known or one.path not in above)
    return made, replace(live, files=FileList(files))


def _parents(path: str) -> Iterator[str]:
    """Yield the folders above `path`, without the topmost one."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def select(files: FileList, target: FolderTarget, only: str | None) -> Selection:
    """Select what of `files` is restored into `target`: everything allowed, or the file or folder `only`.

    RefnetError if `only` is not in `files`, or may not be replaced.
    """
    if only is not None:
        return _one(files, target, _path(only, target))
    allowed = [one for one in files.files if _may(one.path, target)]
    notes = _left_out(files, target)
    if target.names is not None and not any(one.path != "." for one in allowed):
        raise RefnetError(
            "the archive has no entry of config.entries",
            "Is it an archive of the configuration? `tar -tzf` lists its content.",
            Exit.USAGE,
        )
    if target.entire:
        return Selection(tuple(allowed), target.folder, "", (), (), notes)
    members = tuple(one for one in allowed if one.path != ".")
    names = tuple(top_entries(members))
    live = _entries(target.folder)
    removed = tuple(name for name in live if name not in names) if target.names is None else ()
    left = sorted(name for name in live if target.names and name in target.names and name not in names)
    if left:
        notes = (*notes, f"not in the artifact, left unchanged: {some(left)}")
    return Selection(members, target.folder, "", names, removed, notes)


def _may(path: str, target: FolderTarget) -> bool:
    top = path.partition("/")[0]
    return not top.startswith(HIDDEN_PREFIX) and (target.names is None or top in target.names)


def _left_out(files: FileList, target: FolderTarget) -> tuple[str, ...]:
    left = [name for name in top_entries(files.files) if not _may(name, target)]
    if not left:
        return ()
    why = "not listed in config.entries" if target.names is not None else "RefNet's own"
    return (f"in the artifact, but {why}, so left out: {some(left)}",)


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir() if not one.name.startswith(HIDDEN_PREFIX))
    except FileNotFoundError:
        return []


def _path(only: str, target: FolderTarget) -> str:
    """Return the artifact's path for `only`, which may also be the path of the live file."""
    inside = only.removeprefix(f"{target.folder}/")
    try:
        path = checked(os.fsencode(inside))
    except ArchiveError as error:
        raise RefnetError(f"--only: {error}", "Give a path relative to the folder.", Exit.USAGE) from error
    if path == "." or not _may(path, target):
        raise RefnetError(
            f"--only: {show(path)} may not be replaced",
            "Omit --only to restore all of it."
            if path == "."
            else "Only the entries of config.entries are restored.",
            Exit.USAGE,
        )
    return path


def _one(files: FileList, target: FolderTarget, path: str) -> Selection:
    found = files.by_path.get(path) or _as_shown(files, path)
    if found is None:
        near = get_close_matches(path, files.by_path, 1) if len(files.files) <= 100_000 else []
        raise RefnetError(
            f"--only: {show(path)} is not in the artifact",
            f"Did you mean {show(near[0])}?"
            if near
            else "`refnet diff` lists what differs from the live files.",
            Exit.USAGE,
        )
    path = found.path
    base, name = _live_parent(target, path)
    start = f"{base}/{name}" if base else name
    ancestors = [
        one for one in _ancestors(files, path) if one.path == start or one.path.startswith(f"{start}/")
    ]
    below = (
        [one for one in files.files if one.path.startswith(f"{path}/")] if found.kind is Kind.FOLDER else []
    )
    return Selection((*ancestors, found, *below), target.folder / base, f"{base}/" if base else "", (name,))


def _as_shown(files: FileList, text: str) -> Listed | None:
    """Return the one member that is displayed as `text`: a name that is escaped in messages."""
    found = [one for one in files.files if show(one.path, MAX_PATH * 4) == text] if "\\" in text else []
    return found[0] if len(found) == 1 else None


def _ancestors(files: FileList, path: str) -> list[Listed]:
    """Return the parents of `path`, the topmost first."""
    above = []
    while (path := parent(path)) != ".":
        above.append(files.by_path[path])
    return above[::-1]


def _live_parent(target: FolderTarget, path: str) -> tuple[str, str]:
    """Return the deepest live folder on the way to `path` ("": the target itself), and the entry to replace in it."""
    base = ""
    *folders, last = path.split("/")
    for name in folders:
        live = target.folder / base / name
        if not os.path.lexists(live):
            return base, name
        if live.is_symlink() or not live.is_dir():
            raise RefnetError(
                f"--only: {show(str(live))} is a link or not a folder, so nothing is restored into it",
                "Move it away, or restore all of it.",
            )
        base = f"{base}/{name}" if base else name
    return base, last
