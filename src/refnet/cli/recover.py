"""`refnet recover`: restore everything after a loss, in stages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from refnet.actions import fetch as action
from refnet.actions import set_records
from refnet.actions.fetch import Fetched, FoundCopies
from refnet.actions.physical_way import PhysicalWay, physical_ways
from refnet.actions.protect_again import ProtectedAgain
from refnet.actions.recover import Planned, Recovery, RecoveryRequest, begin
from refnet.actions.recovery_settings import Machine, RecoveryCommand, setup, unnamed
from refnet.actions.recovery_stages import RecoveryDone, StageDone
from refnet.actions.take_over import OldCopies, OldMachine, take_over
from refnet.actions.watching import open_watch
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.run import Reason, RunKind
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.cli import fetch, options, render
from refnet.cli.command import spread
from refnet.cli.completion import ALIASES, choice
from refnet.cli.context import (
    at_terminal,
    confirm,
    current_settings,
    ends_at_plan,
    note,
    permit_run,
    print_json,
    says_yes,
    warn,
)
from refnet.cli.output import output, say
from refnet.context import Context
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, did_you_mean, worst
from refnet.core.member_names import show
from refnet.recovery.plan import SAYS, Stage
from refnet.servers import ActsOn
from refnet.settings import user_path, variable
from refnet.sources.permitted import Permitted, Power
from refnet.store import settings_copies
from refnet.store.settings_copies import SettingsCopy


def _stage_or_store(text: str) -> str:
    if text in {*Stage} or ":" in text:
        return text
    stores = current_settings(own=False).every_store
    if text in stores:
        return text
    near = did_you_mean(text, (*Stage, *stores))
    raise RefnetError(
        f"--from-stage: '{text}' is neither a stage nor a remote store",
        f"{near}The stages are: {', '.join(Stage)}. A store is a name of the settings, or a URL.",
        Exit.USAGE,
    )


@dataclass(frozen=True)
class Asked:
    """The options of a recovery, beside those of a remote store."""

    at: Annotated[str | None, typer.Option(metavar="TIME", help="The set of this time.")] = None
    origin: Annotated[
        str | None,
        typer.Option(
            "--from-stage",
            "--from",
            metavar=f"<{'|'.join(Stage)}>",
            help="From this stage on.",
            parser=_stage_or_store,
            autocompletion=lambda: [*Stage],
        ),
    ] = None
    only: Annotated[Stage | None, typer.Option(help="Run only this stage.", **choice("stage", Stage))] = None
    plan: options.Plan = False
    force: options.Force = False
    run_restored: options.RunRestored = False
    role_powers: Annotated[
        bool, typer.Option("--role-powers", help="Give roles all powers that the backup asks for.")
    ] = False
    permit: options.Permit = None
    from_database: options.FromDatabase = None
    skip: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help="Leave this source out (repeatable).")
    ] = None
    old_machine: Annotated[
        OldMachine | None,
        typer.Option(
            "--old-machine",
            help="The machine that sent the copies is gone, and this one takes them over; or it still runs.",
            **choice("choice", OldMachine),
        ),
    ] = None
    as_json: options.Json = False

    @property
    def first(self) -> Stage | None:
        return Stage(self.origin) if self.origin and self.origin in {*Stage} else None

    @property
    def request(self) -> RecoveryRequest:
        skip = frozenset(str(ALIASES.get(one, one)) for one in self.skip or ())
        return RecoveryRequest(
            self.at,
            self.first,
            self.only,
            self.from_database,
            self.run_restored,
            Permitted.of(self.permit or (), everything=self.role_powers),
            skip=skip,
            variables=output.variables,
        )


@spread
def recover(asked: Asked, place: options.StoreOptions) -> None:
    """Restore every source after a loss, and compare all.

    In stages: the configuration, roles and databases, folders, the services, a comparison with the backup. An
    interrupted recovery continues with the next run. With a remote store, its copies are brought into the backup
    folder first.
    """
    if asked.origin and not asked.first:
        place = _with_store(place, asked.origin)
    if asked.old_machine and not place.is_remote:
        raise RefnetError(
            "--old-machine is for remote stores", "Name one with --store, or omit it.", Exit.USAGE
        )
    fetched, found, request = _fetched(asked, place)
    old = _old_copies(asked, place, found)
    recovery = Recovery(request, warn)
    planned = recovery.planned()
    text = partial(_print_plan, now=recovery.clock.now())
    if ends_at_plan(planned, text, plan=asked.plan, as_json=asked.as_json):
        raise typer.Exit(worst((planned.exit, _alarmed(found))))
    _need_folder(recovery, planned)
    replaced = recovery.replaced()
    if replaced:
        confirm(f"Replace live data: {', '.join(replaced)}?", force=asked.force)
    with open_watch(Context(recovery.settings(), note=note), "restore").run(RunKind.RECOVER) as at_work:
        done = recovery.run(_Operator(replaced, asked.force, asked.run_restored, quiet=asked.as_json))
        if done.missing or done.behind:
            at_work.failed(Reason.OTHER, f"not restored: {formatting.some([*done.missing, *done.behind], 3)}")
    came_back = recovery.came_back()
    again = came_back.protect(done.passwords, final=done.is_final) if came_back else None
    here = Context(came_back.settings if came_back else recovery.settings(), note=note)
    taken, trouble = _taken_over(here, place, old, asked) if old and done.is_final else ("", None)
    if taken:
        again = replace(again or ProtectedAgain((), ()), done=(*(again.done if again else ()), taken))
    _report(done, recovery, fetched, found, again, as_json=asked.as_json)
    if trouble:
        raise trouble
    recovery.end(done)
    if fetched and done.exit is Exit.DONE and recovery.clear() and not asked.as_json:
        say("the fetched artifacts were removed, because they were not encrypted")
    raise typer.Exit(worst((done.exit, *(one.exit for one in fetched), _alarmed(found))))


def _old_copies(asked: Asked, place: options.StoreOptions, found: FoundCopies | None) -> OldCopies | None:
    """What is in the store now, if its copies may be taken over after the recovery."""
    may_ask = asked.old_machine is None and at_terminal()
    if not (found and place.is_remote) or asked.plan or not (may_ask or asked.old_machine is OldMachine.GONE):
        return None
    return OldCopies.of(found)


def _taken_over(
    here: Context, place: options.StoreOptions, old: OldCopies, asked: Asked
) -> tuple[str, RefnetError | None]:
    """Take the copies over, after a question; return what was done, or why it was not."""
    question = (
        "Is the machine that sent these copies gone for good? Then this one takes them over, and prunes them."
    )
    if not (asked.old_machine or says_yes(question)):
        return "", None
    try:
        return take_over(here, str(place.store), old), None
    except RefnetError as error:
        return "", error


def _report(
    done: RecoveryDone,
    recovery: Recovery,
    fetched: Sequence[Fetched],
    found: FoundCopies | None,
    again: ProtectedAgain | None,
    *,
    as_json: bool,
) -> None:
    if not as_json:
        _print_end(done, recovery.clock.now())
        if again:
            _print_again(again)
        if found and found.alarm:
            print(f"alarm: {formatting.plain(found.alarm)}")
        return
    brought: dict[str, Any] = {"fetched": [one.to_json() for one in fetched]} if fetched else {}
    if found:
        brought["gaps"] = [*found.gaps]
    if again:
        brought["protect"] = again.to_json()
    print_json(done.to_json() | brought | ActsOn.of(recovery.settings()).to_json())


def _alarmed(found: FoundCopies | None) -> Exit:
    """Exit code for copies removed, replaced or put back in the store."""
    return Exit.DAMAGED if found and found.gaps else Exit.DONE


def _fetched(
    asked: Asked, place: options.StoreOptions
) -> tuple[Sequence[Fetched], FoundCopies | None, RecoveryRequest]:
    """Fetch what a recovery needs from the store of `place`; nothing for an unencrypted backup folder.

    Return the fetched copies, the copies found, and the request for the recovery.
    """
    if not place.is_remote:
        if not current_settings(own=False).encryption_local:
            place.check()
            return (), None, asked.request
        place = replace(place, store=LOCAL)
    here, found = _open(asked, place)
    fetched, request = _bring(asked, here, found)
    return fetched, found, request


def _open(asked: Asked, place: options.StoreOptions) -> tuple[Context, FoundCopies]:
    """Context, and copies found in the store of `place`; asks at a terminal after an alarm."""
    here, found = fetch.opened(place, action.FetchRequest(at=asked.at, from_database=asked.from_database))
    if found.alarm and not (asked.plan or asked.force) and at_terminal():
        confirm(f"{formatting.plain(found.alarm)}. Recover from the remaining copies?", force=False)
    return here, found


def _with_store(place: options.StoreOptions, origin: str) -> options.StoreOptions:
    if place.store not in {None, origin}:
        raise RefnetError("--from-stage and --store name two stores", "Omit one of them.", Exit.USAGE)
    return replace(place, store=origin)


def _bring(asked: Asked, here: Context, found: FoundCopies) -> tuple[Sequence[Fetched], RecoveryRequest]:
    """Fetch the copies of the set into the backup folder, with the settings sent with them.

    Return them, and the request for the recovery from there. Where the backup folder is encrypted, they go into another
    folder. A plan of what is not here yet ends here.
    """
    settings, began = action.settings_copy(found), None
    file = _as_file(here, settings)
    if asked.plan:
        fetched = list(action.plan(here, found))
        if any(one.is_new for one in fetched):
            _end_at_fetch(here, found, fetched, settings, as_json=asked.as_json)
    else:
        began = begin(here)
        fetched = list(fetch.bring(here, found, quiet=asked.as_json))
        if all(one.error for one in fetched):
            raise typer.Exit(worst(one.exit for one in fetched))
        if settings:
            set_records.keep(here, settings, (one.copy for one in fetched if not one.error))
        if settings and settings.text:  # for the next run, which continues
            content = settings.text.encode()
            file = settings_copies.keep(here.local.root, content, settings.sent), content
    names = frozenset(one.copy.name for one in fetched if not one.error)
    request = replace(
        asked.request,
        proven=_compared(found),
        fetched=names,
        settings=file,
        signed=not found.store.trust.any_signer,
        began=began,
    )
    if here.settings.encryption_local:
        return fetched, replace(request, folder=here.local.root)
    return fetched, replace(request, backup_dir=here.settings.backup_dir)


def _compared(found: FoundCopies) -> frozenset[str]:
    """Names of the copies that the machine that sent them had proven."""
    return frozenset(one.name for one in found.there if any(_proves(line) for line in one.earlier))


def _proves(line: Evidence) -> bool:
    return line.level is Level.PROVEN and line.outcome is Outcome.PASSED


def _as_file(here: Context, settings: SettingsCopy | None) -> tuple[Path, bytes] | None:
    if not (settings and settings.text):
        return None
    return settings_copies.path_of(here.local.root, settings.sent), settings.text.encode()


def _end_at_fetch(
    here: Context,
    found: FoundCopies,
    fetched: Sequence[Fetched],
    settings: SettingsCopy | None,
    *,
    as_json: bool,
) -> None:
    """Print what would be fetched, and end; exit code FAILED if a source is missing from the sent settings."""
    backup_dir = (
        {} if here.settings.encryption_local else {variable("backup_dir"): str(here.settings.backup_dir)}
    )
    machine = Machine({**os.environ, **output.variables, **backup_dir}, Path.cwd(), _as_file(here, settings))
    unknown = unnamed(machine, {one.copy.source: one.copy for one in fetched})
    if as_json:
        print_json({"plan": True, "fetch": fetch.to_json(found, fetched), "unknown": list(unknown)})
    else:
        fetch.print_plan(found, fetched, here.local.root)
        entries = {one.copy.source: one.copy for one in fetched}
        _print_ways(physical_ways(setup(machine, entries).settings, entries, _compared(found)))
        print("Then recover from them, in stages. After the fetch, --plan shows the targets.")
        for source in unknown:
            print(
                f"problem: {source} is not restored: neither the settings here nor those in the store name it"
            )
    raise typer.Exit(worst((Exit.FAILED if unknown else Exit.DONE, _alarmed(found))))


def _need_folder(recovery: Recovery, planned: Planned) -> None:
    """Ask for an unknown configuration folder; RefnetError if stdin is not a terminal."""
    if SourceName.CONFIG not in planned.plan.replacing or planned.setup.folder(SourceName.CONFIG):
        return
    answer = ""
    if at_terminal():
        name = planned.plan.entries[SourceName.CONFIG].name
        print(f"Target folder of {name}: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline().strip()
    if not answer and (problem := planned.folder_problem(SourceName.CONFIG)):
        raise problem
    recovery.goes_to(user_path(answer).absolute())


@dataclass(frozen=True)
class _Operator:
    #: What may be replaced already.
    replaced: Sequence[str]
    #: Do not ask for more.
    force: bool
    #: Do not ask before commands out of a backup are run.
    run_restored: bool
    #: Do not report the stages.
    quiet: bool

    def permit_replace(self, live: str) -> None:
        if live not in self.replaced:
            confirm(f"Replace live data: {live}?", force=self.force)

    def permit_run(self, commands: Mapping[Stage, tuple[str, ...]]) -> None:
        if self.run_restored:
            return
        lines = [(stage, line) for stage, each in commands.items() for line in each]
        permit_run(lines, "REFNET_RECOVER_SERVICES=none recovers the data without services.")

    def permit_powers(self, artifact: str, powers: Sequence[Power]) -> Sequence[Power]:
        if not at_terminal():
            return ()
        print(
            f"{artifact} asks for powers of roles. Who can write a backup can ask for any.", file=sys.stderr
        )
        return [power for power in powers if says_yes(f"Give {power}?")]

    def report(self, done: StageDone) -> None:
        if self.quiet:
            return
        say(f"{done.stage:10} {formatting.seconds(done.seconds)}", flush=True)
        for sentence in done.says:
            say(f"  {formatting.plain(sentence)}", flush=True)


def _print_end(done: RecoveryDone, now: datetime) -> None:
    for source, why in done.missing.items():
        print(f"NOT RESTORED: {source}: {formatting.plain(why)}")
    for source, why in done.behind.items():
        print(f"NOT THE LAST COMMIT: {source}: {formatting.plain(why)}")
    _print_powers(done)
    if done.missing:
        again = ": run `refnet recover` again, it continues" if done.left else ""
        print(f"the recovery is not complete{again}")
        return
    say(f"recovery took {formatting.seconds(done.seconds)} (RTO)")
    if done.began_before:
        say(f"  it began {formatting.age(now - done.began_before)} ago, with a run that was interrupted")
    for source, age in done.ages.items():
        say(f"  {source}: the data are {formatting.old(age)} (RPO)")


def _print_again(again: ProtectedAgain) -> None:
    for sentence in again.done:
        say(sentence)
    if again.steps:
        print("left to do on this machine:")
    for number, (command, what) in enumerate(again.steps, 1):
        print(f"  {number}. {formatting.plain(f'{command}   # {what}' if command else what)}")


def _print_powers(done: RecoveryDone) -> None:
    """Print the powers that roles did not get, and the lines that set their passwords."""
    for source, asked in done.withheld.items():
        print(f"WITHHELD: {source}: {formatting.some([*map(str, asked.open)])}: nobody permitted it")
        print("  on that server, as its administrator:")
        for line in asked.granting:
            print(f"    {formatting.plain(line)};")
    for server, lines in done.passwords.items():
        print(f"roles came back without passwords; in psql on {server}, for those that log in by one:")
        for line in lines:
            print(f"    {formatting.plain(line)}")


def _print_plan(planned: Planned, *, now: datetime) -> None:
    plan = planned.plan
    print("Continue the interrupted recovery:" if plan.resumed else "Recover:")
    for number, stage in enumerate(plan.stages, 1):
        print(f"  {number}. {stage:10} {SAYS[stage]}")
    print("From the set:")
    render.print_columns(
        [
            (
                f"  {s}",
                e.name,
                e.identity.database if e.identity else "",
                formatting.local(e.created),
                f"{formatting.old(now - e.created)}",
                f"{e.state}, SHRUNK against {e.manifest.shrunk_from}" if e.shrunk else e.state,
            )
            for s, e in plan.entries.items()
        ],
        shorten=2,
    )
    print("To:")
    render.print_columns([(f"  {source}", where) for source, where in planned.targets.items()])
    if planned.commands:
        print("Commands that it runs:")
        render.print_columns([(f"  {one.stage}", _line(one)) for one in planned.commands])
    if planned.powers:
        print("Powers of roles:")
        rows = (
            (f"  {source}", str(power), f"permitted: {by}" if by else "asked by name, or withheld")
            for source, asked in planned.powers.items()
            for power, by in (*asked.permitted.items(), *((one, "") for one in asked.open))
        )
        render.print_columns([*rows])
    _print_ways(planned.physical)
    for source in plan.standing:
        print(f"note: {source} was restored before, and stays unchanged")
    for source, one in plan.absent.items():
        print(f"note: {source} is not restored: {one.why}")
    for line in formatting.noted(planned.notes, planned.problems):
        print(line)


def _print_ways(ways: Iterable[PhysicalWay]) -> None:
    """Print how servers can come back as a whole, and which way comes first."""
    for one in ways:
        what = f"the server as a whole, with passwords and settings, from {one.artifact} and its WAL"
        if one.reasons:
            print(f"Another way for {one.source}: {what}. It comes second:")
            for why in one.reasons:
                print(f"  {formatting.plain(why)}")
        else:
            print(
                f"First way for {one.source}: {what}. This machine fits, and it was compared with a database:"
            )
        print(f"    {one.command}")
        print(
            f"  Start it as that prints, then recover the rest, which ends with 1 as this is left out: {one.rest}"
        )


def _line(one: RecoveryCommand) -> str:
    line = show(one.line, 1000)
    return f"{line} (from the backup: needs confirmation)" if one.restored else line
