"""The checks of a folder."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from refnet.catalog.source_name import SourceName
from refnet.core.files import OPEN_FOLDER, names_in, opened
from refnet.core.formatting import size, some
from refnet.settings import Settings
from refnet.sources.check_result import Line, error, error_line, ok, warning, writable
from refnet.sources.folder import entries
from refnet.sources.folder.files_maker import entries_of, everything_excluded, listed_and_excluded
from refnet.sources.folder.listing import FileKind
from refnet.sources.folder.scope import EVERYTHING, LeftOut, Scope
from refnet.sources.folder.target import FolderTarget
from refnet.sources.folder.walk import runs, walk

#: The time limit of the search for unreadable files, in seconds.
_WALK_SECONDS = 20.0


def files(settings: Settings, target: FolderTarget) -> Iterator[Line]:
    """Check the live folder of a source: its entries, and access for backup and restore."""
    source = target.source
    folder = settings.of(source).path or target.folder
    scope = target.live_scope
    with opened(folder, OPEN_FOLDER & ~os.O_NOFOLLOW) as root:
        names = [name for name in names_in(root) if name not in target.own]
        if listed := settings.of(source).entries:
            scope = scope.of(entries.present(entries.parse_entries(listed), root)[0])
        wrong = [*_covered(source, folder, scope, names), *_walked(source, folder, root, scope)]
        wrong += _large(source, root, scope, settings.left_out_percent)
    if not writable(target.home):
        hint = "A restore must run as its owner or as root."
        wrong.append(warning(source, f"this user cannot restore: {target.home} is not writable", hint))
    if target.unfinished():
        hint = f"`refnet undo {source}` or a restore finishes it."
        wrong.append(warning(source, "a restore was interrupted", hint))
    yield from wrong or (ok(source, str(folder)),)


def _covered(source: SourceName, folder: Path, scope: Scope, names: list[str]) -> Iterator[Line]:
    """Check `names`, the entries of `folder`, against the settings."""
    if not any(scope.only is None or name in scope.only for name in names):
        says = (
            f"{folder} is empty" if scope.only is None else f"{folder} has no entry of {entries_of(source)}"
        )
        yield error(source, says, "Is it mounted? If it should be empty, put one file into it.")
    if excluded := listed_and_excluded(scope, scope.only or ()):
        hint = "Remove it from the entries, or the rule from exclude."
        yield error(source, f"exclude leaves out {some(excluded, 3)}, which {entries_of(source)} lists", hint)


def _large(source: SourceName, root: int, scope: Scope, most: int) -> Iterator[Line]:
    """Check whether the rules exclude more than `most` percent of the bytes in the open folder `root`."""
    if not scope.exclude:
        return
    end, left_out = time.monotonic() + _WALK_SECONDS, LeftOut(paths=[])
    inside = _bytes(root, scope, end, left_out)
    outside = left_out.bytes
    for path in left_out.paths or ():
        with suppress(OSError), opened(path, OPEN_FOLDER, root) as folder:
            outside += _bytes(folder, EVERYTHING, end)
    if outside * 100 > most * (inside + outside):
        says = f"exclude leaves out {size(outside)} of {size(inside + outside)}"
        yield warning(source, says, "Check the rules with `refnet show`, or raise left_out.percent.")


def _bytes(root: int, scope: Scope, end: float, left_out: LeftOut | None = None) -> int:
    """Total size of the files in the open folder `root` found until `end`."""
    total = 0
    for run in runs(root, scope, left_out):
        for name in run.names:
            with suppress(OSError):
                found = os.stat(name, dir_fd=run.folder, follow_symlinks=False)
                total += found.st_size if stat.S_ISREG(found.st_mode) else 0
        if time.monotonic() > end:
            break
    return total


def _walked(source: SourceName, folder: Path, root: int, scope: Scope) -> Iterator[Line]:
    """Find what a backup of the open folder `root` cannot read, and what the rules exclude."""
    end, unreadable, left_out, any_file = time.monotonic() + _WALK_SECONDS, [], LeftOut(), False
    for one in walk(root, scope, left_out):
        if time.monotonic() > end:
            yield warning(source, "the search for unreadable files was cut off", "A backup reports them.")
            break
        any_file |= one.kind is FileKind.FILE
        of_file = one.kind is FileKind.FILE and not os.access(one.name, os.R_OK, dir_fd=one.folder)
        if of_file or one.error:
            unreadable.append(one.path)
    if unreadable:
        hint = "Make them readable for this user, or run as their owner."
        yield error(source, f"cannot be read: {some(sorted(unreadable), 3)}", hint)
    if left_out and not any_file:
        yield error_line(source, everything_excluded(source, folder))
