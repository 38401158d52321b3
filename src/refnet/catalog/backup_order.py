"""Backup order of sources: files after the databases that refer to them."""

from __future__ import annotations

from collections.abc import Sequence

from refnet.catalog.source_name import DATABASES, FOLDERS, SourceName


def in_groups(names: Sequence[SourceName], order: Sequence[str]) -> list[tuple[SourceName, ...]]:
    """Split `names` into groups. A group is backed up in parallel, and one group after another.

    order: names of sources, `databases`, `folders`; unlisted sources come last, databases before folders.
    """
    entries = [*dict.fromkeys((*order, DATABASES, FOLDERS))]
    found = [
        tuple(one for one in names if one == entry or (one not in entries and one.kind.row.group == entry))
        for entry in entries
    ]
    return [group for group in found if group]
