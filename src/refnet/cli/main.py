"""The command `refnet`: its commands by name, imported only when they run, and the one place of exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from refnet.cli import (
    accept,
    adopt,
    backup,
    catalog,
    database,
    demo,
    diff,
    drill,
    metrics,
    monitor,
    network,
    notify,
    postgres,
    prune,
    recover,
    restore,
    schedule,
    store,
    verify,
    worker,
)
from refnet.cli.context import complain, current_settings
from refnet.errors import Exit, RefnetError
from refnet.settings import CONFIG, user_path

app = typer.Typer(
    name="refnet",
    help="A citation network in PostgreSQL, and backups that prove themselves by being restored.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
#: What Typer makes of a KeyboardInterrupt.
_INTERRUPTED = 130

app.add_typer(network.network, name="network")
app.add_typer(network.imports, name="import")
app.add_typer(postgres.app, name="postgres")
app.add_typer(database.app, name="database")
app.add_typer(schedule.app, name="schedule")
app.add_typer(worker.broker, name="broker")
app.add_typer(store.store, name="store")
app.add_typer(restore.restore, name="restore")
app.add_typer(restore.undo, name="undo")


def run() -> None:
    """Run the command line; end with a documented exit code, never with a traceback for what a user can cause."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # half-written files are cleaned up as on Ctrl-C
    os.umask(os.umask(0o077) | 0o022)  # what others could write in, no later run would believe
    try:
        with _logged(_without_config(sys.argv[1:])):
            app(standalone_mode=True)
    except RefnetError as error:
        complain(error)
        sys.exit(error.code)
    except (SystemExit, KeyboardInterrupt) as ended:  # the latter outside of what Typer watches
        if isinstance(ended, SystemExit) and ended.code != _INTERRUPTED:
            raise
        complain(RefnetError("interrupted", "Nothing half-done is live; run it again."))
        sys.exit(Exit.FAILED)


#: Which log a command's beginning and end are written to; backups and drills write their own.
_LOGS = {"restore": "restore", "undo": "restore", "recover": "restore", "verify": "backup", "prune": "backup"}


@contextmanager
def _logged(arguments: list[str]) -> Iterator[None]:
    """Write what changes or checks something into the log, where the settings ask for one."""
    name = _LOGS.get(next(iter(arguments), ""))
    settings = current_settings() if name and "--help" not in arguments else None
    if name is None or settings is None or not (settings.log_folder or settings.log_level):
        yield
        return
    from refnet.telemetry.logging import logged, open_log

    with logged(open_log(settings, name), arguments[0], arguments[1:]):
        yield


def _without_config(arguments: list[str]) -> list[str]:
    """`arguments` from the command on; a `--config FILE` before it is put where every part of this process reads it."""
    while arguments and arguments[0].startswith("--config"):
        option, equals, value = arguments.pop(0).partition("=")
        if option != "--config" or not (equals or arguments):
            break  # Typer says what is wrong
        os.environ[CONFIG] = str(user_path(value if equals else arguments.pop(0)).absolute())
    return arguments


@app.callback()
def _root(
    *,
    config: Annotated[  # taken by _without_config, before the log is opened
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The settings file; none: refnet.toml here, in REFNET_HOME, or in /etc/refnet.",
        ),
    ] = None,
) -> None:
    """A citation network in PostgreSQL, and backups that prove themselves by being restored."""


@app.command("settings")
def show_settings() -> None:
    """Print every setting in force and where it comes from; secrets are hidden."""
    from refnet.cli.settings import show

    show(current_settings(own=False))


app.command("backup")(backup.backup)
app.command("list")(catalog.list_artifacts)
app.command("show")(catalog.show)
app.command("verify")(verify.verify)
app.command("drill")(drill.drill)
app.command("diff")(diff.diff)
app.command("demo")(demo.demo)
app.command("prune")(prune.prune)
app.command("monitor")(monitor.monitor)
app.command("adopt")(adopt.adopt)
app.command("accept")(accept.accept)
app.command("metrics")(metrics.metrics)
app.command("recover")(recover.recover)
app.command("notify")(notify.notify)
app.command("worker")(worker.worker)
app.command("beat")(worker.beat)
