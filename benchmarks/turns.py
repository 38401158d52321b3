"""Run all ways of a measurement in turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from benchmarks.bars import Measured
from benchmarks.measure import FailedError
from benchmarks.ways import Result


class _Bench(Protocol):
    @property
    def sample(self) -> bool: ...


_AnyBench = TypeVar("_AnyBench", bound=_Bench)


def take_turns(
    ways: Mapping[str, Callable[[_AnyBench], Result]],
    runs: int,
    at: Callable[[int], _AnyBench],
    skips: Callable[[str, int], bool] = lambda _way, _number: False,
) -> dict[str, Measured]:
    """Run one sampled round, which also warms up, then `runs` timed ones; a way that failed is not run again.

    Args:
        at: the number of a round → its bench; round 0 samples.
        skips: whether a way is left out of the round with a number.
    """
    table: dict[str, Measured] = {}
    for number in range(runs + 1):
        bench = at(number)
        for name, way in ways.items():
            known = table.get(name, Measured())
            if not skips(name, number) and not known.why_not:
                table[name] = _run(bench, name, way, known)
    return table


def _run(bench: _AnyBench, name: str, way: Callable[[_AnyBench], Result], known: Measured) -> Measured:
    try:
        result = way(bench)
    except FailedError as error:
        say(f"{name}: {error}")
        return replace(known, why_not=str(error))
    say(f"{name}: {result.run.seconds:.2f} s{' (sampled)' if bench.sample else ''}")
    return replace(known, sampled=result) if bench.sample else replace(known, timed=(*known.timed, result))


def say(text: str) -> None:
    """Print what is going on, on stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
