"""`refnet schedule install|show|remove`: RefNet by systemd's timers, and which scheduler is in force."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli.context import current_settings, note, now, print_json
from refnet.errors import Exit, RefnetError

if TYPE_CHECKING:
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.model.schedule import Schedule
    from refnet.scheduling.install import Done, Plan, Step
    from refnet.scheduling.status import Status
    from refnet.settings import Settings

app = typer.Typer(help="What runs by itself, and when.", no_args_is_help=True)

_User = Annotated[bool, typer.Option("--user", help="Units of your own manager, not the system's.")]
_Plan = Annotated[bool, typer.Option("--plan", help="Show what would be done, and do nothing.")]
_Force = Annotated[bool, typer.Option("--force", help="Also files that were edited by hand.")]
_Json = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


@app.command("install")
def install(
    *,
    user: _User = False,
    run_as: Annotated[
        str | None, typer.Option("--as", metavar="USER", help="Whom the system's units run as.")
    ] = None,
    plan: _Plan = False,
    force: _Force = False,
    as_json: _Json = False,
) -> None:
    """Write and start systemd timers for every backup, prune, drill and monitor. Run again, it mends what differs."""
    from refnet.recovery.model.artifact import SourceName
    from refnet.scheduling import install as verb
    from refnet.scheduling import privileged
    from refnet.scheduling import service as services
    from refnet.scheduling.systemctl import Systemd
    from refnet.scheduling.units import files, scheduled

    settings, systemd = current_settings(own=False), Systemd(user)
    if user and run_as:
        raise RefnetError("--as is for the system's units", "Leave out --as or --user.", Exit.USAGE)
    runs_as = None if user else services.ordinary_user(settings, run_as, os.environ)
    configured = _configured(settings)
    service = services.service(settings, user=runs_as, vault=SourceName.OBSIDIAN in configured)
    tasks = scheduled(configured)
    made = verb.plan(systemd, files(_schedule(settings), tasks, service), tasks)
    if plan:
        _print_plan(made, as_json=as_json)
        return
    if runs_as == "root":
        privileged.check(service, settings)
    _refuse_a_second(settings)
    if not user:
        _require_root()
    services.prepare(service)
    _print_done(verb.act(made, force=force), made, as_json=as_json)
    if runs_as == "root":
        note("the units run as root; an ordinary user that owns the backups does as well: --as USER")


@app.command("remove")
def remove(
    *, user: _User = False, plan: _Plan = False, force: _Force = False, as_json: _Json = False
) -> None:
    """Stop the timers and take their units away. Artifacts stay."""
    from refnet.scheduling import install as verb
    from refnet.scheduling.systemctl import Systemd

    made = verb.plan(Systemd(user), (), ())
    if plan:
        _print_plan(made, as_json=as_json)
        return
    _print_done(verb.act(made, force=force), made, as_json=as_json)


@app.command("show")
def show(*, as_json: _Json = False) -> None:
    """Print the next runs of whichever scheduler is in force; warn where there is none, or two."""
    found = _status(current_settings(own=False))
    if as_json:
        print_json(_values(found))
        return
    from refnet.cli import formatting

    rows = [
        (one.task, one.when, formatting.local(one.due), one.by or "nobody")
        for one in sorted(found.tasks, key=lambda each: each.due)
    ]
    formatting.print_columns([("task", "when", "next", "by"), *rows])
    for sentence in found.warnings:
        print(f"warning: {sentence}")


def _status(settings: Settings) -> Status:
    from refnet.scheduling.status import status, timers_of
    from refnet.scheduling.systemctl import Systemd

    schedule = _schedule(settings)
    managers = [timers_of(Systemd(user), settings.home, schedule) for user in (False, True)]
    return status(schedule, _configured(settings), settings.home, managers, now())


def _refuse_a_second(settings: Settings) -> None:
    from refnet.scheduling import places
    from refnet.scheduling.alive import is_held

    if is_held(places.beat_lock(settings.home)):
        raise RefnetError(
            f"Celery's beat runs for {settings.home}: with timers too, everything would run twice",
            "Stop `refnet beat` first, or leave it at that.",
            Exit.LOCKED,
        )


def _require_root() -> None:
    if os.geteuid() != 0:
        raise RefnetError(
            "only root can write the system's units",
            "Run it with sudo, or give --user for units of your own.",
        )


def _schedule(settings: Settings) -> Schedule:
    from refnet.recovery.model.schedule import Schedule

    return Schedule.of(settings)


def _configured(settings: Settings) -> frozenset[SourceName]:
    from refnet import wiring

    return frozenset(wiring.sources(settings))


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    from refnet.scheduling.units import Found

    if as_json:
        steps = [
            {
                "path": str(step.path),
                "found": step.found,
                "change": _change(step),
                "text": step.wanted and step.wanted.text,
            }
            for step in plan.steps
            if step.wanted or step.changes
        ]
        print_json({"plan": True, "files": steps, "timers": plan.timers})
        return
    for step in plan.steps:
        if step.wanted or step.changes:
            print(f"{_change(step):7} {step.path} ({step.found})")
    for step in plan.steps:
        if step.wanted and step.found is not Found.SAME:
            print(f"\n# {step.path}\n{step.wanted.text}", end="")


def _change(step: Step) -> str:
    if not step.changes:
        return "keep"
    return "write" if step.wanted else "remove"


def _print_done(done: Done, plan: Plan, *, as_json: bool) -> None:
    if as_json:
        values = {"changed": [str(path) for path in done.changed], "enabled": done.enabled}
        print_json(values | {"timers": plan.timers, "unreachable": done.unreachable})
        return
    for step in plan.steps:
        if step.path in done.changed:
            print(f"{'wrote' if step.wanted else 'removed':7} {step.path}")
    for name in done.enabled:
        print(f"started {name}")
    if not done.changed and not done.enabled and not (done.unreachable and plan.timers):
        print(
            "nothing to do: everything is in place" if plan.timers else "nothing to do: there are no timers"
        )
    if done.unreachable and plan.timers:
        print(
            f"{plan.systemd.command} could not be reached ({done.unreachable}). Where systemd runs:\n"
            f"  {plan.systemd.command} daemon-reload && {plan.systemd.command} enable --now {' '.join(plan.timers)}"
        )
    if plan.systemd.user and plan.timers:
        note("your own timers wait only while you are logged in, unless root runs: loginctl enable-linger")


def _values(found: Status) -> dict[str, Any]:
    from refnet.recovery.model.artifact import utc

    return {
        "in_force": found.in_force,
        "tasks": [
            {"task": one.task, "when": one.when, "next": utc(one.due), "by": one.by or None}
            for one in found.tasks
        ],
        "warnings": found.warnings,
    }
