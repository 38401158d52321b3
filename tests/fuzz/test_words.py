"""What people type and files are called: names, times, schedules, spans, addresses, URLs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import ECHO, fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.catalog.catalog import parse_time
from refnet.catalog.manifest import utc
from refnet.catalog.schedule import When
from refnet.catalog.source_name import STANDARD, Kind, artifact_names, read_file_name, read_name
from refnet.cli.completion import choice
from refnet.cli.prune import _span
from refnet.postgres.session import Target
from refnet.recovery.plan import Stage
from refnet.settings.converters import InvalidError
from refnet.settings.times import parse_when, parse_zone
from refnet.telemetry.serve import parse_address

#: Words that belong together in one way or another, and odd ones.
_PIECES = st.lists(
    st.one_of(
        st.sampled_from(["refnet", "config", "vault", "shop", "a-b", "live", "obsidian", "_", "_", "20261125", "00000000", "99999999", "020000", "250000", "_tables", "_2", ".sql.gz", ".tar.gz"]),
        st.sampled_from(["hourly", "daily", "monthly", "sunday", "fünftag", ":", ":", "-", "-", "T", "+", "Z", "0", "1", "28", "29", "02", "00", "59", "60", "23", "24", "2026", "0001", "9999", "11"]),
        st.sampled_from(["127.0.0.1", "[::1]", "localhost", "[", "]", "9817", "65535", "65536", "d", "w", "y", "365", "99999", "W", "366", "²", "٣", "１"]),
        st.sampled_from(["postgresql://", "postgres://", "@", "/", "?host=", "&", "=", "%", "%00", "%zz", " ", "\n", ".partial"]),
        texts,
    ),
    max_size=7,
).map("".join)  # fmt: skip
_PHRASES = st.one_of(texts, _PIECES)


@fuzzed
@given(
    st.one_of(_PHRASES, st.none(), st.integers(), st.lists(texts, max_size=2)), st.sampled_from([None, *Kind])
)
def test_the_name_of_a_source_is_read_or_refused(value: object, kind: Kind | None) -> None:
    found = outcome(lambda: read_name(value, kind), ValueError, longest=ECHO)
    if found:
        assert re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", found)
        assert found in STANDARD or found.kind is kind


@fuzzed
@given(_PHRASES)
def test_the_name_of_an_artifact_is_read_or_is_none(name: str) -> None:
    found = outcome(lambda: read_file_name(name), longest=ECHO)
    if found:
        source, moment = found
        again = read_file_name(artifact_names(source, moment)[-1 if source.kind is not Kind.DATABASE else 0])
        assert again == (source, moment)


@fuzzed
@given(_PHRASES, st.sampled_from([None, UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))]))
@example("9999-12-31", None)
@example("0001-01-01", None)
@example("0001-01-01T00:00+14:00", UTC)
def test_a_time_is_read_or_refused(text: str, zone: timezone | None) -> None:
    moment = outcome(lambda: parse_time(text, zone), longest=ECHO)
    if moment:
        assert moment.tzinfo
        assert datetime.fromisoformat(utc(moment)) == moment


@fuzzed
@given(_PHRASES)
def test_a_time_of_a_schedule_is_read_or_refused(text: str) -> None:
    when = outcome(lambda: parse_when(text), InvalidError, longest=ECHO)
    if when:
        assert parse_when(str(when)) == when
        now = datetime(2026, 11, 25, 17, 0, 1, tzinfo=UTC)
        due = when.next_due(now, parse_zone("Asia/Tokyo"))
        assert now < due <= now + when.interval
        assert re.fullmatch(r"(?:\w{3} )?\*-\*-(?:\*|\d\d) (?:\*|\d\d):\d\d:00", when.on_calendar(None))
        assert isinstance(when, When)


@fuzzed
@given(_PHRASES)
@example("../../etc/passwd")
@example("a\0b")
@example("")
@example("a/" * 300)
def test_a_time_zone_is_known_or_refused(name: str) -> None:
    zone = outcome(lambda: parse_zone(name), InvalidError, longest=ECHO)
    assert zone is None or zone.key == name.strip()


@fuzzed
@given(_PHRASES)
def test_a_span_is_read_or_refused(text: str) -> None:
    span = outcome(lambda: _span(text), longest=ECHO)
    assert span is None or timedelta(0) <= span <= timedelta(days=3650)


@fuzzed
@given(_PHRASES)
@example("localhost:" + "9" * 5000)
def test_an_address_is_read_or_refused(text: str) -> None:
    address = outcome(lambda: parse_address(text), longest=ECHO)
    assert address is None or (address[0] and 0 <= address[1] <= 65535)


@fuzzed
@given(_PHRASES)
def test_a_stage_is_read_or_refused(text: str) -> None:
    outcome(lambda: choice("stage", Stage)["parser"](text), longest=ECHO)


@fuzzed
@given(st.one_of(_PHRASES, _PHRASES.map(lambda text: f"postgresql://{text}")))
def test_the_url_of_a_server_is_read_or_refused(url: str) -> None:
    target = outcome(lambda: Target.from_url(url), longest=ECHO)
    if target:
        assert target.name
        assert target.display
