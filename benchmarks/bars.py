"""RefNet's promises as ratios of measurements of one run, each passed or missed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks import ways
from benchmarks.ways import Result

MEMORY_BYTES = 150_000_000
#: The kinds of databases: long text, one table with 90 % of the bytes, many short rows.
LONG, SKEWED, SHORT = "", "skewed", "short rows"


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
    def load(self) -> float:
        """The median of the load phases; 0 if the way reports none."""
        return median(result.load or 0.0 for result in self.runs)

    @property
    def size(self) -> int:
        return next(result.size for result in (self.sampled, *self.timed) if result and result.size)

    @property
    def peak(self) -> int:
        return (self.sampled.run.peak or 0) if self.sampled else 0


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


def _faster(one: str, other: str) -> Callable[[Table], float]:
    return lambda table: table[other].seconds / table[one].seconds


def at_most(one: str, other: str, ceiling: float) -> Bar:
    """Return the promise that `one` takes at most `ceiling` times as long as `other`."""
    return Bar(
        f"{one} against {other}",
        (one, other),
        lambda table: table[one].seconds / table[other].seconds,
        ceiling=ceiling,
    )


def _load_faster(other: str) -> Callable[[Table], float]:
    return lambda table: table[other].seconds / table[ways.RESTORE].load


def _size(table: Table) -> float:
    return table[ways.BACKUP].size / table[ways.PLAIN_DUMP].size


def _peak(table: Table) -> float:
    return max(table[way].peak for way in (ways.BACKUP, ways.BACKUP_PROVEN, ways.RESTORE)) / 1e6


def _start() -> tuple[Bar, ...]:
    """Return the promises for commands that do nothing."""
    return (
        Bar(ways.HELP, (ways.HELP,), lambda table: table[ways.HELP].seconds, ceiling=0.1, unit="s"),
        Bar(ways.LIST, (ways.LIST,), lambda table: table[ways.LIST].seconds, ceiling=0.25, unit="s"),
        Bar(
            f"{ways.LIST}, CPU seconds",
            (ways.LIST,),
            lambda table: table[ways.LIST].cpu,
            ceiling=0.2,
            unit="s",
        ),
    )


def bars(kind: str) -> tuple[Bar, ...]:
    """Return the promises for a database of `kind`."""
    backup, proven, restore = ways.BACKUP, ways.BACKUP_PROVEN, ways.RESTORE
    plain, directory = ways.PLAIN_DUMP, ways.DIRECTORY
    memory = Bar(
        "peak memory of RefNet's processes together, rows up to 16 MB",
        (backup, proven, restore),
        _peak,
        ceiling=MEMORY_BYTES / 1e6,
        unit="MB",
    )
    load = Bar(
        f"load against {ways.DIRECTORY_RESTORE} of a directory dump",
        (restore, ways.DIRECTORY_RESTORE),
        _load_faster(ways.DIRECTORY_RESTORE),
        floor=1.0 if kind == SKEWED else 0.95,
    )
    if kind == SKEWED:
        one = Bar(
            "backup, --jobs 2 against --jobs 1",
            (backup, ways.BACKUP_ONE),
            _faster(backup, ways.BACKUP_ONE),
            1.3,
        )
        return (load, one, memory)
    return (
        Bar(
            f"backup --no-prove against {plain}",
            (backup, plain),
            _faster(backup, plain),
            4.9 if kind == SHORT else 6,
        ),
        at_most(backup, ways.DIRECTORY_ZSTD, 1.15),
        Bar(f"its artifact's size against {plain}", (backup, plain), _size, ceiling=1.12),
        Bar(f"backup --no-prove against {directory}", (backup, directory), _faster(backup, directory), 3.5),
        Bar(f"backup with its proof against {plain} alone", (proven, plain), _faster(proven, plain), 1.1),
        at_most(restore, ways.DIRECTORY_RESTORE, 1.0),
        Bar(
            f"restore (load, ANALYZE, compare, swap) against {ways.PLAIN_RESTORE}",
            (restore, ways.PLAIN_RESTORE),
            _faster(restore, ways.PLAIN_RESTORE),
            1.15,
        ),
        Bar(
            f"load alone against {ways.PLAIN_RESTORE}",
            (restore, ways.PLAIN_RESTORE),
            _load_faster(ways.PLAIN_RESTORE),
            1.4,
        ),
        load,
        *([] if kind == SHORT else [at_most(ways.TABLE_RESTORE, restore, 0.1)]),
        memory,
        *_start(),
        Bar(
            f"{ways.STOCK_RESTORE} exits 0, same content",
            (ways.STOCK_RESTORE,),
            lambda table: 0 if table[ways.STOCK_RESTORE].sampled else 1,
            ceiling=0,
            unit="differences",
        ),
    )
