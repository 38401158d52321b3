"""`refnet at`: a database as of any second, in a scratch server."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from refnet.actions.any_second import DatabaseAsOf, database_as_of
from refnet.catalog.recovery_target import shown
from refnet.catalog.source_name import SourceName
from refnet.cli import options, render
from refnet.cli.command import spread
from refnet.cli.completion import source_name
from refnet.cli.context import context, print_json, with_progress
from refnet.cli.output import say
from refnet.cli.query import run_psql
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain, plural, size
from refnet.sources.database.query.copies import ScratchCopy
from refnet.sources.restore_options import AsOf


@spread
def at(
    moment: Annotated[
        str,
        typer.Argument(
            metavar="TIME",
            help="An ISO date-time; local unless it has an offset. `latest`: all that arrived.",
        ),
    ],
    *,
    source: Annotated[
        SourceName,
        typer.Option("--source", metavar="SOURCE", help="The database.", **source_name(members=True)),
    ],
    table: Annotated[
        str | None, typer.Option(metavar="T", help="Write this table to the file of --into.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A new file: SQL, or CSV if its name ends with .csv."),
    ] = None,
    psql: Annotated[bool, typer.Option("--psql", help="Open psql on the database.")] = False,
    timeline: options.Timeline = None,
    as_json: options.Json = False,
    place: options.StoreOptions,
) -> None:
    """Recover a database as of any second, in a scratch server.

    Prints its tables, writes one of them to a file, or opens psql. The server ends with the command; nothing live is
    touched.
    """
    _check(table, into, psql=psql, as_json=as_json)
    asked = AsOf(latest=True, timeline=timeline) if moment == "latest" else AsOf(moment, timeline=timeline)
    with ExitStack() as stack:
        with with_progress(context(place, key=True), "recovery") as here:
            found = stack.enter_context(database_as_of(here, source, asked))
            chosen = found.table(table) if table else None
            if chosen and into:
                found.write(chosen, into)
        if psql:
            _say_reached(found)
            if code := run_psql(ScratchCopy(found.found.cluster, found.reader)):
                raise RefnetError(f"psql ended with {code}", "See its messages above.")
        elif as_json:
            tables = [{"schema": one.schema, "name": one.name, "bytes": one.bytes} for one in found.tables]
            print_json(found.to_json() | ({"file": str(into)} if into else {"tables": tables}))
        elif chosen:
            _say_reached(found)
            say(f"{plain(chosen.schema)}.{plain(chosen.name)} is in {into}")
        else:
            _say_reached(found)
            _print_tables(found)


def _check(table: str | None, into: Path | None, *, psql: bool, as_json: bool) -> None:
    """RefnetError (USAGE) for options that do not fit together."""
    if bool(table) is not bool(into):
        raise RefnetError("--table and --into go together", "Give both, or neither.", Exit.USAGE)
    if psql and (table or as_json):
        raise RefnetError("--psql excludes --table and --json", "Omit one of them.", Exit.USAGE)
    if into and os.path.lexists(into):
        raise RefnetError(f"{into} exists", "Give the path of a new file; nothing is replaced.", Exit.USAGE)
    if into and not into.parent.is_dir():
        raise RefnetError(
            f"--into: there is no folder {into.parent}", "Create it, or give another path.", Exit.USAGE
        )


def _say_reached(found: DatabaseAsOf) -> None:
    commit = found.found.reached.commit
    last = f"; the last commit before it is of {shown(commit)}" if commit else ""
    say(
        f"{found.name} as of {found.recovery.plan.stops}, from {found.recovery.plan.base.name} and WAL{last}",
        flush=True,
    )


def _print_tables(found: DatabaseAsOf) -> None:
    tables = found.tables
    rows = [("table", "size"), *((plain(f"{one.schema}.{one.name}"), size(one.bytes)) for one in tables)]
    render.print_columns(rows, (1,), 0)
    say(plural(len(tables), "table"))
