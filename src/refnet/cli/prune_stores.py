"""The output of `refnet prune` about remote stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from refnet.cli import render
from refnet.core import formatting

if TYPE_CHECKING:
    from refnet.actions.prune_store import StorePlan


def print_stores(plans: list[StorePlan], *, plan: bool) -> None:
    """Print what was deleted in each store, or would be, and what stays although it is due."""
    for one in plans:
        rows = [*_rows(one, plan=plan)]
        if rows:
            render.print_columns(rows)
        verb, keep = ("would delete", "would keep") if plan else ("deleted", "kept")
        count, stays = len(one.deleted) + len(one.cleaned), len(one.decisions) - len(one.deleted)
        copies = f"{formatting.plural(stays, 'copy').replace('copys', 'copies')} in {one.store} ({one.shown})"
        print(f"{verb} {count} ({formatting.size(one.bytes_freed)}), {keep} {copies}")


def _rows(found: StorePlan, *, plan: bool) -> Iterator[tuple[str, str, str]]:
    verb = "would delete" if plan else "deleted"
    locked = {one.name for one in found.locked}
    for one in found.decisions:
        if one.entry.name not in locked and (plan or not one.keep):
            yield "keep" if one.keep else verb, one.entry.name, "; ".join(one.reasons)
    yield from ((verb, one.name, f"leftover: {one.why}") for one in found.cleaned)
    yield from (("locked", one.name, one.why) for one in found.locked)
    yield from (("stays", one.name, f"it {one.why}") for one in found.unlisted)
    if found.others:
        yield "stays", formatting.plural(found.others, "artifact"), "of sources that the settings do not name"
