"""The bench of copies of folders: what is sent and asked is counted, and a rival that is missing is no pass."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from benchmarks import offsite_files, offsite_run, ways
from benchmarks.bars import Measured
from benchmarks.measure import FailedError, Run
from benchmarks.objects import ObjectServer, received
from benchmarks.offsite_files import Bench
from benchmarks.rivals import Borg, Restic
from benchmarks.ways import Result

METRICS = """# TYPE SeaweedFS_s3_bucket_traffic_received_bytes_total counter
SeaweedFS_s3_bucket_traffic_received_bytes_total{bucket="bench"} 1.5e+03
SeaweedFS_s3_bucket_traffic_received_bytes_total{bucket="other"} 20
SeaweedFS_s3_bucket_traffic_sent_bytes_total{bucket="bench"} 7
"""


def took(seconds: float, stored: int = 100, sent: int = 0, gone: int = 0, **requests: int) -> Measured:
    one = Result(Run(seconds, 1.0, 150_000_000, ""), stored, None, Counter(requests), gone, sent)
    return Measured((one,), one)


TABLE = {
    **{way: took(1.0) for way in offsite_files.WAYS},
    offsite_files.FIRST: took(5.0, 105),
    offsite_files.RESTIC: took(10.0),
    offsite_files.BORG: Measured(why_not="not installed"),
    offsite_files.AGAIN: took(1.0, sent=19_000, LIST=3, PUT=3, GET=40),
    offsite_files.CHANGED: took(1.0, sent=1_500),
    offsite_files.RESTIC_CHANGED: took(1.0, sent=1_000),
    offsite_files.PRUNE: took(1.0, gone=10, DELETE=10, LIST=12, GET=9),
}


def verdicts() -> dict[str, tuple[str, str, str]]:
    return {bar.what: bar.judged(TABLE) for bar in offsite_files.promises()}


def test_each_bar_is_judged_by_its_ways() -> None:
    found, first, again = verdicts(), offsite_files.FIRST, offsite_files.AGAIN
    assert found[f"{first} against {offsite_files.RESTIC}"][1:] == ("0.50 ×", "pass")
    assert found[f"{first}, stored, against {offsite_files.RESTIC}"][1:] == ("1.05 ×", "pass")
    assert found[f"{first} against {offsite_files.BORG}"][2] == f"not measured: {offsite_files.BORG}"
    assert found[f"{again}, sent"] == ("at most 20 KB", "19.00 KB", "pass")
    changed = f"{offsite_files.CHANGED}, sent, against {offsite_files.RESTIC_CHANGED}"
    assert found[changed][1:] == ("1.50 ×", "pass")


def test_what_is_read_back_is_counted_apart() -> None:
    found = verdicts()
    besides = found[f"{offsite_files.AGAIN}, requests besides GET"]
    assert besides == ("at most 5 requests", "6.00 requests", "MISS")
    for_each = found[f"{offsite_files.PRUNE}, requests for each object that goes"]
    assert for_each[1:] == ("3.10 requests", "MISS")


def test_a_row_has_the_requests_without_get_and_then_those() -> None:
    row = offsite_run.row(TABLE[offsite_files.AGAIN])
    assert row[-4:] == ("19 KB", "3 LIST, 3 PUT", "40", "")
    missing = offsite_run.row(Measured(why_not="not installed"))
    assert len(missing) == len(row)
    assert missing[0] == "not measured: not installed"


def test_several_nights_are_one_sum() -> None:
    nights = [
        Result(Run(1.0, 0.5, 10, ""), requests=Counter(PUT=2), sent=5),
        Result(Run(2.0, 0.5, 30, ""), requests=Counter(PUT=1, GET=1), sent=7),
    ]
    found = ways.together(nights, {"one": 40, "two": 2})
    assert (found.run.seconds, found.run.cpu, found.run.peak) == (3.0, 1.0, 30)
    assert (found.size, found.sent, found.requests) == (42, 12, Counter(PUT=3, GET=1))


def test_the_metrics_of_the_server_say_how_many_bytes_it_received() -> None:
    assert received(METRICS) == 1_520
    assert received("") == 0


def test_a_night_changes_some_notes_and_no_photograph(tmp_path: Path) -> None:
    bench = bench_in(tmp_path)
    files = [bench.vault / "notes" / f"{number}.md" for number in range(200)]
    files.append(bench.vault / "photographs" / "one.jpg")
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("same\n")
    bench.change()
    assert sum(path.read_text() != "same\n" for path in files) == 94
    assert files[-1].read_text() == "same\n"


def test_no_program_is_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FailedError, match="not installed"):
        Borg(tmp_path / "borg").create()
    with pytest.raises(FailedError, match="not installed"):
        bench_in(tmp_path).resticked("backup")


def test_the_settings_of_a_round_are_its_own(tmp_path: Path) -> None:
    bench = bench_in(tmp_path)
    assert bench.prefix != bench_in(tmp_path, 2).prefix
    assert bench.copying.home != bench_in(tmp_path, 2).copying.home
    assert "secret-half" not in bench.server.settings("cloud", bench.prefix, tmp_path / "s3.toml")


def bench_in(folder: Path, number: int = 1) -> Bench:
    server = ObjectServer(1, folder / "authority.pem", "id", "secret-half", 2)
    random = Random(1)
    return Bench(folder=folder, number=number, server=server, rival=Restic(folder, server), random=random)
