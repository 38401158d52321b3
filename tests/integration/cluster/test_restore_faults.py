"""What a restore of a cluster refuses: damage, gaps, moments that nothing reaches; and the branches of a fork."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.clusters import SETTINGS, Live, live
from tests.command import Command, url_of

from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.files import OPEN_FOLDER, opened
from refnet.core.locks import take
from refnet.postgres.binaries import Binaries
from refnet.postgres.scratch import SETTINGS as SCRATCH
from refnet.settings import load
from refnet.sources import source_of
from refnet.sources.restore_options import AsOf
from refnet.sources.restoring import RestoreRequest
from refnet.wiring import with_clusters

pytestmark = pytest.mark.usefixtures("no_postgres_variables")


@pytest.fixture
def shop(wheel: Binaries, short_folder: Path) -> Iterator[Live]:
    """A server with a full and an increment, and commits around them."""
    with live(wheel, short_folder / "faults") as found:
        found.sql("CREATE DATABASE shop")
        found.sql("CREATE TABLE orders AS SELECT g AS i FROM generate_series(1, 100) g", database="shop")
        found.base()
        found.sql("INSERT INTO orders VALUES (101)", database="shop")
        found.base(increment=True)
        yield found


@pytest.fixture
def refnet(short_folder: Path, shop: Live) -> Iterator[Command]:
    place = Path(tempfile.mkdtemp(prefix="new-", dir=short_folder))
    place.chmod(0o711)
    (place / "refnet.toml").write_text(
        f'[clusters.main]\nurl = "{url_of(shop.cluster.target())}"\nwal = true\n'
        f'[postgres]\nbin_dir = "{shop.cluster.binaries.folder}"\n'
    )
    (place / "refnet.toml").chmod(0o600)
    yield Command(place / "home", shop.archive.folder.parent.parent, "")
    shutil.rmtree(place, ignore_errors=True)


def folder(shop: Live) -> Path:
    """Where the base backups are published."""
    return shop.archive.folder.parent.parent / "main-cluster"


def test_a_flipped_byte_in_a_full_is_damage_and_nothing_is_left(refnet: Command, shop: Live) -> None:
    shop.arrived()
    full, _ = shop.publish("main-cluster")
    data = bytearray((folder(shop) / full).read_bytes())
    data[len(data) // 2] ^= 1
    (folder(shop) / full).write_bytes(data)
    place = refnet.home.parent / "data"
    refnet("restore", "main-cluster", "--latest", "--into", place).fails(4, f"{full} is damaged")
    assert not place.exists()


def test_without_its_parent_an_increment_is_refused_and_the_full_is_used(refnet: Command, shop: Live) -> None:
    later = shop.base(increment=True)
    shop.arrived()
    full, middle, last = shop.publish("main-cluster")
    (folder(shop) / f"{middle}.json").unlink()
    (folder(shop) / middle).unlink()
    place = refnet.home.parent / "data"
    planned = refnet("restore", "main-cluster", "--latest", "--into", place, "--plan", "--json")
    assert planned.json["chain"] == [full]
    assert planned.json["notes"] == [
        f"{last} cannot be used: {middle} is missing; an older base backup is used"
    ]
    refnet("restore", "main-cluster", last, "--into", place).fails(4, f"{last} cannot be restored", middle)
    assert later.facts.parent


def test_a_missing_segment_is_named_and_moments_before_it_are_reached(refnet: Command, shop: Live) -> None:
    before = shop.now().isoformat()
    for number in range(3):
        shop.sql(f"INSERT INTO orders VALUES (20{number})", database="shop")
        shop.sql("SELECT pg_switch_wal()")
    shop.sql("INSERT INTO orders VALUES (300)", database="shop")
    shop.arrived()
    shop.publish("main-cluster")
    gone = sorted(shop.archive.in_live())[-3]
    (shop.archive.live / gone).unlink()
    place = refnet.home.parent / "data"
    refnet("restore", "main-cluster", "--latest", "--into", place).fails(1, "WAL is missing between", gone)
    done = refnet("restore", "main-cluster", "--at", before, "--into", place, "--json")
    assert done.code == 0, done.err


def test_moments_outside_of_the_window_and_full_folders_are_refused(refnet: Command, shop: Live) -> None:
    shop.arrived()
    shop.publish("main-cluster")
    place = refnet.home.parent / "data"
    refnet("restore", "main-cluster", "--at", "2099-01-01T00:00Z", "--into", place).fails(
        1, "later than what the archive has"
    )
    refnet("restore", "main-cluster", "--lsn", "0/1", "--into", place).fails(
        1, "no base backup ended before 0/1"
    )
    refnet("restore", "main-cluster", "--lsn", "x", "--into", place).fails(2, "--lsn")
    refnet("restore", "main-cluster", "--latest").fails(2, "--into")
    refnet("restore", "main-cluster", "--into", place).fails(2, "the moment to restore is missing")
    refnet("restore", "main-cluster", "--latest", "--into", refnet.home.parent).fails(
        2, "is not an empty folder"
    )
    refnet("restore", "main-shop", "--latest", "--into", place).fails(2, "--into", "--latest")


def test_after_a_fork_each_moment_is_recovered_on_its_branch(refnet: Command, shop: Live) -> None:
    """The server is restored to a moment and goes on as timeline 2; then the old branch is asked for."""
    early = shop.now().isoformat()
    shop.sql("INSERT INTO orders VALUES (500)", database="shop")
    lost = shop.now().isoformat()
    shop.sql("UPDATE orders SET i = -i", database="shop")
    shop.arrived()
    shop.end_timeline()
    shop.publish("main-cluster")
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

    def orders(*moment: str) -> dict[str, object]:
        done = refnet(
            "at",
            *moment,
            "--source",
            "main-shop",
            "--table",
            "orders",
            "--into",
            refnet.home.parent / "o.csv",
            "--json",
        )
        assert done.code == 0, done.err
        rows = {int(line) for line in (refnet.home.parent / "o.csv").read_text().splitlines()[1:]}
        (refnet.home.parent / "o.csv").unlink()
        return {"timeline": done.json["timeline"], "rows": rows & {101, 500, 600, 601}}

    assert orders(lost) == {"timeline": 1, "rows": {101, 500}}
    assert orders(after) == {"timeline": 2, "rows": {101, 600}}
    assert orders("latest") == {"timeline": 2, "rows": {101, 600, 601}}
    assert orders(early) == {"timeline": 1, "rows": {101}}


def test_no_server_starts_in_a_folder_that_a_killed_restore_left(refnet: Command, shop: Live) -> None:
    """Whenever it was killed: before the WAL is there, or while the recovery has not begun."""
    shop.arrived()
    shop.publish("main-cluster")
    place = refnet.home.parent / "data"
    for moment in ("base", "pg_wal/0*", "recovery.signal"):
        run = refnet.start("restore", "main-cluster", "--latest", "--into", place)
        run.until(lambda path=moment: any(place.glob(path)))
        run.send(signal.SIGKILL)
        run.end()
        left = replace(shop.cluster, data=place, socket=place)
        if (place / "backup_label").exists():  # else it was faster than the signal
            with pytest.raises(RefnetError, match="did not start"):
                left.start({"logging_collector": "off"})
        refnet("restore", "main-cluster", "--latest", "--into", place).fails(2, "is not an empty folder")
        shutil.rmtree(place)


def test_a_folder_that_another_restore_fills_is_refused(refnet: Command, shop: Live) -> None:
    shop.arrived()
    shop.publish("main-cluster")
    place = refnet.home.parent / "data"
    place.mkdir()
    with opened(place, OPEN_FOLDER) as there:
        assert take(there)
        refnet("restore", "main-cluster", "--latest", "--into", place).fails(5, f"writes into {place}")
    assert [*place.iterdir()] == []


def test_what_came_into_the_folder_after_the_plan_is_neither_replaced_nor_removed(
    refnet: Command, shop: Live
) -> None:
    shop.arrived()
    shop.publish("main-cluster")
    place = refnet.home.parent / "data"
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
