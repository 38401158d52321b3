"""Artifacts as files: what a disk that fails makes of reading one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from refnet.catalog.artifact import fault_of
from refnet.catalog.evidence import Fault
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.store.open_artifacts import artifact_in


def test_a_failing_disk_during_a_read_is_a_two_line_error_and_no_damage() -> None:
    """The beginning of /proc/self/mem can be opened, and reading it is an input/output error."""
    artifact = artifact_in(SourceName.DATABASE, Path("/proc/self/mem"), None)

    for read in (lambda file: file.read(10), lambda file: file.readinto(bytearray(10))):
        with artifact.open() as file, pytest.raises(RefnetError, match="Input/output error") as raised:
            read(file)
        assert raised.value.code is Exit.FAILED
        assert isinstance(raised.value.__cause__, OSError)
        assert raised.value.__cause__.errno == errno.EIO
        assert fault_of(raised.value) is Fault.TRANSIENT


def test_an_artifact_reads_and_seeks_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789" * 1000)
    with artifact_in(SourceName.DATABASE, tmp_path / "a", None, links=True).open() as file:
        assert (file.seek(0, 2), file.seek(5), file.read(7), file.tell()) == (10000, 5, b"5678901", 12)
        assert len(file.read()) == 9988
