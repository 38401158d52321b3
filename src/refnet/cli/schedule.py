"""`refnet schedule install|show|remove`: systemd timers, and which scheduler is active."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from refnet import wiring
from refnet.cli import options, render
from refnet.cli.command import Commands
from refnet.cli.context import current_settings, note, print_json
from refnet.cli.output import say
from refnet.errors import Exit, RefnetError
from refnet.locks import is_locked
from refnet.recovery.model.clock import utc_now
from refnet.recovery.model.schedule import Schedule
from refnet.recovery.model.source_name import SourceName
from refnet.scheduling import install as verb
from refnet.scheduling import places, privileged
from refnet.scheduling import service as services
from refnet.scheduling.install import Done, Plan
from refnet.scheduling.status import status, timers_of
from refnet.scheduling.systemctl import Systemd
from refnet.scheduling.units import Found, files, scheduled
from refnet.settings import Settings
from refnet.settings.times import OFF

app = Commands("Install systemd timers and show the next runs.")

_User = Annotated[bool, typer.Option("--user", help="Use your own systemd manager, not the system's.")]
_Force = Annotated[
    bool, typer.Option("--force", help="Replace or remove units that were edited by hand too.")
]


@app.command("install")
def install(
    *,
    user: _User = False,
    run_as: Annotated[
        str | None, typer.Option("--as", metavar="USER", help="The user that the system's units run as.")
    ] = None,
    plan: options.Plan = False,
    force: _Force = False,
    as_json: options.Json = False,
) -> None:
    """Install or repair the systemd timers. They run each backup, prune, drill and monitor."""
    settings, systemd = current_settings(own=False), Systemd(user)
    if user and run_as:
        raise RefnetError("--as and --user exclude each other", "Omit one of them.", Exit.USAGE)
    runs_as = None if user else services.ordinary_user(settings, run_as, os.environ)
    configured = wiring.configured(settings)
    service = services.service(settings, user=runs_as, vault=SourceName.OBSIDIAN in configured)
    schedule = Schedule.of(settings)
    tasks = scheduled(schedule, configured)
    made = verb.plan(systemd, files(schedule, tasks, service), tasks)
    if plan:
        print_json(made.to_json()) if as_json else _print_plan(made)
        return
    verb.check_user_manager(systemd)
    if runs_as == "root":
        privileged.check(service, settings)
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
    *, user: _User = False, plan: options.Plan = False, force: _Force = False, as_json: options.Json = False
) -> None:
    """Stop the timers and remove their units; artifacts stay."""
    made = verb.plan(Systemd(user), (), ())
    if plan:
        print_json(made.to_json()) if as_json else _print_plan(made)
        return
    _print_done(verb.act(made, force=force), as_json=as_json)


@app.command("show")
def show(*, as_json: options.Json = False) -> None:
    """Print the next runs of the active scheduler. Warn if there is none, or two."""
    settings = current_settings(own=False)
    schedule = Schedule.of(settings)
    managers = [timers_of(Systemd(user), settings.home, schedule) for user in (False, True)]
    found = status(schedule, wiring.configured(settings), settings.home, managers, utc_now())
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        (one.task, one.when, render.local(one.due), one.by or "none")
        for one in sorted(found.tasks, key=lambda each: each.due)
    ]
    render.print_columns(
        [("task", "when", "next", "by"), *rows, *((task, OFF, "-", "-") for task in found.off)]
    )
    for sentence in found.warnings:
        print(f"warning: {sentence}")


def _refuse_a_second(settings: Settings) -> None:
    if is_locked(places.beat_lock(settings.home)):
        raise RefnetError(
            f"Celery's beat runs for {settings.home}: with timers too, everything would run twice",
            "Stop `refnet beat` first, or keep it and install no timers.",
            Exit.LOCKED,
        )


def _print_plan(plan: Plan) -> None:
    for step in plan.shown:
        print(f"{step.change:7} {step.path} ({step.found})")
    if not plan.shown:
        print("nothing to do: there are no timers")
    for step in plan.shown:
        if step.wanted and step.found is not Found.SAME:
            print(f"\n# {step.path}\n{step.wanted.text}", end="")


def _print_done(done: Done, *, as_json: bool) -> None:
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
            f"  {command} daemon-reload && {command} enable --now {' '.join(plan.timers)}"
        )
    elif not done.changed and not done.enabled:
        say("nothing to do: " + ("everything is in place" if plan.timers else "there are no timers"))
    if plan.systemd.user and plan.timers:
        note("your timers run only while you are logged in, unless root runs: loginctl enable-linger")
