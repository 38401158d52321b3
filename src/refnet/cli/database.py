"""`refnet database sizes`."""

from __future__ import annotations

from typing import Annotated

import typer

from refnet.cli.context import current_settings, print_json

app = typer.Typer(help="Look at the database.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Hold the commands together, however few there are."""


@app.command("sizes")
def show_sizes(as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False) -> None:
    """Show how much room the database and each table take."""
    from refnet.cli import acting, formatting
    from refnet.recovery.sources.database.rows.sizes import sizes

    settings = current_settings()
    target = acting.server(settings)
    whole, tables = sizes(target)
    if as_json:
        listed = [
            {
                "name": one.name,
                "bytes": one.total,
                "data_bytes": one.data,
                "index_bytes": one.indexes,
                "rows_about": one.rows,
            }
            for one in tables
        ]
        print_json({"database": target.name, "bytes": whole, "tables": listed, **acting.values(settings)})
        return
    print(acting.line(settings))
    print(f"{target.name}  {formatting.size(whole)}")
    rows = [
        (
            one.name,
            formatting.size(one.total),
            formatting.size(one.data),
            formatting.size(one.indexes),
            f"{one.rows:,}",
        )
        for one in tables
    ]
    if rows:
        formatting.print_columns(
            [("table", "size", "data", "indexes", "rows, about"), *rows], right=(1, 2, 3, 4)
        )
