"""What a hostile SFTP server, or a program in the place of rclone, answers: an error, or what is safe to use."""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refnet.settings.urls import parse_store_url
from refnet.store.buckets import rclone as of_rclone
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.rclone import RcloneBucket
from refnet.store.buckets.sftp import Patience, SftpBucket
from refnet.store.buckets.sftp_protocol import packed

VERSION = struct.pack(">IBI", 5, 2, 3)
FILE, FOLDER, LINK = 0o100600, 0o040700, 0o120777


def packet(kind: int, number: int, *fields: int | bytes | tuple[str, int]) -> bytes:
    """An answer to the request `number`; they count from 1."""
    content = bytes([kind]) + packed(number, *fields)
    return struct.pack(">I", len(content)) + content


def attributes(size: int, mode: int) -> tuple[int | tuple[str, int], ...]:
    return 1 | 4 | 8, (">Q", size), mode, 0, 0


def status(number: int, code: int, text: bytes = b"") -> bytes:
    return packet(101, number, code, text, b"")


def names(number: int, *found: tuple[bytes, int]) -> bytes:
    listed = [field for name, mode in found for field in (name, b"longname", *attributes(1, mode))]
    return packet(104, number, len(found), *listed)


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[..., SftpBucket]]:
    """Makes a bucket whose server sends `answers`, whatever is asked, and then nothing, or ends."""
    made = []

    def make(*answers: bytes, ends: bool = False) -> SftpBucket:
        (tmp_path / "answers").write_bytes(b"".join(answers))
        bucket = SftpBucket(parse_store_url("sftp://host/folder"), patience=Patience(0.3, 0, 0))
        then = "" if ends else "; exec sleep 60"
        bucket._command = ["sh", "-c", f'cat "$0"{then}', str(tmp_path / "answers")]
        made.append(bucket)
        return bucket

    yield make
    for one in made:
        one.close()


def failed(kind: BucketFailure, call: Callable[[], object]) -> str:
    with pytest.raises(BucketError) as error:
        call()
    assert error.value.kind is kind, error.value.message
    assert error.value.message.isprintable()
    assert len(error.value.message) < 400
    return error.value.message


def test_only_names_that_objects_may_have_are_listed(answering) -> None:
    hostile = (
        b"..",
        b".",
        b"../up",
        b"a/b",
        b"/etc",
        b"-o",
        b"\xff",
        b"a\nb",
        b"a\x1b[2J",
        b"x" * 600,
        b"",
        b".part",
    )
    listed = [(name, FILE) for name in hostile] + [
        (b"link", LINK),
        (b"good", FILE),
        (b"..", FOLDER),
        (b".", FOLDER),
    ]
    bucket = answering(VERSION, packet(102, 1, b"h"), names(2, *listed), status(3, 1), status(4, 0))
    assert [one.name for one in bucket.listed("")] == ["-o", "good"]

    folders = [(name, FOLDER) for name in hostile] + [(b"link", LINK), (b"file", FILE), (b"good", FOLDER)] * 2
    bucket = answering(VERSION, packet(102, 1, b"h"), names(2, *folders), status(3, 1), status(4, 0))
    assert bucket.folders() == ["-o", "good"]


def test_folders_in_folders_end(answering) -> None:
    endless = [
        part
        for n in range(0, 200, 4)
        for part in (
            packet(102, n + 1, b"h"),
            names(n + 2, (b"d", FOLDER)),
            status(n + 3, 1),
            status(n + 4, 0),
        )
    ]
    assert list(answering(VERSION, *endless).listed("")) == []


def test_a_list_without_end_ends(answering, monkeypatch) -> None:
    monkeypatch.setattr("refnet.store.buckets.sftp._MOST", 1000)
    many = [names(number, *[(b"a%d" % n, FILE) for n in range(100)]) for number in range(2, 20)]
    bucket = answering(VERSION, packet(102, 1, b"h"), *many)
    assert "lists more than" in failed(BucketFailure.UNREACHABLE, lambda: bucket.listed(""))
    bucket = answering(VERSION, packet(102, 1, b"h"), *many)
    assert "lists more than" in failed(BucketFailure.UNREACHABLE, bucket.folders)


def test_too_many_folders_are_refused(answering, program, monkeypatch) -> None:
    many = names(2, *[(b"%05d" % n, FOLDER) for n in range(1001)])
    monkeypatch.setattr("refnet.store.buckets.bucket._MOST_FOLDERS", 1000)
    bucket = answering(VERSION, packet(102, 1, b"h"), many, status(3, 1), status(4, 0))
    assert "more than 1,000 folders" in failed(BucketFailure.DAMAGED, bucket.folders)
    entry = '{"Path":"%05d","Size":-1,"ModTime":"2026-11-27T19:15:03Z","IsDir":true},'
    bucket = program(f"for n in range(1001): print({entry!r} % n)")
    assert "more than 1,000 folders" in failed(BucketFailure.DAMAGED, bucket.folders)


