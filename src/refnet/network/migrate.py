"""Migrates a database to this RefNet's schema with Alembic (extra `network`)."""

from dataclasses import dataclass
from typing import Any

import psycopg

from refnet.core.errors import RefnetError
from refnet.core.extras import needed
from refnet.network import REVISIONS, SESSION, VERSION_TABLE, refuse_newer
from refnet.postgres.session import Target

with needed("network"):
    import sqlalchemy
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext

#: The key of the advisory lock that serializes migrations: "refnet" in ASCII.
_LOCK = 0x7265666E6574


@dataclass(frozen=True)
class Migrated:
    """The schema's revision before (None: no schema) and after."""

    before: str | None
    after: str


def migrate(target: Target) -> Migrated:
    """Migrate the database of `target` to the newest revision in one transaction.

    RefnetError if the database rejects the migration, is not in UTF-8, or was migrated by a newer RefNet.
    """
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: _connected(target),
        poolclass=sqlalchemy.pool.NullPool,
    )
    config = Config(attributes={})
    config.set_main_option("script_location", "refnet.network:migrations")
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            before = _revision(connection)
            refuse_newer(target, before)
            if before != REVISIONS[-1]:
                config.attributes["connection"] = connection
                command.upgrade(config, REVISIONS[-1])
    except sqlalchemy.exc.DBAPIError as error:
        raise RefnetError(
            f"the database {target.name} cannot be migrated: {str(error.orig).splitlines()[0]}",
            "Nothing was changed. RefNet needs the right to create tables in the schema public, and its names free.",
        ) from None
    return Migrated(before, REVISIONS[-1])


def _connected(target: Target) -> psycopg.Connection[Any]:
    session = target.connect(SESSION, autocommit=False)
    encoding = session.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        session.close()
        raise RefnetError(
            f"the database {target.name} has the encoding {encoding}, and titles of papers need UTF8",
            "Use another one: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
        )
    return session


def _revision(connection: sqlalchemy.Connection) -> str | None:
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "version_table_schema": "public"}
    )
    return context.get_current_revision()
