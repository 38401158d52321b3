"""`refnet database sizes`."""

from __future__ import annotations

import typer

from refnet import servers
from refnet.cli import acting, options, render
from refnet.cli.context import current_settings, print_json
from refnet.recovery.model import formatting
from refnet.recovery.sources.database.rows.sizes import sizes

app = typer.Typer(help="Inspect the database.", no_args_is_help=True)


@app.command("sizes")
def show_sizes(as_json: options.Json = False) -> None:
    """Print the size of the database and of each table."""
    settings = current_settings()
    target = servers.existing_server(settings)
    total, tables = sizes(target)
    if as_json:
        listed = [
            {
                "name": table.name,
                "bytes": table.total,
                "data_bytes": table.data,
                "index_bytes": table.indexes,
                "rows_about": table.rows,
            }
            for table in tables
        ]
        print_json({"database": target.name, "bytes": total, "tables": listed, **acting.values(settings)})
        return
    print(acting.line(settings))
    print(f"{target.name}  {formatting.size(total)}")
    rows = [
        (table.name, *map(formatting.size, (table.total, table.data, table.indexes)), f"{table.rows:,}")
        for table in tables
    ]
    if rows:
        render.print_columns([("table", "size", "data", "indexes", "rows, about"), *rows], right=(1, 2, 3, 4))
