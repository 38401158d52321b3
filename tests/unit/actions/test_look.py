"""Files of artifacts: listed, printed, and followed over all artifacts; also of forged and damaged ones."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.commands import ran

from refnet.actions import history, look
from refnet.actions.backup import Options
from refnet.actions.backup import make as backup
from refnet.actions.diff import diff_file
from refnet.catalog.source_name import SourceName
from refnet.cli.look import short
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.sources.contents import ItemVersion
from refnet.sources.folder import files_artifact, listing
from refnet.sources.folder.files_maker import FilesMaker

DECOMPOSED = "memo/か\u3099く.md"


class Vault:
    """A vault, its store, and a backup of each of its days."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "vault"
        (self.folder / "papers").mkdir(parents=True)
        (self.folder / "memo").mkdir()
        self.now = datetime(2026, 11, 20, 1, tzinfo=UTC)
        settings = Settings(home=root / "home", backup_dir=root / "backups", vault_dir=self.folder)
        self.context = Context(settings, Clock(lambda: self.now, zone=UTC))

    def backup(self, **files: str | None) -> str:
        """Write `files` (None: delete) and back up, a day after the last time; the artifact's name."""
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.unlink(missing_ok=True) if text is None else path.write_text(text)
        self.now += timedelta(days=1)
        source = FilesMaker(SourceName.OBSIDIAN, self.folder, None, self.root / "swaps")
        made = backup(self.context, source, self.context.store, Options(prove=False))
        return made.manifest.name

    def rewrite_list(self, name: str, old: bytes, new: bytes) -> None:
        """Forge the list of files of an artifact, and the manifest to match."""
        beside = self.root / "backups" / "obsidian" / name
        text = gzip.decompress(beside.with_name(f"{name}.files.json.gz").read_bytes())
        assert old in text
        text = text.replace(old, new)
        beside.with_name(f"{name}.files.json.gz").write_bytes(gzip.compress(text))
        manifest = beside.with_name(f"{name}.json")
        values = json.loads(manifest.read_text())
        values["files_sha256"] = hashlib.sha256(text).hexdigest()
        manifest.write_text(json.dumps(values))


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path)
    (made.folder / DECOMPOSED).write_text("memo")
    return made


def text_of(vault: Vault, meant: str, path: str) -> bytes:
    with look.content(vault.context, meant, path) as found:
        return found.content.read()


def test_files_are_listed_by_a_pattern_of_an_artifact_or_of_the_newest(vault: Vault) -> None:
    first = vault.backup(papers__x="1", todo="1")
    vault.backup(papers__y="2")
    paths = lambda meant, pattern: [one.path for one in look.files(vault.context, meant, pattern).files]  # noqa: E731

    assert paths("obsidian", "papers/*") == ["papers/x", "papers/y"]
    assert paths(first, "papers/*") == ["papers/x"]
    assert paths("obsidian", "が*") == [DECOMPOSED]
    assert look.files(vault.context, first, None, None).total == len(paths(first, None)) == 6
    report = [*look.files(vault.context, first, "todo").entries()]
    assert report[0] | {"mtime_ns": 0} == {
        "path": "todo", "kind": "file", "size": 1, "mode": "0644", "mtime_ns": 0, "target": None,
        "sha256": hashlib.sha256(b"1").hexdigest(),
    }  # fmt: skip
    with pytest.raises(RefnetError, match="matches none") as refused:
        paths("obsidian", "nothing*")
    assert refused.value.code is Exit.FAILED


def test_a_source_may_come_with_a_time_and_an_artifact_may_not(vault: Vault) -> None:
    first = vault.backup(x="1")
    then = vault.context.store.entries()[0].created.isoformat()
    vault.backup(x="2")

    with look.content(vault.context, "obsidian", "x", then) as found:
        assert found.content.read() == b"1"
    with (
        pytest.raises(RefnetError, match="not a source") as refused,
        look.content(vault.context, first, "x", "2026-11-21"),
    ):
        pass
    assert refused.value.code is Exit.USAGE


