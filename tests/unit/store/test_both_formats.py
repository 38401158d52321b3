"""A store with copies of format 1, from before pieces were shared, and of format 2: both are listed, read, fetched, pruned."""

from __future__ import annotations

import gzip
import hashlib
import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.lost_machine import Loss, names
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact, cut_small, delete, objects, send_format_1

from refnet.actions.fetch import FetchRequest
from refnet.catalog.artifact import OpenArtifact, silent
from refnet.catalog.object_names import PieceName, SharedName
from refnet.catalog.remote import Copy
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.store.copy_checks import read_oldest_back, sample_back
from refnet.store.encryption import PrivateKey
from refnet.store.sending import Sender
from refnet.store.sending_pieces import Encrypter

PIECE = 64 << 10
DATA = random.Random(1).randbytes(3 * PIECE + 7)
LISTED = b'{"format": 2,\n"members": [],\n"files": [\n{"path":"a","at":0}\n]}\n'


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch, PIECE)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


@pytest.fixture
def copies(machine: Machine) -> tuple[Copy, ...]:
    """Two of format 1, then two of format 2; all have the same bytes."""
    old = [send_format_1(machine, artifact(number, DATA)) for number in (1, 2)]
    return (*old, *(machine.send(artifact(number, DATA)) for number in (3, 4)))


def _vault() -> OpenArtifact:
    packed = gzip.compress(LISTED, mtime=0)
    made = artifact(
        5, DATA, source=SourceName.OBSIDIAN, name="vault_20261130.tar.gz", details={"files": 1, "folders": 0, "links": 0},
        files_sha256=hashlib.sha256(LISTED).hexdigest(),
    )  # fmt: skip
    return replace(made, packed_files=lambda: packed, files=lambda: LISTED)


def _read(machine: Machine, copy: Copy) -> bytes:
    with machine.store(key=True).artifact(copy).open() as reader:
        return reader.read()


def _aged(machine: Machine) -> None:
    bucket = machine.bucket
    assert isinstance(bucket, MemoryBucket)
    bucket.contents = {
        name: [replace(one, created=one.created - timedelta(days=9)) for one in kept]
        for name, kept in bucket.contents.items()
    }


def test_copies_of_both_formats_are_listed_in_one_order(machine: Machine, copies: tuple[Copy, ...]) -> None:
    contents = machine.store().contents()
    assert {one.id for one in contents.copies} == {one.id for one in copies}
    assert sorted(one.document.counter for one in contents.copies) == [1, 2, 3, 4]
    assert (contents.unlisted, contents.gaps, machine.store().leftovers()) == ((), (), ())
    assert [bool(one.document.key) for one in copies] == [False, False, True, True]
    assert copies[2].document.previous == copies[1].signed.sha256
    assert copies[3].document.present == ((1, 4),)


def test_copies_of_both_formats_are_read(machine: Machine, copies: tuple[Copy, ...]) -> None:
    assert [_read(machine, one) for one in copies] == [DATA] * 4
    assert [machine.fetch_back(one).state for one in copies] == ["fetched"] * 4
    assert sample_back(machine.store(), copies, machine.now) == ()
    assert read_oldest_back(machine.store(), machine.now, silent) == ()


def test_pieces_of_format_1_are_not_shared(machine: Machine, copies: tuple[Copy, ...]) -> None:
    assert len([name for name in objects(machine.bucket) if PieceName.read(name)]) == 8
    assert len([name for name in objects(machine.bucket) if SharedName.read(name)]) == 4
    assert copies[2].document.pieces == copies[3].document.pieces


def test_an_artifact_with_a_copy_of_format_1_is_not_sent_again(
    machine: Machine, copies: tuple[Copy, ...]
) -> None:
    assert machine.send(artifact(1, DATA)).id == copies[0].id


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_each_deletion_leaves_the_other_copies_whole(
    machine: Machine, copies: tuple[Copy, ...], order: tuple[int, ...]
) -> None:
    left = [*copies]
    for number in order:
        delete(machine.store(), copies[number])
        left.remove(copies[number])
        assert {one.id for one in machine.store().entries()} == {one.id for one in left}
        assert all(_read(machine, one) == DATA for one in left)
        assert machine.store().contents().gaps == ()
    assert objects(machine.bucket) == []


