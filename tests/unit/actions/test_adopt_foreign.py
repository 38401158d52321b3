"""adopt --source: what is no dump of another program is refused, and its time is when it was made."""

from __future__ import annotations

import gzip
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.documents import ROOT

from refnet.actions.adopt import adopt_foreign, plan_foreign
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings

SHOP = SourceName("main-shop", Kind.DATABASE)
DUMP = "--\n-- PostgreSQL database dump\n--\nSELECT 1;\n--\n-- PostgreSQL database dump complete\n"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A machine with a cluster whose databases no run has seen."""
    main = SourceSettings("main", "clusters", url="postgresql://backup@db/postgres")
    return Context(
        Settings(
            home=tmp_path / "home",
            backup_dir=tmp_path / "backups",
            clusters={"main": main},
            schedule_timezone=ZoneInfo("UTC"),
        )
    )


def refused(context: Context, path: Path, at: str | None = None) -> str:
    with pytest.raises(RefnetError) as error:
        plan_foreign(context, path, SHOP, at)
    assert error.value.code is Exit.USAGE or "regular" in error.value.message
    return f"{error.value.message}. {error.value.hint}"


def test_a_fifo_is_refused_and_not_waited_for(context: Context, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dump_20260101.sql")
    assert "is not a regular file" in refused(context, tmp_path / "dump_20260101.sql")


def test_an_artifact_of_refnet_is_no_dump_of_another_program(context: Context, tmp_path: Path) -> None:
    own = next((ROOT / "tests" / "golden" / "backups").rglob("refnet_*.sql.gz"))
    shutil.copy(own, tmp_path / "dump_20260101.sql.gz")
    assert "is an artifact of RefNet. Adopt it without --source" in refused(
        context, tmp_path / "dump_20260101.sql.gz"
    )


def test_what_was_adopted_is_not_adopted_from_the_backup_folder(context: Context, tmp_path: Path) -> None:
    (tmp_path / "dump_20260101.sql").write_text(DUMP)
    adopted = adopt_foreign(context, plan_foreign(context, tmp_path / "dump_20260101.sql", SHOP, None))
    there = context.local.folder(SHOP) / adopted.chosen.name
    assert "is in the backup folder already" in refused(context, there)


def test_a_time_in_the_future_is_refused(context: Context, tmp_path: Path) -> None:
    (tmp_path / "dump_20990101.sql").write_text(DUMP)
    assert "from its name" in refused(context, tmp_path / "dump_20990101.sql")
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    assert "from --at" in refused(context, tmp_path / "dump_20990101.sql", tomorrow)


def test_a_bare_date_is_its_midnight_so_todays_dump_is_not_in_the_future(
    context: Context, tmp_path: Path
) -> None:
    (tmp_path / "dump.sql").write_text(DUMP)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert plan_foreign(context, tmp_path / "dump.sql", SHOP, f"{today:%Y-%m-%d}").created == today


def test_from_a_server_dump_the_database_named_like_the_source_is_taken(
    context: Context, tmp_path: Path
) -> None:
    (tmp_path / "all_20260101.sql").write_text(
        "--\n-- PostgreSQL database cluster dump\n--\n"
        + "".join(f"\\connect {one}\n{DUMP.replace('1', repr(one))}" for one in ("refnet", "shop"))
    )
    adopted = adopt_foreign(context, plan_foreign(context, tmp_path / "all_20260101.sql", SHOP, None))
    text = gzip.decompress((context.local.folder(SHOP) / adopted.chosen.name).read_bytes())
    assert b"SELECT 'shop'" in text
    assert b"SELECT 'refnet'" not in text