def test_a_file_is_printed_byte_for_byte_by_its_path_or_a_pattern_of_one(vault: Vault) -> None:
    data = os.urandom(200_000) + b"\r\n\0"
    (vault.folder / "papers" / "x.bin").write_bytes(data)
    (vault.folder / "link").symlink_to("papers/x.bin")
    name = vault.backup(empty="", papers__y="y")

    assert text_of(vault, name, "papers/x.bin") == data
    assert text_of(vault, name, "./papers/x.bin") == data
    assert text_of(vault, name, "*.bin") == data
    assert text_of(vault, name, "empty") == b""
    assert text_of(vault, name, "memo/がく.md") == b"memo"
    for path, words, code in [
        ("papers/*", "matches 2 files", Exit.USAGE),
        ("papers", "is a folder", Exit.USAGE),
        ("link", "is a link", Exit.USAGE),
        ("papers/z.bin", "has no file", Exit.FAILED),
        ("../etc/passwd", "has no file", Exit.FAILED),
        ("\udcff\0", "has no file", Exit.FAILED),
    ]:
        with pytest.raises(RefnetError, match=words) as refused:
            text_of(vault, name, path)
        assert refused.value.code is code


def test_a_file_of_an_archive_without_a_list_is_printed_too(vault: Vault) -> None:
    name = vault.backup(x="text")
    with tarfile.open(vault.root / "other.tar.gz", "w:gz") as archive:
        archive.add(vault.folder / "x", "x")
        hard = tarfile.TarInfo("hard")
        hard.type, hard.linkname = tarfile.LNKTYPE, "x"
        archive.addfile(hard)
    other = str(vault.root / "other.tar.gz")

    assert text_of(vault, other, "x") == text_of(vault, other, "hard") == text_of(vault, name, "x")
    assert look.files(vault.context, other, None).unlisted


def test_a_file_that_is_not_what_was_backed_up_is_not_printed(vault: Vault) -> None:
    name = vault.backup(x="text", y="more")
    right, wrong = (hashlib.sha256(text).hexdigest().encode() for text in (b"text", b"other"))
    vault.rewrite_list(name, right, wrong)

    assert text_of(vault, name, "y") == b"more"
    with pytest.raises(RefnetError, match="SHA-256") as refused:
        text_of(vault, name, "x")
    assert refused.value.code is Exit.DAMAGED


