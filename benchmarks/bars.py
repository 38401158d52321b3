"""RefNet's promises as ratios of measurements of one run, each passed or missed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks import ways
from benchmarks.shapes import LONG, SHORT, SKEWED, TABLES
from benchmarks.ways import Result

MEMORY_BYTES = 150_000_000
#: How much faster a dump is than pg_dump | gzip, by shape.
_AGAINST_GZIP = {LONG: 6, SHORT: 4.9}
MEMORY = "peak memory of RefNet's processes together"


@dataclass(frozen=True)
class Measured:
    """The measurements of one way. `why_not`: the reason why there are none, or ""."""

    timed: tuple[Result, ...] = ()
    sampled: Result | None = None
    why_not: str = ""

    @property
    def runs(self) -> tuple[Result, ...]:
        """The timed runs, or else the sampled one."""
        return self.timed or ((self.sampled,) if self.sampled else ())

    @property
    def seconds(self) -> float:
        """The median of the runs."""
        return median(result.run.seconds for result in self.runs)

    @property
    def cpu(self) -> float:
        """The median CPU seconds of the runs."""
        return median(result.run.cpu for result in self.runs)

    @property
    def phase(self) -> float:
        """The median of the seconds of the phase that the way reports; 0 if it reports none."""
        return median(result.phase or 0.0 for result in self.runs)

    @property
    def size(self) -> int:
        return next(result.size for result in (self.sampled, *self.timed) if result and result.size)

    @property
    def peak(self) -> int:
        return (self.sampled.run.peak or 0) if self.sampled else 0

    @property
    def beside(self) -> int:
        return (self.sampled.run.beside or 0) if self.sampled else 0


Table = Mapping[str, Measured]


@dataclass(frozen=True)
class Bar:
    """`value` of a table must be at least `floor` or at most `ceiling`; `needs`: the ways that it is computed from."""

    what: str
    needs: tuple[str, ...]
    value: Callable[[Table], float]
    floor: float = float("-inf")
    ceiling: float = float("inf")
    unit: str = "×"

    def judged(self, table: Table) -> tuple[str, str, str]:
        """Return the promise, the measurement, and pass or miss, as text."""
        limit = f"at least {self.floor:g}" if self.ceiling == float("inf") else f"at most {self.ceiling:g}"
        missing = [way for way in self.needs if way not in table or table[way].why_not]
        if missing:
            return f"{limit} {self.unit}", "", f"not measured: {', '.join(missing)}"
        value = self.value(table)
        verdict = "pass" if self.floor <= value <= self.ceiling else "MISS"
        return f"{limit} {self.unit}", f"{value:.2f} {self.unit}", verdict

    def distance(self, table: Table) -> float:
        """Return how far the measurement is from the bar, as a ratio: above 1 it is missed."""
        value = self.value(table)
        if self.ceiling == float("inf"):
            return self.floor / max(value, 1e-9)
        return value / self.ceiling if self.ceiling else value


def at_most(one: str, other: str, ceiling: float) -> Bar:
    """Return the promise that `one` takes at most `ceiling` times as long as `other`."""
    return Bar(
        f"{one} against {other}",
        (one, other),
        lambda table: table[one].seconds / table[other].seconds,
        ceiling=ceiling,
    )


def _proof(table: Table) -> float:
    return table[ways.BACKUP_PROVEN].phase / table[ways.DIRECTORY_RESTORE].seconds


def _faster(one: str, other: str) -> Callable[[Table], float]:
    return lambda table: table[other].seconds / table[one].seconds


def _load(table: Table) -> float:
    return table[ways.DIRECTORY_RESTORE].seconds / table[ways.RESTORE].phase


def _size(table: Table) -> float:
    return table[ways.BACKUP].size / table[ways.PLAIN_DUMP].size


def _peak(table: Table) -> float:
    return max(table[way].peak for way in (ways.BACKUP, ways.BACKUP_PROVEN, ways.RESTORE)) / 1e6


def start() -> tuple[Bar, ...]:
    """Return the promises for commands that do nothing."""
    return (
        Bar(ways.HELP, (ways.HELP,), lambda table: table[ways.HELP].cpu, ceiling=0.12, unit="CPU s"),
        Bar(ways.LIST, (ways.LIST,), lambda table: table[ways.LIST].cpu, ceiling=0.2, unit="CPU s"),
        Bar(ways.PLAN, (ways.PLAN,), lambda table: table[ways.PLAN].cpu, ceiling=0.2, unit="CPU s"),
    )


def bars(shape: str) -> tuple[Bar, ...]:
    """Return the promises for a database of `shape`."""
    backup, proven, restore = ways.BACKUP, ways.BACKUP_PROVEN, ways.RESTORE
    plain, peer = ways.PLAIN_DUMP, ways.DIRECTORY_RESTORE
    return (
        at_most(backup, ways.DIRECTORY_ZSTD, 1.3 if shape == TABLES else 1.15),
        Bar(f"proof against {peer}", (proven, peer), _proof, ceiling=0.9),
        at_most(restore, peer, 1.0),
        *(
            []
            if shape == TABLES
            else [Bar(f"{plain} against {proven}", (proven, plain), _faster(proven, plain), floor=1.3)]
        ),
        Bar(
            f"{peer} against the load of a restore",
            (restore, peer),
            _load,
            floor=1.0 if shape == SKEWED else 0.95,
        ),
        *(
            [Bar(f"{plain} against {backup}", (backup, plain), _faster(backup, plain), _AGAINST_GZIP[shape])]
            if shape in _AGAINST_GZIP
            else []
        ),
        *(
            [
                Bar(
                    "--jobs 1 against --jobs 2",
                    (backup, ways.BACKUP_ONE),
                    _faster(backup, ways.BACKUP_ONE),
                    1.3,
                )
            ]
            if shape == SKEWED
            else []
        ),
        Bar(f"size of the artifact against {plain}", (backup, plain), _size, ceiling=1.12),
        *([at_most(ways.TABLE_RESTORE, restore, 0.1), *start()] if shape == LONG else []),
        Bar(MEMORY, (backup, proven, restore), _peak, ceiling=MEMORY_BYTES / 1e6, unit="MB"),
        Bar(
            f"{ways.STOCK_RESTORE} exits 0, same content",
            (ways.STOCK_RESTORE,),
            lambda table: 0 if table[ways.STOCK_RESTORE].sampled else 1,
            ceiling=0,
            unit="differences",
        ),
    )
