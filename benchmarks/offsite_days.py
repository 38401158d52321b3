"""A part of `./dev bench --offsite`: a database to whose tables each day adds 1 %, and a copy of each day."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from psycopg import sql

from benchmarks.bars import Bar
from benchmarks.measure import FailedError
from benchmarks.ways import Result, together

if TYPE_CHECKING:
    from benchmarks.offsite import Bench

#: The database, of the shape "short", also its home and prefix; and the number of its repository in restic.
NAME, _NUMBER = "days", 1_000
_DAYS, _MOST = 30, 1.5
DAYS = f"refnet backup database --no-prove, with its copy, {_DAYS} days that each add 1 %"
RESTIC_DAYS = f"pg_dump | restic backup --stdin, {_DAYS} such days"
NEWEST = "refnet list database; the size is that of the newest of these artifacts"
#: Rows of the first day have ids below a hundred million.
_ADD = """
INSERT INTO visits SELECT id + {day} * 100000000::bigint, visitor, page, kind, weight, seen FROM visits
WHERE id <= (SELECT count(*) / 100 FROM visits WHERE id < 100000000);
INSERT INTO visitors SELECT id + {day} * 100000000::bigint, md5(name || {day}), city FROM visitors
WHERE id <= (SELECT count(*) / 100 FROM visitors WHERE id < 100000000);
VACUUM (ANALYZE)
"""


def _days(bench: Bench) -> Result:
    """Let the days pass; restic has its turn in each, reported by RESTIC_DAYS."""
    runs = list[Result]()
    if shutil.which("restic"):
        bench.restic.create(_NUMBER)
    for day in range(1, _DAYS + 1):
        with bench.cluster.target(NAME).connect() as connection:
            for statement in _ADD.split(";") if day > 1 else ():
                connection.execute(sql.SQL(statement).format(day=sql.Literal(day)))
        backup = ("backup", "database", "--no-prove")
        runs.append(Result(bench.in_home(NAME).refnet(*backup, database=NAME, home=NAME)))
        if shutil.which("restic"):
            environment = bench.restic.environment(_NUMBER) | bench.cluster.target(NAME).environment()
            dump = bench.pipe([bench.tool("pg_dump")], bench.restic.backup(), environment=environment)
            bench.days.append(Result(dump))
    return together(runs, bench.server.objects(NAME))


def _restic_days(bench: Bench) -> Result:
    if not bench.days:
        raise FailedError("no day passed")
    return together(bench.days, bench.server.objects(f"restic-{_NUMBER}"))


def _newest(bench: Bench) -> Result:
    run = bench.in_home(NAME).refnet("list", "database", database=NAME, home=NAME)
    artifacts = (bench.folder / NAME / "backups" / "database").glob("refnet_*.sql.gz")
    return Result(run, max(artifacts).stat().st_size)


#: Once, in the sampled round.
WAYS: dict[str, Callable[[Bench], Result]] = {DAYS: _days, RESTIC_DAYS: _restic_days, NEWEST: _newest}


def promises() -> tuple[Bar, ...]:
    """Return the promise: what is stored, against one copy and what was added."""
    what = f"{DAYS}, stored, against the newest artifact, which has what was added"
    return (Bar(what, (DAYS, NEWEST), lambda table: table[DAYS].size / table[NEWEST].size, ceiling=_MOST),)
