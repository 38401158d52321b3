"""A restore puts back what was backed up, keeps what was live, and touches nothing else."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.integration.files.conftest import World, contents, spoil
from tests.unit.sources.files.corpus import HARMLESS, HOSTILE

from refnet.catalog.artifact import OpenArtifact
from refnet.core.errors import Exit, RefnetError
from refnet.sources.folder import files_artifact, restore_files
from refnet.sources.folder.scope import Unheld
from refnet.sources.folder.swapping import WorkFolder
from refnet.store.open_artifacts import artifact_at


def test_what_was_backed_up_is_live_again_and_what_was_live_is_kept(world):
    held = world.backup()
    before = contents(world.folder)
    spoil(world)
    spoilt = contents(world.folder)

    done = world.restore(held)

    unlisted = {"src/main.py": b"print(1)\n"} if world.source == "config" else {}
    assert contents(world.folder) == before | unlisted
    kept = done.previous.previous_folder / (world.folder.name if done.plan.entire else "")
    assert contents(kept).items() <= spoilt.items()
    assert stat.S_IMODE(done.previous.path.stat().st_mode) == 0o700


def test_sparse_files_come_back_sparse_and_no_others(vault: World) -> None:
    files = {
        "long": {0: b"start", 9 << 20: b"end"},
        "short": {200 << 10: b"end"},
        "odd": {0: b"x", (1 << 20) + 7: b"end"},
        "dense": {0: bytes(1 << 20) + b"end"},
    }
    for name, parts in files.items():
        with (vault.folder / name).open("wb") as file:
            for at, data in parts.items():
                file.seek(at)
                file.write(data)
            if name == "long":
                file.truncate(20 << 20)
            os.fsync(file.fileno())
    held, before = vault.backup(), contents(vault.folder)
    taken = used(vault.folder, files)
    assert taken["long"] < 1 << 20 < taken["dense"]
    listed = held.files() or b""
    assert (listed[:13], listed.count(b'"sparse":true')) == (b'{"format": 3,', 3)
    shutil.rmtree(vault.folder)

    vault.restore(held)

    assert contents(vault.folder) == before
    found = used(vault.folder, files)
    assert found["dense"] >= taken["dense"]
    assert all(found[name] <= taken[name] for name in files if name != "dense")
    assert not files_artifact.live_differences(held, vault.place).changed


def used(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Bytes on the disk, as du says."""
    said = subprocess.run(
        ["du", "-B1", *names], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    return {name: int(size) for size, name in (line.split("\t") for line in said.splitlines())}


def test_an_undo_brings_back_what_was_live_and_a_second_one_the_restore(world):
    held = world.backup()
    spoil(world)
    spoilt = contents(world.folder)
    world.restore(held)
    restored = contents(world.folder)

    first = world.undo()
    assert contents(world.folder) == spoilt
    assert len(world.leftovers()) == 1
    assert first.previous.previous_folder.is_dir()

    world.undo()
    assert contents(world.folder) == restored
    assert len(world.leftovers()) == 1


def test_an_undo_says_what_was_written_since_and_keeps_it(vault):
    held = vault.backup()
    spoil(vault)
    vault.restore(held)
    (vault.folder / "since.md").write_text("written after the restore")

    done = vault.undo()

    assert "since.md" in done.plan.changes.removed
    assert (done.previous.previous_folder / "vault" / "since.md").read_text() == "written after the restore"


def test_there_is_nothing_to_undo_before_a_restore(world):
    with pytest.raises(RefnetError, match="has no previous version"):
        world.undo()


def test_the_plan_lists_added_changed_and_removed_and_changes_nothing(vault):
    held = vault.backup()
    spoil(vault)
    before = contents(vault.folder)

    plan = vault.plan(held)

    assert plan.changes.added == ("papers/deep/link.md", "papers/note 4.md")
    assert plan.changes.changed == ("papers/note 3.md",)
    assert plan.changes.removed == ("new.md",)
    assert plan.replaces
    assert contents(vault.folder) == before
    assert vault.leftovers() == []


def test_modes_and_times_come_back(vault):
    os.utime(vault.folder / "run.sh", ns=(1_600_000_000_123_456_789,) * 2)
    vault.folder.chmod(0o2750)
    held = vault.backup()
    shutil.rmtree(vault.folder)

    vault.restore(held)

    status = (vault.folder / "run.sh").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o750, 1_600_000_000_123_456_789)
    assert stat.S_IMODE(vault.folder.stat().st_mode) == 0o2750


def test_owners_come_back_where_root_restores(vault):
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(vault.folder / "run.sh", 1234, 5678)
    held = vault.backup()
    shutil.rmtree(vault.folder)

    vault.restore(held)

    status = (vault.folder / "run.sh").stat()
    assert (status.st_uid, status.st_gid) == (1234, 5678)


def test_nothing_is_done_where_nothing_differs(world):
    held = world.backup()
    inode = world.folder.stat().st_ino

    done = world.restore(held)

    assert done.previous is None
    assert world.folder.stat().st_ino == inode
    assert world.leftovers() == []


def test_a_missing_folder_is_simply_made_with_nothing_kept(world):
    held = world.backup()
    before = contents(world.folder)
    shutil.rmtree(world.folder)
    if world.source == "obsidian":
        shutil.rmtree(world.folder.parent)

    done = world.restore(held)

    unprotected = {name for name in before if name.startswith((".git", "src"))}
    assert contents(world.folder) == {k: v for k, v in before.items() if k not in unprotected}
    assert not done.plan.replaces
    assert done.previous is None
    assert world.leftovers() == []


