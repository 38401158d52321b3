"""`refnet recover`: everything back after a loss, in stages."""

from __future__ import annotations

import getpass
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli.context import clock, ends_at_plan, now, print_json, warn
from refnet.errors import Exit, RefnetError
from refnet.recovery.model import formatting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from refnet.actions.recover import Recovered, Remembering, Told
    from refnet.recovery.model.artifact import Entry, SourceName
    from refnet.recovery.model.catalog import Catalog
    from refnet.recovery.model.identity import Identity
    from refnet.recovery.model.recovery_plan import Journal, Plan, Stage
    from refnet.restored import Setup
    from refnet.settings import Settings


def recover(
    *,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="The set of this time.")] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="From this stage on.")] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="This stage alone.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done, and stop there.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Do not ask before something live is replaced.")
    ] = False,
    run_restored: Annotated[
        bool,
        typer.Option(
            "--yes-run-restored-commands", help="Do not ask before commands out of the backup are run."
        ),
    ] = False,
    from_database: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Bring back this database, though it is another one than the target."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Bring back configuration, database and vault from the backup folder, and compare all three."""
    from refnet.cli import acting, recover_plan
    from refnet.cli.confirm import confirm
    from refnet.recovery.model.artifact import SourceName

    planned = _planned(at, first, only, from_database)
    shown = partial(recover_plan.values, planned), partial(recover_plan.show, planned)
    will_be = _setup(planned.entries, trusting=run_restored, planned=SourceName.CONFIG in planned.replacing)
    if ends_at_plan(will_be, *shown, plan=plan, as_json=as_json):
        return
    _need_folder(planned, will_be)
    asked = _replaced(planned)
    if asked:
        confirm(f"Replace what is live: {', '.join(asked)}?", force=force)
    ask = _Ask(asked, force, run_restored)
    done = _run(planned, ask, only=only is not None, quiet=as_json)
    if as_json:
        print_json(_values(done, planned) | acting.values(_settings(planned.entries)))
    else:
        _print_end(done, planned)
    raise typer.Exit(done.exit)


def _planned(at: str | None, first: str | None, only: str | None, from_database: str | None) -> Plan:
    from refnet import wiring
    from refnet.actions.recover import read_journal
    from refnet.recovery.model import recovery_plan
    from refnet.recovery.model.catalog import Catalog, parse_time
    from refnet.recovery.model.identity import Identity

    if first and only:
        raise RefnetError("--from and --only exclude each other", "Leave one of the two out.", Exit.USAGE)
    settings = _settings({})
    moment = parse_time(at, None) if at else None
    everything = Catalog.of(wiring.store(settings).entries())
    target = Identity(from_database) if from_database else _meant(settings, everything, moment)
    catalog = everything.choices(target, moment)
    journals = (read_journal(path, now()) for path in _journals(catalog.set_at()))
    left = next((journal for journal in journals if journal), None)
    planned = recovery_plan.decide(
        catalog,
        left and left.without(_gone(left, catalog.set_at())),
        moment=moment,
        first=recovery_plan.stage(first) if first else None,
        only=recovery_plan.stage(only) if only else None,
    )
    if others := _others(planned, everything, target):
        raise others
    if not planned.entries:
        raise _nothing(settings.backup_dir, everything, moment)
    return replace(planned, from_database=from_database)


def _meant(settings: Settings, everything: Catalog, moment: datetime | None) -> Identity | None:
    """The database that is meant: by the settings in force, else by those in the backup.

    Those give its name alone: no server is asked on a backup's word.
    """
    from refnet import restored, servers
    from refnet.postgres.session import Target
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.model.identity import Identity

    config = everything.newest_complete(SourceName.CONFIG, moment)
    if settings.database_url is None and config:
        with suppress(RefnetError):  # what came back may hold a mistake, which its own stage tells
            found = restored.setup(os.environ, Path.cwd(), {SourceName.CONFIG: config}, planned=True)
            if url := found.settings.database_url:
                return Identity(Target.from_url(url).name)
    return servers.identity(settings)


def _others(planned: Plan, everything: Catalog, target: Identity | None) -> RefnetError | None:
    """The error where the database would not come back, though the folder holds those of another name."""
    from refnet.actions.choose import of_others
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.model.recovery_plan import Stage

    others = everything.others(target)
    if target is None or not others or SourceName.DATABASE in planned.entries:
        return None
    return of_others(target, others) if Stage.DATABASE in planned.stages else None


def _nothing(folder: Path, catalog: Catalog, moment: datetime | None) -> RefnetError:
    from refnet.actions.choose import nothing
    from refnet.recovery.model.artifact import SourceName

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

    acts_on, gone = machine.machine(_setup(entries)), []
    for source in left.back:
        with suppress(ConnectError):
            if not acts_on.live(source):
                gone.append(source)
    return gone


