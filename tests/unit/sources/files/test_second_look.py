"""A second look at a folder reads every file again, and finds what the archive has wrong."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from refnet.catalog.artifact import TransientError
from refnet.catalog.manifest import Compared
from refnet.sources.folder import second_look


def test_every_content_is_compared_whatever_its_size(vault, source):
    made = source(vault).digesting(1 << 30).dump(io.BytesIO())

    assert made.compared is Compared.DIGESTED
    assert made.unchecked == ()


@pytest.mark.parametrize(("name", "read"), [("script.sh", b"bin"), ("large.bin", b"end")])
def test_a_byte_that_was_read_wrong_is_found_in_a_small_and_in_a_large_file(
    vault, source, monkeypatch, name, read
):
    real = os.read

    def flip(handle: int, size: int) -> bytes:
        data = real(handle, size)
        return data.replace(read, b"???") if Path(f"/proc/self/fd/{handle}").readlink().name == name else data

    monkeypatch.setattr(os, "read", flip)

    with pytest.raises(TransientError, match=rf"{name} has different content in the list"):
        source(vault).digesting(1 << 30).dump(io.BytesIO())


def test_the_next_files_are_asked_for_before_the_first_is_read_and_few_are_open(
    tmp_path, source, monkeypatch
):
    (tmp_path / "notes").mkdir()
    for number in range(200):
        (tmp_path / "notes" / f"{number:03}.md").write_text(f"note {number}")
    asked, at_reads, read, fetch = [], [], os.readv, second_look.fetch_again
    monkeypatch.setattr(second_look, "fetch_again", lambda *given: (asked.append(given), fetch(*given)))
    monkeypatch.setattr(os, "readv", lambda *given: (at_reads.append(len(asked)), read(*given))[1])

    source(tmp_path).digesting(1 << 30).dump(io.BytesIO())

    ahead = [there - number for number, there in enumerate(at_reads)]
    assert len(asked) == len(at_reads) == 200
    assert ahead[0] == max(ahead) == 65
