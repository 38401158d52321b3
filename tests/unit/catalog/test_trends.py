"""Trends: when a disk is full, what is unusual, and what each night did."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from refnet.catalog.monitoring import Status
from refnet.catalog.run import Ended, History, Run, RunKind
from refnet.catalog.trends import Night, free_space, full_in, nights, unusual, watch_trend

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
GIB = 1 << 30


def run(ago: float, free: int | None = None, **more: object) -> Run:
    return Run(
        "a", RunKind.BACKUP, "shop", NOW - timedelta(days=ago, hours=1), Ended.DONE, 60.0, free=free, **more
    )  # type: ignore[arg-type]


def falling(days: int, per_day: int, left: int) -> History:
    return History(tuple(run(ago, left + ago * per_day) for ago in range(days, -1, -1)))


@pytest.mark.parametrize(
    ("history", "left"),
    [
        (falling(10, GIB, 10 * GIB), 9.96),
        (falling(10, GIB, 0), 0),
        (falling(10, -GIB, 20 * GIB), None),
        (falling(10, 0, 20 * GIB), None),
        (falling(10, 1, 20 * GIB), None),
        (falling(1, GIB, 10 * GIB), None),
        (History(), None),
        (History((run(3, 5), run(2), run(1, 4))), None),
        (History((run(0, 5), run(0, 4), run(0, 3))), None),
        (History((*(run(ago, 0) for ago in range(90, 40, -1)), *falling(10, GIB, 10 * GIB).runs)), 9.96),
        (History((*falling(10, GIB, 10 * GIB).runs, run(-400, 0))), 9.96),
    ],
)
def test_a_disk_is_full_when_its_free_space_ends_at_the_mean_rate(
    history: History, left: float | None
) -> None:
    found = full_in(free_space(history), NOW)
    assert (found and round(found / timedelta(days=1), 2)) == left or (found == timedelta() and left == 0)


def test_a_prune_in_between_does_not_hide_that_the_disk_fills() -> None:
    points = [
        (NOW - timedelta(days=ago), (100 - (20 - ago) * 5 + (30 if ago < 10 else 0)) * GIB)
        for ago in range(20, -1, -1)
    ]
    found = full_in(points, NOW)
    assert found
    assert timedelta(days=5) < found < timedelta(days=60)


def test_the_monitor_warns_two_weeks_before_the_disk_is_full() -> None:
    (warning,) = watch_trend(falling(10, GIB, 13 * GIB), NOW)
    assert (warning.status, warning.what) == (Status.WARNING, "disk")
    assert "the disk is full in 12 d" in warning.says
    assert watch_trend(falling(10, GIB, 15 * GIB), NOW) == watch_trend(History(), NOW) == ()


@pytest.mark.parametrize(
    ("values", "usual"),
    [
        ((), None), ((1.0, 1.0, 9.0), None), ((1, 1, 1, 3), 1), ((1, 1, 1, 2), None), ((5, 1, 1, 2, 4), 1.5),
        ((0, 0, 0, 5), None), ((*range(1, 30), 1000), 24.5),
    ],
)  # fmt: skip
def test_a_value_is_unusual_beyond_twice_the_median_before_it(
    values: tuple[float, ...], usual: float | None
) -> None:
    assert unusual(values) == usual


def test_a_night_sums_its_backups_and_what_they_sent() -> None:
    runs = (
        run(1.0, 9, artifact="a", sent={"nas": 3, "s3": 1}),
        run(0.9, 8, artifact="b", sent={"nas": 4}),
        Run("c", RunKind.BACKUP, "vault", NOW, Ended.FAILED, 1.0),
        Run("d", RunKind.DRILL, "vault", NOW, Ended.DONE, 1.0, free=1),
    )
    first, second = nights(History(runs), UTC, 10)
    assert first == Night(date(2026, 11, 30), (), 1, 1.0)
    assert second == Night(date(2026, 11, 29), ("a", "b"), 0, 120.0, {"nas": 7, "s3": 1}, 8)
    assert nights(History(runs), UTC, 1) == (first,)


def test_a_line_of_an_older_journal_has_neither_and_a_new_one_is_read_again() -> None:
    assert "free" not in run(1).to_json()
    assert Run.from_json(run(1).to_json()).free is None
    written = run(1, 7, sent={"nas": 3})
    assert Run.from_json(written.to_json()) == written
    for wrong in ('"free": -1', '"free": "1"', '"sent": []', '"sent": {"nas": -1}', '"sent": {"nas": 1.5}'):
        with pytest.raises(ValueError, match="not "):
            Run.from_json(run(1).to_json().removesuffix("}") + f", {wrong}}}")
