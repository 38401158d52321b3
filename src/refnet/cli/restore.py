"""The groups `refnet restore` and `refnet undo`: a command for each source."""

from __future__ import annotations

from refnet.cli import restore_database, restore_files
from refnet.cli.command import Commands
from refnet.recovery.model.artifact import SourceName

restore = Commands("Restore a source and keep the previous version.")
undo = Commands("Undo the last restore of a source.")

restore.command("database")(restore_database.restore)
undo.command("database")(restore_database.undo)
for _source, _name in ((SourceName.CONFIG, "configuration"), (SourceName.OBSIDIAN, "vault")):
    restore.command(
        _source,
        help=f"Restore the {_name}. Unpack beside what is live, compare, swap, keep the previous version.",
    )(restore_files.restore(_source))
    undo.command(
        _source, help=f"Undo the last restore of the {_name}. Swap the previous version and what is live."
    )(restore_files.undo(_source))
