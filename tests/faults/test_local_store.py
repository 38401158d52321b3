"""The local store when the machine fails it: full and read-only disks, flipped bits, links that cannot be made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults.conftest import fill
from tests.faults.store import NOW, publish, visible

from refnet.catalog.artifact import Made
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.source_name import SourceName, artifact_names
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import identity
from refnet.store.local import LocalStore

ROOT = os.geteuid() == 0


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system of its own at `folder`."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(not ROOT, reason="only root may mount a small disk")
@pytest.mark.parametrize("filled", [0, 96, 112, 118], ids=["room", "list", "manifest", "artifact"])
def test_a_full_disk_leaves_the_catalog_as_it_was(tmp_path: Path, filled: int) -> None:
    """The disk has 128 KiB, of which `filled` KiB are taken: it fills up in the part that the id names."""
    with mounted(tmp_path / "disk", "size=128k"):
        store = LocalStore(tmp_path / "disk")
        kept = publish(store, b"first")
        before = visible(store)
        (tmp_path / "disk" / "other").write_bytes(bytes(filled * 1024))
        data, files = os.urandom(8_000), os.urandom(16_000)
        if filled == 0:
            made = publish(store, data, files)
            assert {entry.name for entry in store.entries()} == {kept, made}
            return
        with pytest.raises(RefnetError, match="no space left"):
            publish(store, data, files)

        assert [entry.name for entry in store.entries()] == [kept]
        assert visible(store) == sorted([*before, "other"])
        assert (store.leftovers(), store.unlisted()) == ((), ())


@pytest.mark.skipif(not ROOT, reason="only root may mount a small disk")
def test_a_full_disk_leaves_the_marks_as_they_were(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=128k"):
        store = LocalStore(tmp_path / "disk")
        publish(store, b"first")
        store.mark(store.entries()[0], Marks(pinned=True))
        before = visible(store)
        fill(tmp_path / "disk")
        with pytest.raises(RefnetError, match="no space left"):
            store.mark(store.entries()[0], Marks(tags=("a",)))

        assert store.entries()[0].marks == Marks(pinned=True)
        assert visible(store) == sorted([*before, "filler"])


def test_a_file_that_may_grow_no_further_leaves_nothing(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from datetime import datetime, UTC
from refnet.core.errors import RefnetError
from refnet.catalog.source_name import SourceName
from refnet.store.local import LocalStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
store = LocalStore(Path(sys.argv[1]))
try:
    with store.draft(SourceName.OBSIDIAN) as draft:
        draft.out.write(bytes(3 << 20))
except RefnetError as error:
    print(error.message)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("no space left")
    assert visible(LocalStore(tmp_path)) == []


@pytest.mark.parametrize("spare", [0, 20, 200])
def test_an_incomplete_verdict_is_reported_and_not_read_as_an_older_one(tmp_path: Path, spare: int) -> None:
    """The file of the evidence may grow by `spare` bytes only; a line is longer."""
    script = """
import resource, signal, sys
from datetime import datetime, UTC
from pathlib import Path
from refnet.core.errors import RefnetError
from refnet.catalog.manifest import (Evidence, Level, Outcome)
from refnet.store.local import LocalStore
store, spare = LocalStore(Path(sys.argv[1])), int(sys.argv[2])
(entry,) = store.entries()
evidence = store.path(entry).with_name(entry.name + ".evidence.jsonl")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
most = evidence.stat().st_size + spare
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
failed = Evidence(datetime.now(UTC), Level.PROVEN, Outcome.FAILED, 1.0, reasons=("other rows came back",) * 9)
try:
    store.record(entry, failed)
except RefnetError as error:
    print(error.message)
"""
    store = LocalStore(tmp_path)
    publish(store, b"first")
    store.record(store.entries()[0], Evidence(NOW, Level.PROVEN, Outcome.PASSED, 1.0))
    command = [sys.executable, "-c", script, str(tmp_path), str(spare)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)

    assert ran.stdout.startswith("no space left")
    (entry,) = store.entries()
    assert entry.state == ("could not verify" if spare else "proven")
    store.record(entry, Evidence(NOW, Level.PROVEN, Outcome.PASSED, 1.0))
    assert store.entries()[0].proven


@pytest.mark.skipif(not ROOT, reason="only root may mount a read-only disk")
def test_a_read_only_disk_is_told_and_still_read(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m"):
        store = LocalStore(tmp_path / "disk")
        name = publish(store, b"first")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)

        with pytest.raises(RefnetError, match="read-only"):
            publish(store, b"second")
        with pytest.raises(RefnetError, match="read-only"), store.lock(SourceName.OBSIDIAN):
            pass
        (entry,) = store.entries()
        assert entry.name == name
        with store.artifact(entry).open() as reader:
            assert reader.read() == b"first"


def as_ordinary_user(work: Callable[[], None]) -> None:
    """Do `work` as a user that root's powers do not help."""
    if not ROOT:
        work()
        return
    os.seteuid(65534)
    try:
        work()
    finally:
        os.seteuid(0)


