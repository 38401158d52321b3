"""`refnet diff`: what differs between two artifacts, or an artifact and what is live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli.context import current_settings, print_json, progress
from refnet.errors import Exit, RefnetError

if TYPE_CHECKING:
    from refnet.recovery.verbs.choose import Chosen
    from refnet.recovery.verbs.diff import Difference
    from refnet.settings import Settings

#: How many of each kind are shown.
_SHOWN = 50


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A listed name, a path; a source: its newest.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The same; or live.")] = "live",
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON, all of it.")] = False,
) -> None:
    """Show which notes, configuration files or tables differ between A and B. Exit 4 where some do."""
    from refnet.cli import acting
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.verbs import diff as verb

    settings, told = current_settings(), dict[str, Any]()
    old = _chosen(settings, before)
    if after == verb.LIVE:
        found = _live(settings, old)
        if old.source is SourceName.DATABASE:
            told = acting.values(settings)
            if not as_json:
                print(acting.line(settings))
    else:
        new = _chosen(settings, after)
        if new.source is not old.source:
            raise RefnetError(
                f"{old.name} is of {old.source}, {new.name} of {new.source}",
                "Compare two artifacts of one source.",
                Exit.USAGE,
            )
        found = verb.artifacts(old.source, old.held, new.held)
    print_json(_values(found) | told) if as_json else _print(found)
    raise typer.Exit(Exit.DONE if found.equal else Exit.DAMAGED)


def _chosen(settings: Settings, meant: str) -> Chosen:
    from refnet import servers, wiring
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.verbs.choose import choose, choose_one

    store = wiring.store(settings)
    if meant in list(SourceName):
        target = servers.identity(settings) if meant == SourceName.DATABASE else None
        return choose(store, [SourceName(meant)], target=target)[0]
    return choose_one(store, meant)


def _live(settings: Settings, old: Chosen) -> Difference:
    from refnet import servers, wiring
    from refnet.cli import acting
    from refnet.postgres.session import server_version
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.verbs import diff as verb

    if old.source is not SourceName.DATABASE:
        return verb.live_files(old.held, wiring.place(settings, old.source))
    target = acting.server(settings)
    with target.connect() as session:
        major = server_version(session)
    with progress("diff") as shown:
        return verb.live_tables(old.held, target, servers.binaries_for(settings, major), settings.jobs, shown)


def _print(found: Difference) -> None:
    from refnet.recovery.sources.files.member_names import MAX_PATH, show

    lines = [
        *(f"+ {show(name, MAX_PATH)}" for name in found.added),
        *(f"~ {show(one.name, MAX_PATH)}  ({show(one.why)})" for one in found.changed),
        *(f"- {show(name, MAX_PATH)}" for name in found.removed),
    ]
    for line in lines[:_SHOWN]:
        print(line)
    if len(lines) > _SHOWN:
        print(f"… and {len(lines) - _SHOWN:,} more: --json shows all")
    for note in found.notes:
        print(f"note: {show(note, 500)}")
    if found.equal:
        print(f"{found.before} and {found.after} are equal")
    else:
        counts = f"{len(found.added):,} added, {len(found.changed):,} changed, {len(found.removed):,} removed"
        print(f"from {found.before} to {found.after}: {counts}")


def _values(found: Difference) -> dict[str, Any]:
    from refnet.recovery.sources.files.member_names import spelled

    return {
        "source": found.source,
        "before": found.before,
        "after": found.after,
        "equal": found.equal,
        "added": [spelled(name) for name in found.added],
        "changed": [{"name": spelled(one.name), "why": spelled(one.why)} for one in found.changed],
        "removed": [spelled(name) for name in found.removed],
        "notes": [spelled(note) for note in found.notes],
    }