def test_a_list_of_empty_answers_ends(answering) -> None:
    empty = [names(number) for number in range(2, 2000)]
    bucket = answering(VERSION, packet(102, 1, b"h"), *empty)
    assert "answers without a name" in failed(BucketFailure.UNREACHABLE, lambda: bucket.listed(""))


def test_an_object_in_tiny_parts_ends(answering) -> None:
    tiny = [packet(103, number, b"x") for number in range(3, 3000)]
    opened = (VERSION, packet(102, 1, b"h"), packet(105, 2, *attributes(100_000, FILE)))
    bucket = answering(*opened, *tiny)
    assert "parts that are too small" in failed(BucketFailure.UNREACHABLE, lambda: bucket.get("a", 1 << 20))


#: Sends the first bytes of an answer, and one byte more each 50 ms, for ever.
DRIPPING = """
import sys, time
sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))
while True:
    sys.stdout.buffer.write(b"x")
    sys.stdout.buffer.flush()
    time.sleep(0.05)
"""


@pytest.mark.parametrize("act", ["list", "get"])
def test_an_answer_that_drips_ends_and_is_not_tried_again(answering, act) -> None:
    bucket = answering()
    bucket._patience = Patience(stall=5, once=1, objects=60, small=60)
    head = VERSION + packet(102, 1, b"h") + packet(105, 2, *attributes(100_000, FILE)) * (act == "get")
    bucket._command = [sys.executable, "-c", DRIPPING, (head + struct.pack(">I", 100_000)).hex()]
    began = time.monotonic()
    said = failed(
        BucketFailure.UNREACHABLE, lambda: bucket.listed("") if act == "list" else bucket.get("a", 1 << 20)
    )
    assert "the server is too slow" in said
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("answers", "kind", "said"),
    [
        ([b"Welcome to this server!\n"], BucketFailure.UNREACHABLE, "not SFTP"),
        ([struct.pack(">IBI", 5, 2, 6)], BucketFailure.UNREACHABLE, "version 3"),
        ([VERSION, struct.pack(">I", 0xFFFFFFFF)], BucketFailure.UNREACHABLE, "not SFTP"),
        ([VERSION, struct.pack(">I", 0)], BucketFailure.UNREACHABLE, "not SFTP"),
        ([VERSION, packet(102, 7, b"h")], BucketFailure.UNREACHABLE, "a request that was not sent"),
        ([VERSION, packet(103, 1, b"h")], BucketFailure.UNREACHABLE, "an answer of a wrong kind"),
        ([VERSION, struct.pack(">IBII", 9, 102, 1, 99)], BucketFailure.UNREACHABLE, "too short"),
        ([VERSION, status(1, 3, b"no\x1b[2J \xff")], BucketFailure.REFUSED, "no[2J"),
        ([VERSION, status(1, 99, b"")], BucketFailure.UNREACHABLE, "SFTP error 99"),
        ([VERSION, packet(102, 1, b"h"), packet(105, 2, *attributes(1 << 60, FILE)), status(3, 0)], BucketFailure.DAMAGED, "larger than 10 bytes"),
        ([VERSION, packet(102, 1, b"h"), packet(105, 2, 0), status(3, 0)], BucketFailure.DAMAGED, "larger than 10 bytes"),
        ([VERSION, packet(102, 1, b"h"), packet(105, 2, *attributes(5, FILE)), packet(103, 3, b"x" * 6)], BucketFailure.UNREACHABLE, "not asked for"),
        ([VERSION, packet(102, 1, b"h"), packet(105, 2, *attributes(5, FILE)), packet(103, 3, b"")], BucketFailure.UNREACHABLE, "not asked for"),
        ([VERSION, packet(102, 1, b"h"), packet(105, 2, *attributes(5, FILE)), status(3, 1), status(4, 0)], BucketFailure.DAMAGED, "SFTP error 1"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_an_error_in_one_line(
    answering, answers: list[bytes], kind: BucketFailure, said: str
) -> None:
    assert said in failed(kind, lambda: answering(*answers).get("a", 10))


def test_a_full_disk_of_a_server_leaves_no_file(answering) -> None:
    looked = [
        status(1, 2),
        packet(102, 2, b"h"),
        status(3, 1),
        status(4, 0),
    ]  # no such object; no hidden files
    written = [packet(102, 5, b"h"), status(6, 4, b"Failure"), status(7, 0)]
    bucket = answering(VERSION, *looked, *written, status(8, 0), status(9, 2))
    assert "Failure" in failed(BucketFailure.FULL, lambda: bucket.put("a", b"x"))


def test_a_server_that_falls_silent_is_given_up(answering) -> None:
    start = time.monotonic()
    assert "did not answer" in failed(BucketFailure.UNREACHABLE, lambda: answering(VERSION).get("a", 10))
    assert "did not answer" in failed(BucketFailure.UNREACHABLE, lambda: answering(VERSION).put("a", b"x"))
    assert "ssh ended" in failed(
        BucketFailure.UNREACHABLE, lambda: answering(VERSION, ends=True).get("a", 10)
    )
    assert time.monotonic() - start < 10


# rclone


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RcloneBucket]:
    """Makes a bucket with a Python program in the place of rclone."""

    def make(code: str) -> RcloneBucket:
        path = tmp_path / "rclone"
        path.write_text(f"#!{sys.executable} -IS\nimport sys\n{code}\n")
        path.chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return RcloneBucket(parse_store_url("rclone:box:x"))

    return make


def test_only_entries_of_rclone_with_names_of_objects_are_listed(program) -> None:
    entries = ",\n".join(
        f'{{"Path":"{name}","Size":{size},"ModTime":"2026-11-27T19:15:03.190338946Z","IsDir":false,"More":[]}}'
        for name, size in (
            ("../x", 1),
            ("/etc", 1),
            ("a\\nb", 1),
            (".part", 1),
            ("b/c", 2),
            ("a", -1),
        )
    )
    found = list(program(f"print({'[' + chr(10) + entries + chr(10) + ']'!r})").listed(""))
    assert [(one.name, one.size) for one in found] == [("a", 0), ("b/c", 2)]

    folders = entries.replace("false", "true")
    file = entries.splitlines()[-1].replace('"a"', '"file"')
    bucket = program(
        f"assert '--dirs-only' in sys.argv and '--recursive' not in sys.argv\nprint({f'{folders},{chr(10)}{file}'!r})"
    )
    assert bucket.folders() == ["a"]


@pytest.mark.parametrize(
    "line",
    ["{}", "[]", "5", "x", '{"Path":"a"}', '{"Path":5,"Size":1,"ModTime":"2026-11-27T19:15:03Z","IsDir":false}',
     '{"Path":"a","Size":1e9,"ModTime":"2026-11-27T19:15:03Z","IsDir":false}', "[" * 30_000,
     '{"Path":"a","Size":1,"ModTime":"yesterday","IsDir":false}', '"' + "x" * 70_000],
)  # fmt: skip
def test_a_list_that_is_not_rclones_is_damaged(program, line: str) -> None:
    bucket = program(f"print('['); print({line!r}); print(']')")
    for call in (lambda: list(bucket.listed("")), bucket.folders):
        assert "rclone's list of files" in failed(BucketFailure.DAMAGED, call)


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (
            "sys.exit('2026/11/27 19:15:04 Failed to x: 403 Forbidden')",
            BucketFailure.REFUSED,
            "Failed to x: 403 Forbidden",
        ),
        ("sys.exit('ERROR : no space left on device')", BucketFailure.FULL, "no space left"),
        ("sys.exit('didn\\'t find section in config file')", BucketFailure.REFUSED, "section in config"),
        ("sys.exit('\\x1b[2J' + 'x' * 5000)", BucketFailure.UNREACHABLE, "x" * 100),
        ("sys.exit(7)", BucketFailure.UNREACHABLE, "rclone ended with 7"),
        ("import os; os.kill(os.getpid(), 9)", BucketFailure.UNREACHABLE, "rclone ended with -9"),
    ],
)
def test_an_error_of_rclone_is_told_in_one_line(program, code: str, kind: BucketFailure, said: str) -> None:
    for call in (lambda: list(program(code).listed("")), program(code).folders):
        assert said in failed(kind, call)


def test_output_of_rclone_without_end_is_cut(program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_rclone, "_MOST", 100_000)
    entry = '{"Path":"a","Size":1,"ModTime":"2026-11-27T19:15:03Z","IsDir":false}'
    endless = f"while True: sys.stdout.write({entry + chr(10)!r})"
    failed(BucketFailure.DAMAGED, lambda: list(program(endless).listed("")))
    larger = f"print({entry!r} if 'lsjson' in sys.argv else 'x' * 10**8)"
    assert "larger than 10 bytes" in failed(BucketFailure.DAMAGED, lambda: program(larger).get("a", 10))


def test_rclone_that_hangs_is_given_up(program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_rclone, "_LONGEST", 0.3)
    start = time.monotonic()
    failed(BucketFailure.UNREACHABLE, lambda: list(program("import time; time.sleep(60)").listed("")))
    assert time.monotonic() - start < 10
