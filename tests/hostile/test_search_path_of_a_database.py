"""A database's owner sets its search_path: a superuser's sessions in it run none of his look-alikes of the catalogs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg import sql
from tests.command import url_of
from tests.integration.database.library import PREVIOUS, artifact_of, held, library_on, restore

from refnet.actions.recovery_settings import Setup
from refnet.catalog.source_name import SourceName
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.settings import load
from refnet.sources.database import undo_database
from refnet.sources.database.dump.snapshot import clock_warnings
from refnet.sources.database.plan.restore_plan import PlanOptions
from refnet.sources.database.plan.table_plan import TableSelection
from refnet.sources.database.restore import copy_and_swap
from refnet.sources.database.restore.tables_in_place import staged
from refnet.sources.restore_options import Mode

#: What stands in `evil` counts who uses it. The functions cannot be told apart from the catalog's by their call.
_COUNTED = """
CREATE SCHEMA evil; CREATE SEQUENCE evil.ran;
CREATE FUNCTION evil.counted() RETURNS bool LANGUAGE sql AS 'SELECT nextval(''evil.ran'') > 0';
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
    'SELECT pg_catalog.clock_timestamp() WHERE evil.counted()';
CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS
    'SELECT pg_catalog.current_setting($1) WHERE evil.counted()';
"""
_CATALOGS = (
    "pg_class", "pg_namespace", "pg_am", "pg_roles", "pg_settings", "pg_database", "pg_constraint",
    "pg_depend", "pg_index", "pg_sequence", "pg_subscription", "pg_stat_activity", "pg_proc", "pg_type",
)  # fmt: skip


@pytest.fixture
def library(server: Cluster) -> Iterator[Target]:
    with library_on(server) as target:
        name = sql.Identifier(target.name)
        with target.connect() as session:
            session.execute(_COUNTED)
            for catalog in map(sql.Identifier, _CATALOGS):
                session.execute(
                    sql.SQL("CREATE VIEW evil.{} AS SELECT * FROM pg_catalog.{} WHERE evil.counted()").format(
                        catalog, catalog
                    )
                )
            session.execute(
                sql.SQL("ALTER DATABASE {} SET search_path = evil, pg_catalog, public").format(name)
            )
        yield target


def ran(target: Target) -> bool:
    with target.connect(READER_SETTINGS) as session:
        return session.execute("SELECT is_called FROM evil.ran").fetchall()[0][0]  # type: ignore[no-any-return]


def test_a_backup_a_restore_and_an_undo_run_none_of_them(
    library: Target, wheel: Binaries, tmp_path: Path
) -> None:
    dump = held(artifact_of(library, wheel))
    with library.connect(READER_SETTINGS) as session:
        clock_warnings(session, lambda: datetime.now(UTC))
    environment = {"REFNET_HOME": str(tmp_path), "REFNET_DATABASE_URL": url_of(library)}
    setup = Setup(load(environment, tmp_path, root=False, cores=2), "", own=False)
    assert setup.replaced(SourceName.DATABASE)
    copy_and_swap.read_and_decide(library, dump, PlanOptions(2), count=True)
    with staged(library, dump.reader, TableSelection(("papers", "jobs"), Mode.REPLACE)) as work:
        work.apply()
    assert not ran(library)
    done = restore(library, dump, wheel)
    assert not ran(library)
    undo_database.undo(library, PREVIOUS)
    assert not ran(library)
    assert done.previous
