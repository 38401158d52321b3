"""When nothing changed the new artifact shares the old one's bytes, and only then."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from refnet.sources.folder import files_maker


def write_again(vault: Path) -> None:
    """An edit that keeps size and mtime."""
    path = vault / "script.sh"
    before = path.stat()
    path.write_bytes(path.read_bytes().upper())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def replace_by_another(vault: Path) -> None:
    (vault / "new").write_bytes((vault / "script.sh").read_bytes())
    (vault / "new").replace(vault / "script.sh")


EDITS = {
    "an edit that keeps size and mtime": write_again,
    "a file that another one replaced": replace_by_another,
    "a new file": lambda vault: (vault / "new.md").touch(),
    "a file that is gone": lambda vault: (vault / "empty.md").unlink(),
    "another mode": lambda vault: (vault / "script.sh").chmod(0o700),
    "another name": lambda vault: (vault / "empty.md").rename(vault / "emptied.md"),
    "a link that leads elsewhere": lambda vault: (
        (vault / "papers" / "link.md").unlink(),
        (vault / "papers" / "link.md").symlink_to("../empty.md"),
    ),
    "a new empty folder": lambda vault: (vault / "empty" / "too").mkdir(),
}


def test_an_unchanged_vault_shares_the_bytes_of_the_last_artifact(vault, dumped, settled):
    first = settled(dumped(vault))

    second = dumped(vault, last=first)

    assert second.data == b""
    assert second.made.details["shares_bytes_with"] == first.manifest.name
    assert second.made.files == first.made.files
    assert second.made.details["files"] == first.made.details["files"]


def test_the_last_artifact_is_read_while_the_folder_is_looked_at_again(
    vault, dumped, settled, source, monkeypatch
):
    first, opened, real = settled(dumped(vault)), threading.Event(), files_maker.entries_digest
    held = replace(first.held, open=lambda: (opened.set(), io.BytesIO(first.data))[1])
    monkeypatch.setattr(files_maker, "entries_digest", lambda *given: opened.wait(10) and real(*given))

    made = source(vault, last=held).dump(io.BytesIO())

    assert made.details["shares_bytes_with"] == first.manifest.name


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_any_change_makes_new_bytes(vault, dumped, settled, edit):
    first = settled(dumped(vault))
    edit(vault)

    second = dumped(vault, last=first)

    assert "shares_bytes_with" not in second.made.details
    assert second.data


def test_a_file_that_was_too_young_when_it_was_read_is_not_trusted(vault, dumped):
    (vault / "just now.md").write_text("x")
    first = dumped(vault)

    assert first.made.details["settled"] is False
    assert "shares_bytes_with" not in dumped(vault, last=first).made.details


def test_an_artifact_of_a_version_that_ignored_acls_is_not_reused(vault, dumped, settled):
    first = settled(dumped(vault))
    details = {key: value for key, value in first.manifest.details.items() if key != "unkept"}
    first = replace(first, manifest=replace(first.manifest, details=details))

    assert dumped(vault, last=first).data == first.data


def test_another_attribute_makes_new_bytes(vault, dumped, settled):
    first = settled(dumped(vault))
    os.setxattr(vault / "script.sh", "user.tag", b"x")

    assert dumped(vault, last=first).data


def test_the_bytes_of_a_damaged_artifact_are_not_shared(vault, dumped, settled):
    first = settled(dumped(vault))
    object.__setattr__(first, "data", first.data[:-1] + bytes([first.data[-1] ^ 1]))

    assert "shares_bytes_with" not in dumped(vault, last=first).made.details


def test_the_same_folder_makes_the_same_bytes(vault, dumped):
    assert dumped(vault).data == dumped(vault).data
