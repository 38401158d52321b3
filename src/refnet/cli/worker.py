"""`refnet worker`, `refnet beat`, `refnet broker start|stop|status`: RefNet under Celery."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli.context import current_settings, note
from refnet.errors import Exit, RefnetError

if TYPE_CHECKING:
    from refnet.settings import Settings

broker = typer.Typer(help="The embedded broker, for those who have no Redis.", no_args_is_help=True)


def worker() -> None:
    """Run the tasks that beat sends, until it is stopped; what is at work then is finished first."""
    settings = current_settings()
    app = _celery(settings)
    from refnet.scheduling import alive, places

    with alive.held(places.worker_lock(settings.home), shared=True):
        name = f"--hostname=refnet-{os.getpid()}@%h"  # any number of them on one machine
        app.worker_main(["worker", name, "--loglevel=INFO", "--without-gossip", "--without-mingle"])


def beat() -> None:
    """Send each task when the schedule says so, until it is stopped. One beat, and any number of workers."""
    settings = current_settings()
    app = _celery(settings)
    from refnet.scheduling import alive, places

    with alive.held(places.beat_lock(settings.home)) as alone:
        if not alone:
            raise RefnetError(
                f"another beat of {settings.home} runs already",
                "Two would send every task twice: stop one, or leave it at that.",
                Exit.LOCKED,
            )
        _warn_of_timers(settings)
        app.Beat(loglevel="INFO", schedule=str(places.beat_folder(settings.home) / "schedule")).run()


def _warn_of_timers(settings: Settings) -> None:
    from refnet.recovery.model.schedule import Schedule
    from refnet.scheduling.status import timers_of
    from refnet.scheduling.systemctl import Systemd

    for user in (False, True):
        if timers_of(Systemd(user), settings.home, Schedule.of(settings)).waiting:
            note("systemd's timers are in force too, so everything runs twice: `refnet schedule remove`")


@broker.command("start")
def start() -> None:
    """Start the embedded broker; nothing happens where it runs."""
    _require_celery()
    from refnet.broker import embedded

    embedded.start(current_settings().home)
    _show(current_settings(), as_json=False)


@broker.command("stop")
def stop() -> None:
    """Stop the embedded broker; tasks that wait in it stay."""
    _require_celery()
    from refnet.broker import embedded

    stopped = embedded.stop(current_settings().home)
    print("The broker is stopped; what waits in it stays." if stopped else "The broker was not running.")


@broker.command("status")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show whether the embedded broker runs, where it lies, and how many tasks wait in it."""
    _require_celery()
    _show(current_settings(), as_json=as_json)


def _show(settings: Settings, *, as_json: bool) -> None:
    from refnet.broker import embedded

    now = embedded.status(settings.home)
    if as_json:
        facts = {"running": now.running, "pid": now.pid, "version": now.version or None}
        facts |= {"folder": str(now.folder), "socket": str(now.socket), "waiting": now.waiting}
        facts |= {"in_use": settings.broker_url is None}
        print(json.dumps(facts, indent=2))
        return
    state = f"Valkey {now.version}, running (pid {now.pid})" if now.running else "stopped"
    rows = {"state": state, "folder": now.folder, "socket": now.socket, "waiting": f"{now.waiting} tasks"}
    for name, value in rows.items():
        print(f"{name:<9}{value}")
    if settings.broker_url:
        print("note     REFNET_BROKER_URL is set: Celery uses that broker, not this one.")


def _celery(settings: Settings) -> Any:
    """Celery's app, its broker known to answer."""
    _require_celery()
    from refnet import servers
    from refnet.broker import address
    from refnet.tasks import app

    address.check(servers.broker(settings))
    return app


def _require_celery() -> None:
    try:
        import celery  # noqa: F401
        import redis  # noqa: F401
    except ModuleNotFoundError as error:
        raise RefnetError(
            f"Celery's part of RefNet is not installed ({error.name or error} is missing)",
            "Run: pip install 'refnet[celery]'. Without it, `refnet schedule install` uses systemd.",
        ) from None
