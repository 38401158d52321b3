"""What differs between two artifacts of files, or one and what is live."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from tests.integration.files.conftest import World, spoil

from refnet.core.errors import RefnetError
from refnet.sources.contents import Changed
from refnet.sources.folder import files_artifact
from refnet.store.open_artifacts import artifact_at


def test_two_artifacts_differ_by_the_notes_that_came_changed_and_went(vault: World) -> None:
    before = vault.backup()
    spoil(vault)
    (vault.folder / "run.sh").chmod(0o600)
    (vault.folder / "papers" / "note 0.md").write_text("# Note 9\n" * 30)

    found = files_artifact.archive_differences(before, vault.backup())

    assert found.added == ("new.md",)
    assert found.removed == ("papers/deep/link.md", "papers/note 4.md")
    assert set(found.changed) == {
        Changed("papers/note 0.md", "other content of the same size"),
        Changed("papers/note 3.md", "270 bytes, then 6"),
        Changed("run.sh", "mode 0750, then 0600"),
    }
    assert not found.equal


def test_an_artifact_is_equal_to_what_it_was_made_of(world: World) -> None:
    held = world.backup()

    assert files_artifact.live_differences(held, world.place).equal
    assert files_artifact.archive_differences(held, world.backup()).equal


def test_what_is_live_differs_in_what_a_restore_would_take_back(world: World) -> None:
    held = world.backup()
    spoil(world)

    found, plan = files_artifact.live_differences(held, world.place), world.plan(held)

    assert set(found.added) == set(plan.changes.removed)
    assert set(found.removed) == set(plan.changes.added)
    assert {one.name for one in found.changed} == set(plan.changes.changed)


def test_what_is_not_listed_in_the_configuration_is_no_difference(config: World) -> None:
    held = config.backup()
    (config.folder / "src" / "main.py").write_text("other")

    assert files_artifact.live_differences(held, config.place).equal


def test_a_vault_that_is_gone_lacks_everything(vault: World) -> None:
    held = vault.backup()
    vault.folder.rename(vault.folder.with_name("gone"))

    found = files_artifact.live_differences(held, vault.place)

    assert "run.sh" in found.removed
    assert found.added == found.changed == ()


def test_a_plain_tar_is_compared_too(vault: World) -> None:
    path = vault.root / "vault_20231201.tar.gz"
    subprocess.run(["tar", "-czf", path, "-C", vault.folder, "."], check=True)
    (vault.folder / "new.md").write_text("new")

    assert files_artifact.archive_differences(artifact_at(path, vault.source), vault.backup()).added == (
        "new.md",
    )


def test_a_file_that_became_a_folder_or_a_link_says_so(vault: World) -> None:
    before = vault.backup()
    (vault.folder / "run.sh").unlink()
    (vault.folder / "run.sh").mkdir()
    (vault.folder / "papers" / "deep" / "link.md").unlink()
    (vault.folder / "papers" / "deep" / "link.md").symlink_to("../note 2.md")

    found = files_artifact.archive_differences(before, vault.backup())

    assert Changed("run.sh", "a file, then a folder") in found.changed
    assert Changed("papers/deep/link.md", "leads to ../note 1.md, then to ../note 2.md") in found.changed


def test_a_file_in_the_place_of_the_live_folder_is_named(vault: World) -> None:
    before = vault.backup()
    shutil.rmtree(vault.folder)
    vault.folder.write_text("not a folder")
    with pytest.raises(RefnetError, match=f"{vault.folder} is a file, not a folder"):
        files_artifact.live_differences(before, vault.place)
