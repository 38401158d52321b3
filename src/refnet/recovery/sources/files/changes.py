"""The differences between two lists of files: for the plan of a restore or an undo, and for `refnet diff`."""

from dataclasses import dataclass
from typing import Any

from refnet.recovery.sources.files.listing import FileKind, FileList, Listed
from refnet.recovery.sources.files.member_names import parent, spelled

#: How many paths of each kind are shown.
SHOWN = 10


@dataclass(frozen=True)
class Changes:
    """The paths that differ. A folder that is added or removed is named only if it is empty."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def by_kind(self) -> dict[str, tuple[str, ...]]:
        return {"added": self.added, "changed": self.changed, "removed": self.removed}

    def to_json(self, prefix: str = "") -> dict[str, Any]:
        """Return the count of each kind, and the first paths, below `prefix`."""
        return {
            kind: {"count": len(paths), "first": [spelled(prefix + path) for path in paths[:SHOWN]]}
            for kind, paths in self.by_kind.items()
        }


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
    return one.mode == other.mode or one.kind is FileKind.LINK


def _leaves(files: FileList) -> list[str]:
    """Return the paths of files, links and empty folders."""
    parents = {parent(listed.path) for listed in files.files}
    return [listed.path for listed in files.files if listed.path not in parents]