def test_nothing_that_is_not_listed_is_touched_in_a_clone(config):
    held = config.backup()
    spoil(config)
    (config.folder / "scripts").mkdir()
    (config.folder / "scripts" / "mine.sh").write_text("listed, but not in the artifact")
    unlisted = [".git", ".git/HEAD", "src", "src/main.py", "scripts", "scripts/mine.sh"]
    before = {name: (config.folder / name).lstat() for name in unlisted}

    done = config.restore(held)

    after = {name: (config.folder / name).lstat() for name in unlisted}
    assert {name: (s.st_ino, s.st_ctime_ns) for name, s in after.items()} == {
        name: (s.st_ino, s.st_ctime_ns) for name, s in before.items()
    }
    assert "not in the artifact, left unchanged: scripts" in done.plan.notes


def test_git_does_not_see_what_a_restore_keeps_in_a_clone(config):
    shutil.rmtree(config.folder / ".git")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=config.folder, check=True)
    held = config.backup()
    spoil(config)

    config.restore(held)

    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=config.folder, check=True, capture_output=True, text=True
    )
    assert status.stdout == " M src/main.py\n"


def test_unlisted_contents_of_an_artifact_are_left_out_by_name(config, tmp_path):
    (config.folder / "hooks").mkdir()
    (config.folder / "hooks" / "post-checkout").write_text("rm -rf /")
    with tarfile.open(tmp_path / "config_20261125.tar.gz", "w:gz") as tar:
        for name in (".env", "docs", ".git", "hooks"):
            tar.add(config.folder / name, name)
    shutil.rmtree(config.folder / "hooks")
    (config.folder / ".env").write_text("SECRET=2\n")
    (config.folder / ".git" / "HEAD").write_text("mine")

    done = config.restore(artifact_at(tmp_path / "config_20261125.tar.gz", config.source))

    assert (config.folder / ".env").read_text() == "SECRET=1\n"
    assert (config.folder / ".git" / "HEAD").read_text() == "mine"
    assert not (config.folder / "hooks").exists()
    assert any(".git, hooks" in note and "left out" in note for note in done.plan.notes)


def plain(world: World, path: Path, *, prefix: str = "") -> OpenArtifact:
    subprocess.run(["tar", "-czf", path, "-C", world.folder, prefix or "."], check=True)
    return artifact_at(path, world.source)


def test_a_plain_tar_is_restored_and_reports_what_was_not_verified(vault, tmp_path):
    held = plain(vault, tmp_path / "vault_20231201.tar.gz")
    before = contents(vault.folder)
    spoil(vault)

    done = vault.restore(held)

    assert contents(vault.folder) == before
    assert any(note.startswith("could not verify: the archive has no list") for note in done.plan.notes)


@pytest.mark.parametrize(("make", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_leaves_the_live_vault_as_it_was(vault, tmp_path, make, told):
    (tmp_path / "evil.tar.gz").write_bytes(make())
    before = contents(tmp_path)

    with pytest.raises(RefnetError, match=told) as caught:
        vault.restore(artifact_at(tmp_path / "evil.tar.gz", vault.source))

    assert caught.value.code is Exit.DAMAGED
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("make", "wanted"), HARMLESS.values(), ids=HARMLESS)
def test_a_harmless_archive_becomes_the_live_vault(vault, tmp_path, make, wanted):
    (tmp_path / "plain.tar.gz").write_bytes(make())

    vault.restore(artifact_at(tmp_path / "plain.tar.gz", vault.source))

    assert contents(vault.folder) == wanted


def test_a_damaged_archive_leaves_the_live_vault_as_it_was(world):
    held = world.backup()
    path = world.store.root / world.source / held.name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    spoil(world)
    before = contents(world.folder)

    with pytest.raises(RefnetError) as caught:
        world.restore(held)

    assert caught.value.code is Exit.DAMAGED
    assert contents(world.folder) == before
    assert world.leftovers() == []


def test_a_disk_that_returns_other_bytes_is_noticed_before_the_swap(
    vault: World, monkeypatch: pytest.MonkeyPatch
):
    held = vault.backup()
    spoil(vault)
    before = contents(vault.folder)
    real = restore_files._compare

    def rot_first(decided: restore_files.FolderPlan, work: WorkFolder, unheld: Unheld) -> None:
        (work.path / "fresh" / "vault" / "run.sh").write_text("rotten")
        real(decided, work, unheld)

    monkeypatch.setattr(restore_files, "_compare", rot_first)
    with pytest.raises(
        RefnetError, match=r"the unpacked files differ from the archive: run\.sh has changed content"
    ):
        vault.restore(held)

    assert contents(vault.folder) == before
    assert vault.leftovers() == []


def test_a_link_on_the_way_to_the_vault_is_followed_and_stays(vault, tmp_path):
    held = vault.backup()
    spoil(vault)
    link = tmp_path / "link to the vault"
    link.symlink_to(vault.folder)

    World(vault.source, link, vault.root).restore(held)

    assert link.readlink() == vault.folder
    assert not (vault.folder / "new.md").exists()


def test_two_vaults_side_by_side_do_not_take_each_others_kept_folders(vault):
    other = World(vault.source, vault.folder.with_name("other"), vault.root)
    shutil.copytree(vault.folder, other.folder, symlinks=True)
    held = vault.backup()
    spoil(vault)
    vault.restore(held)

    with pytest.raises(RefnetError, match="has no previous version"):
        other.undo()
