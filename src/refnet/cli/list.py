"""`refnet list`: the artifacts of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from refnet.actions.list import Kept, StoreListing, listing, not_named, notes
from refnet.actions.list import previous as kept
from refnet.catalog.manifest import Entry
from refnet.catalog.monitoring import watch_gone
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.cli import options, render
from refnet.cli.command import spread
from refnet.cli.context import context, note, print_json
from refnet.cli.output import complain
from refnet.context import Context
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, worst
from refnet.store.local import LocalStore
from refnet.wiring import configured, expanded, gone, hidden, known

#: A terminal with space for both the source and the database.
_WIDE = 130


@spread
def list_artifacts(
    sources: options.Sources = None,
    *,
    tag: Annotated[str | None, typer.Option(metavar="NAME", help="Only artifacts with this tag.")] = None,
    previous: Annotated[
        bool, typer.Option("--previous", help="The databases and folders that restores replaced.")
    ] = False,
    as_json: options.Json = False,
    place: options.StoreOptions,
) -> None:
    """List the artifacts with age, size and state.

    The oldest comes first. The state is how far an artifact is proven.
    """
    here = context(place)
    names = expanded(here.settings, sources) if sources else None
    if previous:
        names = names or tuple(dict.fromkeys((*known(here.settings), *here.store.sources())))
        if tag:
            raise RefnetError("--previous and --tag exclude each other", "Omit one of them.", Exit.USAGE)
        unknown = () if sources else not_named(here, names)
        for name in (one for one in unknown if here.store.entries(one)):
            note(f"{name} is not configured, so its previous versions are not listed")
        _list_previous(kept(here, (name for name in names if name not in unknown)), as_json=as_json)
        return
    found = listing(here, names, tag)
    if as_json:
        print_json(found.to_json())
        return
    if found.entries:
        _print_table(found.entries, found.now)
    elif tag is not None:
        print(f"No artifact in {found.place} has the tag {tag}.")
    else:
        _print_none(here, found, names)
    _print_alarms(here, found)


def _print_none(here: Context, found: StoreListing, names: Sequence[SourceName] | None) -> None:
    """Print that there is no artifact of `names` (None: of any source), and what makes one."""
    if isinstance(found.store, LocalStore) and (wrong := found.store.trouble()):
        print(f"{wrong.message}\n{wrong.hint}")
        return
    of = f" of {', '.join(names)}" if names else ""
    is_local = here.remote is None or here.remote.name == LOCAL
    makes = "`refnet backup` makes one" if is_local else "`refnet copy` sends one"
    there = " that can be chosen" if found.unlisted else ""
    if is_local and (folder := hidden(here.settings)):
        print(f"The artifacts in {folder} are encrypted: `refnet list --store file://{folder}`.")
    else:
        print(f"There is no artifact{of}{there} in {found.place}. {makes}.")


def _print_alarms(here: Context, found: StoreListing) -> None:
    """Print what is wrong with the listed sources and with the store."""
    listed = tuple(dict.fromkeys(entry.source for entry in found.entries))
    lost = (
        {} if configured(here.settings).issuperset(listed) else gone(here.settings)
    )  # that reads the journal
    for name in (one for one in listed if one in lost):
        print(f"alarm: {name}: {watch_gone(name, lost[name]).says}")
    for name in not_named(here, listed):
        print(f"{name}: not configured, so it is not backed up, and its artifacts are never pruned")
    if here.remote:
        _print_lags(here, here.remote.name, listed)
    for one in found.unlisted:
        what = "unreadable" if one.unreadable else "not listed"
        print(f"{what}: {found.path(one)} {formatting.plain(one.why)} ({one.advice})")
    for path in found.bare:
        print(f"not encrypted: {path} (`refnet copy --store local` encrypts it, and removes it there)")
    for gap in found.gaps:
        print(f"alarm: {found.place}: {formatting.plain(gap.why)}")
    if found.gaps:
        where = here.remote.name if here.remote else str(LOCAL)
        print(f"If that was deleted on purpose: `refnet store accept {where}`.")


def _print_lags(here: Context, store: str, listed: Sequence[SourceName]) -> None:
    """Print how far the WAL is that is sent there beside base backups."""
    from refnet.sources import source_of

    for name in (one for one in listed if one in configured(here.settings)):
        for sentence in source_of(here.settings, name).lag_in(here, store):
            print(f"{name}: {sentence}")


def _list_previous(found: Kept, *, as_json: bool) -> None:
    for error in found.unknown:
        complain(error)
    if as_json:
        print_json(found.to_json())
    elif not found.versions and not found.unknown:
        print("There is no previous version: no restore replaced anything, or prune removed it.")
    elif found.versions:
        rows = [("source", "previous version", "of", "since", "size", "prune removes it")]
        for one in found.versions:
            at = found.removed(one)
            when = "at once" if one.half_made else f"from {formatting.local(at)}" if at else ""
            when = f"stays: {one.blocked}" if one.blocked else when
            size = "" if one.size is None else formatting.size(one.size)
            rows.append((one.source, one.what, one.of, formatting.local(one.since), size, when))
        render.print_columns(rows, right=(4,))
    raise typer.Exit(worst(error.code for error in found.unknown))


def _print_table(entries: Sequence[Entry], moment: datetime) -> None:
    rows: list[tuple[str, ...]] = [("name", "source", "created", "age", "size", "state", "notes")]
    rows += [
        (
            entry.name,
            entry.source,
            formatting.local(entry.created),
            formatting.age(moment - entry.made),
            formatting.size(entry.manifest.size),
            f"{entry.state}, but" if entry.gaps else entry.state,
            "; ".join(notes(entry, moment)),
        )
        for entry in entries
    ]
    of = render.databases(entries)
    narrow = render.width() < _WIDE
    if of and narrow:
        column = ["of", *(of.get(entry.name, entry.source) for entry in entries)]
        rows = [(row[0], one, *row[2:]) for row, one in zip(rows, column, strict=True)]
    elif of:
        column = ["database", *(of.get(entry.name, "") for entry in entries)]
        rows = [(*row[:2], one, *row[2:]) for row, one in zip(rows, column, strict=True)]
    if narrow and not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    right = tuple(rows[0].index(name) for name in ("age", "size"))
    render.print_columns(rows, right, shorten=right[0] - 2 if of else None)
