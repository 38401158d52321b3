"""The citation network: its schema, and the commands that fill it."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from refnet.core.errors import RefnetError
from refnet.postgres.session import Target

#: Alembic's table of applied migrations, in the schema `public`. Its name differs from Alembic's default, so that
#: another program's database is never taken for RefNet's.
VERSION_TABLE = "refnet_migrations"

#: The revisions of the schema, oldest first; a test compares them with migrations/.
REVISIONS = ("0001", "0002", "0003", "0004", "0005")

#: Session settings: unqualified names mean `public`, whatever the role or the database sets.
#: Read committed: a writer that waited for another one sees what that one committed.
SESSION = {
    "search_path": "public",
    "client_min_messages": "warning",
    "default_transaction_isolation": "read committed",
}

#: The model of summaries that are sentences of the abstract.
EXTRACT_MODEL = "refnet-extract"

#: SQL: whether the paper `p` is known only as an end of a citation.
STUB = "(p.details_fetched_at IS NULL AND p.provenance <> 'cora')"


def known(target: Target) -> Target:
    """Return `target`; RefnetError if a newer RefNet has migrated its schema. A database without a network passes."""
    with target.connect(SESSION) as connection:
        if connection.execute("SELECT to_regclass(%s)", [VERSION_TABLE]).fetchone() != (None,):
            row = connection.execute(f"SELECT max(version_num) FROM {VERSION_TABLE}").fetchone()  # noqa: S608
            refuse_newer(target, row[0] if row else None)
    return target


def refuse_newer(target: Target, revision: str | None) -> None:
    """RefnetError if this RefNet does not know `revision` of the schema of `target`; None: there is no schema."""
    if revision not in {None, *REVISIONS}:
        raise RefnetError(
            f"the database {target.name} has the schema {revision}, which this version of RefNet does not support",
            "A newer version migrated it: upgrade RefNet.",
        )


@contextmanager
def server_errors(target: Target, what: str, hint: str) -> Iterator[None]:
    """Raise the server's errors in the block (no tables, permissions, a full disk) as RefnetErrors."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        raise RefnetError(
            f"the database {target.name} has no citation network, or one of an older version of RefNet",
            "Collect papers: `refnet crawl ID`. To create only the tables: `refnet network migrate`.",
        ) from None
    except psycopg.Error as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RefnetError(f"the database {target.name} {what}: {lines[0]}", hint) from None
