"""`refnet restore` and `refnet undo`: one command each; the kind of the source decides who does it."""

from __future__ import annotations

from refnet.cli import options, restore_database, restore_files, restore_globals
from refnet.cli.command import spread
from refnet.core.errors import Exit, RefnetError
from refnet.recovery.model.source_name import Kind


@spread
def restore(
    asked: options.RestoreOptions,
    database: restore_database.Restore,
    folder: restore_files.Restore,
    place: options.StoreOptions,
) -> None:
    """Restore a source and keep the previous version.

    Loads a copy beside what is live, compares it with the backup, then swaps the two.
    """
    if asked.source.kind is Kind.DATABASE:
        restore_database.restore(asked, database, place)
    elif asked.source.kind is Kind.GLOBALS:
        restore_globals.restore(asked, place, role_powers=database.role_powers)
    else:
        restore_files.restore(asked, folder, place)


@spread
def undo(asked: options.UndoOptions, database: restore_database.Undo) -> None:
    """Undo the last restore of a source.

    Swaps the previous version and what is live. An undo can be undone.
    """
    if asked.source.kind is Kind.GLOBALS:
        raise RefnetError(
            "a restore of roles replaces nothing, so there is nothing to undo",
            "To remove a role that it created: DROP ROLE.",
            Exit.USAGE,
        )
    if asked.source.kind is Kind.DATABASE:
        restore_database.undo(asked, database)
    else:
        restore_files.undo(asked)
