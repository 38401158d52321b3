"""`refnet check` about WAL: what keeps it from being received is named with its remedy."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.wal_server import Receiving, WalServer, wal_server

from refnet.core.errors import RefnetError
from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries
from refnet.settings import Settings, load
from refnet.sources.check_result import CheckLine, CheckState
from refnet.sources.cluster.wal_check import wal_checks


@pytest.fixture(scope="module")
def server(wheel: Binaries, short_folder: Path) -> Iterator[WalServer]:
    with wal_server(wheel, short_folder / "checked") as found:
        yield found


@pytest.fixture
def receiving(server: WalServer, short_home: Path, tmp_path: Path) -> Receiving:
    return Receiving.of(server, short_home, tmp_path / "backups")


def lines(receiving: Receiving, **more: str) -> list[CheckLine]:
    return [*wal_checks(settings(receiving, **more), "main")]


def settings(receiving: Receiving, **more: str) -> Settings:
    named = {
        "REFNET_HOME": str(receiving.refnet.home),
        "REFNET_BACKUP_DIR": str(receiving.refnet.backups),
        **more,
    }
    return load(named, receiving.refnet.home, root=False, cores=2)


def hints(found: list[CheckLine], state: CheckState) -> str:
    return "\n".join(f"{one.says} -> {one.hint}" for one in found if one.state is state)


def test_a_server_as_installed_is_warned_of_and_each_line_has_its_remedy(receiving: Receiving) -> None:
    found = lines(receiving)
    assert hints(found, CheckState.ERROR) == ""
    warned = hints(found, CheckState.WARNING)
    assert "ALTER SYSTEM SET max_slot_wal_keep_size" in warned
    assert "ALTER SYSTEM SET summarize_wal = on" in warned
    assert "refnet schedule install" in warned
    said = hints(found, CheckState.OK)
    assert "accepts replication connections of replica" in said
    assert "synchronous_standby_names = 'refnet_main'" in said
    assert "the excluded ones too, and the verifiers of all passwords" in said


def test_a_running_receiver_and_its_slot_are_said(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        said = hints(lines(receiving), CheckState.OK)
    assert "a receiver runs" in said
    assert "the slot refnet_main is reserved" in said


def test_the_space_that_tablespaces_take_in_the_home_is_said(
    receiving: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "tablespace" not in hints(lines(receiving), CheckState.OK)
    fast = receiving.server.data.with_name("fast")
    fast.mkdir()
    account().own(fast)
    receiving.server.sql(f"CREATE TABLESPACE fast LOCATION '{fast}'")
    try:
        said = hints(lines(receiving), CheckState.OK)
        # The databases of a new server have 20 to 40 MiB.
        scratch = re.escape(str(receiving.refnet.home / "scratch"))
        assert re.search(rf"1 tablespace: .* it takes [2-4]\d\.\d MiB in {scratch}; .* are free", said)
        usage = shutil.disk_usage(receiving.refnet.home)
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1 << 20))
        warned = hints(lines(receiving), CheckState.WARNING)
    finally:
        receiving.server.sql("DROP TABLESPACE fast")
    assert "; 1.0 MiB are free -> Free space, or set REFNET_HOME" in warned


def test_a_line_that_pg_hba_lacks_is_printed(receiving: Receiving) -> None:
    hba = receiving.server.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all all trust\n")
    receiving.server.sql("SELECT pg_reload_conf()")
    try:
        wrong = hints(lines(receiving), CheckState.ERROR)
    finally:
        hba.write_text(before)
        receiving.server.sql("SELECT pg_reload_conf()")
    assert "refuses a replication connection of replica" in wrong
    assert "local  replication  replica" in wrong


def test_a_role_that_may_not_replicate_is_told_to(receiving: Receiving) -> None:
    receiving.server.sql("ALTER ROLE replica NOREPLICATION")
    try:
        wrong = hints(lines(receiving), CheckState.ERROR)
    finally:
        receiving.server.sql("ALTER ROLE replica REPLICATION")
    assert "ALTER ROLE replica REPLICATION;" in wrong


def test_wal_that_stays_in_the_home_with_encryption_local_is_said(receiving: Receiving) -> None:
    key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    found = lines(receiving, REFNET_ENCRYPTION_LOCAL="true", REFNET_ENCRYPTION_RECIPIENTS=key)
    assert "is not encrypted" in hints(found, CheckState.WARNING)


def test_a_server_that_does_not_answer_is_one_error(receiving: Receiving) -> None:
    file = receiving.refnet.home / "refnet.toml"
    file.write_text('[clusters.main]\nurl = "postgresql://replica@/postgres?host=/nowhere"\nwal = true\n')
    with pytest.raises(RefnetError, match="no PostgreSQL server answers"):
        lines(receiving)
