"""A restore of some files (--only) replaces these and nothing else."""

from __future__ import annotations

import io
import os
import shutil
import stat

import pytest
from tests.integration.files.conftest import contents, spoil

from refnet.catalog.artifact import OpenArtifact
from refnet.core.errors import Exit, RefnetError


def test_one_note_comes_back_alone(vault):
    held = vault.backup()
    spoil(vault)
    before = contents(vault.folder)

    done = vault.restore(held, "papers/note 3.md")

    assert contents(vault.folder) == before | {"papers/note 3.md": b"# Note 3\n" * 30}
    assert (done.previous.previous_folder / "papers" / "note 3.md").read_text() == "spoilt"
    vault.undo()
    assert contents(vault.folder) == before


def test_one_note_comes_back_with_the_folders_that_are_missing_on_the_way(vault):
    held = vault.backup()
    shutil.rmtree(vault.folder / "papers")

    done = vault.restore(held, "papers/deep/two\nlines 📚.md")

    assert contents(vault.folder / "papers") == {"deep": None, "deep/two\nlines 📚.md": b"deep"}
    assert done.previous is None


def test_a_folder_comes_back_alone(vault):
    held = vault.backup()
    before = contents(vault.folder)
    spoil(vault)

    vault.restore(held, f"{vault.folder}/papers")

    assert contents(vault.folder) == before | {"new.md": b"new"}


def test_one_entry_of_the_configuration_comes_back_alone(config):
    held = config.backup()
    spoil(config)
    before = contents(config.folder)

    config.restore(held, ".env")

    assert contents(config.folder) == before | {".env": b"SECRET=1\n"}
    assert stat.S_IMODE((config.folder / ".env").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ("papers/note 33.md", "papers/note 33.md is not in the artifact"),
        ("../note.md", "leads out of its folder"),
        ("/etc/passwd", "has an absolute name"),
        (".", r"\. may not be replaced"),
    ],
)
def test_an_only_that_is_not_there_is_a_usage_error(vault, only, told):
    held = vault.backup()
    with pytest.raises(RefnetError, match=told) as caught:
        vault.plan(held, only)
    assert caught.value.code is Exit.USAGE


def test_an_only_that_is_a_name_is_found_in_any_folder(vault):
    (vault.folder / "deep" / "er").mkdir(parents=True)
    (vault.folder / "deep" / "er" / "n2.md").write_bytes(b"kept")
    held = vault.backup()
    (vault.folder / "deep" / "er" / "n2.md").write_bytes(b"lost")

    vault.restore(held, "n2.md")

    assert (vault.folder / "deep" / "er" / "n2.md").read_bytes() == b"kept"


def test_an_only_that_is_the_name_of_several_files_asks_for_a_path(vault):
    for folder in ("one", "two"):
        (vault.folder / folder).mkdir()
        (vault.folder / folder / "n2.md").write_bytes(b"kept")
    held = vault.backup()

    with pytest.raises(RefnetError, match=r"n2\.md is in several folders") as caught:
        vault.plan(held, "n2.md")
    assert "one/n2.md, two/n2.md; or the pattern '**/n2.md'" in caught.value.hint
    assert caught.value.code is Exit.USAGE
    vault.restore(held, "**/n2.md")


def test_an_only_is_not_put_through_a_link(vault, tmp_path):
    held = vault.backup()
    shutil.rmtree(vault.folder / "papers")
    (tmp_path / "elsewhere").mkdir()
    (vault.folder / "papers").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RefnetError, match="papers is a link or not a folder"):
        vault.restore(held, "papers/note 3.md")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_only_reads_a_small_part_of_the_archive(vault):
    for number in range(40):
        (vault.folder / f"big {number:02}.bin").write_bytes(os.urandom(300_000))
    held = vault.backup()
    (vault.folder / "papers" / "note 3.md").unlink()
    opened: list[Counted] = []

    def open_counted() -> Counted:
        with held.open() as archive:
            opened.append(Counted(archive.read()))
        return opened[-1]

    vault.restore(
        OpenArtifact(held.source, held.name, open_counted, held.manifest, held.files), "papers/note 3.md"
    )

    assert (vault.folder / "papers" / "note 3.md").exists()
    assert sum(one.count for one in opened) < 3_000_000 < held.manifest.size


class Counted(io.BytesIO):
    """A reader that counts the bytes that it gives."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data

    def readinto(self, buffer: bytearray) -> int:
        count = super().readinto(buffer)
        self.count += count
        return count
