"""`refnet worker`, `refnet beat`, `refnet broker start|stop|status`: RefNet under Celery.

Modules that need the extra `celery` are imported after `_require_celery`.
"""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from refnet import servers, wiring
from refnet.cli import options
from refnet.cli.command import Commands
from refnet.cli.completion import choice
from refnet.cli.context import current_settings, note, print_json, would
from refnet.cli.output import output, say
from refnet.cli.render import print_columns
from refnet.core import locks
from refnet.core.errors import Exit, RefnetError
from refnet.core.extras import needed
from refnet.core.files import make_folder
from refnet.core.formatting import plural
from refnet.scheduling import places
from refnet.scheduling.status import timers_of
from refnet.settings import Settings

broker = Commands("Manage the embedded Celery broker.")
_Check = Annotated[
    bool, typer.Option("--check", help="Only check whether one runs on this machine; see the exit code.")
]


def worker(
    queue: Annotated[
        list[str] | None,
        typer.Option(
            help="Only run tasks of this queue (repeatable).",
            metavar="|".join(places.QUEUES),
            **choice("queue", places.QUEUES),
        ),
    ] = None,
    check: _Check = False,
) -> None:
    """Run scheduled tasks as a Celery worker.

    Runs until stopped, and finishes running tasks first. There may be any number of workers.
    """
    settings = current_settings()
    host = socket.gethostname()
    sign = places.worker_sign(settings.home, host, settings.instance)
    if check:
        say(places.check_alive(sign, f"the worker on {host}", places.WORKER_SECONDS))
        return
    app = _celery(settings)
    _give_signs(sign)
    wanted = tuple(dict.fromkeys(queue or places.QUEUES))
    names = ",".join(places.queue_name(one, settings.instance) for one in wanted)
    lock = places.worker_lock(settings.home, settings.instance)  # it says that somebody takes what beat sends
    with _locked(lock, shared=True) if "backup" in wanted else nullcontext():
        name = f"--hostname=refnet-{os.getpid()}@%h"  # any number of them on one machine
        options = ["--loglevel=INFO", "--without-gossip", "--without-mingle", "--queues", names]
        app.worker_main(["worker", name, *options])


def _give_signs(sign: Path) -> None:
    """Touch `sign` at each heartbeat of the worker, which requires a running loop and a connected broker."""
    from celery.signals import heartbeat_sent

    make_folder(sign.parent)
    heartbeat_sent.connect(lambda **_: sign.touch(0o600), weak=False)


def beat(check: _Check = False) -> None:
    """Send scheduled tasks as Celery's beat.

    Sends each task at its time, until stopped. There is one beat.
    """
    settings = current_settings()
    if check:
        sign = places.beat_sign(places.beat_folder(settings.home, settings.instance))
        say(places.check_alive(sign, "beat", places.BEAT_SECONDS))
        return
    app = _celery(settings)
    with _locked(places.beat_lock(settings.home, settings.instance)) as alone:
        if not alone:
            raise RefnetError(
                f"another beat of {settings.home} runs already",
                "Two would send every task twice: stop one.",
                Exit.LOCKED,
            )
        for timers in timers_of(settings, wiring.configured(settings)):
            if timers.waiting:
                note("systemd timers are active too, so everything runs twice: `refnet schedule remove`")
        app.Beat(
            loglevel="INFO", schedule=str(places.beat_folder(settings.home, settings.instance) / "schedule")
        ).run()


def _locked(path: Path, *, shared: bool = False) -> AbstractContextManager[bool]:
    """Lock `path` during the block, even while `refnet schedule show` probes it."""
    make_folder(path.parent)
    return locks.locked(path, shared=shared, seconds=locks.PROBE_SECONDS)


@broker.command("start")
def start(*, plan: options.Plan = False) -> None:
    """Start the embedded broker, if it is not running."""
    _require_celery()
    from refnet.broker import server

    home = current_settings().home
    if would(f"start the broker in {home / 'broker'}, if it does not run", plan=plan):
        return
    server.start(home)
    if not output.quiet:
        _show(current_settings(), as_json=False)


@broker.command("stop")
def stop(*, plan: options.Plan = False) -> None:
    """Stop the embedded broker; its queued tasks stay."""
    _require_celery()
    from refnet.broker import server

    home = current_settings().home
    if would(f"stop the broker in {home / 'broker'}, if it runs", plan=plan):
        return
    stopped = server.stop(home)
    say("The broker is stopped; its queued tasks stay." if stopped else "The broker was not running.")


@broker.command("status")
def status(as_json: options.Json = False) -> None:
    """Show the state of the embedded broker.

    Print its folder and the number of queued tasks.
    """
    _require_celery()
    _show(current_settings(), as_json=as_json)


def _show(settings: Settings, *, as_json: bool) -> None:
    from refnet.broker import server

    now = server.status(settings.home)
    facts = {
        "running": now.running,
        "pid": now.pid,
        "version": now.version or None,
        "folder": str(now.folder),
        "socket": str(now.socket),
        "waiting": now.waiting,
        "in_use": settings.broker_url is None,
    }
    if as_json:
        print_json(facts)
        return
    state = f"Valkey {now.version}, running (pid {now.pid})" if now.running else "stopped"
    rows = {"state": state, "folder": str(now.folder), "socket": str(now.socket)}
    rows["waiting"] = plural(now.waiting, "task")
    if not facts["in_use"]:
        rows["note"] = "REFNET_BROKER_URL is set: Celery uses that broker, not this one."
    print_columns([*rows.items()])


def _celery(settings: Settings) -> Any:
    """Celery's app, after its broker responded."""
    _require_celery()
    from refnet.broker import server
    from refnet.tasks import app, use

    use(settings)
    server.check(servers.broker(settings))
    return app


def _require_celery() -> None:
    with needed("celery"):
        import celery  # noqa: F401
        import redis  # noqa: F401