def test_leftovers_of_both_formats_are_found_and_removed(machine: Machine, copies: tuple[Copy, ...]) -> None:
    for number in (1, 2, 3):
        machine.bucket.delete(copies[number].object)
    _aged(machine)
    left = machine.store().leftovers()
    lost = {piece.name for number in (1, 2) for piece in copies[number].document.pieces}
    assert {one.name for one in left} == lost
    for one in left:
        machine.store().clean(one)
    assert set(objects(machine.bucket)) == {
        copies[0].object, *(piece.name for piece in copies[0].document.pieces)
    }  # fmt: skip


def test_a_bogus_manifest_beside_those_of_format_1_keeps_no_shared_piece(
    machine: Machine, copies: tuple[Copy, ...]
) -> None:
    """Whoever can only write where all machines wrote before format 2 stops no deletion."""
    machine.bucket.put(f"manifests/20261201T000000Z_database_{'ab' * 16}.age", b"bogus")
    for one in copies[2:]:
        delete(machine.store(), one)
    assert not [name for name in objects(machine.bucket) if SharedName.read(name)]


def test_an_empty_machine_fetches_either(tmp_path: Path, machine: Machine, copies: tuple[Copy, ...]) -> None:
    loss = Loss(tmp_path / "loss", machine)
    assert names(loss.brought()) == [copies[3].name]
    assert names(loss.brought(FetchRequest(copies[0].name))) == [copies[0].name]
    assert loss.read(copies[0].name) == loss.read(copies[3].name) == DATA


def test_a_lost_piece_of_the_newest_lets_one_of_format_1_come_back(
    tmp_path: Path, machine: Machine, copies: tuple[Copy, ...]
) -> None:
    machine.bucket.delete(copies[3].document.pieces[1].name)
    assert names(Loss(tmp_path / "loss", machine).brought()) == [copies[1].name]


def _forwarded(machine: Machine, copy: Copy, away: Machine) -> Copy:
    sender = Sender(away.store(), Encrypter((PrivateKey.new().recipient,), away.keys), away.now)
    return sender.send_copy(machine.store(), copy, silent).copy


def test_a_copy_of_format_1_in_the_encrypted_backup_folder_is_sent_as_format_2(machine: Machine) -> None:
    machine.name = "local"
    away = replace(machine, bucket=MemoryBucket(), name="away")
    first, vault = send_format_1(machine, artifact(1, DATA)), send_format_1(machine, _vault())

    copy, listed = (_forwarded(machine, one, away) for one in (first, vault))

    for sent, origin in ((copy, first), (listed, vault)):
        assert sent.document.key
        assert [one.sha256 for one in sent.document.objects] == [
            one.sha256 for one in (*origin.document.pieces, *origin.document.files)
        ]
        assert away.fetch_back(sent).state == "fetched"
        assert _read(away, sent) == DATA
    assert away.store(key=True).artifact(listed).files() == LISTED
    assert machine.store(key=True).artifact(vault).files() == LISTED
    for sent in (copy, listed):
        delete(away.store(), sent)
    assert objects(away.bucket) == []


def test_an_empty_artifact_of_format_1_is_sent_as_format_2(machine: Machine) -> None:
    machine.name = "local"
    away = replace(machine, bucket=MemoryBucket(), name="away")
    copy = _forwarded(machine, send_format_1(machine, artifact(1, b"")), away)
    assert _read(away, copy) == b""


def test_a_damaged_copy_of_format_1_is_not_sent_on(machine: Machine) -> None:
    machine.name = "local"
    away = replace(machine, bucket=MemoryBucket(), name="away")
    copy = send_format_1(machine, artifact(1, DATA))
    machine.bucket.delete(copy.document.pieces[2].name)
    with pytest.raises(RefnetError) as caught:
        _forwarded(machine, copy, away)
    assert caught.value.code is Exit.DAMAGED
    assert away.store().entries() == ()
