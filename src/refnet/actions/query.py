"""query and browse: read tables of an artifact in a throwaway scratch server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from refnet.actions.choose import choose_to_read
from refnet.catalog.artifact import OpenArtifact
from refnet.context import Context
from refnet.sources import source_of
from refnet.sources.contents import Query, QueryAnswer
from refnet.sources.database.database_query import checked
from refnet.sources.database.query.copies import Copy


@contextmanager
def query(context: Context, meant: str, asked: Query) -> Iterator[QueryAnswer]:
    """Run a query on the artifact `meant`, see choose_to_read; RefnetError if the server rejects it."""
    checked(asked.query)  # before anything is read
    chosen = choose_to_read(context, meant, asked.at)
    with source_of(context.settings, chosen.source).query(context, chosen, asked) as answer:
        yield answer


@contextmanager
def browse(
    context: Context, meant: str, at: str | None, *, trust: bool = False
) -> Iterator[tuple[OpenArtifact, Copy]]:
    """Load all of the artifact `meant` into a scratch server, which ends with the block."""
    chosen = choose_to_read(context, meant, at)
    with source_of(context.settings, chosen.source).browse(context, chosen, trust=trust) as copy:
        yield chosen, copy
