"""`refnet notes`, formerly `refnet network vault`: the network as notes of an Obsidian vault."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from refnet import servers
from refnet.cli import options
from refnet.cli.context import current_settings, print_json, progress
from refnet.cli.output import output
from refnet.core.formatting import plain, plural
from refnet.network import known
from refnet.servers import ActsOn


def notes(
    *,
    stubs: Annotated[
        bool, typer.Option("--stubs", help="Also write notes for papers known only by title.")
    ] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Write the network into the Obsidian vault.

    Each paper gets a note, each seed an index note and a canvas; text written by the reader stays.
    """
    from refnet.network.vault import write_vault

    settings = current_settings()
    target = known(servers.existing_server(settings))
    with progress("vault") as shown:
        done = write_vault(
            target, settings.vault_dir, shown, plan=plan, stubs=stubs, cache=settings.home / "cache"
        )
    acts_on = ActsOn.of(settings)
    if as_json:
        print_json({"vault": str(settings.vault_dir), "plan": plan, **asdict(done)} | acts_on.to_json())
        return
    if output.quiet and not plan:
        return
    would = "would be " if plan else ""
    print(acts_on)
    print(
        f"{settings.vault_dir}: {plural(done.new, 'note')} {would}new, {done.changed:,} {would}changed,"
        f" {done.unchanged:,} unchanged"
    )
    if done.views:
        print(
            f"  index notes, canvases and other files: {plural(len(done.views), 'file')} {would}new or changed"
        )
    for skipped in done.skipped:
        print(f"  skipped: {plain(skipped)}")
    for gone in done.gone:
        print(f"  its paper is not in the database: {plain(gone)}")
