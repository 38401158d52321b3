"""Gzip members are judged by stock gunzip."""

import io
import random
import subprocess

import pytest

from refnet.sources.folder.gzip_members import MEMBER_BYTES, MemberWriter, inflated_from, inflated_members
from refnet.store.cutting import Cutting

NOISE = random.Random(1).randbytes(MEMBER_BYTES)  # made up, not secret
TEXT = (b"%08d a line of a note\n" * 40_000) % tuple(range(40_000))


def written(raw: bytes) -> tuple[bytes, MemberWriter]:
    out = io.BytesIO()
    with MemberWriter(out, 2) as writer:
        for at in range(0, len(raw), 10_000):
            writer.write(raw[at : at + 10_000])
        writer.finish()
    return out.getvalue(), writer


@pytest.mark.parametrize(
    "raw", [b"", b"x", NOISE[:50_000], NOISE + NOISE[:65_535], TEXT + NOISE + TEXT], ids=len
)
def test_gunzip_and_a_reader_from_any_member_return_what_was_written(raw):
    packed, writer = written(raw)

    if raw:
        assert subprocess.run(["gunzip"], input=packed, capture_output=True, check=True).stdout == raw
    for member in writer.members:
        with inflated_from(io.BytesIO(packed), member.offset) as stream:
            assert stream.read() == raw[member.raw :]


@pytest.mark.parametrize("size", [512, 70_001, MEMBER_BYTES, 5 * MEMBER_BYTES])
def test_members_that_are_inflated_beside_each_other_are_read_in_order(size):
    raw = TEXT + NOISE + TEXT
    packed, writer = written(raw)

    with inflated_members(io.BytesIO(packed), writer.members, len(raw), 2) as stream:
        assert b"".join(iter(lambda: stream.read(size), b"")) == raw


def _members(entries: dict[str, bytes]) -> list[bytes]:
    out = io.BytesIO()
    with MemberWriter(out, 2) as writer:
        for path, data in entries.items():
            writer.write(data)
            writer.end_entry(path, len(data))
        writer.finish()
    ends = [*(one.offset for one in writer.members[1:]), out.tell()]
    return [out.getvalue()[one.offset : end] for one, end in zip(writer.members, ends, strict=True)]


def test_a_file_that_is_new_longer_or_gone_changes_a_few_members():
    entries = {f"notes/{number:05}.md": TEXT[number * 97 :][:4096] for number in range(5000)}
    before = _members(entries)
    assert 50_000 < sum(map(len, entries.values())) / len(before) < 70_000

    new = dict(sorted((entries | {"notes/02000 new.md": b"new" * 900}).items()))
    longer = entries | {"notes/00007.md": TEXT[:5000]}
    gone = {path: data for path, data in entries.items() if path != "notes/04000.md"}

    for after in (new, longer, gone):
        assert len({*_members(after)} - {*before}) <= 5


def test_of_a_file_that_changes_a_copy_sends_the_rest_of_its_member_alone():
    cutting = Cutting(bytes(32))
    entries = {
        f"notes/{number:03}.md": random.Random(number).randbytes(2000).hex().encode() for number in range(200)
    }
    before = _members(entries)
    known = {found for _, found in cutting.blocks(io.BytesIO(b"".join(before)))}

    def sent(number: int) -> float:
        (new,) = {*_members(entries | {f"notes/{number:03}.md": NOISE[:2000].hex().encode()})} - {*before}
        return sum(len(one) for one, found in cutting.blocks(io.BytesIO(new)) if found not in known) / len(
            new
        )

    shares = [*map(sent, range(0, 200, 7))]
    assert min(shares) < 0.4
    assert sum(shares) / len(shares) < 0.75


def test_of_a_long_note_that_grows_a_copy_sends_its_beginning_and_its_end():
    cutting, text = Cutting(bytes(32)), random.Random(7).randbytes(150_000).hex().encode()
    before, after = (
        _members({"a.md": TEXT[:512] + b"%09d" % len(all_) + all_}) for all_ in (text, text + b"more")
    )
    known = {found for _, found in cutting.blocks(io.BytesIO(b"".join(before)))}

    blocks = [*((len(one), found) for one, found in cutting.blocks(io.BytesIO(b"".join(after))))]
    assert sum(size for size, found in blocks if found not in known) < 0.4 * sum(size for size, _ in blocks)


def test_equal_files_give_equal_bytes_however_they_are_written():
    text = TEXT[:60_000]
    packed = [written(text)[0]]
    for size in (1, 999, 60_000):
        out = io.BytesIO()
        with MemberWriter(out, 1) as writer:
            for at in range(0, len(text), size):
                writer.write(text[at : at + size])
            writer.finish()
        packed.append(out.getvalue())

    assert len(set(packed)) == 1


def test_what_does_not_shrink_is_stored_and_grows_by_a_few_bytes():
    packed, writer = written(NOISE * 2)

    assert len(packed) <= len(NOISE) * 2 * 1.0002
    assert NOISE[1000:50_000] in packed
    assert len(writer.members) >= 2


def test_text_among_noise_is_deflated():
    mixed = b"".join(NOISE[at : at + 30_000] + TEXT[at : at + 24_000] for at in range(0, 800_000, 40_000))

    assert len(written(mixed)[0]) < len(mixed) * 0.8
