"""The answers of an SFTP server, and rclone's lists."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged

from refnet.core.processes import EndedProgram
from refnet.settings.urls import parse_store_url
from refnet.store.buckets.bucket import is_name
from refnet.store.buckets.rclone import RcloneBucket
from refnet.store.buckets.sftp import Patience, SftpBucket
from refnet.store.buckets.sftp_protocol import Fields, LostError

_VERSION = struct.pack(">IBI", 5, 2, 3)
_TEXT = st.binary(max_size=8).map(lambda text: struct.pack(">I", len(text)) + text)
_FIELDS = st.lists(
    st.one_of(
        st.integers(0, 2**32 - 1).map(lambda n: struct.pack(">I", n)),
        _TEXT,
        st.sampled_from([b"\0\0\0\5", b"\0\0\0\0"]),
    ),
    max_size=12,
).map(b"".join)
_PACKETS = st.lists(st.tuples(st.sampled_from([101, 102, 103, 104, 105, 0]), _FIELDS), max_size=6).map(
    lambda all_: b"".join(
        struct.pack(">IBI", 5 + len(fields), kind, number) + fields
        for number, (kind, fields) in enumerate(all_, 1)
    )
)
_SAMPLE = b"".join(
    (
        _VERSION, struct.pack(">IBII1s", 10, 102, 1, 1, b"h"),
        struct.pack(">IBIII1sI1sIQIII", 47, 104, 2, 1, 1, b"a", 1, b"l", 13, 5, 0o100600, 0, 0),
        struct.pack(">IBIIII", 17, 101, 3, 1, 0, 0), struct.pack(">IBIIII", 17, 101, 4, 0, 0, 0),
    )
)  # fmt: skip


@fuzzed
@given(st.one_of(_PACKETS.map(_VERSION.__add__), damaged(_SAMPLE)))
def test_the_answers_of_a_server_are_read_or_refused(folder: Path, answers: bytes) -> None:
    (folder / "answers").write_bytes(answers)
    bucket = SftpBucket(parse_store_url("sftp://host/folder"), patience=Patience(1, 0, 0))
    bucket._command = ["cat", str(folder / "answers")]
    for found in outcome(lambda: list(bucket.listed(""))) or []:
        assert is_name(found.name)
        assert found.size >= 0
    bucket.close()
    assert all(map(is_name, outcome(bucket.folders) or []))
    bucket.close()
    content = outcome(lambda: bucket.get("a", 10))
    assert content is None or len(content) <= 10
    bucket.close()


@fuzzed
@given(st.binary(max_size=60))
def test_attributes_are_read_or_refused(content: bytes) -> None:
    outcome(lambda: Fields(content).attributes(), LostError)


_LIST = b"""[
{"Path":"data/a","Name":"a","Size":3,"ModTime":"2026-11-27T19:15:03.190338946Z","IsDir":false},
{"Path":"x","Name":"x","Size":-1,"ModTime":"2026-11-27T19:15:03+09:00","IsDir":false},
{"Path":"d","Name":"d","Size":-1,"ModTime":"2026-11-27T19:15:03+09:00","IsDir":true}
]
"""


@fuzzed
@given(damaged(_LIST))
def test_a_list_of_rclone_is_read_or_refused(output: bytes) -> None:
    bucket = RcloneBucket(parse_store_url("rclone:box:x"))
    bucket._run = lambda *_, **__: EndedProgram(0, output, cut=False, messages="")  # type: ignore[method-assign]
    for found in outcome(lambda: list(bucket.listed(""))) or []:
        assert is_name(found.name)
        assert found.size >= 0
    outcome(lambda: bucket._entry("a"))
    assert all(map(is_name, outcome(bucket.folders) or []))
