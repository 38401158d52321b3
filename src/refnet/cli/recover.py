"""`refnet recover`: everything back after a loss, in stages."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli.process import clock, ends_at_plan, now, print_json
from refnet.errors import Exit, RefnetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from refnet.recovery.model.artifact import Entry, SourceName
    from refnet.recovery.model.catalog import Catalog
    from refnet.recovery.model.recovering import Journal, Plan
    from refnet.recovery.verbs.recover import Recovered, Remembering, Told
    from refnet.settings import Settings


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
    from refnet.cli.confirm import confirm

    planned = _planned(at, first, only)
    if ends_at_plan(planned, _plan_values, _print_plan, plan=plan, as_json=as_json):
        return
    asked = _replaced(planned)
    if asked:
        confirm(f"Replace what is live: {', '.join(asked)}?", force=force)
    done = _run(planned, asked, only=only is not None, force=force, quiet=as_json)
    print_json(_values(done, planned)) if as_json else _print_end(done, planned)
    raise typer.Exit(done.exit)


def _planned(at: str | None, first: str | None, only: str | None) -> Plan:
    from refnet import wiring
    from refnet.recovery.model import recovering
    from refnet.recovery.model.catalog import Catalog, parse_time
    from refnet.recovery.verbs.recover import read_journal

    if first and only:
        raise RefnetError("--from and --only exclude each other", "Leave one of the two out.", Exit.USAGE)
    settings = _settings({})
    catalog = Catalog.of(wiring.store(settings).entries())
    journals = (read_journal(path, now()) for path in _journals(catalog.set_at()))
    left = next((journal for journal in journals if journal), None)
    moment = parse_time(at, None) if at else None
    planned = recovering.decide(
        catalog,
        left and left.without(_gone(left, catalog.set_at())),
        moment=moment,
        first=recovering.stage(first) if first else None,
        only=recovering.stage(only) if only else None,
    )
    if not planned.entries:
        raise _nothing(settings.backup_dir, catalog, moment)
    return planned


def _nothing(folder: Path, catalog: Catalog, moment: datetime | None) -> RefnetError:
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.verbs.choose import nothing

    if moment and catalog.oldest_whole(SourceName):
        return nothing(catalog, SourceName, moment)
    return RefnetError(
        f"{folder} holds no whole artifact to recover from",
        "Set REFNET_BACKUP_DIR to the backup folder; `refnet list` shows what it holds.",
    )


def _gone(left: Journal, entries: Mapping[SourceName, Entry]) -> list[SourceName]:
    """What an interrupted recovery had brought back and is not there any more: then it is brought back again."""
    from refnet import machine
    from refnet.postgres.connecting import ConnectError

    acts_on, gone = machine.machine(_settings(entries)), []
    for source in left.back:
        with suppress(ConnectError):
            if not acts_on.live(source):
                gone.append(source)
    return gone


def _run(planned: Plan, asked: Sequence[str], *, only: bool, force: bool, quiet: bool) -> Recovered:
    from refnet import machine
    from refnet.cli.confirm import confirm
    from refnet.recovery.verbs import recover as verb

    def permit(live: str) -> None:
        if live not in asked:
            confirm(f"Replace what is live: {live}?", force=force)

    done = verb.recover(
        lambda: machine.machine(_settings(planned.entries)),
        planned,
        now=now,
        clock=clock,
        pause=_pause,
        tell=(lambda _: None) if quiet else _print_stage,
        permit=permit,
        memory=None if only else _memory(planned),
    )
    if not only:
        for path in _journals(planned.entries):
            path.unlink(missing_ok=True)
    return done


def _settings(entries: Mapping[SourceName, Entry]) -> Settings:
    from refnet import machine

    return machine.settings_for(os.environ, Path.cwd(), entries)


def _journals(entries: Mapping[SourceName, Entry]) -> list[Path]:
    """Where a journal may lie, the first choice first: RefNet's own folder by the configuration that is back, which
    may say another one than was in force before it was.
    """
    homes = [_settings({}).home]
    with suppress(RefnetError):  # what came back may hold a mistake, which its own stage tells
        homes.insert(0, _settings(entries).home)
    return [home / "recovery.json" for home in dict.fromkeys(homes)]


def _memory(planned: Plan) -> Remembering:
    from refnet.recovery.verbs.recover import Remembering

    return Remembering(lambda: _journals(planned.entries)[0], planned.journal(now()))


def _replaced(planned: Plan) -> list[str]:
    """What is live now and would be replaced. A server that does not answer yet is asked when its stage comes."""
    from refnet import machine
    from refnet.postgres.connecting import ConnectError

    acts_on, live = machine.machine(_settings(planned.entries)), []
    for source in planned.replacing:
        with suppress(ConnectError):
            live.append(acts_on.live(source))
    return [one for one in live if one]


def _pause() -> None:
    import threading

    threading.Event().wait(0.5)


def _print_plan(plan: Plan) -> None:
    from refnet.cli import words
    from refnet.recovery.model.recovering import SAYS

    print("Go on with the recovery that was interrupted:" if plan.resumed else "Recover:")
    for number, stage in enumerate(plan.stages, 1):
        print(f"  {number}. {stage:10} {SAYS[stage]}")
    print("From the set:")
    words.print_columns(
        [
            (f"  {s}", e.name, words.local(e.created), f"{words.age(now() - e.created)} old", e.state)
            for s, e in plan.entries.items()
        ]
    )
    for source in plan.standing:
        print(f"note: {source} was brought back before, and stays as it is now")
    for source, one in plan.absent.items():
        print(f"note: {source} is not brought back: {one.why}")


def _plan_values(plan: Plan) -> dict[str, Any]:
    return {
        "set": {source: entry.name for source, entry in plan.entries.items()},
        "absent": {source: one.why for source, one in plan.absent.items()},
        "standing": list(plan.standing),
        "stages": list(plan.stages),
    }


def _print_stage(told: Told) -> None:
    from refnet.cli import words

    print(f"{told.stage:10} {words.seconds(told.seconds)}", flush=True)
    for sentence in told.says:
        print(f"  {sentence}", flush=True)


def _print_end(done: Recovered, planned: Plan) -> None:
    from refnet.cli import words

    print(f"recovery took {words.seconds(done.seconds)} (RTO)")
    if planned.left:
        print(f"  it began {words.age(now() - planned.left.began)} ago, with a run that was interrupted")
    for source, age in done.ages.items():
        print(f"  {source}: the data are {words.age(age)} old (RPO)")


def _values(done: Recovered, planned: Plan) -> dict[str, Any]:
    from refnet.recovery.model.artifact import utc

    return {
        "began_before": utc(planned.left.began) if planned.left else None,
        "seconds": round(done.seconds, 3),
        "ages": {source: round(age.total_seconds()) for source, age in done.ages.items()},
        "stages": [
            {"stage": t.stage, "says": list(t.says), "seconds": round(t.seconds, 3)} for t in done.stages
        ],
        "findings": [{"what": f.what, "outcome": f.outcome, "reason": f.reason} for f in done.findings],
    }
