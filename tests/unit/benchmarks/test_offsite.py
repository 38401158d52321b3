"""The bench of off-site copies: requests are counted, and a rival that is missing is no pass."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from benchmarks import offsite
from benchmarks.bars import Measured
from benchmarks.measure import Run
from benchmarks.objects import ObjectServer, counted
from benchmarks.rivals import Restic
from benchmarks.ways import Result

METRICS = """# TYPE SeaweedFS_s3_request_total counter
SeaweedFS_s3_request_total{bucket="bench",code="200",type="PUT"} 35
SeaweedFS_s3_request_total{bucket="bench",code="404",type="GET"} 2
SeaweedFS_s3_request_total{bucket="bench",code="206",type="GET"} 1e+02
SeaweedFS_s3_request_seconds_count{bucket="bench",type="GET"} 7
"""


def took(seconds: float, cpu: float = 1.0, pieces: int = 0, **requests: int) -> Measured:
    one = Result(Run(seconds, cpu, 150_000_000, ""), 40 << 20, requests=Counter(requests), pieces=pieces)
    return Measured((one, one), one)


TABLE = {
    offsite.LOCAL: took(10.0),
    offsite.COPIED: took(2.0, pieces=3, PUT=4, LIST=1, GET=6),
    offsite.OFFSITE: took(12.0),
    offsite.UNPROVEN: took(6.0, 3.0),
    offsite.RESTIC: took(10.0, 6.0),
    offsite.PGBACKREST: Measured(why_not="not installed"),
    offsite.FETCH: took(1.0),
    offsite.RESTIC_DUMP: took(1.6),
    offsite.TABLE: took(1.0, pieces=2, GET=4, LIST=1),
    offsite.LIST: took(1.0, pieces=3, LIST=3, GET=2500),
}


def verdicts() -> dict[str, tuple[str, str, str]]:
    return {bar.what: bar.judged(TABLE) for bar in offsite.promises()}


def test_each_bar_is_judged_by_its_ways() -> None:
    found = verdicts()
    assert found[f"{offsite.OFFSITE} against {offsite.LOCAL}"][1:] == ("1.20 ×", "pass")
    assert found[f"{offsite.OFFSITE} against {offsite.RESTIC}"][1:] == ("1.20 ×", "MISS")
    assert found[f"{offsite.UNPROVEN}, CPU of the client against {offsite.RESTIC}"][1:] == ("0.50 ×", "pass")
    assert found[f"{offsite.FETCH} against {offsite.RESTIC_DUMP}"][1:] == ("0.62 ×", "MISS")
    assert found[f"{offsite.OFFSITE} against {offsite.PGBACKREST}"][2].startswith("not measured")


def test_requests_are_counted_besides_the_pieces() -> None:
    found = verdicts()
    copied = found["requests of a copy besides its pieces, without reading it back"]
    assert copied == ("at most 3 requests", "2.00 requests", "pass")
    assert found["requests of the restore of a small table besides its pieces"][1:] == (
        "3.00 requests",
        "MISS",
    )
    pages = [verdict for what, (_, _, verdict) in found.items() if what.startswith("pages of")]
    assert pages == ["pass"]


def test_the_metrics_of_the_server_say_how_many_requests_it_answered() -> None:
    assert counted(METRICS) == Counter(PUT=35, GET=102)
    assert counted("") == Counter()


def test_neither_a_command_nor_a_display_has_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    server = ObjectServer(1, tmp_path / "authority.pem", "id", "secret-half", 2)
    restic = Restic(tmp_path, server)
    assert "secret-half" not in f"{server}{restic}{restic.backup()}{restic.dump()}"
    assert restic.environment(1)["RESTIC_REPOSITORY"] != restic.environment(2)["RESTIC_REPOSITORY"]
