"""Backup order of sources: files after the databases that refer to them."""

from __future__ import annotations

from collections.abc import Sequence

from refnet.catalog.source_name import Kind, SourceName

#: The words of the setting for all sources of a kind that no other entry names.
DATABASES, FOLDERS = "databases", "folders"


def in_groups(names: Sequence[SourceName], order: Sequence[str]) -> list[tuple[SourceName, ...]]:
    """Split `names` into groups. A group is backed up in parallel, and one group after another.

    order: names of sources, `databases`, `folders`; unlisted sources come last, databases before folders.
    """
    words = {one: FOLDERS if one.kind is Kind.FOLDER else DATABASES for one in names}
    entries = [*dict.fromkeys((*order, DATABASES, FOLDERS))]
    found = [
        tuple(one for one in names if one == entry or (one not in entries and words[one] == entry))
        for entry in entries
    ]
    return [group for group in found if group]
