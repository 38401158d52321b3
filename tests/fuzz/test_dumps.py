"""Dumps that RefNet did not make: what their first bytes say, and the table of contents of an archive."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged

from refnet.recovery.model.source import Held
from refnet.recovery.sources.database import toc
from refnet.recovery.sources.database.foreign import ForeignDump, Format

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
CUSTOM = b"PGDMP\x01\x10\x00\x04\x08\x01" + bytes(200)
TAR = bytes(257) + b"ustar\x0000" + bytes(300)
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
def test_a_dump_is_known_or_refused(data: bytes) -> None:
    held = Held("dump.sql", lambda: io.BytesIO(data), None)
    dump = outcome(lambda: ForeignDump(Path("/nowhere/dump.sql"), held))
    if dump:
        assert dump.format in Format
        outcome(dump.check)
        version = outcome(dump.wanted)
        assert version
        outcome(lambda: dump.proof_major)
        assert outcome(lambda: dump.state(lambda: None))
        if dump.format in {Format.PLAIN, Format.GZIP}:
            outcome(lambda: list(dump._text(15, lambda *_: None)))


@fuzzed
@given(damaged(TOC.encode()))
def test_a_table_of_contents_is_read(text: bytes) -> None:
    items = outcome(lambda: toc.parse(text.decode(errors="replace")), ValueError)
    for item in items or ():
        assert item.line in text.decode(errors="replace")
        toc.share([item], ())
