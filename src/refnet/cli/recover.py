"""`refnet recover`: everything back after a loss, in stages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli.process import clock, now, print_json
from refnet.errors import RefnetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from refnet.recovery.model.artifact import Entry, SourceName
    from refnet.recovery.model.catalog import Catalog
    from refnet.recovery.model.recovering import Journal, Stage
    from refnet.recovery.verbs.recover import Recovered, Told


def recover(
    *,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="The set of this time.")] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="From this stage on.")] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="This stage alone.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done, and stop there.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Bring back configuration, database and vault from the backup folder, and compare all three."""
    from refnet import machine, wiring
    from refnet.cli.confirm import confirm
    from refnet.recovery.model import recovering
    from refnet.recovery.model.catalog import Catalog, parse_time
    from refnet.recovery.verbs import recover as verb

    settings = machine.settings_for(os.environ, Path.cwd(), {})
    path = settings.home / "recovery.json"
    whole = not (at or first or only)
    left = verb.read_journal(path, now()) if whole else None
    entries = _chosen(
        Catalog.of(wiring.store(settings).entries()), left, parse_time(at, None) if at else None
    )
    if not entries:
        raise RefnetError(
            f"{settings.backup_dir} holds no whole artifact to recover from",
            "Set REFNET_BACKUP_DIR to the backup folder; `refnet list` shows what it holds.",
        )
    stages = recovering.stages(left, _stage(first), _stage(only))
    if not as_json:
        _print_plan(entries, stages, resumed=left is not None)
    if plan:
        if as_json:
            print_json({"set": {s: e.name for s, e in entries.items()}, "stages": list(stages)})
        return
    if live := _replaced(entries, stages):
        confirm(f"Replace what is live: {', '.join(live)}?", force=force)
    journal = left or recovering.Journal(now(), {source: entry.name for source, entry in entries.items()})
    done = verb.recover(
        lambda: machine.machine(machine.settings_for(os.environ, Path.cwd(), entries)),
        entries,
        stages,
        remember=verb.Remembering(path, journal).add if whole else lambda _: None,
        now=now,
        clock=clock,
        pause=_pause,
        tell=(lambda _: None) if as_json else _print_stage,
    )
    if whole:
        path.unlink(missing_ok=True)
    print_json(_values(done)) if as_json else _print_end(done)
    raise typer.Exit(done.exit)


def _stage(text: str | None) -> Stage | None:
    from refnet.recovery.model.recovering import stage

    return stage(text) if text else None


def _chosen(catalog: Catalog, left: Journal | None, moment: datetime | None) -> Mapping[SourceName, Entry]:
    """The set of an interrupted recovery where one is left and still there, else that of `moment`."""
    named = {source: catalog.named(name) for source, name in left.names.items()} if left else {}
    found = {source: entry for source, entry in named.items() if entry}
    return found if found and len(found) == len(named) else catalog.set_at(moment)


def _replaced(entries: Mapping[SourceName, Entry], stages: Sequence[Stage]) -> list[str]:
    """What is live now and would be replaced; no service is needed to find out."""
    from dataclasses import replace

    from refnet import machine
    from refnet.recovery.model.recovering import RESTORES

    settings = machine.settings_for(os.environ, Path.cwd(), entries)
    acts_on = machine.machine(replace(settings, recover_services=None))
    sources = [RESTORES[stage] for stage in stages if stage in RESTORES and RESTORES[stage] in entries]
    return [live for source in sources if (live := acts_on.live(source))]


def _pause() -> None:
    import threading

    threading.Event().wait(0.5)


def _print_plan(entries: Mapping[SourceName, Entry], stages: Sequence[Stage], *, resumed: bool) -> None:
    from refnet.cli import words
    from refnet.recovery.model.recovering import SAYS

    print("Go on with the recovery that was interrupted:" if resumed else "Recover:")
    for number, stage in enumerate(stages, 1):
        print(f"  {number}. {stage:10} {SAYS[stage]}")
    print("From the set:")
    words.print_columns(
        [
            (f"  {s}", e.name, words.local(e.created), f"{words.age(now() - e.created)} old", e.state)
            for s, e in entries.items()
        ]
    )


def _print_stage(told: Told) -> None:
    from refnet.cli import words

    print(f"{told.stage:10} {words.seconds(told.seconds)}", flush=True)
    for sentence in told.says:
        print(f"  {sentence}", flush=True)


def _print_end(done: Recovered) -> None:
    from refnet.cli import words

    print(f"recovery took {words.seconds(done.seconds)} (RTO)")
    for source, age in done.ages.items():
        print(f"  {source}: the data are {words.age(age)} old (RPO)")


def _values(done: Recovered) -> dict[str, Any]:
    return {
        "seconds": round(done.seconds, 3),
        "ages": {source: round(age.total_seconds()) for source, age in done.ages.items()},
        "stages": [
            {"stage": t.stage, "says": list(t.says), "seconds": round(t.seconds, 3)} for t in done.stages
        ],
        "findings": [{"what": f.what, "outcome": f.outcome, "reason": f.reason} for f in done.findings],
    }
