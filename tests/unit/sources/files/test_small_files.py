"""Two processes read the small files of a folder: the archive is that of one, whatever happens meanwhile."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from refnet.catalog.artifact import Made
from refnet.core.errors import RefnetError
from refnet.sources.folder import archive_writer, small_files
from refnet.sources.folder.listing import FileList
from refnet.sources.folder.walk import EntryRun, runs

FILES = 1500


@pytest.fixture
def many(vault: Path) -> Path:
    """The vault with many small files, among them what is not plain."""
    folder = vault / "many"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:04}.md").write_bytes(b"note %d\n" % number * (number % 50))
    (folder / "0100.md").chmod(0o4755)
    (folder / "0200.md").write_bytes(os.urandom(100_000))
    os.link(folder / "0300.md", folder / "0300 again.md")
    (folder / "0400 link.md").symlink_to("0401.md")
    os.mkfifo(folder / "0500 pipe")
    return vault


@pytest.fixture
def made(source) -> Callable[..., tuple[bytes, Made]]:
    """Dumps a folder with so many jobs; whether its entries are old enough is left out."""

    def dump(folder: Path, jobs: int) -> tuple[bytes, Made]:
        out = io.BytesIO()
        found = replace(source(folder), jobs=jobs).dump(out)
        return out.getvalue(), replace(found, details={**found.details, "settled": None})

    return dump


@pytest.fixture(autouse=True)
def alone(monkeypatch) -> None:
    """As in a run of the command: this process has one thread, whatever other tests have left."""
    monkeypatch.setattr(small_files, "threading", SimpleNamespace(active_count=lambda: 1))


@pytest.fixture
def read_here(monkeypatch) -> list[str]:
    """The names that this process has read."""
    names: list[str] = []
    real = small_files._Waiting.read_here

    def read(one: small_files._Waiting) -> small_files.ReadRun:
        names.extend(one.run.names)
        return real(one)

    monkeypatch.setattr(small_files._Waiting, "read_here", read)
    return names


def children() -> list[str]:
    """The processes that threads of this one have started, and that have not been waited for."""
    return sorted(" ".join(one.read_text() for one in Path("/proc/self/task").glob("*/children")).split())


def after_its_walk(monkeypatch, name: str, change: Callable[[Path], None], folder: Path) -> None:
    """Let `change` happen to the file `name` of `folder` after its name was read, and before the file is."""

    def changing(*given: object) -> Iterator[EntryRun]:
        for run in runs(*given):
            if name in run.names:
                change(folder / name)
            yield run

    monkeypatch.setattr(archive_writer, "runs", changing)


def test_two_processes_make_the_archive_and_the_list_of_one(many, made, read_here):
    one = made(many, 1)
    here = len(read_here)
    two = made(many, 2)

    assert two == one
    assert len(read_here) - here < here, "the second process read nothing"


@pytest.mark.parametrize("its", [signal.SIGKILL, signal.SIGSTOP])
def test_the_second_process_dies_or_hangs_and_the_archive_is_complete(many, made, monkeypatch, its):
    one = made(many, 1)
    real = small_files._Second._send

    def send(second: small_files._Second, run: small_files._Waiting) -> None:
        real(second, run)
        os.kill(second._pid, its)

    monkeypatch.setattr(small_files._Second, "_send", send)
    monkeypatch.setattr(small_files, "_SECONDS", 0.2)

    assert made(many, 2) == one


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_vanishes_after_the_walk_is_noted(many, made, monkeypatch, jobs):
    after_its_walk(monkeypatch, "0700.md", Path.unlink, many / "many")

    _, found = made(many, jobs)

    assert "many/0700.md vanished while the folder was read" in found.unchecked
    assert "many/0700.md" not in FileList.from_json(found.files).by_path


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_is_replaced_by_a_link_after_the_walk_is_not_followed(
    many, made, monkeypatch, jobs, tmp_path
):
    (tmp_path / "secret").write_text("secret")

    def replaced(path: Path) -> None:
        path.unlink()
        path.symlink_to(tmp_path / "secret")

    after_its_walk(monkeypatch, "0700.md", replaced, many / "many")

    with pytest.raises(RefnetError, match=r"0700\.md \(Too many levels of symbolic links\)"):
        made(many, jobs)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_is_replaced_by_a_pipe_after_the_walk_stops_nothing(many, made, monkeypatch, jobs):
    def replaced(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    after_its_walk(monkeypatch, "0700.md", replaced, many / "many")

    _, found = made(many, jobs)

    assert "many/0700.md" not in FileList.from_json(found.files).by_path


def test_beside_another_thread_no_process_is_forked(many, made, monkeypatch):
    monkeypatch.setattr(small_files, "threading", threading)
    monkeypatch.setattr(small_files.os, "fork", lambda: pytest.fail("forked"))
    goes_on = threading.Event()
    thread = threading.Thread(target=goes_on.wait)
    thread.start()
    try:
        made(many, 2)
    finally:
        goes_on.set()
        thread.join()


def test_a_small_folder_and_one_job_fork_no_process(vault, made, monkeypatch):
    monkeypatch.setattr(small_files.os, "fork", lambda: pytest.fail("forked"))

    made(vault, 2)
    made(vault, 1)


def test_where_no_process_can_be_forked_one_reads_everything(many, made, monkeypatch):
    def fork() -> int:
        raise BlockingIOError

    one = made(many, 1)
    monkeypatch.setattr(small_files.os, "fork", fork)

    assert made(many, 2) == one


def test_who_stops_reading_leaves_no_process_and_no_open_folder(many):
    before, others = len(list(Path("/proc/self/fd").iterdir())), children()
    root = os.open(many, os.O_RDONLY)
    with closing(runs(root)) as walked, closing(small_files.read_ahead(walked, 2)) as read:
        next(read)
    os.close(root)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert children() == others
