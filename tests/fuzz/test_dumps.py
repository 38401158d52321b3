"""Dumps that RefNet did not make: what their first bytes say, and the table of contents of an archive."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import SourceName
from refnet.sources.database.artifact.foreign_dump import ForeignDump, Format
from refnet.sources.database.restore import schema_archive
from refnet.store.open_artifacts import folder_at

PLAIN = b"""--
-- PostgreSQL database dump
--

\\restrict abc

-- Dumped from database version 15.14 (Debian 15.14-1)
-- Dumped by pg_dump version 17.6

SET statement_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';

CREATE TABLE papers (id int);
COPY papers (id) FROM stdin;
1
\\.

--
-- PostgreSQL database dump complete
--

\\unrestrict abc
"""


def _number(value: int) -> bytes:
    return bytes([value < 0]) + abs(value).to_bytes(4, "little")


def _text(text: str | None) -> bytes:
    return _number(-1) if text is None else _number(len(text)) + text.encode()


def _archive(kind: int) -> bytes:
    """A table of contents as pg_dump 16 writes it: of the custom format (1) or of a tar and a folder (3)."""
    whole = b"PGDMP" + bytes([1, 15, 0, 4, 8, kind, 1]) + b"".join(map(_number, (1, 2, 3, 4, 5, 126, 0)))
    whole += _text("wiki") + _text("16.11") + _text("16.11 (Debian)") + _number(2)
    for number, what, file in ((217, "TABLE", None), (3401, "TABLE DATA", "3401.dat")):
        whole += (
            _number(number)
            + _number(1)
            + b"".join(map(_text, ("1259", "16384", "papers", what)))
            + _number(2)
        )
        whole += b"".join(
            map(_text, ("CREATE", "DROP", None, "public", "", "heap", "refnet", "false", "216", None))
        )
        whole += _text(file) if kind == 3 else bytes(9)
    return whole


CUSTOM, FOLDER = _archive(1), _archive(3)
TAR = b"toc.dat".ljust(257, b"\0") + b"ustar\x0000" + bytes(247) + FOLDER
TOC = """;
; Archive created at 2026-11-25 02:00:00 UTC
;     Dumped from database version: 18.6
217; 1259 16384 TABLE public papers refnet
3450; 0 16384 TABLE DATA public papers refnet
3300; 2606 16390 CONSTRAINT public papers papers_pkey refnet
3301; 2606 16400 FK CONSTRAINT public papers papers_fk refnet
3302; 1259 16401 INDEX public papers_title refnet
3460; 0 16420 MATERIALIZED VIEW DATA public titles refnet
"""


@fuzzed
@given(
    st.one_of(
        damaged(PLAIN),
        damaged(PLAIN).map(lambda text: gzip.compress(text, 1)),
        damaged(gzip.compress(PLAIN, 1)),
        damaged(CUSTOM),
        damaged(TAR),
        damaged(gzip.compress(CUSTOM, 1)),
        st.binary(max_size=600),
    )
)
@example(PLAIN.replace(b"15.14", b"9" * 5000))
@example(PLAIN.replace(b"17.6", b"9" * 5000))
def test_a_dump_is_known_or_refused(data: bytes) -> None:
    held = OpenArtifact(SourceName.DATABASE, "dump.sql", lambda: io.BytesIO(data), None)
    dump = ForeignDump(held)
    if outcome(dump.wanted):
        assert dump.format in Format
        outcome(dump.check)
        version = outcome(dump.wanted)
        assert version
        outcome(lambda: dump.proof_major)
        assert outcome(lambda: dump.state(lambda: None))
        if dump.format in {Format.PLAIN, Format.GZIP}:
            outcome(lambda: list(dump._text(15, lambda *_: None)))


def test_the_archives_that_are_changed_are_read_as_they_are() -> None:
    for data in (CUSTOM, TAR):
        held = OpenArtifact(SourceName.DATABASE, "dump", lambda data=data: io.BytesIO(data), None)  # type: ignore[misc]
        assert ForeignDump(held).proof_major == 16


@fuzzed
@given(
    contents=st.one_of(damaged(FOLDER), st.just(FOLDER)),
    large=st.one_of(damaged(b"16400 blob_16400.dat\n"), st.none()),
    name=st.sampled_from(["blobs.toc", "blobs_16.toc", "a.toc", "3401.dat", "..toc"]),
)
def test_a_folder_is_a_dump_or_refused(contents: bytes, large: bytes | None, name: str, folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    (folder / "toc.dat").write_bytes(contents)
    if large is not None:
        (folder / name).write_bytes(large)
    dump = ForeignDump(folder_at(folder))
    for entry in dump._entries if outcome(dump.wanted) else ():
        assert entry.file is None or "/" not in entry.file


@fuzzed
@given(damaged(TOC.encode()))
def test_a_table_of_contents_is_read(text: bytes) -> None:
    items = outcome(lambda: schema_archive.parse(text.decode(errors="replace")))
    for item in items or ():
        assert item.line in text.decode(errors="replace")
        schema_archive.share([item], ())
