"""Bars are judged by what was measured, and a way that could not be measured passes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from benchmarks import bars, report, ways
from benchmarks.bars import Measured
from benchmarks.measure import Run
from benchmarks.shapes import LONG, SHORT, SKEWED, TABLES
from benchmarks.ways import Result


def timed(*seconds: float, size: int | None = None, phase: float | None = None, peak: int = 0) -> Measured:
    results = tuple(Result(Run(one, one, None, ""), size, phase) for one in seconds)
    return Measured(results, Result(Run(99.0, 99.0, peak, ""), size, phase))


def verdicts(table: dict[str, Measured], shape: str = LONG) -> dict[str, tuple[str, str, str]]:
    return {bar.what: bar.judged(table) for bar in bars.bars(shape)}


TABLE = {
    ways.PLAIN_DUMP: timed(28, 29, 40, size=285),
    ways.DIRECTORY_ZSTD: timed(3.2),
    ways.BACKUP: timed(4.0, 3.0, 9.0, size=310, peak=200_000_000),
    ways.BACKUP_PROVEN: timed(29.5, phase=13.0, peak=260_000_000),
    ways.DIRECTORY_RESTORE: timed(13.0),
    ways.RESTORE: timed(17.0, phase=13.5),
}


def test_ratios_are_of_medians_and_a_miss_is_said() -> None:
    found = verdicts(TABLE)
    assert found["pg_dump | gzip against refnet backup --no-prove"] == ("at least 6 ×", "7.25 ×", "pass")
    assert found["refnet backup --no-prove against pg_dump -Fd -j2 -Z zstd:1"][1:] == ("1.25 ×", "MISS")
    assert found["proof against pg_restore -j2"] == ("at most 0.9 ×", "1.00 ×", "MISS")
    assert found["refnet restore --force against pg_restore -j2"][1:] == ("1.31 ×", "MISS")
    assert found["size of the artifact against pg_dump | gzip"] == ("at most 1.12 ×", "1.09 ×", "pass")
    assert found["pg_dump | gzip against refnet backup (with its proof)"][1:] == ("0.98 ×", "MISS")
    assert found["pg_restore -j2 against the load of a restore"][1:] == ("0.96 ×", "pass")
    assert found[bars.MEMORY][1:] == ("260.00 MB", "MISS")


def test_what_was_not_measured_is_no_pass() -> None:
    table = TABLE | {ways.BACKUP: Measured(why_not="exit 1")}
    found = verdicts(table)
    assert found["pg_dump | gzip against refnet backup --no-prove"][1:] == (
        "",
        f"not measured: {ways.BACKUP}",
    )
    assert verdicts({})["refnet --help"][2] == "not measured: refnet --help"


def test_some_shapes_have_bars_of_their_own() -> None:
    skewed = verdicts(TABLE | {ways.BACKUP_ONE: timed(5.0)}, SKEWED)
    assert skewed["--jobs 1 against --jobs 2"][1:] == ("1.25 ×", "MISS")
    assert skewed["pg_restore -j2 against the load of a restore"][1:] == ("0.96 ×", "MISS")
    assert verdicts(TABLE, SHORT)["pg_dump | gzip against refnet backup --no-prove"][0] == "at least 4.9 ×"
    assert "pg_dump | gzip against refnet backup (with its proof)" not in verdicts(TABLE, TABLES)


@pytest.fixture
def worst(capsys: pytest.CaptureFixture[str]) -> Callable[[Mapping[str, bars.Table]], str]:
    def printed(tables: Mapping[str, bars.Table]) -> str:
        report.worst("database", argparse.Namespace(scale=1, write=False), bars.bars, tables)
        return capsys.readouterr().out

    return printed


def test_the_summary_has_the_worst_shape_of_each_promise(
    worst: Callable[[Mapping[str, bars.Table]], str],
) -> None:
    text = worst({LONG: TABLE, SHORT: TABLE | {ways.RESTORE: timed(26.0, phase=13.0)}})
    assert "| refnet restore --force against pg_restore -j2 | short | at most 1 × | 2.00 × | MISS |" in text
    assert "| pg_restore -j2 against the load of a restore | long | at least 0.95 × | 0.96 × | pass |" in text


def test_a_shape_that_could_not_be_measured_is_the_worst(
    worst: Callable[[Mapping[str, bars.Table]], str],
) -> None:
    text = worst({LONG: TABLE, SHORT: {}})
    assert "| proof against pg_restore -j2 | short | at most 0.9 × |  | not measured: refnet backup" in text


def test_kept_results_replace_only_those_of_the_same_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")
    report.keep("## Scale 1\n\nold\n", "Scale 1")
    report.keep("## Scale 4\n\nfour\n", "Scale 4")
    report.keep("## Scale 1\n\nnew\n", "Scale 1")
    text = report.RESULTS.read_text()
    assert text.startswith("# Measurements\n")
    assert text.endswith("\n## Scale 1\n\nnew\n\n## Scale 4\n\nfour\n")
    assert "old" not in text


def test_two_scales_of_a_shape_are_compared_by_their_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")
    for scale, dump, proof in (("0.2", 1.9, 1.0), ("1", 1.0, 0.8), ("8", 1.1, 1.0)):
        rows = (
            ("pg_dump | gzip against X", "at most 1 ×", f"{dump:.2f} ×", "MISS"),
            ("proof against Y", "at most 1 ×", f"{proof:.2f} ×", "pass"),
            ("peak memory", "at most 150 MB", "90.00 MB", "pass"),
        )
        report.keep(
            f"## Scale {scale}, long\n\n{report.markdown(('what', 'bar', 'measured', ''), rows)}\n",
            f"Scale {scale}, long",
        )
    _, _, table = report.RESULTS.read_text().partition("## Ratios at two scales\n\n")
    assert [line.split(" | ")[2:] for line in table.splitlines()[2:4]] == [
        ["1, 8", "1.00 ×, 1.10 ×", "pass, +10 % |"],
        ["1, 8", "0.80 ×, 1.00 ×", "MISS, +25 % |"],
    ]
    assert r"pg_dump \| gzip against X" in table
