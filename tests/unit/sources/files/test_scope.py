"""What the rules of exclude leave out of a backup: it is counted, and never everything."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.sources.folder.listing import FileList
from refnet.sources.folder.scope import ConfigEntry, Scope


def paths_of(source, folder: Path, *rules: str) -> set[str]:
    made = replace(source(folder), scope=Scope(exclude=rules)).dump(io.BytesIO())
    return set(FileList.from_json(made.files).by_path)


@pytest.mark.parametrize(
    ("rules", "out", "stays"),
    [
        (["*.tmp"], {"a.tmp", "in/b.tmp"}, {"a.md", "in/b.md", "tmp"}),
        (["/a.tmp"], {"a.tmp"}, {"in/b.tmp"}),
        (["in/"], {"in", "in/b.tmp", "in/b.md", "in/deep", "in/deep/c.md"}, {"a.md", "tmp"}),
        (["**/deep/**"], {"in/deep", "in/deep/c.md"}, {"in/b.md"}),
        (["*.tmp", "!b.tmp"], {"a.tmp"}, {"in/b.tmp"}),
        (["/*", "!/in/"], {"a.md", "a.tmp", "tmp"}, {"in", "in/b.md", "in/deep/c.md"}),
        (["tmp/"], set(), {"tmp"}),
        (["?.md"], {"a.md", "in/b.md", "in/deep/c.md"}, {"a.tmp"}),
    ],
)
def test_rules_mean_what_they_mean_in_gitignore(source, tmp_path, rules, out, stays):
    folder = tmp_path / "notes"
    (folder / "in" / "deep").mkdir(parents=True)
    for name in ("a.md", "a.tmp", "tmp", "in/b.md", "in/b.tmp", "in/deep/c.md"):
        (folder / name).write_text("x")
    before = paths_of(source, folder)

    after = paths_of(source, folder, *rules)

    assert before - after == out
    assert stays <= after


def test_a_name_of_two_lines_or_of_other_bytes_is_matched_as_a_whole(source, tmp_path):
    folder = tmp_path / "notes"
    (folder / "two\nlines").mkdir(parents=True)
    names = [b"a.tmp\n", b"b.tmp\nc.md", b"two\nlines/d.tmp", b"\xff.tmp", b"\xff.md"]
    for name in names:
        (folder / os.fsdecode(name)).write_text("x")

    left = {os.fsencode(path) for path in paths_of(source, folder, "*.tmp")}

    assert left == {b".", b"a.tmp\n", b"b.tmp\nc.md", b"two\nlines", b"\xff.md"}


def test_the_manifest_counts_what_is_left_out_and_a_folder_is_not_read(source, vault):
    (vault / "cache" / "closed").mkdir(parents=True)
    (vault / "cache" / "closed" / "big.bin").write_bytes(bytes(1000))
    (vault / "x.tmp").write_bytes(bytes(10))
    (vault / "link.tmp").symlink_to("x.tmp")

    made = replace(source(vault), scope=Scope(exclude=("cache/", "*.tmp"))).dump(io.BytesIO())

    assert made.details["excluded"] == {"rules": ["cache/", "*.tmp"], "files": 2, "folders": 1, "bytes": 10}


def test_an_unchanged_folder_counts_what_is_left_out_again(source, dumped, settled, vault):
    (vault / "cache").mkdir()
    first = settled(dumped(vault, scope=Scope(exclude=("/cache/x.tmp",))))
    before = vault.joinpath("cache").stat()

    second = dumped(vault, last=first, scope=Scope(exclude=("/nothing",)))

    assert second.made.details["shares_bytes_with"] == first.manifest.name
    assert second.made.details["excluded"]["rules"] == ["/nothing"]
    assert before == vault.joinpath("cache").stat()


@pytest.mark.parametrize("rules", [["*"], ["**"], ["/*"], ["/**"], ["?*", "*"], ["*.md", "papers/", "*"]])
def test_rules_that_leave_out_everything_make_no_artifact(source, vault, rules):
    out = io.BytesIO()
    with pytest.raises(RefnetError, match="exclude leaves out every file") as caught:
        replace(source(vault), scope=Scope(exclude=tuple(rules))).dump(out)
    assert caught.value.code is Exit.USAGE


def test_the_key_of_the_rules_of_a_named_folder_is_named(source, vault):
    name = SourceName("notes", Kind.FOLDER)
    with pytest.raises(RefnetError) as caught:
        replace(source(vault), name=name, scope=Scope(exclude=("*",))).dump(io.BytesIO())
    assert "folders.notes.exclude" in caught.value.hint


def test_a_rule_must_not_leave_out_what_the_entries_list(source, tmp_path):
    (tmp_path / ".env").write_text("x")
    listed = source(tmp_path, entries=(ConfigEntry((".env",), required=True, folder=False),))

    with pytest.raises(RefnetError, match=r"exclude leaves out \.env, which config\.entries lists"):
        replace(listed, scope=Scope(exclude=(".env",))).dump(io.BytesIO())
