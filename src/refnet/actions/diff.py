"""diff: compare files or tables of two artifacts, or of an artifact and live data."""

from __future__ import annotations

from dataclasses import replace

from refnet.actions import unprotected
from refnet.actions.choose import choose_to_read
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.sources import source_of
from refnet.sources.contents import LIVE, ArtifactDifference


def diff(context: Context, before: str, after: str) -> ArtifactDifference:
    """Compare two artifacts of one source, or an artifact with LIVE data.

    Args:
        before: a name in the catalog, a path, or a source for its newest artifact; `after` likewise.
    """
    old = choose_to_read(context, before)
    source = source_of(context.settings, old.source)
    if after != LIVE:
        new = choose_to_read(context, after)
        if new.source != old.source:
            raise RefnetError(
                f"{old.name} is of {old.source}, {new.name} of {new.source}",
                "Compare two artifacts of one source.",
                Exit.USAGE,
            )
        return source.differences(context, old, new)
    found = source.live_differences(context, old)
    lacks = unprotected.of_source(context.settings, old.source) if source.has_path else None
    return replace(found, notes=(*found.notes, f"not protected: {lacks}")) if lacks else found
