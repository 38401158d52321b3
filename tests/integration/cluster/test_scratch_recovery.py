"""A cluster, recovered to a moment in a scratch server."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from tests.clusters import Live, live

from refnet.catalog.recovery_target import Wanted, at_end_of, decide
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.proof_run import ProofOptions
from refnet.sources.cluster import scratch_recovery, wal_writer
from refnet.sources.cluster.recovery_facts import Recovery, archived
from refnet.sources.cluster.scratch_recovery import Recovered, recovered
from refnet.sources.cluster.wal_archive import WalArchive

_OF_DATABASES = "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase <> 0 AND setrole = 0"


@pytest.fixture(scope="module")
def shop(wheel: Binaries, short_folder: Path) -> Iterator[Live]:
    """A server with a full, an increment, and commits before, between and after them."""
    with live(wheel, short_folder / "recovered") as found:
        found.sql(
            "CREATE DATABASE shop",
            "CREATE ROLE owner SUPERUSER LOGIN",
            "CREATE ROLE clerk LOGIN PASSWORD 'x'",
        )
        found.sql("CREATE TABLE orders (i int PRIMARY KEY)", *inserts(0, 10), database="shop")
        found.base()
        found.sql(*inserts(10, 20), database="shop")
        found.base(increment=True)
        found.sql(*inserts(20, 30), database="shop")
        yield found


def inserts(first: int, end: int) -> list[str]:
    return [f"INSERT INTO orders VALUES ({number})" for number in range(first, end)]


def options(live: Live, folder: Path) -> ProofOptions:
    return ProofOptions(folder, lambda *_major, **_server: live.cluster.binaries, 2, memory_bound=0)


@contextmanager
def recovery(
    live: Live, wanted: Wanted, folder: Path, covered: datetime | None = None
) -> Iterator[Recovered]:
    plan = decide(wanted, archived(live.archive, covered), live.candidates)
    with recovered(Recovery(live.archive, plan, live.chain(plan.base.name)), options(live, folder)) as found:
        yield found


def orders(found: Recovered) -> int:
    with found.cluster.target("shop").connect() as session:
        ((count,),) = session.execute("SELECT count(*) FROM orders").fetchall()
    assert isinstance(count, int)
    return count


def test_a_table_is_recovered_as_it_was_before_a_delete_without_where(shop: Live, short_home: Path) -> None:
    before = shop.now()
    shop.sql("DELETE FROM orders", database="shop")
    shop.sql("INSERT INTO orders VALUES (1000)", database="shop")
    shop.arrived()
    with recovery(shop, Wanted(time=before), short_home) as found:
        assert orders(found) == 30
    with recovery(shop, Wanted(), short_home) as found:
        assert orders(found) == 1


def test_a_base_backup_is_recovered_to_its_own_end(shop: Live, short_home: Path) -> None:
    for base, count in zip(shop.candidates, (10, 20), strict=True):
        plan = at_end_of(base, archived(shop.archive, None))
        with recovered(
            Recovery(shop.archive, plan, shop.chain(base.name)), options(shop, short_home)
        ) as found:
            assert orders(found) == count


def test_times_are_exact_to_the_commit(shop: Live, short_home: Path) -> None:
    for number in (2000, 2001, 2002):
        shop.sql(f"INSERT INTO orders VALUES ({number})", database="shop")
    moments = [
        datetime.fromisoformat(str(text))
        for (text,) in shop.sql(
            "SELECT pg_xact_commit_timestamp(xmin)::text FROM orders WHERE i >= 2000 ORDER BY i",
            database="shop",
        )
    ]
    shop.arrived()
    with (
        recovery(shop, Wanted(time=moments[1]), short_home) as found,
        found.cluster.target("shop").connect() as session,
    ):
        there = session.execute("SELECT i FROM orders WHERE i >= 2000 ORDER BY i").fetchall()
        assert there == [(2000,), (2001,)]
        assert found.reached.commit == moments[1]


def to_its_end(live: Live) -> Recovery:
    """A recovery of the full to its own end."""
    plan = at_end_of(live.candidates[0], archived(live.archive, None))
    return Recovery(live.archive, plan, live.chain(plan.base.name))


def test_a_damaged_base_ends_the_wal_beside_it(
    shop: Live, short_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many segments no more are read than are under way."""
    whole, given = to_its_end(shop), list[str]()
    begun, failed = threading.Event(), threading.Event()

    def provide(_archive: WalArchive, names: Sequence[str], folder: Path) -> None:
        given.extend(names)
        begun.set()
        assert failed.wait(30)
        for name in names:
            (folder / name).touch()

    def cut_short() -> BinaryIO:
        assert begun.wait(30)
        return io.BytesIO(b"no archive")

    class Over(threading.Event):
        def set(self) -> None:
            super().set()
            failed.set()

    monkeypatch.setattr(WalArchive, "provide", provide)
    monkeypatch.setattr(scratch_recovery, "threading", SimpleNamespace(Event=Over))
    many = replace(whole.plan, segments=tuple(f"{number:024X}" for number in range(100)))
    damaged = replace(whole, plan=many, chain=[whole.chain[0]._replace(open=cut_short)])
    with pytest.raises(RefnetError, match="is damaged"), recovered(damaged, options(shop, short_home)):
        pass
    assert 0 < len(given) < 100


