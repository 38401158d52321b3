"""Objects that a forger put into a bucket cost little, and do not stop the others from being read."""

from __future__ import annotations

import os
import tempfile
import time
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.remote_store import NOW, Machine, artifact, delete

from refnet.catalog.object_names import ManifestName
from refnet.catalog.remote import NAMESPACE, Copy, Replaced, packed
from refnet.core.errors import RefnetError
from refnet.store import remote_manifests, remote_pieces
from refnet.store.buckets.bucket import Version
from refnet.store.buckets.folder import FolderBucket
from refnet.store.copy_checks import sample_back
from refnet.store.encryption import encrypt

LATEST = 1 << 40


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


def _forged(machine: Machine, number: int, content: bytes) -> None:
    name = ManifestName(NOW + timedelta(days=1000), "database", f"{number:032x}").named()
    machine.bucket.put(name, content)


def test_what_an_unknown_key_signed_is_not_parsed(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(tmp_path / "forger", machine.bucket, machine.recovery).send(artifact(2, b"forged"))
    monkeypatch.setattr("refnet.catalog.remote.RemoteManifest.from_line", Mock(side_effect=AssertionError))
    assert "unknown key" in machine.store(key=True).contents().unlisted[0].why


def test_large_forged_manifests_fill_neither_memory_nor_disk(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_manifests, "_BYTES_AT_ONCE", 3 << 20)
    machine.keys.catalog()
    for number in range(6):
        _forged(machine, number, b"age-encryption.org/v1\n" + bytes(2 << 20))
    most = 0
    judged = remote_manifests.Manifests._judged

    def counting(manifests: remote_manifests.Manifests, *arguments: object) -> object:
        nonlocal most
        most = max(most, tracemalloc.get_traced_memory()[0])
        return judged(manifests, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(remote_manifests.Manifests, "_judged", counting)
    monkeypatch.setattr(
        machine.bucket, "get", lambda _name, most, **_: b"age-encryption.org/v1\n" + bytes(most - 22)
    )
    tracemalloc.start()
    assert len(machine.store().contents().unlisted) == 6
    tracemalloc.stop()
    assert most < 7 << 20
    assert sum(one.stat().st_size for one in machine.home.rglob("*") if one.is_file()) < 1 << 20


def test_many_small_forged_manifests_do_not_fill_the_disk(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_manifests, "_KEPT_IN_ALL", 3000)
    machine.keys.catalog()
    kept = []
    for number in range(6):
        _forged(machine, number, b"age-encryption.org/v1\n" + bytes(978))
        store = machine.store()
        assert [len(store.contents().unlisted), len(store.contents().unlisted)] == [number + 1] * 2
        kept.append(len([*(machine.home / "remote/cloud/manifests").iterdir()]))
    assert kept == [1, 2, 3, 3, 3, 3]


def test_bogus_versions_of_a_piece_are_not_all_fetched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = machine.send(artifact(1, b"good"))
    (piece,) = copy.document.pieces
    bogus = [
        Version(piece.name, f"v{number}", piece.size, NOW + timedelta(days=number)) for number in range(50)
    ]
    get, asked = machine.bucket.get, list[str]()
    monkeypatch.setattr(machine.bucket, "versions", lambda _prefix: iter([*reversed(bogus)]))

    def bogus_get(name: str, most: int, *, version: str = "") -> bytes:
        asked.append(version)
        return get(name, most) if version == "v0" else bytes(piece.size)

    monkeypatch.setattr(machine.bucket, "get", bogus_get)
    assert remote_pieces.fetch(machine.bucket, piece, "it")
    bogus.pop(0)
    asked.clear()
    with pytest.raises(RefnetError, match="is damaged"):
        remote_pieces.fetch(machine.bucket, piece, "it")
    assert len(asked) < 10


def test_a_manifest_that_was_overwritten_in_its_folder_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir(mode=0o700)
    machine = Machine(tmp_path / "home", FolderBucket(tmp_path / "nas"))
    copy = machine.send(artifact(1, b"good"))
    assert machine.store().entries() == (copy,)

    path = tmp_path / "nas" / copy.object
    found = path.stat()
    path.write_bytes(bytes(found.st_size))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert [one.name for one in machine.store().contents().unlisted] == [copy.object]
    (damaged,) = sample_back(machine.store(), [copy], machine.now)
    assert "its manifest differs from the one that was sent" in damaged.evidence[-1].reasons[0]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no file system with times of any size")
def test_a_time_that_no_calendar_has_hides_no_object() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        bucket = FolderBucket(Path(name))
        for number, seconds in enumerate((LATEST, -LATEST, 10)):
            bucket.put(f"manifests/{number}", b"x")
            os.utime(Path(name) / "manifests" / str(number), (seconds, seconds))
        assert [one.name[-1] for one in bucket.listed("manifests/")] == ["0", "1", "2"]


def test_thousands_of_folders_of_other_machines_stop_no_recovery(tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir(mode=0o700)
    machine = Machine(tmp_path / "home", FolderBucket(tmp_path / "nas"))
    copy = machine.send(artifact(1, b"good"))
    for number in range(10_500):
        (tmp_path / "nas" / f"{number:032x}" / "manifests").mkdir(mode=0o700, parents=True)
        if number < 10:
            (tmp_path / "nas" / f"{number:032x}" / ManifestName(NOW, "database", "ab" * 16).named()).touch(
                0o600
            )
    began = time.process_time()

    contents = machine.store(key=True).by_recovery_key(versions=True).contents()

    assert time.process_time() - began < 60
    assert [one.id for one in contents.copies] == [copy.id]
    assert len(contents.unlisted) == 10
    assert machine.store().has_manifests()


def test_twenty_thousand_objects_in_the_folder_of_a_machine_cost_little_time_and_memory(
    tmp_path: Path,
) -> None:
    (tmp_path / "nas").mkdir(mode=0o700)
    machine = Machine(tmp_path / "home", FolderBucket(tmp_path / "nas"))
    copy = machine.send(artifact(1, b"good"))
    below = tmp_path / "nas" / copy.document.key / "pieces"
    for number in range(20_000):
        os.close(os.open(below / f"{number:032x}-{'0' * 16}.age", os.O_CREAT | os.O_WRONLY, 0o600))
    began = time.process_time()
    tracemalloc.start()
    again = machine.send(artifact(2, b"good"))
    left = machine.store().with_versions().leftovers()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert again.document.pieces == copy.document.pieces
    assert left == (), "they are young"
    assert most < 20 << 20
    assert time.process_time() - began < 12


def _replacing(machine: Machine, forger: Machine, own: Copy, one: Copy) -> Copy:
    """A manifest by `forger` in the folder of `machine`, of the copy `own`, that names `one` as replaced."""
    named = (Replaced(one.object, one.signed.signer, one.document.counter),)
    signer = forger.keys.signer()
    made = replace(own.document, id="f" * 32, signer=signer.line, counter=1, previous="", present=((1, 1),))
    line = replace(made, replaces=named).to_line()
    plaintext = packed(line + forger.keys.sign(line, NAMESPACE).encode("ascii"))
    machine.bucket.put(
        made.object, encrypt(plaintext, (machine.recovery.recipient, machine.keys.catalog().recipient))
    )
    return next(one for one in forger.store(key=True).contents().copies if one.object == made.object)


@pytest.mark.parametrize("trusted", ["by name", "as any signer"])
def test_a_manifest_hides_no_other_copy_by_calling_it_replaced(
    machine: Machine, tmp_path: Path, trusted: str
) -> None:
    first, second = machine.send(artifact(1, b"first")), machine.send(artifact(2, b"second"))
    forger = Machine(
        tmp_path / "forger", machine.bucket, machine.recovery, (machine.keys.signer().fingerprint,)
    )
    # as any signer even what has the same content hides nothing
    own = first if trusted == "by name" else second
    forged = _replacing(machine, forger, own, second)
    if trusted == "by name":
        machine.trusted = (forger.keys.signer().fingerprint,)
    store = machine.store(any_signer=trusted == "as any signer")
    assert {first.object, second.object} <= {one.object for one in store.contents().copies}
    there = next(one for one in store.contents().copies if one.object == forged.object)
    delete(store, there)
    kept = [one.object for one in machine.store().contents().copies]
    assert kept == [first.object, second.object]
    machine.fetch_back(second)
