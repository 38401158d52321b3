"""Differences between two lists of files, for plans of restore and undo, and for `refnet diff`."""

from dataclasses import dataclass
from typing import Any

from refnet.core.member_names import parent, spelled
from refnet.sources.folder.listing import FileKind, FileList, Listed

#: How many paths of each kind are shown.
SHOWN = 10


@dataclass(frozen=True)
class Changes:
    """Differing paths. Added or removed folders are listed only if empty."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def by_kind(self) -> dict[str, tuple[str, ...]]:
        return {"added": self.added, "changed": self.changed, "removed": self.removed}

    def to_json(self, prefix: str = "") -> dict[str, Any]:
        """JSON values: count and first paths of each kind, below `prefix`."""
        return {
            kind: {"count": len(paths), "first": [spelled(prefix + path) for path in paths[:SHOWN]]}
            for kind, paths in self.by_kind.items()
        }


def changes(before: FileList, after: FileList, *, owners: bool = True) -> Changes:
    """Changes from `before` to `after`; changed owners count only with `owners`."""
    old, new = before.by_path, after.by_path
    return Changes(
        tuple(path for path in _leaves(after) if path not in old),
        tuple(path for path in new if path in old and changed(old[path], new[path], owners=owners)),
        tuple(path for path in _leaves(before) if path not in new),
    )


def changed(one: Listed, other: Listed, *, owners: bool = True) -> str:
    """What differs: kind, content, mode, owner, ACL or attributes; "" if equal.

    Times are not compared: every swap changes those of a folder.
    """
    if one.kind is not other.kind:
        return "kind"
    if (one.sha256, one.target) != (other.sha256, other.target):
        return "content"
    if _mode(one, other) != _mode(other, one):
        return "mode"
    if owners and (one.uid, one.gid) != (other.uid, other.gid):
        return "owner"
    if one.acl is not None and other.acl is not None and one.acl != other.acl:
        return "ACL"
    if one.xattrs is not None and other.xattrs is not None and one.xattrs != other.xattrs:
        return "extended attributes"
    return ""


def _mode(one: Listed, other: Listed) -> int:
    """Comparable mode of `one`: a link has none, and a list without ACLs has the mask instead of the group's rights."""
    if one.kind is FileKind.LINK:
        return 0
    masked = (one.acl is None and other.acl) or (other.acl is None and one.acl)
    return one.mode & ~0o070 if masked else one.mode


def _leaves(files: FileList) -> list[str]:
    """Return the paths of files, links and empty folders."""
    parents = {parent(listed.path) for listed in files.files}
    return [listed.path for listed in files.files if listed.path not in parents]
