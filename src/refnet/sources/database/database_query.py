"""query and browse: read tables of an artifact in a throwaway scratch server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from refnet.catalog.artifact import OpenArtifact
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.walls import advice
from refnet.sources import source_of
from refnet.sources.contents import Query, QueryAnswer, repeated
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact, open_database
from refnet.sources.database.query import copies
from refnet.sources.database.query.answer import Asker, Rows
from refnet.sources.database.query.copies import Copy, Part

#: The most characters of a query; an argument of a command line is shorter in any case.
LONGEST = 100_000


@contextmanager
def query(context: Context, chosen: OpenArtifact, asked: Query) -> Iterator[QueryAnswer]:
    """Run a query on `chosen`; RefnetError if the server rejects it."""
    text = checked(asked.query)
    options = source_of(context.settings, chosen.source).proof_options(context.progress, trust=asked.trust)
    with ExitStack() as stack:
        opened = open_database(chosen)
        part: Part | None = None
        with copies.scratch_failures(chosen.name):
            if isinstance(opened, DatabaseArtifact):
                copy, part = stack.enter_context(copies.partial_copy(opened, options))
            else:
                copy = stack.enter_context(copies.foreign_copy(opened, options))
            path = copies.search_path(opened.index) if isinstance(opened, DatabaseArtifact) else None
            asker = Asker(copy.reader, path, asked.limits)
        stack.callback(asker.close)
        notes = [*doubts(copy)]
        if part:
            with copies.scratch_failures(chosen.name):
                found = copies.load_needed(part, asker, text, asked.limits, everything=asked.everything)
            if found.opaque and not asked.everything:
                notes.append(f"all tables were loaded, as {found.opaque} may read any")
            notes += (f"the artifact has no rows of {'.'.join(key)}" for key in part.unstored(found.of("r")))
        columns = asker.columns(text)
        if asked.as_json and len(set(columns)) < len(columns):
            raise repeated(columns)
        loaded = tuple(sorted(".".join(key) for key in part.loaded)) if part else None
        answer = QueryAnswer(chosen, columns, iter(()), loaded, asker, notes)
        with closing(_rows(answer, asker, part, text, as_json=asked.as_json)) as answer.rows:
            yield answer


def _rows(answer: QueryAnswer, asker: Asker, part: Part | None, text: bytes, *, as_json: bool) -> Rows:
    """Yield the rows; RefnetError at the end if the query read a table that was not loaded."""
    with asker.in_time():
        asker.session.execute("BEGIN READ ONLY")
    yield from asker.rows(text, as_json=as_json)
    if part and not answer.cut and (unread := copies.unloaded(part, asker)):
        names = ", ".join(sorted(".".join(key) for key in unread))
        raise RefnetError(
            f"the answer is wrong: the query has read tables that were not loaded: {names}",
            "Repeat it with --all, which loads every table.",
        )


@contextmanager
def browse(context: Context, chosen: OpenArtifact, *, trust: bool) -> Iterator[Copy]:
    """Load all of `chosen` into a scratch server, which ends with the block."""
    options = source_of(context.settings, chosen.source).proof_options(context.progress, trust=trust)
    opened = open_database(chosen)
    making = (
        partial(copies.complete_copy, opened)
        if isinstance(opened, DatabaseArtifact)
        else partial(copies.foreign_copy, opened)
    )
    with ExitStack() as stack:
        with copies.scratch_failures(chosen.name):
            copy = stack.enter_context(making(options))
        yield copy


def doubts(copy: Copy) -> Iterator[str]:
    """Sentences about differences from a restore, and missing isolation layers."""
    yield from copy.notes
    if missing := copy.cluster.walls.missing:
        yield f"without isolation layers: {', '.join(missing)}. {advice()}"


def checked(query: str) -> bytes:
    """`query` as UTF-8; RefnetError (USAGE) if it is invalid."""
    text = query.strip().rstrip(";").strip()
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise RefnetError("the query is not valid UTF-8", "Write it in UTF-8.", Exit.USAGE) from None
    if not text or len(text) > LONGEST:
        raise RefnetError(
            f"the query has {len(text):,} characters",
            f"Give one of 1 to {LONGEST:,} characters, such as: TABLE papers.",
            Exit.USAGE,
        )
    return data
