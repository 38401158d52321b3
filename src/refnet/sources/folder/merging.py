"""Decides what a merge into a live folder does with each path: add or replace, never delete."""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.files import OPEN_FOLDER, descended, opened
from refnet.core.member_names import parent, show, spelled
from refnet.sources.folder.listing import FileKind, FileList, Listed, top_entries
from refnet.sources.folder.selection import LivePlace, Selection, placed, select
from refnet.sources.folder.target import FolderTarget
from refnet.sources.folder.tree import Tree, read_entries


class MergeAction(StrEnum):
    """What is done with a differing path."""

    ADD = "add"
    REPLACE = "replace older"
    #: The live one is newer, or of the same time.
    NEWER = "keep newer"
    #: One of the two is a folder, the live one cannot be read, or the file system has it under another name.
    OTHER = "keep other"


@dataclass(frozen=True)
class Merge:
    """The decisions of a merge."""

    #: Path → action, for every path of the artifact that differs.
    actions: dict[str, MergeAction]
    #: The live entries.
    live: FileList

    def places(self) -> tuple[LivePlace, ...]:
        """Live entries that are added or replaced; only the top of a new folder."""
        done = {MergeAction.ADD, MergeAction.REPLACE}
        return tuple(
            LivePlace.at(path)
            for path, action in self.actions.items()
            if action in done and self.actions.get(parent(path)) is not MergeAction.ADD
        )

    def of(self, files: FileList, before: Selection) -> Selection:
        """The part of the selection `before` that the merge writes."""
        wanted = {
            path for path, action in self.actions.items() if action in {MergeAction.ADD, MergeAction.REPLACE}
        }
        chosen = placed(files, wanted, self.places())
        return Selection(chosen.files, chosen.places, (), chosen.above, before.notes)

    def adds(self, place: LivePlace) -> bool:
        return self.actions[place.path] is MergeAction.ADD

    def replaced(self) -> Tree:
        """Return the live entries that are replaced."""
        found = (
            self.live.by_path[path] for path, action in self.actions.items() if action is MergeAction.REPLACE
        )
        return Tree(FileList(tuple(found)), ())

    @property
    def kept(self) -> tuple[str, ...]:
        """Differing paths that stay unchanged."""
        return tuple(
            path for path, action in self.actions.items() if action in {MergeAction.NEWER, MergeAction.OTHER}
        )

    def to_json(self) -> list[dict[str, str]]:
        return [{"path": spelled(path), "action": action} for path, action in self.actions.items()]


def merge(members: Iterable[Listed], live: Tree, taken: Iterable[str] = ()) -> Merge:
    """Decide about `members`, folders before their entries, given the `live` entries.

    taken: existing paths that `live` lists under another name or not at all.
    """
    actions: dict[str, MergeAction] = {}
    blocked = {*live.other, *taken}
    for one in members:
        if one.path == ".":
            continue
        if parent(one.path) in blocked:
            blocked.add(one.path)  # the folder that it is in is named
            continue
        action = MergeAction.OTHER if one.path in blocked else _action(one, live.files.by_path.get(one.path))
        if action:
            actions[one.path] = action
        if action is MergeAction.OTHER:
            blocked.add(one.path)
    return Merge(actions, live.files)


def selected(files: FileList, target: FolderTarget, only: Sequence[str]) -> tuple[Selection, Tree, Merge]:
    """Plan a merge: files to write, live files replaced, actions; `only` as for `select`."""
    selection = select(files, target, only)
    merged = _plan(target, selection.files)
    return merged.of(files, selection), merged.replaced(), merged


def _plan(target: FolderTarget, files: FileList) -> Merge:
    """Decide about `files` of an artifact given the live folder; OSError if unreadable."""
    if not os.path.lexists(target.folder):
        return merge(files.files, Tree(FileList(()), ()))
    with opened(target.folder, OPEN_FOLDER) as root:
        live = read_entries(root, [((), name) for name in top_entries(files.files)], target.scope)
        merged = merge(files.files, live)
        existing = _statuses(root, [place for place in merged.places() if merged.adds(place)])
    # What the rules leave out is not listed, nor is another spelling of a name on a file system that ignores case.
    return merge(files.files, live, existing) if existing else merged


def check(folder: Path, merged: Merge) -> None:
    """RefnetError if a live entry that the merge writes was changed, created or removed since it was planned."""
    with opened(folder, OPEN_FOLDER) as root:
        found = _statuses(root, merged.places())
    for place in merged.places():
        planned, now = merged.live.by_path.get(place.path), found.get(place.path)
        if (planned and _times(planned)) != (now and _times(now)):
            raise RefnetError(
                f"{show(str(folder / place.path))} was changed during the merge",
                "Nothing live was touched: retry.",
            )


def _times(one: Listed) -> tuple[FileKind, int, int]:
    return one.kind, one.size, one.mtime_ns


def _statuses(root: int, places: Iterable[LivePlace]) -> dict[str, Listed]:
    """Entries of `places` that exist in the open folder `root`, without content."""
    found = {}
    for folder, group in groupby(sorted(places), attrgetter("folder")):
        with suppress(FileNotFoundError), descended(root, folder) as handle:
            for place in group:
                with suppress(FileNotFoundError):
                    status = os.stat(place.name, dir_fd=handle, follow_symlinks=False)
                    kind = FileKind.FILE if stat.S_ISREG(status.st_mode) else FileKind.LINK
                    found[place.path] = Listed.of(place.path, kind, status)
    return found


def _action(new: Listed, live: Listed | None) -> MergeAction | None:
    """Action for the live entry; None if the content is equal."""
    if live is None:
        return MergeAction.ADD
    if (new.kind, new.sha256, new.target) == (live.kind, live.sha256, live.target):
        return None
    if FileKind.FOLDER in {new.kind, live.kind}:
        return MergeAction.OTHER
    return MergeAction.REPLACE if new.mtime_ns > live.mtime_ns else MergeAction.NEWER
