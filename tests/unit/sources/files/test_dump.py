"""What a dump of a folder holds, judged by stock tar."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import RefnetError
from refnet.sources.folder import archive_writer as dump_module
from refnet.sources.folder import files_maker
from refnet.sources.folder.files_maker import FilesMaker
from refnet.sources.folder.listing import FileKind, FileList
from refnet.sources.folder.scope import EVERYTHING, Scope, parse_entries, unkept
from refnet.store import backup_folder


def facts(folder: Path) -> dict[str, tuple[object, ...]]:
    """Path → kind, mode, content or target, seconds of the time, of everything below `folder` and of itself."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        kind, mode, time = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), int(status.st_mtime)
        if path.is_symlink():
            found[str(path.relative_to(folder))] = (kind, str(path.readlink()))
        else:
            content = path.read_bytes() if path.is_file() else b""
            found[str(path.relative_to(folder))] = (kind, mode, content, time)
    return found


def untar(data: bytes, folder: Path) -> str:
    """Unpack with stock tar; what it says."""
    folder.mkdir()
    (folder.parent / "artifact.tar.gz").write_bytes(data)
    done = subprocess.run(
        ["tar", "-xpzf", folder.parent / "artifact.tar.gz", "-C", folder],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stderr


def path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def test_stock_tar_brings_back_every_file_with_its_name_mode_and_content(vault, dumped, tmp_path):
    said = untar(dumped(vault).data, tmp_path / "out")

    assert facts(tmp_path / "out") == facts(vault)
    assert said == ""


def test_long_names_that_are_no_utf8_are_unpacked_by_stock_tar_too(vault, dumped, tmp_path):
    (vault / os.fsdecode(b"\xff" * 200)).write_bytes(b"odd")

    untar(dumped(vault).data, tmp_path / "out")

    assert facts(tmp_path / "out") == facts(vault)


def test_the_list_holds_size_mode_time_and_digest_of_every_file(vault, dumped):
    files = FileList.from_json(dumped(vault).made.files)

    for path, (kind, *rest) in facts(vault).items():
        listed = files.by_path[path]
        if kind == stat.S_IFLNK:
            assert (listed.kind, listed.target) == (FileKind.LINK, rest[0])
        elif kind == stat.S_IFREG:
            mode, content, _ = rest
            assert (listed.kind, listed.mode, listed.size) == (FileKind.FILE, mode, len(content))
            assert listed.sha256 == sha256(content).hexdigest()
        else:
            assert (listed.kind, listed.mode) == (FileKind.FOLDER, rest[0])
    assert files.by_path["script.sh"].mtime_ns == 1_600_000_000_123_456_789
    assert len(files.files) == len(facts(vault))


def test_the_list_is_plain_json_that_says_what_is_no_utf8(vault, dumped):
    items = json.loads(dumped(vault).made.files)["files"]

    assert any(item.get("path") == "papers/引用ネットワーク 📚.md" for item in items)
    assert sum("path_base64" in item for item in items) == 1


def test_what_went_in_is_counted(vault, dumped):
    details = dumped(vault).made.details

    assert details["files"] == sum(path.is_file() and not path.is_symlink() for path in vault.rglob("*"))
    assert details["links"] == 1
    assert details["raw_bytes"] == sum(
        path.stat().st_size for path in vault.rglob("*") if path.is_file() and not path.is_symlink()
    )


def test_a_link_that_leads_outside_and_a_fifo_are_named_and_left_out(vault, dumped):
    (vault / "attachments").symlink_to("/srv/attachments")
    (vault / "papers" / "up.md").symlink_to("../../outside.md")
    os.mkfifo(vault / "pipe")

    artifact = dumped(vault)

    files = FileList.from_json(artifact.made.files)
    assert not {"attachments", "papers/up.md", "pipe"} & files.by_path.keys()
    told = "\n".join(artifact.made.unchecked)
    assert "attachments is a link that leads outside (/srv/attachments)" in told
    assert "papers/up.md" in told
    assert "pipe is not a file, folder or link" in told


def test_a_set_user_id_bit_is_not_kept_and_said(vault, dumped):
    (vault / "script.sh").chmod(0o4755)

    artifact = dumped(vault)

    assert FileList.from_json(artifact.made.files).by_path["script.sh"].mode == 0o755
    told = "not kept: the set-user-ID or set-group-ID bit of script.sh"
    assert artifact.made.unchecked == (told,)
    assert unkept(artifact.made.details) == (told,)


@pytest.mark.parametrize("name", ["script.sh", "large.bin"])
def test_a_file_that_changes_while_it_is_read_is_read_again(vault, dumped, monkeypatch, name):
    real, left = os.read, [1]

    def read(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        if left[0] and path_of(descriptor).name == name:
            left[0] = 0
            with (vault / name).open("ab") as file:
                file.write(b"more")
        return data

    monkeypatch.setattr(dump_module.os, "read", read)
    artifact = dumped(vault)
    monkeypatch.undo()

    assert left == [0]
    content = (vault / name).read_bytes()
    assert content.endswith(b"more")
    assert FileList.from_json(artifact.made.files).by_path[name].sha256 == sha256(content).hexdigest()
    assert artifact.made.unchecked == ()


@pytest.mark.parametrize("name", ["script.sh", "large.bin"])
def test_a_file_that_never_holds_still_is_reported(vault, dumped, monkeypatch, name, source):
    real = os.read

    def read(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        if path_of(descriptor).name == name:
            with (vault / name).open("ab") as file:
                file.write(b"more")
        return data

    monkeypatch.setattr(dump_module.os, "read", read)
    artifact = dumped(vault)

    assert [sentence for sentence in artifact.made.unchecked if name in sentence and "changed" in sentence]
    assert artifact.made.details["settled"] is False


def test_a_file_that_shrinks_while_it_is_read_leaves_a_readable_archive(vault, dumped, monkeypatch, tmp_path):
    real, left = os.read, [1]

    def read(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        if left[0] and path_of(descriptor).name == "large.bin":
            left[0] = 0
            os.truncate(vault / "large.bin", 10)
        return data

    monkeypatch.setattr(dump_module.os, "read", read)
    artifact = dumped(vault)
    monkeypatch.undo()

    untar(artifact.data, tmp_path / "out")
    assert facts(tmp_path / "out") == facts(vault)


def test_a_missing_vault_is_an_error(dumped, tmp_path):
    with pytest.raises(RefnetError, match=r"the folder of obsidian cannot be read: .*nowhere"):
        dumped(tmp_path / "nowhere")


def test_errors_of_a_named_folder_name_its_settings(tmp_path):
    name = SourceName("wiki", Kind.FOLDER)
    entries, scope = parse_entries(("a.md",)), Scope({"a.md"}, ("a.md",))
    with pytest.raises(RefnetError) as gone:
        FilesMaker(name, tmp_path / "nowhere", None).dump(io.BytesIO())
    assert "set folders.wiki.path to its path" in gone.value.hint

    (tmp_path / "a.md").write_text("a")
    with pytest.raises(RefnetError) as excluded:
        FilesMaker(name, tmp_path, entries, scope=scope).dump(io.BytesIO())
    assert "which folders.wiki.entries lists" in excluded.value.message
    assert (
        excluded.value.hint == "Remove it from folders.wiki.entries, or the rule from folders.wiki.exclude."
    )


def test_a_vault_that_lost_its_notes_is_an_error_and_a_new_one_is_not(vault, dumped, tmp_path):
    before = dumped(vault)
    empty = tmp_path / "empty"
    empty.mkdir()

    with pytest.raises(RefnetError, match=r"is empty, and vault_20261125\.tar\.gz has"):
        dumped(empty, last=before)
    assert dumped(empty).made.details["files"] == 0


def test_an_unreadable_note_fails_the_backup_by_name(short_folder, as_nobody, source):
    folder = short_folder / "unreadable"
    (folder / "closed").mkdir(parents=True)
    (folder / "secret.md").write_text("x")
    (folder / "secret.md").chmod(0)
    (folder / "closed").chmod(0)
    try:
        message = as_nobody(lambda: source(folder).dump(io.BytesIO()))
    finally:
        (folder / "closed").chmod(0o700)

    assert "closed (Permission denied), secret.md (Permission denied) cannot be read" in message


def test_config_takes_the_listed_entries_alone(tmp_path, dumped):
    folder = tmp_path / "clone"
    (folder / ".git").mkdir(parents=True)
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("a")
    (folder / "compose.yaml").write_text("services: {}")
    (folder / ".env").write_text("SECRET=1")
    (folder / "notes.txt").write_text("mine")

    artifact = dumped(
        folder, entries=parse_entries(["docker-compose.yml|compose.yaml", ".env", "docs/?", "scripts/?"])
    )

    files = FileList.from_json(artifact.made.files)
    assert list(files.by_path) == [".env", "compose.yaml", "docs", "docs/a.md"]
    assert artifact.made.unchecked == ("scripts/ does not exist (optional)",)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (".env", r"\.env is missing"),
        ("a|b", "a or b is missing"),
        ("monitoring/", "monitoring/ is missing"),
        ("link", "link is not a file"),
        ("folder", "folder is a folder, not a file"),
        ("file/", "file is not a folder"),
    ],
)
def test_a_required_entry_that_is_missing_or_no_file_fails_by_name(tmp_path, dumped, entry, told):
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "file").touch()
    (folder / "link").symlink_to("file")
    (folder / "folder").mkdir()

    with pytest.raises(RefnetError, match=told):
        dumped(folder, entries=parse_entries([entry]))


@pytest.mark.parametrize("entry", ["../x", "a/b", "/etc", ".", "..", "", "|a"])
def test_an_entry_that_is_no_name_is_a_usage_error(entry):
    with pytest.raises(RefnetError, match="not an entry of the configuration's folder"):
        parse_entries([entry])


@pytest.mark.parametrize(
    ("mount", "options", "scope", "is_named"),
    [
        ("vault", "defaults,nofail", EVERYTHING, True),
        ("vault/papers/deep", "defaults", EVERYTHING, True),
        ("vault/papers/deep", "rw,noauto", EVERYTHING, False),
        ("vault/papers/deep", "defaults", Scope(one_file_system=True), False),
        ("vault/papers/deep", "defaults", Scope(exclude=("papers/",)), False),
        ("vault2", "defaults", EVERYTHING, False),
    ],
)
def test_a_disk_of_fstab_that_is_missing_in_the_folder_is_a_warning(
    vault, dumped, settled, tmp_path, monkeypatch, mount, options, scope, is_named
):
    (fstab := tmp_path / "fstab").write_text(f"UUID=1 {tmp_path}/{mount} ext4 {options} 0 2\n")
    for name in ("unmounted", "unmounted_in"):
        monkeypatch.setattr(files_maker, name, partial(getattr(backup_folder, name), fstab=fstab))

    first = settled(dumped(vault, scope=scope))
    again = dumped(vault, scope=scope, last=first)

    said = (f"{tmp_path}/{mount} is in /etc/fstab and not mounted: what is on it is not backed up",)
    assert (first.made.warnings, again.made.warnings) == ((said,) * 2 if is_named else ((), ()))
    assert again.data == b""