def test_a_damaged_segment_ends_the_unpacking_beside_it(
    shop: Live, short_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def provide(_archive: WalArchive, _names: Sequence[str], _folder: Path) -> None:
        ended.set()
        raise RefnetError("a segment is damaged", "Choose another moment.", Exit.DAMAGED)

    whole, opened = to_its_end(shop), list[str]()

    def waiting() -> BinaryIO:
        opened.append("base")
        assert ended.wait(30)
        return whole.chain[0].open()

    monkeypatch.setattr(WalArchive, "provide", provide)
    piece = whole.chain[0]._replace(open=waiting)
    damaged = replace(whole, chain=[piece, piece, piece])
    with (
        pytest.raises(RefnetError, match="a segment is damaged"),
        recovered(damaged, options(shop, short_home)),
    ):
        pass
    assert opened == ["base"]


def test_a_disk_without_room_for_base_and_wal_together_is_said_before_anything_is_written(
    shop: Live, short_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = to_its_end(shop)
    wal = len(whole.plan.segments) * shop.archive.segment_size
    need = wal + whole.chain[0].facts.raw_bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=need - 1))
    monkeypatch.setattr(WalArchive, "provide", None)
    with (
        pytest.raises(RefnetError, match=r"with its WAL needs at least"),
        recovered(whole, options(shop, short_home)),
    ):
        pass


@contextmanager
def forged(live: Live, change: Callable[[list[dict[str, Any]]], object]) -> Iterator[None]:
    """The index of timeline 1 as `change` leaves its lines, oldest first, while the block runs."""
    index = live.archive.folder_of(1) / "index.jsonl"
    before = index.read_text()
    lines = [json.loads(line) for line in before.splitlines()]
    change(lines)
    index.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    try:
        yield
    finally:
        index.write_text(before)


