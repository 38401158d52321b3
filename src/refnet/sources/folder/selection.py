"""Selects the members of an artifact to restore, and the live entries to replace."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import NamedTuple

from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FOLDER, explain, opened
from refnet.core.glob import Glob
from refnet.core.member_names import MAX_PATH, ArchiveError, checked, parent, show, some
from refnet.sources.folder.listing import FileList, Listed, top_entries
from refnet.sources.folder.scope import Scope
from refnet.sources.folder.target import FolderTarget
from refnet.sources.folder.tree import Tree, read_entries, read_tree

#: Names like a mistyped one are looked for among so many members at most.
_COMPARED = 100_000


class NothingMatchesError(RefnetError):
    """A path or pattern without a match in the artifact; the artifact's name follows the message."""


class LivePlace(NamedTuple):
    """An entry of the live folder that is replaced."""

    #: The names of the folders that lead to it.
    folder: tuple[str, ...]
    name: str

    @property
    def path(self) -> str:
        return "/".join((*self.folder, self.name))

    @classmethod
    def at(cls, path: str) -> "LivePlace":
        *folder, name = path.split("/")
        return cls(tuple(folder), name)


@dataclass(frozen=True)
class Selection:
    """Members of an artifact, and the live entries that they replace."""

    #: The members that become live, as the archive names them.
    files: FileList
    #: The live entries that are replaced, by folder; none if the folder itself is.
    places: tuple[LivePlace, ...] = ()
    #: The live top entries that are removed, with no replacement.
    removed: tuple[str, ...] = ()
    #: The folders on the way to `places`, which stay live as they are.
    above: tuple[Listed, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def unpacked(self) -> FileList:
        """The members, and private folders on the way to them."""
        above = tuple(one._replace(mode=0o700, acl="", xattrs="") for one in self.above)
        return FileList((*above, *self.files.files))


def against_live(files: FileList, target: FolderTarget, only: Sequence[str] = ()) -> tuple[Selection, Tree]:
    """Select like `select`, and read the live entries to replace.

    Excluded live entries stay: their members in the artifact are not selected.
    """
    selection = select(files, target, only)
    try:
        with opened(target.folder, OPEN_FOLDER) as root:
            live = _live(root, selection, target, only)
    except FileNotFoundError:
        return selection, Tree(FileList(()), ())
    except NotADirectoryError as error:
        raise explain(error, target.folder) from error
    return _around(selection, live) if live.excluded else (selection, live)


def _live(root: int, selection: Selection, target: FolderTarget, only: Sequence[str]) -> Tree:
    """Read the entries to replace in the open live folder."""
    if not only and target.names is None:
        tree = read_tree(root, target.live_scope)
        files = (
            tree.files.files if target.entire else tuple(one for one in tree.files.files if one.path != ".")
        )
        return replace(tree, files=FileList(files))
    places = (*selection.places, *(LivePlace((), name) for name in selection.removed))
    named = [
        one for one in places if only and _excluded(target.scope, one.path)
    ]  # the rules do not hold there
    tree = read_entries(root, [one for one in places if one not in named], target.scope)
    return tree + read_entries(root, named)


def _excluded(scope: Scope, path: str) -> bool:
    """Whether a rule excludes `path`, as a file or folder, or one of its parents."""
    out = scope.leaves_out
    if out is None:
        return False
    return out(path) or any(out(f"{above}/") for above in (path, *_ancestors(path)))


def _around(selection: Selection, live: Tree) -> tuple[Selection, Tree]:
    """Restrict `selection` to keep excluded live entries in place."""
    stays = frozenset(live.excluded)
    above = frozenset(up for path in stays for up in _ancestors(path))
    members = tuple(
        one for one in selection.files.files if stays.isdisjoint((one.path, *_ancestors(one.path)))
    )
    places = [one for one in selection.places if one.path not in stays]
    places += [
        LivePlace((), name) for name in selection.removed if name in above
    ]  # replaced by one with what stays
    made = replace(
        selection,
        files=FileList(members),
        places=tuple(places),
        removed=tuple(name for name in selection.removed if name not in stays | above),
        notes=(
            *selection.notes,
            f"excluded, and not changed by the restore: {some(sorted(stays))}",
        ),
    )
    known = made.files.by_path
    files = tuple(one for one in live.files.files if one.path in known or one.path not in above)
    return made, replace(live, files=FileList(files))


def select(files: FileList, target: FolderTarget, only: Sequence[str]) -> Selection:
    """Select members of `files` for `target`: everything allowed, or what matches one of `only`.

    RefnetError if one of `only` matches nothing in `files`, or may not be replaced.
    """
    if only:
        return _matching(files, target, only)
    allowed = [one for one in files.files if _may(one.path, target)]
    notes = _left_out(files, target)
    if target.names is not None and not any(one.path != "." for one in allowed):
        raise RefnetError(
            "the archive has no entry of config.entries",
            "Is it an archive of the configuration? `tar -tzf` lists its content.",
            Exit.USAGE,
        )
    if target.entire:
        return Selection(FileList(tuple(allowed)), notes=notes)
    members = tuple(one for one in allowed if one.path != ".")
    names = tuple(top_entries(members))
    live = _entries(target)
    removed = tuple(name for name in live if name not in names) if target.names is None else ()
    left = sorted(name for name in live if target.names and name in target.names and name not in names)
    if left:
        notes = (*notes, f"not in the artifact, left unchanged: {some(left)}")
    return Selection(FileList(members), tuple(LivePlace((), name) for name in names), removed, (), notes)


def placed(files: FileList, wanted: set[str], places: Sequence[LivePlace]) -> Selection:
    """Selection of the paths `wanted` of `files`, which are at or below the live entries `places`."""
    above = {"/".join(one.folder[:depth]) for one in places for depth in range(1, len(one.folder) + 1)}
    return Selection(
        FileList(tuple(one for one in files.files if one.path in wanted)),
        tuple(sorted(places)),
        above=tuple(one for one in files.files if one.path in above),
    )


def _may(path: str, target: FolderTarget) -> bool:
    top = path.partition("/")[0]
    return top not in target.own and (target.names is None or top in target.names)


def _left_out(files: FileList, target: FolderTarget) -> tuple[str, ...]:
    left = [name for name in top_entries(files.files) if not _may(name, target)]
    if not left:
        return ()
    why = "not listed in config.entries" if target.names is not None else "RefNet's own"
    return (f"in the artifact, but {why}, so left out: {some(left)}",)


def _entries(target: FolderTarget) -> list[str]:
    try:
        return sorted(one.name for one in target.folder.iterdir() if one.name not in target.own)
    except FileNotFoundError:
        return []


def _matching(files: FileList, target: FolderTarget, only: Sequence[str]) -> Selection:
    """Select the members that match one of `only`, each folder with everything in it."""
    matched = {path for pattern in only for path in _matches(files, target, pattern)}
    inside: set[str] = set()
    wanted: set[str] = set()
    places: set[LivePlace] = set()
    for one in files.files:
        if parent(one.path) in inside:
            inside.add(one.path)
        elif one.path in matched:
            inside.add(one.path)
            place = _live_place(target, one.path)
            places.add(place)
            wanted |= {above for above in _ancestors(one.path) if len(above) >= len(place.path)}
    return placed(files, inside | wanted, tuple(places))


def _matches(files: FileList, target: FolderTarget, pattern: str) -> Iterator[str]:
    """Members named by `pattern`: a path in the artifact, the path of a live file, or a pattern."""
    inside = pattern.removeprefix(f"{target.folder}/")
    try:
        path = checked(os.fsencode(inside))
    except ArchiveError as error:
        raise RefnetError(f"--only: {error}", "Give a path relative to the folder.", Exit.USAGE) from error
    found = files.by_path.get(path) or _as_shown(files, path)
    if path == "." or (found and not _may(found.path, target)):
        raise _not_allowed(path)
    if found:
        yield found.path
        return
    glob = Glob(inside)
    allowed = [one.path for one in files.files if one.path != "." and _may(one.path, target)]
    matched = [] if glob.is_plain else [one for one in allowed if glob.matches(one)]
    if not matched and "/" not in path:  # a name alone: it may be in any folder
        matched = [one for one in allowed if one.endswith(f"/{path}")]
        if len(matched) > 1:
            raise _in_several(path, matched)
    if not matched:
        raise _nothing(files, target, path)
    yield from matched


def _not_allowed(path: str) -> RefnetError:
    return RefnetError(
        f"--only: {show(path)} may not be replaced",
        "Omit --only to restore all of it."
        if path == "."
        else "Only the entries of config.entries are restored.",
        Exit.USAGE,
    )


def _in_several(name: str, paths: Sequence[str]) -> RefnetError:
    return RefnetError(
        f"--only: {show(name)} is in several folders",
        f"Give a path: {some(sorted(paths))}; or the pattern '**/{show(name)}' for all.",
        Exit.USAGE,
    )


def _nothing(files: FileList, target: FolderTarget, path: str) -> RefnetError:
    if (plain := Glob(path).is_plain) and not _may(path, target):
        return _not_allowed(path)
    near = get_close_matches(path, files.by_path, 3) if len(files.files) <= _COMPARED else []
    return NothingMatchesError(
        f"--only: {show(path)} {'is not' if plain else 'matches nothing'} in the artifact",
        f"Did you mean {' or '.join(map(show, near))}?"
        if near
        else "`refnet diff` lists what differs from the live files.",
        Exit.USAGE,
    )


def _as_shown(files: FileList, text: str) -> Listed | None:
    """The only member displayed as `text`, for names that messages escape."""
    found = [one for one in files.files if show(one.path, MAX_PATH * 4) == text] if "\\" in text else []
    return found[0] if len(found) == 1 else None


def _ancestors(path: str) -> Iterator[str]:
    """Yield the folders that lead to `path`, the nearest first."""
    while (path := parent(path)) != ".":
        yield path


def _live_place(target: FolderTarget, path: str) -> LivePlace:
    """Live entry to replace for `path`: itself, or the topmost missing parent."""
    *folders, last = path.split("/")
    for depth, name in enumerate(folders):
        live = target.folder.joinpath(*folders[: depth + 1])
        if not os.path.lexists(live):
            return LivePlace(tuple(folders[:depth]), name)
        if live.is_symlink() or not live.is_dir():
            raise RefnetError(
                f"--only: {show(str(live))} is a link or not a folder, so nothing is restored into it",
                "Move it away, or restore all of it.",
            )
    return LivePlace(tuple(folders), last)
