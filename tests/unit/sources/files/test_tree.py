"""What was unpacked is compared in everything: presence, kind, content, mode; nothing more may stand there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from refnet.sources.folder.listing import FileList
from refnet.sources.folder.tree import differences


def found(folder: Path, wanted: FileList) -> list[str]:
    root = os.open(folder, os.O_RDONLY)
    try:
        return list(differences(wanted, root))
    finally:
        os.close(root)


def swap_kind(vault: Path) -> None:
    (vault / "empty.md").unlink()
    (vault / "empty.md").mkdir()


def lead_elsewhere(vault: Path) -> None:
    (vault / "papers" / "link.md").unlink()
    (vault / "papers" / "link.md").symlink_to("elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda v: (v / "script.sh").write_text("#!/bin/xx\n"), "script.sh has changed content"),
    "a byte beyond a megabyte": (
        lambda v: os.truncate(v / "large.bin", 3 << 20),
        "large.bin has changed content",
    ),
    "a mode": (lambda v: (v / "script.sh").chmod(0o777), "script.sh has the mode 0777, not 0750"),
    "a folder's mode": (lambda v: (v / "empty").chmod(0o700), "empty has the mode 0700, not 0755"),
    "a kind": (swap_kind, "empty.md is a folder, not a file"),
    "a link": (lead_elsewhere, "papers/link.md has changed content"),
    "a loss": (lambda v: (v / "empty").rmdir(), "empty is missing"),
    "an addition": (lambda v: (v / "more.md").touch(), "more.md is not in the list"),
    "a FIFO": (lambda v: os.mkfifo(v / "pipe"), "pipe is not in the list"),
}


@pytest.mark.parametrize(("damage", "told"), DAMAGE.values(), ids=DAMAGE)
def test_every_difference_is_named(vault, dumped, tmp_path, damage, told):
    wanted = FileList.from_json(dumped(vault).made.files)
    shutil.copytree(vault, tmp_path / "copy", symlinks=True)
    assert found(tmp_path / "copy", wanted) == []

    damage(tmp_path / "copy")

    assert told in found(tmp_path / "copy", wanted)


def test_what_cannot_be_read_is_a_difference(short_folder, as_nobody, dumped):
    folder = short_folder / "closed tree"
    (folder / "closed").mkdir(parents=True)
    (folder / "closed" / "a.md").write_text("a")
    (folder / "secret.md").write_text("b")
    wanted = FileList.from_json(dumped(folder).made.files)
    (folder / "closed").chmod(0)
    (folder / "secret.md").chmod(0)

    def check() -> None:
        told = found(folder, wanted)
        assert {"closed cannot be read", "secret.md cannot be read", "closed/a.md is missing"} <= set(told)

    try:
        assert as_nobody(check) == "no error"
    finally:
        (folder / "closed").chmod(0o700)
