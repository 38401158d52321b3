"""A list of files is stored so that one longer file changes a part of it, and every list comes back as it was."""

from __future__ import annotations

import gzip
import hashlib
import random
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact

from refnet.catalog.artifact import OpenArtifact, silent
from refnet.catalog.remote import Copy
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.store import list_coding, sending_pieces
from refnet.store.encryption import PrivateKey
from refnet.store.list_coding import decode, encode
from refnet.store.sending import Sender
from refnet.store.sending_pieces import Encrypter


def _list(sizes: list[int], members: int = 3, order: Callable[[list[int]], list[int]] = list) -> bytes:
    """A list as FileList.to_json writes it: each file behind the others in the archive, by `order`."""
    offsets, at = dict[int, int](), 0
    for number in order([*range(len(sizes))]):
        offsets[number], at = at, at + 512 + -(-sizes[number] // 512) * 512
    lines = [
        f'{{"path":"notes/{number:06}.md","size":{size},"at":{offsets[number]},"sha256":"{number:064x}"}}'
        for number, size in enumerate(sizes)
    ]
    pairs = ",".join(f"[{n * 9000},{n * 70_000}]" for n in range(members))
    text = '{"format": 2,\n"members": [' + pairs + '],\n"files": [\n' + ",\n".join(lines) + "\n]}\n"
    return text.encode()


SIZES = [random.Random(n).randrange(5000) for n in range(3000)]
LIST = _list(SIZES)
ODD = [
    b"{}",
    b"\n",
    b'{"files": []}\n',
    b'{"format": 2,\n"members": [],\n"files": [\n\n]}\n',
    b'{"format": 2,\n"members": [[0,0]],\n"files": [\n{"path":"a","at":7}\n]}\n',
    b'{"path":"a","at":1000}\n{"path":"b","at":0}\n',
    b'{"path":"a","at":007}\n',
    b'{"path":"a","at":-0}\n',
    b'{"path":"a","at":99999999999999999999}\n{"path":"b","at":1}',
    b'{"path":"a","at":1,"at":2}\n',
    b"#members\n",
    b"#\n",
    b"#members\n1,2\n#\n",
    b'"members": [[1,2],[0,0]],\n',
    b"\xff\0\n",
    b"no end of a line",
    _list(SIZES, order=lambda numbers: numbers[::-1]),
    _list(SIZES, order=lambda numbers: random.Random(1).sample(numbers, len(numbers))),
    _list([1] * 40, order=lambda numbers: numbers[::-1]),
    _list([], 0),
    _list([7], 2000),
    LIST,
]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


def _vault(number: int, text: bytes) -> OpenArtifact:
    packed = gzip.compress(text, 1, mtime=0)
    made = artifact(
        number, b"an archive", source=SourceName.OBSIDIAN, name=f"vault_2026112{number}.tar.gz",
        files_sha256=hashlib.sha256(text).hexdigest(), details={"files": 9, "folders": 0, "links": 0},
    )  # fmt: skip
    return replace(made, packed_files=lambda: packed, files=lambda: text)


def test_a_list_comes_back_and_is_smaller() -> None:
    assert decode(encode(LIST), len(LIST)) == LIST
    assert len(encode(LIST)) < len(LIST) / 3


def test_what_is_stored_can_be_read_by_hand() -> None:
    text = gzip.decompress(encode(LIST))
    assert text.count(b"notes/") == len(SIZES)


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_every_list_is_copied_and_comes_back_as_it_was(machine: Machine, text: bytes) -> None:
    copy = machine.send(_vault(1, text))
    assert machine.store(key=True).artifact(copy).files() == text
    machine.store(key=True).artifact(copy).packed_files()
    assert machine.fetch_back(copy).state == "fetched"


@pytest.mark.parametrize("beside", [0, 1 << 30])
def test_what_is_done_of_a_copy_ends_with_all_of_artifact_and_list(
    machine: Machine, beside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending_pieces, "_MOST_BESIDE", beside)
    seen, vault = list[tuple[int, int | None]](), _vault(1, LIST)
    sender = Sender(machine.store(), Encrypter((PrivateKey.new().recipient,), machine.keys), machine.now)
    assert vault.entry
    copy = sender.send(vault, vault.entry, lambda _what, done, total: seen.append((done, total))).copy
    assert all(total and done <= total for done, total in seen)
    assert seen[-1] == (vault.manifest.size + len(encode(LIST)),) * 2
    assert [one.piece for one in (*copy.document.ranges, *copy.document.list_ranges)] == [0, 1]


def test_one_longer_file_changes_a_part_of_the_list() -> None:
    longer = [*SIZES[:1500], SIZES[1500] + 100_000, *SIZES[1501:]]
    assert _new_members(LIST, _list(longer)) <= 3
    assert len(_members(encode(LIST))) > 50


def test_one_more_file_changes_a_part_of_the_list() -> None:
    lines = LIST.splitlines(keepends=True)
    more = b"".join(
        [*lines[:900], b'{"path":"notes/000900a.md","size":1,"at":5,"sha256":"ab"},\n', *lines[900:]]
    )
    assert _new_members(LIST, more) <= 3


def _members(data: bytes) -> set[bytes]:
    found = set()
    while data:
        inflater = zlib.decompressobj(31)
        inflater.decompress(data)
        found.add(data[: len(data) - len(inflater.unused_data)])
        data = inflater.unused_data
    return found


def _new_members(before: bytes, after: bytes) -> int:
    return len(_members(encode(after)) - _members(encode(before)))


CODED = encode(LIST)


@pytest.mark.parametrize(
    "data",
    [
        CODED[:-1],
        CODED[:100],
        CODED + b"\0",
        CODED[:50] + bytes([CODED[50] ^ 1]) + CODED[51:],
        b"not gzip",
        zlib.compress(LIST),
        gzip.compress(b"#members\n1,2\n", mtime=0),
        gzip.compress(b"#members\n1;2\n#\n", mtime=0),
        gzip.compress(b"#members\n" + b"9" * 30 + b",1\n#\n", mtime=0),
        gzip.compress(bytes(1 << 26), mtime=0),
        gzip.compress(b"x" * (len(LIST) + 1), mtime=0),
        gzip.compress(b',"at":99999999999999999999}\n' * 100_000, mtime=0),
    ],
)
def test_what_is_no_list_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data, len(LIST))


def test_many_tiny_members_take_no_longer_than_as_many_bytes() -> None:
    data = gzip.compress(b"", mtime=0) * 250_000
    begun = time.monotonic()
    assert decode(data, 100) == b""
    assert time.monotonic() - begun < 10, "the time grows with the square"


def test_a_list_that_cannot_be_decoded_is_damage(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = machine.send(_vault(1, LIST))
    assert copy.document.list_coding == 1
    monkeypatch.setattr(list_coding, "decode", _fails)
    with pytest.raises(RefnetError) as caught:
        machine.store(key=True).artifact(copy).files()
    assert caught.value.code is Exit.DAMAGED


def _fails(_data: bytes, _most: int) -> bytes:
    raise ValueError("not a list of files")


def test_a_list_keeps_its_coding_from_the_encrypted_backup_folder_to_another_store(machine: Machine) -> None:
    machine.name = "local"
    sent: Copy = machine.send(_vault(1, LIST))
    away = replace(machine, bucket=MemoryBucket(), name="away")
    sender = Sender(away.store(), Encrypter((PrivateKey.new().recipient,), away.keys), away.now)
    copy = sender.send_copy(machine.store(), sent, silent).copy
    assert copy.document.list_coding == sent.document.list_coding
    assert away.store(key=True).artifact(copy).files() == LIST
