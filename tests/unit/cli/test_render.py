"""What people read: sizes, times, ages, columns."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from tests.remote_store import artifact

from refnet.actions.look import Shown
from refnet.actions.marks import Acceptance
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.source_name import SourceName
from refnet.cli import marks, render
from refnet.cli.list import _print_table
from refnet.core import formatting


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (2 << 40, "2.0 TiB"),
    ],
)
def test_sizes_are_in_binary_units(count: int, said: str) -> None:
    assert formatting.size(count) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0.0, "under 0.01 s"),
        (0.041, "0.04 s"),
        (9.87, "9.9 s"),
        (75, "1 min 15 s"),
        (3600, "1 h 0 min"),
        (7265, "2 h 1 min"),
    ],
)
def test_durations_have_the_precision_that_they_deserve(count: float, said: str) -> None:
    assert formatting.seconds(count) == said


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ({"seconds": 59}, "under 1 min"),
        ({"minutes": 59}, "59 min"),
        ({"hours": 24}, "24 h"),
        ({"hours": 47, "minutes": 59}, "47 h 59 min"),
        ({"hours": 48}, "2 d"),
        ({"days": -3}, "3 d ahead"),
    ],
)
def test_ages_say_the_largest_units_and_what_lies_ahead(span: dict[str, float], said: str) -> None:
    assert formatting.age(timedelta(**span)) == said


def test_the_facts_of_an_artifact_have_one_state(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = artifact(1, b"", details={"state": "ab" * 16, "files": 3})
    assert chosen.manifest
    render.print_artifact(Shown(chosen, chosen.manifest))
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert (names.count("state"), names.count("digest")) == (1, 1)


def test_columns_line_up_whatever_the_width_of_the_letters(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_columns([("name", "size"), ("論文", "1 B"), ("a", "10 B")], right=(1,))
    assert capsys.readouterr().out == "name  size\n論文   1 B\na     10 B\n"


def test_a_name_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_columns([("two\nlines", "\x1b[31mred", "\udcff")])
    assert capsys.readouterr().out == "two\\nlines  \\x1b[31mred  \\udcff\n"


def test_what_a_manifest_says_of_shrinking_cannot_write_to_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = artifact(1, b"", shrunk=("rows\x1b[2J",), shrunk_from="before\r\u202e").manifest
    assert found
    marks._print_acceptance(Acceptance(Entry(found)))
    print(render.shrunk(found))  # noqa: T201
    said = capsys.readouterr().out
    assert (said.count(r"\x1b[2J"), said.count(r"before\r\u202e")) == (2, 2)
    assert said.replace("\n", "").isprintable()


def test_what_evidence_says_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    found = artifact(1, b"")
    assert found.manifest
    at = datetime(2026, 11, 25, tzinfo=UTC)
    failed = Evidence(at, Level.INTACT, Outcome.FAILED, 1.0, server="17\x1b[2J", reasons=("gone\x1b[2J",))
    found = replace(found, entry=Entry(found.manifest, (failed,)))
    render.print_artifact(Shown(found, found.manifest))
    render.print_chosen(found)
    said = capsys.readouterr().out
    assert said.count(r"\x1b[2J") == 3
    assert said.replace("\n", "").isprintable()


def test_artifacts_of_several_databases_show_the_name_and_others_do_not() -> None:
    def of(name: str, **details: str) -> Entry:
        created = datetime(2026, 11, 25, tzinfo=UTC)
        return Entry(Manifest(SourceName.DATABASE, name, created, 1, "", 1.0, details=details))

    shop = of("a", database="shop", system_identifier="1")
    moved = of("b", database="shop", system_identifier="2")
    wiki, dump = of("c", database="wiki", system_identifier="1"), of("d")

    assert render.databases([shop, shop]) == {}
    assert render.databases([shop, wiki, dump]) == {"a": "shop", "c": "wiki", "d": "unknown"}
    assert render.databases([shop, moved]) == {"a": "shop (server 1)", "b": "shop (server 2)"}


@pytest.mark.parametrize(
    ("zone", "shown"),
    [("UTC", "10:00:00 UTC"), ("Asia/Tokyo", "19:00:00 JST"), ("Asia/Dubai", "14:00:00 +04")],
)
def test_a_time_is_printed_with_its_zone(monkeypatch: pytest.MonkeyPatch, zone: str, shown: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert formatting.local(datetime(2026, 11, 25, 10, tzinfo=UTC)) == f"2026-11-25 {shown}"
    finally:
        monkeypatch.undo()
        time.tzset()


LIST = [
    ("name", "database", "created", "age", "size", "state", "notes"),
    ("refnet_20261125_105258.sql.gz", "shop_production_" * 4, "2026-11-25 10:52:58 UTC", "47 h 59 min", "1023.9 MiB", "restored", "SHRUNK against refnet_20261124_105258.sql.gz: 10 rows of papers, 30,000 before"),
    ("vault_20261125.tar.gz", "研究論文の引用ネットワーク" * 3, "2026-11-25 10:52:58 UTC", "under 1 min", "2.4 MiB", "proven", ""),
]  # fmt: skip


@pytest.mark.parametrize("columns", ["", "40", "100", "140", "400"])
def test_a_table_fits_and_keeps_the_names_of_artifacts(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    render.print_columns(LIST, right=(3, 4), shorten=1)
    printed = capsys.readouterr().out
    assert not columns or max(map(cell_len, printed.splitlines())) <= max(100, int(columns))
    for name, *_ in LIST:
        assert name in printed
    if columns in {"", "400"}:
        assert "…" not in printed
        assert len(printed.splitlines()) == len(LIST)


@pytest.mark.parametrize("text", ["shop_production_2026", "研究論文の引用", "aあbいcうdえe", "x" * 500])
@pytest.mark.parametrize("width", [5, 6, 12, 13])
def test_a_middle_and_a_line_never_exceed_their_width(text: str, width: int) -> None:
    short = render.middle(text, width)
    assert cell_len(short) <= width
    assert short == text or (short[0] == text[0] and short[-1] == text[-1] and "…" in short)
    lines = render.wrapped(f"{text} and {text}", width)
    assert max(map(cell_len, lines)) <= width
    assert "".join(lines).replace(" ", "") == f"{text}and{text}"


def test_a_long_last_column_continues_below_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    render.print_columns([("status", "check", ""), ("OK", "age", "word " * 30 + "end")])
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert second.startswith("OK      age    word")
    assert third.startswith(" " * 15 + "word")
    assert first == "status  check"


@pytest.mark.parametrize("columns", ["80", "100", "129", "130", "200"])
def test_the_list_of_several_long_databases_fits(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    created = datetime(2026, 11, 25, 10, 52, 58, tzinfo=UTC)

    def entry(source: SourceName, name: str, database: str = "") -> Entry:
        details = {"database": database, "system_identifier": "7712237444966459991"} if database else {}
        return Entry(Manifest(source, name, created, 987_654_321, "", 1.0, details=details))

    entries = [
        entry(SourceName.DATABASE, "refnet_20261125_105258.sql.gz", "customer_orders_of_the_shop_in_production_2026"),
        entry(SourceName.DATABASE, "refnet_20261125_105300.sql.gz", "研究論文引用関係管理システム本番環境"),
        entry(SourceName.CONFIG, "config_20261125.tar.gz"),
        entry(SourceName.OBSIDIAN, "vault_20261125.tar.gz"),
    ]  # fmt: skip
    _print_table(entries, created + timedelta(hours=47, minutes=59))

    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= max(100, int(columns))
    assert "…" not in lines[0]
    for one in entries:
        assert any(line.startswith(one.name) for line in lines)
