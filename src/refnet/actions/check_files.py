"""The checks of the folders of config and obsidian."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from refnet import wiring
from refnet.actions.check_result import Line, error, error_line, ok, warning, writable
from refnet.files import OPEN_FOLDER, names_in, opened
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.model.formatting import some
from refnet.recovery.model.source_name import SourceName
from refnet.recovery.sources.files import entries
from refnet.recovery.sources.files.files_source import everything_excluded, listed_and_excluded
from refnet.recovery.sources.files.listing import Kind
from refnet.recovery.sources.files.scope import LeftOut, Scope
from refnet.recovery.sources.files.walk import walk
from refnet.settings import Settings

#: The time limit of the search for unreadable files, in seconds.
_WALK_SECONDS = 20.0


def files(settings: Settings, source: SourceName) -> Iterator[Line]:
    """Check the folder of `source`, config or obsidian: its entries, and what a backup or a restore may not use."""
    folder = settings.config_dir if source == SourceName.CONFIG else settings.vault_dir
    if folder is None or source not in wiring.configured(settings):
        yield ok(source, "not configured")
        return
    scope = wiring.scope(settings, source)
    with opened(folder, OPEN_FOLDER & ~os.O_NOFOLLOW) as root:
        names = [name for name in names_in(root) if not name.startswith(HIDDEN_PREFIX)]
        if source == SourceName.CONFIG:
            scope = scope.of(entries.present(entries.parse_entries(settings.config_entries), root)[0])
        wrong = [*_covered(source, folder, scope, names), *_walked(source, folder, root, scope)]
    target = wiring.target(settings, source)
    if not writable(target.home):
        hint = "A restore must run as its owner or as root."
        wrong.append(warning(source, f"this user cannot restore: {target.home} is not writable", hint))
    if target.unfinished():
        hint = f"`refnet undo {source}` or a restore finishes it."
        wrong.append(warning(source, "a restore was interrupted", hint))
    others = [name for name in names if scope.only is not None and name not in scope.only]
    more = f"; not in config.entries: {some(others, 5)}" if others else ""
    yield from wrong or (ok(source, f"{folder}{more}"),)


def _covered(source: SourceName, folder: Path, scope: Scope, names: list[str]) -> Iterator[Line]:
    """Find whether `names`, the entries of `folder`, are what its settings expect."""
    if not any(scope.only is None or name in scope.only for name in names):
        says = f"{folder} is empty" if scope.only is None else f"{folder} has no entry of config.entries"
        yield error(source, says, "Is it mounted? If it should be empty, put one file into it.")
    if excluded := listed_and_excluded(scope, scope.only or ()):
        hint = f"Remove it from config.entries, or the rule from exclude.{source}."
        yield error(source, f"exclude leaves out {some(excluded, 3)}, which config.entries lists", hint)


def _walked(source: SourceName, folder: Path, root: int, scope: Scope) -> Iterator[Line]:
    """Find what a backup of the open folder `root` cannot read, and what its rules leave out."""
    end, unreadable, left_out, any_file = time.monotonic() + _WALK_SECONDS, [], LeftOut(), False
    for one in walk(root, scope, left_out):
        if time.monotonic() > end:
            yield warning(source, "the search for unreadable files was cut off", "A backup reports them.")
            break
        any_file |= one.kind is Kind.FILE
        of_file = one.kind is Kind.FILE and not os.access(one.name, os.R_OK, dir_fd=one.folder)
        if of_file or one.error:
            unreadable.append(one.path)
    if unreadable:
        hint = "Make them readable for this user, or run as their owner."
        yield error(source, f"cannot be read: {some(sorted(unreadable), 3)}", hint)
    if left_out and not any_file:
        yield error_line(source, everything_excluded(source, folder))
