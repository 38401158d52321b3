"""`refnet database sizes`."""

from __future__ import annotations

from refnet import servers
from refnet.cli import options, render
from refnet.cli.command import Commands
from refnet.cli.context import current_settings, print_json
from refnet.core import formatting
from refnet.servers import ActsOn
from refnet.sources.database.rows.live_catalog import sizes

app = Commands("Inspect the database.")


@app.command("sizes")
def show_sizes(as_json: options.Json = False) -> None:
    """Print the size of the database and of each table."""
    settings = current_settings()
    target, acts_on = servers.existing_server(settings), ActsOn.of(settings)
    total, tables = sizes(target)
    if as_json:
        listed = [table.to_json() for table in tables]
        print_json({"database": target.name, "bytes": total, "tables": listed, **acts_on.to_json()})
        return
    print(acts_on)
    print(f"{target.name}  {formatting.size(total)}")
    rows = [
        (table.name, *map(formatting.size, (table.total, table.data, table.indexes)), f"{table.rows:,}")
        for table in tables
    ]
    if rows:
        render.print_columns(
            [("table", "size", "data", "indexes", "rows, about"), *rows], right=(1, 2, 3, 4), shorten=0
        )
