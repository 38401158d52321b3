"""A folder is walked in runs of names; the fingerprint of runs is that of the entries, one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from refnet.core.files import OPEN_FOLDER, opened
from refnet.sources.folder.scope import EVERYTHING
from refnet.sources.folder.tree import Fingerprint, fingerprint_of
from refnet.sources.folder.walk import runs, walk


@pytest.fixture
def root(vault: Path) -> Iterator[int]:
    os.mkfifo(vault / "papers" / "pipe")
    many = vault / "many"
    many.mkdir()
    for number in range(1002):
        (many / f"{number}.md").touch()
    (many / "500 folder").mkdir()
    (many / "500 folder" / "in it.md").touch()
    (many / "zz last").mkdir()
    with opened(vault, OPEN_FOLDER) as handle:
        yield handle


def one_by_one(root: int) -> Fingerprint:
    fingerprint = Fingerprint()
    fingerprint.add(".", os.fstat(root))
    for found in walk(root):
        if found.kind is not None:
            status = os.stat(found.name, dir_fd=found.folder, follow_symlinks=False)
            fingerprint.add(found.path, status)
    return fingerprint


def test_a_folder_comes_before_its_entries_and_ends_a_run(root):
    paths = [found.path for found in walk(root)]

    assert sorted(paths) == sorted(set(paths))
    assert all(path.rpartition("/")[0] in {"", *paths[:at]} for at, path in enumerate(paths))
    assert paths.index("many/500 folder/in it.md") == paths.index("many/500 folder") + 1
    for run in runs(root):
        assert len(run.names) <= 1000
        assert not any(run.kinds.get(name) == "folder" for name in run.names[:-1])


def test_the_fingerprint_of_runs_is_that_of_single_entries(root):
    assert fingerprint_of(root, EVERYTHING).hexdigest() == one_by_one(root).hexdigest()


def test_a_time_that_fits_in_no_64_bits_of_nanoseconds_has_a_fingerprint():
    def of(ctime: int) -> str:
        numbers = dict.fromkeys(("st_ino", "st_size", "st_mode", "st_uid", "st_gid", "st_mtime_ns"), 1)
        fingerprint = Fingerprint()
        fingerprint.add("x", SimpleNamespace(**numbers, st_ctime_ns=ctime))
        return fingerprint.hexdigest()

    assert len({of(1), of(2**63), of(2**63 + 1)}) == 3