def test_an_index_that_hides_a_later_commit_is_found_out(shop: Live, short_home: Path) -> None:
    moment = shop.now()
    for number in (2500, 2501):
        shop.sql(f"INSERT INTO orders VALUES ({number})", "SELECT pg_switch_wal()", database="shop")
    shop.sql("SELECT pg_log_standby_snapshot()", "SELECT pg_switch_wal()")
    shop.arrived()
    wal_writer.take_in(shop.archive, shop.archive.live)
    early = (moment - timedelta(hours=1)).isoformat()

    def hide(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["last_commit"] = early

    with (
        forged(shop, hide),
        pytest.raises(RefnetError, match="has a commit later than") as caught,
        recovery(shop, Wanted(time=moment), short_home, shop.now()),
    ):
        pass
    assert caught.value.code is Exit.DAMAGED
    with (
        recovery(shop, Wanted(time=moment), short_home, shop.now()) as found,
        found.cluster.target("shop").connect() as session,
    ):
        assert session.execute("SELECT i FROM orders WHERE i IN (2500, 2501)").fetchall() == []


def test_an_index_that_claims_later_commits_does_not_widen_what_can_be_recovered(shop: Live) -> None:
    shop.arrived()
    wal_writer.take_in(shop.archive, shop.archive.live)
    there = shop.archive.last_commit()
    with forged(shop, lambda lines: lines[-1].update(last_commit="2098-01-01T00:00:00+00:00")):
        assert shop.archive.last_commit() == there
        with pytest.raises(RefnetError, match="later than what the archive has"):
            decide(
                Wanted(time=datetime(2097, 1, 1, tzinfo=UTC)), archived(shop.archive, None), shop.candidates
            )


def test_random_moments_have_exactly_the_commits_up_to_them(shop: Live, short_home: Path) -> None:
    """By the server's own record of its commits; `TARGETS=100` tries a hundred moments."""
    for number in range(3000, 3200):
        shop.sql(f"INSERT INTO orders VALUES ({number})", database="shop")
    shop.arrived()
    times = "SELECT i, pg_xact_commit_timestamp(xmin) FROM orders WHERE i >= 3000 ORDER BY 2"
    commits = [
        (number, time) for number, time in shop.sql(times, database="shop") if isinstance(time, datetime)
    ]
    chance = random.Random(24)
    for _ in range(int(os.environ.get("TARGETS", "2"))):
        _, time = chance.choice(commits[:-1])
        moment = time + timedelta(microseconds=chance.randint(-1, 1))
        with (
            recovery(shop, Wanted(time=moment), short_home) as found,
            found.cluster.target("shop").connect() as session,
        ):
            there = session.execute("SELECT i FROM orders WHERE i >= 3000 ORDER BY i").fetchall()
        assert [number for (number,) in there] == sorted(one for one, at in commits if at <= moment), moment


def test_nothing_of_the_configuration_of_a_base_is_run(shop: Live, short_home: Path) -> None:
    """Neither its files, nor the settings of databases and roles, nor event triggers; and its superusers log in nowhere."""
    shop.sql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'ran'; END $$",
        "CREATE EVENT TRIGGER on_login ON login EXECUTE FUNCTION refuse()",
        database="shop",
    )
    shop.sql(
        "ALTER DATABASE shop SET session_preload_libraries = 'does_not_exist'",
        "ALTER DATABASE postgres SET search_path = 'elsewhere'",
        "ALTER ROLE ALL SET work_mem = '7MB'",
        "ALTER SYSTEM SET restore_command = 'touch /tmp/ran'",
        "ALTER SYSTEM SET archive_command = 'touch /tmp/ran'",
    )
    reset = (
        "ALTER ROLE ALL RESET ALL",
        "ALTER DATABASE shop RESET ALL",
        "ALTER DATABASE postgres RESET ALL",
        "ALTER SYSTEM RESET ALL",
    )
    try:
        base = shop.base()
        shop.arrived()
    finally:
        shop.sql(*reset)
        shop.sql("DROP EVENT TRIGGER on_login", database="shop")
    plan = at_end_of(
        next(one for one in shop.candidates if one.name == base.name), archived(shop.archive, None)
    )
    with recovered(Recovery(shop.archive, plan, [base]), options(shop, short_home)) as found:
        with found.cluster.target("shop").connect() as session:
            assert session.execute("SHOW session_preload_libraries").fetchone() == ("",)
            assert session.execute("SHOW archive_mode").fetchone() == ("off",)
            assert session.execute("SHOW work_mem").fetchone() == ("4MB",)
            assert session.execute(_OF_DATABASES).fetchone() == (0,)
        for role in ("owner", "refnet", "clerk"):
            with pytest.raises(RefnetError, match=r"pg_hba"):
                found.cluster.target("shop", role).connect()
        assert found.cluster.walls.missing == ()
