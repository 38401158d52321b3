"""Bars are judged by what was measured, and a way that could not be measured passes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import bars, report, ways
from benchmarks.bars import Measured
from benchmarks.measure import Run
from benchmarks.ways import Result


def timed(*seconds: float, size: int | None = None, load: float | None = None, peak: int = 0) -> Measured:
    results = tuple(Result(Run(one, one, None, ""), size, load) for one in seconds)
    return Measured(results, Result(Run(99.0, 99.0, peak, ""), size, load))


def verdicts(table: dict[str, Measured], kind: str = bars.LONG) -> dict[str, tuple[str, str, str]]:
    return {bar.what: bar.judged(table) for bar in bars.bars(kind)}


TABLE = {
    ways.PLAIN_DUMP: timed(28, 29, 40, size=285),
    ways.DIRECTORY: timed(15.0),
    ways.DIRECTORY_ZSTD: timed(3.2),
    ways.BACKUP: timed(4.0, 3.0, 9.0, size=310, peak=200_000_000),
    ways.BACKUP_PROVEN: timed(29.5, peak=260_000_000),
    ways.PLAIN_RESTORE: timed(20.0),
    ways.DIRECTORY_RESTORE: timed(13.0),
    ways.RESTORE: timed(17.0, load=13.5),
}


def test_ratios_are_of_medians_and_a_miss_is_said() -> None:
    found = verdicts(TABLE)
    assert found["backup --no-prove against pg_dump | gzip"] == ("at least 6 ×", "7.25 ×", "pass")
    assert found["refnet backup --no-prove against pg_dump -Fd -j2 -Z zstd:1"][1:] == ("1.25 ×", "MISS")
    assert found["refnet restore --force against pg_restore -j2"][1:] == ("1.31 ×", "MISS")
    assert found["its artifact's size against pg_dump | gzip"] == ("at most 1.12 ×", "1.09 ×", "pass")
    assert found["backup with its proof against pg_dump | gzip alone"][1:] == ("0.98 ×", "MISS")
    assert found["load alone against zcat | psql"][1:] == ("1.48 ×", "pass")
    assert found["load against pg_restore -j2 of a directory dump"][1:] == ("0.96 ×", "pass")
    assert found["peak memory of RefNet's processes together, rows up to 16 MB"][1:] == ("260.00 MB", "MISS")


def test_what_was_not_measured_is_no_pass() -> None:
    table = TABLE | {ways.BACKUP: Measured(why_not="exit 1")}
    found = verdicts(table)
    assert found["backup --no-prove against pg_dump | gzip"][1:] == ("", f"not measured: {ways.BACKUP}")
    assert verdicts({})["refnet --help"][2] == "not measured: refnet --help"


def test_a_skewed_database_has_bars_of_its_own() -> None:
    table = TABLE | {ways.BACKUP_ONE: timed(5.0)}
    found = verdicts(table, bars.SKEWED)
    assert found["backup, --jobs 2 against --jobs 1"][1:] == ("1.25 ×", "MISS")
    assert found["load against pg_restore -j2 of a directory dump"][1:] == ("0.96 ×", "MISS")


def test_a_database_of_short_rows_has_a_lower_bar_against_gzip() -> None:
    found = verdicts(TABLE, bars.SHORT)
    assert found["backup --no-prove against pg_dump | gzip"] == ("at least 4.9 ×", "7.25 ×", "pass")


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