def test_a_file_that_does_not_fit_on_the_disk_is_refused_in_two_lines(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def __init__(self, _most: int) -> None:
            super().__init__()

        def write(self, _data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    name = vault.backup(x="text")
    monkeypatch.setattr(look, "SpooledTemporaryFile", Full)
    with pytest.raises(RefnetError, match="No space left") as refused:
        text_of(vault, name, "x")
    assert "TMPDIR" in refused.value.hint


def test_the_history_of_a_file_has_each_change(vault: Vault) -> None:
    names = [vault.backup(papers__x=text) for text in ("1", "1", "22", None, "1")]
    (vault.folder / "papers" / "x").chmod(0o600)
    names.append(vault.backup())

    found = history.log(vault.context, "obsidian/papers/x")

    assert [(step.entry.name, step.what) for step in found.steps] == [
        (names[0], "first seen"),
        (names[2], "changed"),
        (names[3], "deleted"),
        (names[4], "seen again"),
        (names[5], "changed"),
    ]
    assert (found.read, found.exit) == (6, Exit.DONE)
    assert found.to_json()["changes"][1]["digest"] == hashlib.sha256(b"22").hexdigest()
    assert history.log(vault.context, "obsidian/memo/がく.md").read == 6


@pytest.mark.parametrize(
    ("meant", "words"),
    [
        ("obsidian", "names no file"),
        ("obsidian/", "names no file"),
        ("obsidan/x", "does not begin with a source"),
        ("obsidian/../x", "is not a path"),
        ("obsidian/x\0", "is not a path"),
        ("obsidian/zzz", "'zzz' is in none"),
    ],
)
def test_what_is_not_a_file_of_a_source_is_refused(vault: Vault, meant: str, words: str) -> None:
    vault.backup(x="1")
    with pytest.raises(RefnetError, match=words):
        history.log(vault.context, meant)


def test_a_search_finds_the_first_and_the_last_artifact_of_each_path(vault: Vault) -> None:
    names = [vault.backup(todo=text, papers__todo2="1") for text in ("1", "2", None)]

    found = history.find(vault.context, "obsidian", "todo*")

    assert [(one.name, one.first.name, one.last.name, one.count) for one in found.found] == [
        ("papers/todo2", names[0], names[2], 3),
        ("todo", names[0], names[1], 2),
    ]
    assert history.find(vault.context, "obsidian", "none*").exit is Exit.FAILED


def test_a_list_that_many_artifacts_share_is_read_once(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counted(text: bytes, *more: Any) -> Iterator[listing.Listed]:
        read.append(len(text))
        return listing.matching(text, *more)

    monkeypatch.setattr(files_artifact, "matching", counted)
    vault.backup(x="1")
    for _ in range(3):
        vault.backup()
    vault.backup(x="2")

    assert history.find(vault.context, "obsidian", "x").found[0].count == 5
    assert len(read) == 2


def test_a_search_names_the_artifacts_that_it_could_not_read(vault: Vault) -> None:
    bad, good = vault.backup(x="1"), vault.backup(x="2")
    vault.rewrite_list(bad, b'"path":"x"', b'"path":"../x"')

    found = history.find(vault.context, "obsidian", "x")

    assert [one.first.name for one in found.found] == [good]
    assert (found.exit, found.read) == (Exit.UNVERIFIED, 1)
    assert bad in found.notes[0]
    assert "'..'" in found.notes[0]


def test_digests_that_an_unproven_artifact_lacks_hide_no_change(vault: Vault) -> None:
    one = ItemVersion("t", "table", 5, "a" * 32, 1)
    unknown, other = replace(one, digest=""), replace(one, digest="b" * 32)
    assert one.same(unknown)
    assert unknown.same(other)
    assert not one.same(other)


def test_names_are_safe_on_a_terminal_and_binary_files_are_refused_there(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (vault.folder / "a\x1b[2J\nb").write_text("\x1b]0;title\x07")
    vault.backup(text="plain\n")
    monkeypatch.setenv("REFNET_HOME", str(vault.root / "home"))
    monkeypatch.setenv("REFNET_BACKUP_DIR", str(vault.root / "backups"))
    monkeypatch.setenv("REFNET_VAULT_DIR", str(vault.folder))
    for arguments in (["show", "obsidian", "--files"], ["find", "obsidian", "a*"], ["log", "obsidian/text"]):
        code, out, _ = ran(arguments, monkeypatch, capsys)
        assert code == 0
        assert "\x1b" not in out
        code, out, _ = ran([*arguments, "--json"], monkeypatch, capsys)
        assert json.loads(out)
    assert ran(["cat", "obsidian", "text"], monkeypatch, capsys) == (0, "plain\n", "")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    code, out, error = ran(["cat", "obsidian", "a*"], monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert "binary" in error
    assert ran(["cat", "obsidian", "a*", "--force"], monkeypatch, capsys)[1] == "\x1b]0;title\x07"


def test_a_pattern_without_a_source_is_searched_in_every_source(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    vault.backup(text="plain\n")
    settings = vault.root / "refnet.toml"
    (vault.root / "other").mkdir()
    settings.write_text(f'[folders.notes]\npath = "{vault.root / "other"}"\n')
    settings.chmod(0o600)
    for name, value in {"HOME": "home", "BACKUP_DIR": "backups", "CONFIG": "refnet.toml"}.items():
        monkeypatch.setenv(f"REFNET_{name}", str(vault.root / value))
    monkeypatch.setenv("REFNET_VAULT_DIR", str(vault.folder))
    code, out, error = ran(["find", "te*"], monkeypatch, capsys)
    assert (code, error) == (0, "")
    assert "1 name in 1 artifact of obsidian" in out
    assert "0 names in 0 artifacts of notes" in out
    assert ran(["find", "nothing"], monkeypatch, capsys)[0] == 1
    by_source = json.loads(ran(["find", "te*", "--json"], monkeypatch, capsys)[1])["sources"]
    assert {one["source"]: len(one["found"]) for one in by_source} == {"obsidian": 1, "notes": 0}
    code, _, error = ran(["find", "vault"], monkeypatch, capsys)
    assert (code, "GLOB is missing" in error) == (2, True)


def test_named_sources_are_looked_into_like_the_standard_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "notes" / "papers").mkdir(parents=True)
    (tmp_path / "notes" / "papers" / "x.md").write_text("text\n")
    settings = tmp_path / "refnet.toml"
    settings.write_text(f'[folders.notes]\npath = "{tmp_path / "notes"}"\n')
    settings.chmod(0o600)
    for name, value in {"HOME": "home", "BACKUP_DIR": "backups"}.items():
        monkeypatch.setenv(f"REFNET_{name}", str(tmp_path / value))
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    monkeypatch.chdir(tmp_path)
    assert ran(["backup", "notes", "--no-prove"], monkeypatch, capsys)[0] == 0
    assert ran(["cat", "notes", "x.md"], monkeypatch, capsys) == (0, "text\n", "")
    for arguments in (
        ["show", "notes", "--files", "papers/*"],
        ["find", "notes", "*.md"],
        ["log", "notes/papers/x.md"],
    ):
        code, out, error = ran(arguments, monkeypatch, capsys)
        assert (code, error) == (0, "")
        assert "papers/x.md" in out
    code, _, error = ran(["log", "note/papers/x.md"], monkeypatch, capsys)
    assert code == 2
    assert "Did you mean notes?" in error
    for slip in (["cat", "notess", "x.md"], ["list", "folders.notes.schedule"]):
        code, _, error = ran(slip, monkeypatch, capsys)
        assert (code, "Did you mean notes?" in error) == (2, True)
    assert "Did you mean notes?" not in ran(["pin", "notess"], monkeypatch, capsys)[2]


def test_the_digest_of_a_small_table_is_shown_by_the_digits_that_differ() -> None:
    table = ItemVersion("public.orders", "table", 40, digest="0" * 16 + "00000f2f8ee9cd57", rows=3)
    assert short(table) == "0f2f8ee9cd57"
    assert short(replace(table, rows=None, digest="30b7195ba49c" + "0" * 52)) == "30b7195ba49c"


def test_the_lines_of_a_file_are_compared(vault: Vault) -> None:
    first = vault.backup(todo="same\nold\n", papers__b="\0", long="a\n" * 30_000)
    second = vault.backup(todo="same\nnew\n", papers__b="\0\0", long="b\n" * 30_000)
    found = diff_file(vault.context, first, second, "todo")
    assert (found.lines[-3:], found.equal, found.binary) == ((" same", "-old", "+new"), False, False)
    assert diff_file(vault.context, first, second, DECOMPOSED).equal
    assert diff_file(vault.context, first, second, "papers/b").binary
    for other, path, words in [
        (second, "long", "20,000 lines"),
        (second, "nowhere", "has no file"),
        ("live", "todo", "two artifacts"),
    ]:
        with pytest.raises(RefnetError, match=words):
            diff_file(vault.context, first, other, path)


def test_a_difference_says_where_the_last_line_has_no_end(vault: Vault) -> None:
    first, second = vault.backup(todo="a\x0cb\nlast"), vault.backup(todo="a\x0cb\nlast\n")
    found = diff_file(vault.context, first, second, "todo")
    assert found.lines[-4:] == (" a\x0cb", "-last", "\\ No newline at end of file", "+last")


def test_the_difference_of_a_file_is_printed_with_its_exit_code(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = vault.backup(todo="a\x1b[2Jb\n")
    second = vault.backup(todo="new\n")
    monkeypatch.setenv("REFNET_HOME", str(vault.root / "home"))
    monkeypatch.setenv("REFNET_BACKUP_DIR", str(vault.root / "backups"))
    monkeypatch.setenv("REFNET_VAULT_DIR", str(vault.folder))
    code, out, _ = ran(["diff", first, second, "--file", "todo"], monkeypatch, capsys)
    assert (code, "-a\\x1b[2Jb\n+new\n" in out) == (4, True), out
    code, out, _ = ran(["diff", first, first, "--file", "todo"], monkeypatch, capsys)
    assert (code, "is the same" in out) == (0, True), out