def _need_folder(planned: Plan, will_be: Setup) -> None:
    """See that something says where the configuration goes: ask, or raise where nobody can be asked."""
    from refnet.recovery.model.artifact import SourceName
    from refnet.settings import user_path

    if SourceName.CONFIG not in planned.replacing or will_be.folder(SourceName.CONFIG):
        return
    name = planned.entries[SourceName.CONFIG].name
    answer = ""
    if sys.stdin.isatty() and sys.stderr.isatty():
        print(f"Into which folder is {name} to be restored? ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline().strip()
    if not answer:
        raise RefnetError(
            f"nothing says into which folder {name} is to be restored",
            "Name it: REFNET_CONFIG_DIR=FOLDER refnet recover.",
            Exit.USAGE,
        )
    os.environ["REFNET_CONFIG_DIR"] = str(user_path(answer).absolute())


@dataclass(frozen=True)
class _Ask:
    """What is asked of the user.

    asked: what was permitted to be replaced already. force: do not ask for more. run_restored: do not ask before
    commands out of a backup are run.
    """

    asked: Sequence[str]
    force: bool
    run_restored: bool

    def replace(self, live: str) -> None:
        from refnet.cli.confirm import confirm

        if live not in self.asked:
            confirm(f"Replace what is live: {live}?", force=self.force)

    def run(self, commands: Mapping[Stage, tuple[str, ...]]) -> None:
        from refnet.recovery.sources.files.member_names import show, some

        if self.run_restored:
            return
        lines = [line for each in commands.values() for line in each]
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise RefnetError(
                f"commands that came out of the backup would be run: {some(lines, 3)}",
                "Look at them with `refnet recover --plan`, then give --yes-run-restored-commands; "
                "REFNET_RECOVER_SERVICES=none runs none.",
                Exit.CONFIRM,
            )
        print(f"Out of the backup, to be run as {getpass.getuser()}:", file=sys.stderr)
        for stage, each in commands.items():
            for line in each:
                print(f"  {stage:10} {show(line, 1000)}", file=sys.stderr)
        print("Run these commands? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise RefnetError(
                "not confirmed: no command out of the backup was run",
                "REFNET_RECOVER_SERVICES=none recovers the data without them.",
                Exit.CONFIRM,
            )


def _run(planned: Plan, ask: _Ask, *, only: bool, quiet: bool) -> Recovered:
    from refnet import machine
    from refnet.actions import recover as verb

    done = verb.recover(
        lambda: machine.machine(
            _setup(planned.entries, trusting=ask.run_restored), from_database=planned.from_database
        ),
        planned,
        now=now,
        clock=clock,
        pause=_pause,
        tell=(lambda _: None) if quiet else _print_stage,
        permit=verb.Permit(ask.replace, ask.run),
        memory=None if only else _memory(planned),
    )
    if not only:
        for path in _journals(planned.entries):
            path.unlink(missing_ok=True)
    return done


def _setup(entries: Mapping[SourceName, Entry], *, trusting: bool = False, planned: bool = False) -> Setup:
    from refnet import restored
    from refnet.actions.context import own_home

    found = restored.setup(os.environ, Path.cwd(), entries, trusting=trusting, planned=planned)
    own_home(found.settings)
    warn((*found.settings.warnings, *found.notes))
    return found


def _settings(entries: Mapping[SourceName, Entry]) -> Settings:
    return _setup(entries).settings


def _journals(entries: Mapping[SourceName, Entry]) -> list[Path]:
    """Where a journal may lie, the first choice first: RefNet's own folder by the configuration that is back, which
    may say another one than was in force before it was.
    """
    homes = [_settings({}).home]
    with suppress(RefnetError):  # what came back may hold a mistake, which its own stage tells
        homes.insert(0, _settings(entries).home)
    return [home / "recovery.json" for home in dict.fromkeys(homes)]


def _memory(planned: Plan) -> Remembering:
    from refnet.actions.recover import Remembering

    return Remembering(lambda: _journals(planned.entries)[0], planned.journal(now()))


def _replaced(planned: Plan) -> list[str]:
    """What is live now and would be replaced. A server that does not answer yet is asked when its stage comes."""
    from refnet import machine
    from refnet.postgres.connecting import ConnectError

    acts_on, live = machine.machine(_setup(planned.entries)), []
    for source in planned.replacing:
        with suppress(ConnectError):
            live.append(acts_on.live(source))
    return [one for one in live if one]


def _pause() -> None:
    import threading

    threading.Event().wait(0.5)


def _print_stage(told: Told) -> None:

    print(f"{told.stage:10} {formatting.seconds(told.seconds)}", flush=True)
    for sentence in told.says:
        print(f"  {formatting.plain(sentence)}", flush=True)


def _print_end(done: Recovered, planned: Plan) -> None:

    print(f"recovery took {formatting.seconds(done.seconds)} (RTO)")
    if planned.left:
        print(f"  it began {formatting.age(now() - planned.left.began)} ago, with a run that was interrupted")
    for source, age in done.ages.items():
        print(f"  {source}: the data are {formatting.age(age)} old (RPO)")


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
