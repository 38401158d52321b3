"""`refnet schedule install|show|remove`: systemd timers, and which scheduler is active."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from typing import Annotated

import typer

from refnet import wiring
from refnet.cli import options, render
from refnet.cli.command import Commands
from refnet.cli.context import current_settings, note, print_json
from refnet.cli.output import say
from refnet.core import formatting
from refnet.core.clock import utc_now
from refnet.core.errors import Exit, RefnetError
from refnet.core.locks import is_locked
from refnet.scheduling import install as verb
from refnet.scheduling import places
from refnet.scheduling import service as services
from refnet.scheduling.install import InstallDone, InstallPlan
from refnet.scheduling.status import status
from refnet.scheduling.systemd import Installed, Owner, Systemd, installed, others, own
from refnet.scheduling.units import UnitState, files, scheduled, wal_file
from refnet.settings import Settings
from refnet.settings.converters import InvalidError, instance_name
from refnet.settings.times import OFF

app = Commands("Install systemd timers and show the next runs.")

_User = Annotated[bool, typer.Option("--user", help="Use your own systemd manager, not the system's.")]
_Force = Annotated[
    bool, typer.Option("--force", help="Also replace or remove units that were edited by hand.")
]
_Instance = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The name of these units, if other settings have units too."),
]


@app.command("install")
def install(
    *,
    user: _User = False,
    run_as: Annotated[
        str | None, typer.Option("--as", metavar="USER", help="The user that the system units run as.")
    ] = None,
    instance: _Instance = None,
    plan: options.Plan = False,
    force: _Force = False,
    as_json: options.Json = False,
) -> None:
    """Install or repair the systemd timers.

    They run each backup, prune, drill and monitor.
    """
    if user and run_as:
        raise RefnetError("--as and --user exclude each other", "Omit one of them.", Exit.USAGE)
    systemd = Systemd(user)
    settings, stale = _of_instance(systemd, instance)
    if other := _other(systemd, settings):
        words = [f"--config {shlex.quote(str(settings.file))}"] * bool(settings.variables)
        words += ["schedule install", *["--user"] * user, *([f"--as {run_as}"] if run_as else [])]
        command = " ".join(("refnet", *words, "--instance", verb.name_for(settings)))
        raise _refused(other, f"Install these under a name of their own: `{command}`.")
    runs_as = None if user else services.ordinary_user(settings, run_as, os.environ)
    configured = wiring.configured(settings)
    service = services.service(settings, user=runs_as, configured=configured)
    schedule = settings.schedule
    wanted = files(schedule, scheduled(schedule, configured), service)
    if any(one.wal for one in settings.clusters.values()):
        wanted = (*wanted, wal_file(service))
    made = verb.plan(systemd, service.instance, wanted, stale)
    if plan:
        print_json(made.to_json()) if as_json else _print_plan(made)
        return
    verb.check_user_manager(systemd)
    if runs_as == "root":
        services.check_privileged(service, settings)
    _refuse_a_second(settings)
    if not user and os.geteuid() != 0:
        raise RefnetError(
            "only root can write the system's units",
            "Run it with sudo, or give --user for units of your own.",
        )
    services.prepare(service)
    _print_done(verb.act(made, force=force), as_json=as_json)
    if runs_as == "root":
        note("the units run as root; an ordinary user that owns the backups is enough: --as USER")


@app.command("remove")
def remove(
    *,
    user: _User = False,
    instance: _Instance = None,
    plan: options.Plan = False,
    force: _Force = False,
    as_json: options.Json = False,
) -> None:
    """Stop the timers and remove their units.

    Artifacts stay, and so do the units of other settings.
    """
    systemd = Systemd(user)
    settings, stale = _of_instance(systemd, instance)
    if other := _other(systemd, settings):
        file = shlex.quote(str(other.owner and other.owner.file))
        raise _refused(
            other, f"Remove them with their own settings: `refnet --config {file} schedule remove`."
        )
    made = verb.plan(systemd, settings.instance or "", (), stale)
    if plan:
        print_json(made.to_json()) if as_json else _print_plan(made)
        return
    _print_done(verb.act(made, force=force), as_json=as_json)


def _of_instance(systemd: Systemd, asked: str | None) -> tuple[Settings, list[str]]:
    """Settings with the name of their units, and the installed names.

    asked: --instance; None: the name in the settings, else the installed one.
    """
    settings = current_settings(own=False)
    found = own(installed(systemd.folder), Owner.of(settings))
    try:
        name = instance_name(asked) if asked else settings.instance
    except InvalidError as error:
        raise RefnetError(f"--instance {error.rule}", error.usage, Exit.USAGE) from None
    if not name and found and all(one.instance for one in found):
        name = found[0].instance
    return replace(settings, instance=name), sorted(unit for one in found for unit in one.units)


def _other(systemd: Systemd, settings: Settings) -> Installed | None:
    """Another installation that uses this name, if any."""
    found = others(installed(systemd.folder), Owner.of(settings))
    return next((one for one in found if one.instance == (settings.instance or "")), None)


def _refused(other: Installed, hint: str) -> RefnetError:
    return RefnetError(f"{other.label} belong to other settings, and nothing was changed", hint, Exit.USAGE)


@app.command("show")
def show(*, as_json: options.Json = False) -> None:
    """Print the next runs of the active scheduler.

    Warn if there is none, or two.
    """
    settings = current_settings(own=False)
    found = status(settings, wiring.configured(settings), utc_now())
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        (one.task, one.when, formatting.local(one.due), one.by or "none")
        for one in sorted(found.tasks, key=lambda each: each.due)
    ]
    render.print_columns(
        [("task", "when", "next", "by"), *rows, *((task, OFF, "-", "-") for task in found.off)]
    )
    for sentence in found.warnings:
        print(f"warning: {sentence}")
    if found.others:
        print(f"also on this machine: {', '.join(one.label for one in found.others)}")


def _refuse_a_second(settings: Settings) -> None:
    if is_locked(places.beat_lock(settings.home, settings.instance)):
        raise RefnetError(
            f"Celery's beat runs for {settings.home}: with timers too, everything would run twice",
            "Stop `refnet beat` first, or keep it and install no timers.",
            Exit.LOCKED,
        )


def _print_plan(plan: InstallPlan) -> None:
    for step in plan.shown:
        print(f"{step.change:7} {step.path} ({step.found})")
    if not plan.shown:
        print("nothing to do: there are no timers")
    for step in plan.shown:
        if step.wanted and step.found is not UnitState.SAME:
            print(f"\n# {step.path}\n{step.wanted.text}", end="")


def _print_done(done: InstallDone, *, as_json: bool) -> None:
    if as_json:
        print_json(done.to_json())
        return
    plan = done.plan
    for step in plan.steps:
        if step.path in done.changed:
            say(f"{'wrote' if step.wanted else 'removed':7} {step.path}")
    for name in done.enabled:
        say(f"started {name}")
    command = plan.systemd.command
    if done.unreachable and plan.timers:
        print(
            f"cannot reach {command} ({done.unreachable}). Where systemd runs:\n"
            f"  {command} daemon-reload && {command} enable --now {' '.join(plan.active)}"
        )
    elif not done.changed and not done.enabled:
        say("nothing to do: " + ("everything is in place" if plan.timers else "there are no timers"))
    if plan.systemd.user and plan.timers:
        note("your timers run only while you are logged in, unless root runs: loginctl enable-linger")
