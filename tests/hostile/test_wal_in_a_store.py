"""Objects that anyone may put beside the WAL in a store, and records that are not what their names say."""

from __future__ import annotations

import json
import time
import zlib
from base64 import b64encode
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import NOW, Machine

from refnet.catalog import wal_record
from refnet.catalog.remote import packed
from refnet.catalog.wal_record import WalRecord
from refnet.core.errors import Exit, RefnetError
from refnet.store import encryption, wal_copies
from refnet.store.sending_pieces import Encrypter

ID = "7713912749545699872"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def put(
    machine: Machine, line: bytes, *, counter: int = 1, namespace: str = "refnet-wal", name: str = ""
) -> None:
    """Put `line`, signed and encrypted as this machine does."""
    signed = packed(line + machine.keys.sign(line, namespace).encode())
    data = encryption.encrypt(signed, (machine.recovery.recipient,))
    key = Encrypter((machine.recovery.recipient,), machine.keys).key
    machine.bucket.put(name or wal_record.record_object(key, ID, counter, "a" * 16), data)


def line(**changes: object) -> bytes:
    record = WalRecord(ID, 1 << 20, 17, 1, 1, NOW)
    return json.dumps(record.values() | changes).encode() + b"\n"


def read(machine: Machine) -> tuple[int, tuple[str, ...]]:
    found, problems = wal_copies.read(machine.store(key=True), ID)
    return (found.newest.counter if found.newest else 0), problems


def test_a_record_as_it_should_be_is_read(machine: Machine) -> None:
    put(machine, line())
    assert read(machine) == (1, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"counter": 2, "since": 2},
        {"system_identifier": "1"},
        {"since": 7},
        {"segment_bytes": 3 << 20},
        {"format": 2},
        {"tail": {"segment": "0" * 24, "offset": (1 << 20) - 1, "data": b64encode(zlib.compress(b"ab")).decode()}},
        {"tail": {"segment": "0" * 24, "offset": 0, "data": b64encode(zlib.compress(b"a") + b"b").decode()}},
        {"tail": {"segment": "../../../etc/passwd00000", "offset": 0, "data": b64encode(zlib.compress(b"a")).decode()}},
        {"histories": {"../x.history": "1\t0/1\tx\n"}},
        {"histories": {"00000002.history": "2\t0/1\tx\n1\t0/1\tx\n"}},
        {"segments": [{"name": "0" * 24, "object": "other/object.age", "size": 1, "sha256": "0" * 64, "plain": "0" * 64}]},
        {"sent": "yesterday"},
    ],
)  # fmt: skip
def test_a_record_that_contradicts_its_name_or_itself_does_not_count(
    machine: Machine, changes: dict[str, object]
) -> None:
    put(machine, line(**changes))
    counter, problems = read(machine)
    assert counter == 0
    assert "1 record" in problems[0]


def test_a_signature_for_another_purpose_does_not_count(machine: Machine) -> None:
    put(machine, line(), namespace="refnet-manifest")
    assert read(machine)[0] == 0


def test_deflated_zeros_are_refused_before_they_take_the_memory(machine: Machine) -> None:
    bomb = b64encode(zlib.compress(bytes(512 << 20), 1)).decode()
    put(machine, line(tail={"segment": "0" * 24, "offset": 0, "data": bomb}))
    assert read(machine)[0] == 0


def test_junk_under_the_names_of_records_hides_none(machine: Machine) -> None:
    put(machine, line())
    bucket, key = machine.bucket, Encrypter((), machine.keys).key
    for number in range(50):
        bucket.put(wal_record.record_object(key, ID, 1, f"{number:016x}"), b"junk")
        bucket.put(f"{key}/wal/{ID}/records/{number:012}.txt", b"junk")
        bucket.put(f"{'b' * 32}/wal/{ID}/records/{number:012}_{'c' * 16}.age", b"age-encryption.org/v1\njunk")
    counter, problems = read(machine)
    assert counter == 1
    assert "not trusted" in problems[0]


def test_more_records_than_a_reader_takes_are_an_error_within_seconds(machine: Machine) -> None:
    bucket, key = machine.bucket, Encrypter((), machine.keys).key
    assert isinstance(bucket, MemoryBucket)
    for number in range(60_000):
        bucket.put(wal_record.record_object(key, ID, number, "d" * 16), b"")
    began = time.monotonic()
    with pytest.raises(RefnetError) as raised:
        read(machine)
    assert raised.value.code is Exit.UNVERIFIED
    assert time.monotonic() - began < 30
