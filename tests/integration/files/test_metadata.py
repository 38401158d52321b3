"""ACLs, attributes, owners and times: kept, restored, compared; what cannot be is named. Judged by stock tools."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.files.conftest import World

from refnet.catalog.manifest import Level, Outcome
from refnet.core import attributes
from refnet.core.errors import RefnetError
from refnet.proof_run import ProofOptions
from refnet.sources.folder import files_artifact
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.store.open_artifacts import artifact_at

for tool in ("setfacl", "getfacl", "getfattr"):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed", allow_module_level=True)


def run(*command: str | Path, at: Path | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=at).stdout


def seen(folder: Path) -> list[str]:
    """What stock tools see of owners, modes, ACLs and attributes."""
    acls, xattrs = (
        run("getfacl", "-Rnp", ".", at=folder),
        run("getfattr", "-dR", "-m", "user", ".", at=folder),
    )
    return sorted((acls + xattrs).split("\n\n"))


@pytest.fixture
def rich(vault: World) -> World:
    """A vault with ACLs, default ACLs and attributes."""
    secret = vault.folder / "papers" / "note 0.md"
    secret.chmod(0o600)
    run("setfacl", "-m", "u:4711:rw,g:4712:r,g::-", secret)
    run("setfacl", "-m", "u:4711:rwx,d:u:4711:rw,d:g:4712:-", vault.folder / "papers")
    run("setfacl", "-m", "d:o:-", vault.folder)
    os.setxattr(secret, "user.xdg.comment", b"\0two\nlines = 100 % \xff")
    os.setxattr(secret, "user.a=b%3D", b"x" * 2000)
    os.setxattr(vault.folder / "papers" / "deep", "user.tag", b"reading")
    os.setxattr(vault.folder, "user.vault", b"mine")
    return vault


def test_acls_and_attributes_are_restored(rich: World) -> None:
    before = seen(rich.folder)
    held = rich.backup()
    assert files_artifact.live_differences(held, rich.place).equal
    shutil.rmtree(rich.folder)

    done = rich.restore(held)

    assert seen(rich.folder) == before
    assert done.notes == ()
    assert files_artifact.live_differences(held, rich.place).equal


def test_stock_tar_restores_the_same(rich: World) -> None:
    held, out = rich.backup(), rich.root / "out"
    out.mkdir()

    run("tar", "--acls", "--xattrs", "-xpf", str(held.path), "-C", out)

    assert seen(out) == seen(rich.folder)


def test_plain_tar_does_not_give_a_group_what_only_the_mask_allows(rich: World) -> None:
    held, out = rich.backup(), rich.root / "out"
    out.mkdir()

    run("tar", "-xpf", str(held.path), "-C", out)

    assert stat.S_IMODE((out / "papers" / "note 0.md").stat().st_mode) == 0o600


def test_an_archive_of_tar_is_restored_with_its_acls(rich: World) -> None:
    path, before = rich.root / "vault_20231201.tar.gz", seen(rich.folder)
    run("tar", "--numeric-owner", "--acls", "--xattrs", "-czf", path, "-C", rich.folder, ".")
    shutil.rmtree(rich.folder)

    rich.restore(artifact_at(path, rich.source))

    assert seen(rich.folder) == before


@pytest.mark.parametrize("edit", ["acl", "attribute", "owner"])
def test_a_difference_in_metadata_is_found_and_restored(rich: World, edit: str) -> None:
    held, note = rich.backup(), rich.folder / "papers" / "note 0.md"
    before = seen(rich.folder)
    if edit == "acl":
        run("setfacl", "-m", "u:4711:r", note)
    elif edit == "attribute":
        os.setxattr(note, "user.xdg.comment", b"other")
    elif os.geteuid():
        pytest.skip("only root gives files away")
    else:
        os.chown(note, 4711, 4712)

    found = files_artifact.live_differences(held, rich.place)
    assert [one.name for one in found.changed] == ["papers/note 0.md"]
    assert found.changed[0].why.split()[-1 if edit == "acl" else 0].lower() in {"acl", "other", "owner"}
    rich.restore(held)

    assert seen(rich.folder) == before
    assert files_artifact.live_differences(held, rich.place).equal


def test_a_folder_with_a_default_acl_gives_none_to_what_is_restored_in_it(vault: World) -> None:
    held, before = vault.backup(), seen(vault.folder)
    shutil.rmtree(vault.folder)
    run("setfacl", "-m", "d:u:4711:rwx,d:o:rwx", vault.folder.parent)

    vault.restore(held)

    assert seen(vault.folder) == before
    (vault.folder / "papers" / "note 0.md").unlink()
    run("setfacl", "-m", "d:u:4711:rwx,d:o:rwx", vault.folder / "papers")
    vault.restore(held, "papers/note 0.md")
    assert "4711" not in run("getfacl", "-np", vault.folder / "papers" / "note 0.md")


def test_without_acl_support_the_group_gets_nothing_and_the_run_says_so(
    rich: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, real = rich.backup(), os.setxattr
    shutil.rmtree(rich.folder)

    def refuse(handle: int, name: str, value: bytes) -> None:
        if name in (attributes.ACCESS, attributes.DEFAULT, b"user.tag"):
            raise OSError(95, "Operation not supported")
        real(handle, name, value)

    monkeypatch.setattr(attributes.os, "setxattr", refuse)
    proof = FilesArtifact(held).prove(
        Level.PROVEN,
        ProofOptions(rich.root / "scratch", lambda *_: pytest.fail("asked for programs"), jobs=1),
    )
    done = rich.restore(held)

    assert stat.S_IMODE((rich.folder / "papers" / "note 0.md").stat().st_mode) == 0o600
    assert done.notes == (
        "this user or file system could not set: the extended attributes of papers/deep",
        "this user or file system could not set: the ACL of papers/note 0.md, papers, .",
    )
    assert (proof.outcome, proof.level) == ("passed", Level.PROVEN)
    assert any("could not set: the ACL" in reason for reason in proof.reasons)


def test_a_lost_set_user_id_bit_is_named_and_is_no_difference(vault: World) -> None:
    (vault.folder / "run.sh").chmod(0o4755)

    found = files_artifact.live_differences(held := vault.backup(), vault.place)

    assert found.equal
    assert found.notes == ("not kept: the set-user-ID or set-group-ID bit of run.sh",)
    assert held.manifest
    assert held.manifest.unchecked == found.notes


def test_capabilities_and_hard_links_are_named(vault: World) -> None:
    if os.geteuid():
        pytest.skip("only root sets a capability")
    os.setxattr(
        vault.folder / "run.sh",
        "security.capability",
        bytes.fromhex("0100000200040000000000000000000000000000"),
    )
    os.setxattr(vault.folder, "trusted.a", b"x")
    os.link(vault.folder / "run.sh", vault.folder / "second.sh")

    held = vault.backup()

    assert held.manifest
    assert set(held.manifest.unchecked) == {
        "not kept: trusted.a of .",
        "not kept: security.capability of run.sh, second.sh",
        "not kept: the hard link of second.sh",
    }


@pytest.mark.parametrize("second", [16_725_225_600, 15_032_385_535, -2_147_483_648, -1])
def test_a_file_of_any_century_is_proven_and_restored(vault: World, second: int) -> None:
    run("touch", "-d", f"@{second}", vault.folder / "run.sh")
    wanted = (vault.folder / "run.sh").stat().st_mtime_ns
    held = vault.backup()
    options = ProofOptions(vault.root / "scratch", lambda *_: pytest.fail("asked for programs"), jobs=1)
    assert FilesArtifact(held).prove(Level.PROVEN, options).reasons == ()
    (vault.folder / "run.sh").unlink()

    vault.restore(held)

    assert (vault.folder / "run.sh").stat().st_mtime_ns == wanted


def test_a_folder_that_is_too_deep_for_a_restore_fails_the_backup_by_name(vault: World) -> None:
    deep = vault.folder.joinpath(*["d"] * 260)
    deep.mkdir(parents=True)

    with pytest.raises(RefnetError, match="is too long or too deep to be restored"):
        vault.backup()


def test_an_artifact_of_an_earlier_version_is_read_and_says_what_it_lacks(rich: World) -> None:
    held = rich.backup()
    text = held.files()
    assert text is not None
    old = re.sub(rb',"(acl|xattrs)":"[0-9a-f]{64}"', b"", text.replace(b'"format": 2', b'"format": 1'))
    held = replace(held, files=lambda: old)

    found, plan = files_artifact.live_differences(held, rich.place), rich.plan(held)

    assert found.equal
    assert plan.notes == (
        "an earlier version made it without ACLs and extended attributes: a restore sets none",
    )


def test_attributes_the_kernel_does_not_list_are_named_and_the_rest_kept(
    vault: World, mounted: Callable[..., Path]
) -> None:
    mounted(vault.folder, "size=8m,mode=755")
    note = vault.folder / "note.md"
    note.write_text("text")
    run("setfacl", "-m", "u:4711:rw,g::-", note)
    acl = run("getfacl", "-np", note)
    try:
        for number in range(400):
            os.setxattr(note, f"user.{'n' * 240}{number:03}", b"")
    except OSError as error:
        pytest.skip(f"this kernel keeps none in memory: {error.strerror}")

    held = vault.backup()

    assert held.manifest
    assert held.manifest.unchecked == ("not kept: user.* (more than can be listed) of note.md",)
    note.unlink()
    vault.restore(held)
    assert run("getfacl", "-np", note) == acl


def test_a_tar_archive_without_its_folder_gives_no_group_access(rich: World) -> None:
    run("setfacl", "-m", "u:4711:rwx,g::-", rich.folder)
    path, before = rich.root / "vault_20231201.tar.gz", run("getfacl", "-np", rich.folder)
    names = sorted(one.name for one in rich.folder.iterdir())
    run("tar", "--numeric-owner", "--acls", "--xattrs", "-czf", path, "-C", rich.folder, *names)
    (rich.folder / "run.sh").write_text("changed")

    rich.restore(artifact_at(path, rich.source))

    assert run("getfacl", "-np", rich.folder) == before
    assert os.getxattr(rich.folder, "user.vault") == b"mine"


def test_a_hard_link_in_a_tar_archive_has_its_files_acl_and_attributes(rich: World) -> None:
    notes, path = rich.folder / "papers", rich.root / "vault_20231201.tar.gz"
    os.link(notes / "note 0.md", notes / "zz.md")
    before = seen(rich.folder)
    run("tar", "--numeric-owner", "--acls", "--xattrs", "-czf", path, "-C", rich.folder, ".")
    options = ProofOptions(rich.root / "scratch", lambda *_: pytest.fail("asked for programs"), jobs=1)
    proof = FilesArtifact(artifact_at(path, rich.source)).prove(Level.PROVEN, options)
    assert [one.what for one in proof.findings if one.outcome is Outcome.FAILED] == []
    shutil.rmtree(rich.folder)

    rich.restore(artifact_at(path, rich.source))

    assert seen(rich.folder) == before
