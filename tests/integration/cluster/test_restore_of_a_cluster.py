"""`refnet restore main-cluster … --into DIR`: a data folder that starts, what is refused, and the branches of a fork."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.clusters import SETTINGS, Live, answer, commands, live
from tests.command import Command

from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.files import OPEN_FOLDER, opened
from refnet.core.locks import take
from refnet.postgres.binaries import Binaries
from refnet.postgres.scratch import SETTINGS as SCRATCH
from refnet.settings import load
from refnet.sources import source_of
from refnet.sources.cluster import wal_writer
from refnet.sources.restore_options import AsOf
from refnet.sources.restoring import RestoreRequest
from refnet.wiring import with_clusters

pytestmark = pytest.mark.usefixtures("no_postgres_variables")
_COUNT = "SELECT count(*) FROM orders"
_ORDERS = "CREATE TABLE orders AS SELECT g AS i FROM generate_series(1, 100) g"


@pytest.fixture(scope="module")
def shop(wheel: Binaries, short_folder: Path) -> Iterator[Live]:
    """A full and two increments, a DELETE without WHERE between these, four segments of WAL after them; all has arrived."""
    with live(wheel, short_folder / "into") as found:
        found.sql("CREATE DATABASE shop")
        found.sql(_ORDERS, database="shop")
        found.base()
        found.sql("INSERT INTO orders VALUES (101)", database="shop")
        found.base(increment=True)
        found.sql("INSERT INTO orders VALUES (102)", database="shop")
        found.before = found.now().isoformat()
        found.sql("DELETE FROM orders", database="shop")
        found.base(increment=True)
        for number in range(3):
            found.sql(f"INSERT INTO orders VALUES (20{number})", "SELECT pg_switch_wal()", database="shop")
        found.sql("INSERT INTO orders VALUES (300)", database="shop")
        found.arrived()
        found.end_stream()
        found.names = found.publish()
        yield found


@pytest.fixture
def refnet(short_folder: Path, shop: Live) -> Iterator[Command]:
    """A command with a copy of the backups."""
    with commands(shop.cluster, short_folder) as found:
        shutil.copytree(shop.backups, found.backups)
        yield found


@pytest.fixture
def place(refnet: Command) -> Path:
    """Where a data folder is restored."""
    return refnet.home.parent / "data"


def test_a_server_is_restored_to_the_second_before_a_delete_and_starts(
    refnet: Command, shop: Live, place: Path
) -> None:
    restored = refnet("restore", "main-cluster", "--at", shop.before, "--into", place, "--json")
    assert restored.code == 0, restored.err
    assert restored.json["chain"] == shop.names[:2]
    assert answer(restored.json, place, _COUNT, "shop") == "102"


def test_a_relative_folder_is_one_below_the_working_folder(refnet: Command, shop: Live) -> None:
    place = refnet.home.parent / "relative"
    restored = refnet("restore", "main-cluster", "--latest", "--into", "relative", "--json")
    assert restored.code == 0, restored.err
    assert (restored.json["into"], restored.json["chain"]) == (str(place), shop.names)
    assert f" -D {place} " in restored.json["start"]
    assert answer(restored.json, place, _COUNT, "shop") == "4"


def test_a_flipped_byte_in_a_full_is_damage_and_nothing_is_left(
    refnet: Command, shop: Live, place: Path
) -> None:
    full = refnet.backups / "main-cluster" / shop.names[0]
    data = bytearray(full.read_bytes())
    data[len(data) // 2] ^= 1
    full.write_bytes(data)
    refnet("restore", "main-cluster", "--latest", "--into", place).fails(4, f"{full.name} is damaged")
    assert not place.exists()


def test_without_its_parent_an_increment_is_refused_and_the_full_is_used(
    refnet: Command, shop: Live, place: Path
) -> None:
    full, middle, last = shop.names
    (refnet.backups / "main-cluster" / f"{middle}.json").unlink()
    (refnet.backups / "main-cluster" / middle).unlink()
    planned = refnet("restore", "main-cluster", "--latest", "--into", place, "--plan", "--json")
    assert planned.json["chain"] == [full]
    assert planned.json["notes"] == [
        f"{last} cannot be used: {middle} is missing; an older base backup is used"
    ]
    refnet("restore", "main-cluster", last, "--into", place).fails(4, f"{last} cannot be restored", middle)


def test_a_missing_segment_is_named_and_moments_before_it_are_reached(
    refnet: Command, shop: Live, place: Path
) -> None:
    gone = sorted(shop.archive.in_live())[-3]
    (refnet.backups / "cluster" / shop.archive.folder.name / "live" / gone).unlink()
    refnet("restore", "main-cluster", "--latest", "--into", place).fails(
        1, "WAL is missing or damaged between", gone
    )
    done = refnet("restore", "main-cluster", "--at", shop.before, "--into", place, "--plan", "--json")
    assert done.code == 0, done.err


def test_a_damaged_segment_is_named_and_nothing_is_left(refnet: Command, shop: Live, place: Path) -> None:
    mine = replace(shop.archive, folder=refnet.backups / "cluster" / shop.archive.folder.name)
    wal_writer.take_in(mine, mine.live)
    for file in mine.live.iterdir():
        if not file.name.endswith(".partial"):
            file.unlink()
    path = sorted(mine.folder_of(1).glob("*.gz"))[-2]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refnet("restore", "main-cluster", "--latest", "--into", place).fails(4, f"{path} is damaged")
    assert not place.exists()


def test_moments_outside_of_the_window_and_full_folders_are_refused(refnet: Command, place: Path) -> None:
    whole = ("restore", "main-cluster", "--into", place)
    refnet(*whole, "--at", "2099-01-01T00:00Z").fails(1, "later than what the archive has")
    refnet(*whole, "--lsn", "0/1").fails(1, "no base backup ended before 0/1")
    refnet(*whole, "--lsn", "x").fails(2, "--lsn")
    refnet("restore", "main-cluster", "--latest").fails(2, "--into")
    refnet(*whole).fails(2, "the moment to restore is missing")
    refnet("restore", "main-cluster", "--latest", "--into", refnet.home.parent).fails(
        2, "is not an empty folder"
    )
    refnet("restore", "main-shop", "--latest", "--into", place).fails(2, "--into", "--latest")
    refnet(*whole, "--latest", "--to", place).fails(2, "--to is not for", "--into")
    file, link = refnet.home.parent / "refnet.toml", refnet.home.parent / "link"
    link.symlink_to(refnet.home.parent / "elsewhere")
    for wrong, why in ((file, "is not a folder"), (file / "below", "is not a folder"), (link, "is a link")):
        refnet("restore", "main-cluster", "--latest", "--into", wrong).fails(2, why, "a new folder")


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Australia/Lord_Howe"])
def test_a_moment_without_an_offset_is_local_and_the_target_has_one(
    refnet: Command, shop: Live, place: Path, zone: str
) -> None:
    moment = datetime.fromisoformat(shop.before).astimezone(ZoneInfo(zone))
    asked = ("restore", "main-cluster", "--at", moment.replace(tzinfo=None).isoformat(), "--into", place)
    planned = refnet(*asked, "--plan", "--json", TZ=zone)
    assert planned.code == 0, planned.err
    target = datetime.fromisoformat(planned.json["stops_at"])
    assert target.tzinfo
    assert target == moment
    twice = ("restore", "main-cluster", "--at", "2099-11-01T01:30:00", "--into", place)
    refnet(*twice, TZ="America/New_York").fails(
        2, "occurs twice", "2099-11-01T01:30:00-04:00 or 2099-11-01T01:30:00-05:00"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to another user")
def test_root_gives_away_no_folder_that_another_user_can_move(refnet: Command, place: Path) -> None:
    theirs = place.parent / "theirs"
    (theirs / "data").mkdir(parents=True)
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(theirs, nobody, -1)
    theirs.chmod(0o755)
    for folder in (theirs / "data", theirs / "new" / "data"):
        restored = refnet("restore", "main-cluster", "--latest", "--into", folder)
        restored.fails(2, f"another user could move {folder}")
    assert [one.name for one in theirs.iterdir()] == ["data"]
    assert (theirs / "data").stat().st_uid == 0


def test_no_server_starts_in_a_folder_that_a_killed_restore_left(
    refnet: Command, shop: Live, place: Path
) -> None:
    """Whenever it was killed: with WAL alone, without all, before the recovery, in it, or when it is done and not flushed."""
    for moment in ("pg_wal/0*", "base", "recovery.signal", "backup_label.old", "pg_wal/00000002.history"):
        run = refnet.start("restore", "main-cluster", "--latest", "--into", place)
        run.until(lambda path=moment: any(place.glob(path)))
        run.send(signal.SIGKILL)
        run.end()
        left = replace(shop.cluster, data=place, socket=place)
        settings = place / "postgresql.conf"
        if settings.exists() and "unfinished" in settings.read_text():  # else it was faster than the signal
            with pytest.raises(RefnetError, match=r"did not start: .*postgresql\.conf|is of PostgreSQL None"):
                left.start({"logging_collector": "off"})
        refnet("restore", "main-cluster", "--latest", "--into", place).fails(2, "is not an empty folder")
        shutil.rmtree(place)


def test_a_folder_that_another_restore_fills_is_refused(refnet: Command, place: Path) -> None:
    place.mkdir()
    with opened(place, OPEN_FOLDER) as there:
        assert take(there)
        refnet("restore", "main-cluster", "--latest", "--into", place).fails(5, f"writes into {place}")
    assert [*place.iterdir()] == []


def test_what_came_into_the_folder_after_the_plan_is_neither_replaced_nor_removed(
    refnet: Command, place: Path
) -> None:
    environment = {"REFNET_HOME": str(refnet.home), "REFNET_BACKUP_DIR": str(refnet.backups)}
    context = Context(with_clusters(load(environment, refnet.home.parent, root=True, cores=2)))
    source = source_of(context.settings, SourceName("main-cluster", Kind.CLUSTER))
    newest = context.store.artifact(context.store.entries(source.name)[-1])
    work = source.restoring(context, newest, RestoreRequest(into=str(place), as_of=AsOf(latest=True)))
    work.plan(context)
    place.mkdir()
    (place / "thesis.txt").write_text("mine")
    with pytest.raises(RefnetError, match="is not an empty folder"):
        work.run(context)
    assert (place / "thesis.txt").read_text() == "mine"


def test_after_a_fork_each_moment_is_recovered_on_its_branch(wheel: Binaries, short_folder: Path) -> None:
    """The server is restored to a moment and goes on as timeline 2; then the old branch is asked for."""
    with live(wheel, short_folder / "fork") as shop:
        shop.sql("CREATE DATABASE shop")
        shop.sql(_ORDERS, "INSERT INTO orders VALUES (101)", database="shop")
        shop.base()
        with commands(shop.cluster, short_folder, shop.backups) as refnet:
            _fork(shop, refnet)


def _fork(shop: Live, refnet: Command) -> None:
    early = shop.now().isoformat()
    shop.sql("INSERT INTO orders VALUES (500)", database="shop")
    lost = shop.now().isoformat()
    shop.sql("UPDATE orders SET i = -i", database="shop")
    shop.arrived()
    shop.end_timeline()
    shop.publish()
    place = refnet.home.parent / "data"
    restored = refnet("restore", "main-cluster", "--at", early, "--into", place, "--json")
    assert restored.code == 0, restored.err

    shop.cluster.stop(signal.SIGINT)
    with (place / "pg_hba.conf").open("a") as admitted:
        admitted.write("local replication all trust\n")
    again = replace(shop.cluster, data=place, socket=place)
    again.start({**SCRATCH, **SETTINGS})
    try:
        moved = Live(again, shop.archive, shop.folder)
        moved.sql("SELECT pg_create_physical_replication_slot('stream', true)")
        moved.begin_stream()
        moved.sql("INSERT INTO orders VALUES (600)", database="shop")
        after = moved.now().isoformat()
        moved.sql("INSERT INTO orders VALUES (601)", database="shop")
        moved.arrived()
        moved.end_stream()
    finally:
        again.stop(signal.SIGQUIT)
    assert shop.archive.history(2)

    def orders(moment: str) -> dict[str, object]:
        file = refnet.home.parent / "o.csv"
        done = refnet("at", moment, "--source", "main-shop", "--table", "orders", "--into", file, "--json")
        assert done.code == 0, done.err
        rows = {int(line) for line in file.read_text().splitlines()[1:]}
        file.unlink()
        return {"timeline": done.json["timeline"], "rows": rows & {101, 500, 600, 601}}

    assert orders(lost) == {"timeline": 1, "rows": {101, 500}}
    assert orders(after) == {"timeline": 2, "rows": {101, 600}}
    assert orders("latest") == {"timeline": 2, "rows": {101, 600, 601}}
    assert orders(early) == {"timeline": 1, "rows": {101}}
