from __future__ import annotations

from pathlib import Path

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.session import Target


def test_a_scratch_server_is_gone_with_all_its_data_at_the_end(wheel: Binaries, short_folder: Path) -> None:
    with scratch(wheel, base=short_folder / "gone") as cluster:
        with cluster.target().connect() as session:
            assert session.execute("SHOW fsync").fetchone() == ("off",)
            assert session.execute("SHOW listen_addresses").fetchone() == ("",)
        assert cluster.is_running()
    assert not cluster.is_running()
    assert not cluster.data.parent.exists()


def test_each_test_gets_an_empty_database_of_its_own(database: Target) -> None:
    with database.connect() as session:
        assert session.execute("SELECT current_database()").fetchone() == (database.name,)
        assert session.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchone() == (0,)


def test_the_systems_own_server_serves_as_well(system_server: Cluster) -> None:
    with system_server.target().connect() as session:
        assert session.info.server_version // 10000 == system_server.binaries.major
