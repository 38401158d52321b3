"""The citation network: its schema, and what fills it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from refnet.errors import RefnetError
from refnet.postgres.session import Target

#: In the schema `public`: which migrations a database carries. A name of its own, so that a database of
#: somebody else's that Alembic looks after is never taken for RefNet's.
VERSION_TABLE = "refnet_migrations"

#: A session of the network's: unqualified names mean `public`, whatever the role or the database says.
SESSION = {"search_path": "public", "client_min_messages": "warning"}

#: Called with what is being filled, the bytes that are done, and those that there are (None: not known).
Progress = Callable[[str, int, int | None], None]


def silent(_step: str, _done: int, _total: int | None) -> None:
    """Progress that nobody watches."""


@contextmanager
def refusals_told(target: Target) -> Iterator[None]:
    """What the server refuses within the block (a right, a full disk, its own end), as a RefnetError."""
    try:
        yield
    except psycopg.Error as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise RefnetError(
            f"the database {target.name} does not take the rows: {said[0]}",
            "Nothing was imported. Mend that, and run it again.",
        ) from None