def test_a_folder_of_somebody_else_is_told(short_folder: Path) -> None:
    folder = short_folder / "theirs"
    folder.mkdir(mode=0o755)
    folder.chmod(0o500 if not ROOT else 0o755)

    def try_it() -> None:
        with pytest.raises(RefnetError, match="this user cannot access"):
            publish(LocalStore(folder), b"x")

    as_ordinary_user(try_it)


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("")
    with pytest.raises(RefnetError, match="is a file, not a folder"):
        publish(LocalStore(tmp_path / "backups"), b"x")


def test_a_bit_that_flips_on_the_way_to_the_disk_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk keeps other bytes than it was given: found by reading back what was synced."""
    sync = os.fsync

    def flipping(handle: int) -> None:
        sync(handle)
        path = Path(f"/proc/self/fd/{handle}").resolve()
        if path.name.endswith(".part"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 4
            os.pwrite(handle, data, 0)

    store = LocalStore(tmp_path)
    monkeypatch.setattr(os, "fsync", flipping)
    with pytest.raises(RefnetError, match="data read back differ") as refused:
        publish(store, b"precious" * 1000)

    assert refused.value.code is Exit.DAMAGED
    assert visible(store) == []


def test_a_file_system_without_hard_links_is_published_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What vfat and some network disks answer; the name is still never taken twice."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path)
    first, second = publish(store, b"one", b"[1]"), publish(store, b"two", b"[2]")

    assert first != second
    assert len(store.entries()) == 2
    assert len(visible(store)) == 6


@pytest.mark.parametrize("last", range(1, 5))
def test_what_was_placed_is_taken_back_when_a_later_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """The disk fails at the fsync of the folder after the artifact, the list or the manifest was placed."""
    store = LocalStore(tmp_path)
    publish(store, b"first")
    before = visible(store)
    sync, folders = os.fsync, 0

    def failing(handle: int) -> None:
        nonlocal folders
        if Path(f"/proc/self/fd/{handle}").resolve().is_dir():
            folders += 1
            if folders == last:
                raise OSError(5, "Input/output error")
        sync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    if last == 4:
        publish(store, b"second", b"[2]")
        assert folders == 3
        return
    with pytest.raises(RefnetError, match="Input/output error"):
        publish(store, b"second", b"[2]")

    assert visible(store) == before
    assert (store.leftovers(), store.unlisted()) == ((), ())


def share(store: LocalStore, name: str) -> str:
    """Publish an artifact that is to share its bytes with `name`."""
    with store.draft(SourceName.OBSIDIAN) as draft:
        return draft.publish(Made(NOW, {"shares_bytes_with": name}, files=b"[1]"), NOW, 1.0).name


def test_shared_bytes_are_stored_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = publish(store, b"the vault", b"[1]")
    second = share(store, first)
    paths = [tmp_path / "obsidian" / name for name in (first, second)]
    assert len({path.stat().st_ino for path in paths}) == 1


def test_bytes_are_copied_where_they_cannot_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(31, "Too many links")

    store = LocalStore(tmp_path)
    first = publish(store, b"the vault", b"[1]")
    monkeypatch.setattr(os, "link", refuse)
    second = share(store, first)
    assert (tmp_path / "obsidian" / second).read_bytes() == b"the vault"
    assert not any(entry.damaged for entry in store.entries())


def test_the_bytes_of_a_damaged_artifact_are_not_shared(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = publish(store, b"the vault", b"[1]")
    (tmp_path / "obsidian" / first).write_bytes(b"the fault")

    with pytest.raises(RefnetError, match="is damaged") as refused:
        share(store, first)

    assert refused.value.code is Exit.DAMAGED
    assert [entry.name for entry in store.entries()] == [first]


@pytest.mark.parametrize("bytes_now", [b"the fault", b"the vault"])
def test_an_artifact_written_to_after_the_comparison_is_read_again(tmp_path: Path, bytes_now: bytes) -> None:
    store = LocalStore(tmp_path)
    first = publish(store, b"the vault", b"[1]")
    path = tmp_path / "obsidian" / first
    with path.open("rb") as reader:
        same_file = identity(reader)
    path.write_bytes(bytes_now)
    made = Made(NOW, {"shares_bytes_with": first}, files=b"[1]", same_file=same_file)

    with store.draft(SourceName.OBSIDIAN) as draft:
        if bytes_now == b"the vault":
            draft.publish(made, NOW, 1.0)
        else:
            with pytest.raises(RefnetError, match="is damaged"):
                draft.publish(made, NOW, 1.0)


def test_a_second_in_which_every_name_is_taken_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "obsidian"
    folder.mkdir()
    for name in artifact_names(SourceName.OBSIDIAN, NOW):
        (folder / name).write_bytes(b"")
    before = visible(LocalStore(tmp_path))

    with pytest.raises(RefnetError, match="every name"):
        publish(LocalStore(tmp_path), b"one too many")
    assert visible(LocalStore(tmp_path)) == before


def test_a_name_that_another_program_takes_midway_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link
    store = LocalStore(tmp_path)

    def late(source: Path, target: Path, **named: bool) -> None:
        if Path(target).name == "vault_20261125.tar.gz":
            Path(target).write_bytes(b"somebody else's")
        link(source, target, **named)

    monkeypatch.setattr(os, "link", late)
    name = publish(store, b"ours")

    assert name == "vault_20261125_170001.tar.gz"
    assert (tmp_path / "obsidian" / "vault_20261125.tar.gz").read_bytes() == b"somebody else's"
