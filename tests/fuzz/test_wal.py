"""The records of an archive of WAL, and what pg_waldump or a server may say."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents

from refnet.catalog.wal import SHARES, IndexLine, LastReading, ServerFacts, parse_lsn, read_history
from refnet.catalog.wal_record import RecordName, SentSegment, Tail, WalRecord
from refnet.catalog.wal_stream import StreamReport

LINE = '{"segment": "000000010000000000000005", "sha256": "%s", "size": 7, "first_commit": null}' % ("0" * 64)
REPORT = (
    '{"format": 1, "state": "streaming", "at": "2026-11-30T10:00:00+00:00", "pid": 7, "timeline": 1,'
    ' "server_lsn": 5, "received_lsn": 4, "received_until": "2026-11-30T10:00:00+00:00", "slot": "refnet_main"}'
)
READING = (
    '{"format": 1, "damaged": ["000000010000000000000005", "000000010000000000000006.partial"],'
    ' "shares": ["2026-11-30T10:00:00+00:00", "2026-12-01T10:00:00+00:00"]}'
)
SERVER = '{"format": 1, "system_identifier": "7713912749545699872", "segment_bytes": 1048576, "major": 17}'


@fuzzed
@given(documents(json.loads(LINE), LINE.encode()))
def test_a_line_of_the_index_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: IndexLine.from_json(text), ValueError)
    if found:
        assert len(found.name) in {24, 32}
        assert IndexLine.from_json(found.to_json()) == found


@fuzzed
@given(documents(json.loads(READING), READING.encode()))
def test_what_a_reading_found_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: LastReading.from_json(text), ValueError)
    if found:
        assert 0 <= found.next_share < SHARES
        assert found.whole_since is None or len(found.shares) == SHARES
        assert LastReading.from_json(found.to_json()) == found


@fuzzed
@given(documents(json.loads(REPORT), REPORT.encode()))
def test_a_report_of_a_receiver_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: StreamReport.from_json(text), ValueError)
    if found:
        assert found.lag_bytes >= 0
        assert found.lag(found.at) is None or found.received_until


@fuzzed
@given(documents(json.loads(SERVER), SERVER.encode()))
def test_the_facts_of_a_server_are_read_or_refused(text: bytes) -> None:
    outcome(lambda: ServerFacts.from_json(text), ValueError)


@fuzzed
@given(
    st.one_of(st.text(max_size=300), st.from_regex(r"([0-9]{1,11}\t[0-9A-F]{1,9}/[0-9A-F]{1,9}\tx\n){0,5}"))
)
def test_a_history_is_read_or_refused(text: str) -> None:
    forks = outcome(lambda: read_history(text), ValueError)
    if forks:
        assert [one.timeline for one in forks] == sorted({one.timeline for one in forks})


@fuzzed
@given(st.text("0123456789abcdefABCDEF/xX -", max_size=20))
def test_a_position_is_read_or_refused(text: str) -> None:
    outcome(lambda: parse_lsn(text), ValueError)


RECORD = WalRecord(
    "7713912749545699872", 1 << 20, 17, 3, 2, datetime(2026, 11, 30, 10, 0, tzinfo=UTC), None,
    (SentSegment("0" * 24, f"{'a' * 32}/wal/7713912749545699872/{'0' * 24}-{'b' * 16}.age", 9, "0" * 64, "1" * 64),),
    {"00000002.history": "1\t0/5000000\tx\n"}, Tail("0" * 23 + "1", 5, b"bytes"),
).to_line()  # fmt: skip


@fuzzed
@given(documents(json.loads(RECORD), RECORD))
def test_a_record_of_wal_in_a_store_is_read_or_refused(line: bytes) -> None:
    found = outcome(lambda: WalRecord.from_json(line), ValueError)
    if found:
        assert found.since <= found.counter
        assert found.tail is None or found.tail.end <= found.segment_bytes
        assert WalRecord.from_json(found.to_line()) == found


@fuzzed
@given(st.text("0123456789abcdef/_.agewlrcods", max_size=120))
def test_the_name_of_a_record_of_wal_is_read_or_refused(name: str) -> None:
    assert outcome(lambda: RecordName.read(name)) is None or name.endswith(".age")
