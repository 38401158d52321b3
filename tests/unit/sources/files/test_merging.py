"""A merge decides about each path alone, and what it cannot tell apart stays as it is."""

from __future__ import annotations

import pytest

from refnet.sources.folder.listing import FileKind, FileList, Listed
from refnet.sources.folder.merging import MergeAction, merge
from refnet.sources.folder.tree import Tree


def one(
    path: str, kind: FileKind = FileKind.FILE, at: int = 5, content: str = "new", mode: int = 0o644
) -> Listed:
    sha256, target = (
        (content, "") if kind is FileKind.FILE else ("", content if kind is FileKind.LINK else "")
    )
    return Listed(path, kind, len(content), mode, at, 0, 0, 0, sha256, target)


def folder(path: str) -> Listed:
    return one(path, FileKind.FOLDER, content="")


def live(*entries: Listed, other: tuple[str, ...] = ()) -> Tree:
    return Tree(FileList(entries), other)


@pytest.mark.parametrize(
    ("new", "there", "action"),
    [
        (one("a"), [], MergeAction.ADD),
        (folder("a"), [], MergeAction.ADD),
        (one("a"), [one("a", at=1)], None),
        (one("a"), [one("a", at=9, mode=0o600)], None),
        (folder("a"), [folder("a")], None),
        (one("a"), [one("a", at=4, content="old")], MergeAction.REPLACE),
        (one("a"), [one("a", at=5, content="of the same time")], MergeAction.NEWER),
        (one("a"), [one("a", at=6, content="newer")], MergeAction.NEWER),
        (one("a", FileKind.LINK), [one("a", at=4, content="old")], MergeAction.REPLACE),
        (one("a", FileKind.LINK), [one("a", FileKind.LINK, 6, "newer")], MergeAction.NEWER),
        (one("a"), [folder("a")], MergeAction.OTHER),
        (folder("a"), [one("a", at=1)], MergeAction.OTHER),
        (folder("a"), [one("a", FileKind.LINK, 1)], MergeAction.OTHER),
    ],
)
def test_an_action_follows_from_kind_content_and_time(
    new: Listed, there: list[Listed], action: MergeAction | None
) -> None:
    assert merge([folder("."), new], live(*there)).actions.get("a") is action


def test_of_a_new_folder_the_folder_alone_is_put_there() -> None:
    merged = merge([folder("a"), folder("a/b"), one("a/b/c"), one("d")], live())
    assert [place.path for place in merged.places()] == ["a", "d"]
    assert set(merged.actions.values()) == {MergeAction.ADD}


def test_nothing_goes_into_what_is_no_folder_or_cannot_be_read() -> None:
    members = [folder("a"), folder("a/b"), one("a/b/c"), folder("d"), one("d/e")]
    merged = merge(members, live(one("a", FileKind.LINK), other=("d",)))
    assert merged.actions == {"a": MergeAction.OTHER, "d": MergeAction.OTHER}
    assert merged.places() == ()


def test_a_name_that_the_file_system_takes_for_another_is_kept() -> None:
    """Where capitals do not count, `A.md` is not among the live names, and yet it is there."""
    assert merge([one("A.md")], live(one("a.md")), taken={"A.md"}).actions == {"A.md": MergeAction.OTHER}
