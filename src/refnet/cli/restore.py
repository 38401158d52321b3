"""The groups `refnet restore` and `refnet undo`: a command for each source."""

from __future__ import annotations

import typer

from refnet.cli import restore_database, restore_files

restore = typer.Typer(
    help="Bring a source back; the old one is kept.", no_args_is_help=True, rich_markup_mode=None
)
undo = typer.Typer(help="Undo the last restore of a source.", no_args_is_help=True, rich_markup_mode=None)

restore.command("database")(restore_database.restore)
restore.command("config")(restore_files.restore_config)
restore.command("obsidian")(restore_files.restore_obsidian)
undo.command("database")(restore_database.undo)
undo.command("config")(restore_files.undo_config)
undo.command("obsidian")(restore_files.undo_obsidian)


@restore.callback()
@undo.callback()
def _group() -> None:
    """Hold the commands together, however few there are."""
