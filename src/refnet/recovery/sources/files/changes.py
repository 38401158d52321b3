"""The differences between two lists of files: for the plan of a restore or an undo, and for `refnet diff`."""

from dataclasses import dataclass

from refnet.recovery.sources.files.listing import FileList, Kind, Listed
from refnet.recovery.sources.files.member_names import parent


@dataclass(frozen=True)
class Changes:
    """The paths that differ. A folder that is added or removed is named only if it is empty."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def changes(before: FileList, after: FileList) -> Changes:
    """Return the changes that lead from `before` to `after`."""
    old, new = before.by_path, after.by_path
    return Changes(
        tuple(path for path in _leaves(after) if path not in old),
        tuple(path for path in new if path in old and not same(old[path], new[path])),
        tuple(path for path in _leaves(before) if path not in new),
    )


def same(one: Listed, other: Listed) -> bool:
    """Return True if content, kind and mode are equal (a link has no mode of its own)."""
    if (one.kind, one.sha256, one.target) != (other.kind, other.sha256, other.target):
        return False
    return one.mode == other.mode or one.kind is Kind.LINK


def _leaves(files: FileList) -> list[str]:
    """Return the paths of files, links and empty folders."""
    parents = {parent(listed.path) for listed in files.files}
    return [listed.path for listed in files.files if listed.path not in parents]
