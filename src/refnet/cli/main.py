"""The command `refnet`: commands imported on demand, and the single place that sets exit codes."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]

from refnet import __version__
from refnet.cli import streams
from refnet.cli.command import HELP, SHARED, Command, Commands, Group
from refnet.cli.output import complain, output
from refnet.core.errors import Exit, RefnetError
from refnet.core.signals import interruptible

#: Group of `refnet --help` → its commands: module in refnet.cli, function or group there, line in the help.
GROUPS = {
    "Start": {
        "init": ("init", "init", "Write refnet.toml and make the first backup."),
        "check": ("check", "check", "Check all that backup, restore and recovery need."),
        "completion": ("completion", "completion", "Print the completion script of bash, zsh or fish."),
    },
    "Back up": {
        "backup": ("backup", "backup", "Back up the sources and prove each backup by restoring it."),
        "list": ("list", "list_artifacts", "List the artifacts with age, size and state."),
        "wal": ("wal", "wal", "Receive the WAL of a cluster, for restores to any second."),
        "copy": ("copy", "copy", "Send encrypted copies to remote stores, and check them."),
        "prune": ("prune", "prune", "Delete the artifacts that retention no longer keeps."),
        "forget": ("marks", "forget", "Delete artifacts by name."),
        "pin": ("marks", "pin", "Keep an artifact whatever its age."),
        "unpin": ("marks", "unpin", "End the pin of an artifact."),
        "tag": ("marks", "tag", "Tag an artifact, or remove its tags."),
        "adopt": ("adopt", "adopt", "Write manifests for artifacts that have none."),
        "accept": ("marks", "accept", "Accept an artifact that shrank."),
        "store": ("store", "store", "Manage the backup folder, and check the remote stores."),
        "key": ("key", "key", "Make, show and check the keys of remote copies."),
    },
    "Look inside": {
        "show": ("look", "show", "Show one artifact: its origin, content and evidence."),
        "cat": ("look", "cat", "Print one file of an artifact."),
        "query": ("query", "query", "Query an artifact by SQL, in a scratch server."),
        "browse": ("query", "browse", "Open psql on an artifact, in a scratch server."),
        "at": ("at", "at", "Recover a database as of any second, in a scratch server."),
        "log": ("look", "log", "Show in which artifacts a file or table changed."),
        "find": ("look", "find", "Find the artifacts with a file or table."),
    },
    "Restore": {
        "restore": ("restore", "restore", "Restore a source and keep the previous version."),
        "undo": ("restore", "undo", "Undo the last restore of a source."),
        "recover": ("recover", "recover", "Restore every source after a loss, and compare all."),
        "fetch": ("fetch", "fetch", "Bring copies back into the backup folder."),
    },
    "Check": {
        "verify": ("verify", "verify", "Check artifacts by a trial restore."),
        "drill": ("drill", "drill", "Prove the newest artifacts, time it, and write a report."),
        "diff": ("diff", "diff", "Show the differences between an artifact and live data."),
        "monitor": ("monitor", "monitor", "Report whether every source is protected."),
        "settings": ("settings", "settings", "Print every setting and its origin."),
        "database": ("postgres", "database", "Inspect the database."),
    },
    "Automate": {
        "schedule": ("schedule", "app", "Install systemd timers and show the next runs."),
        "worker": ("worker", "worker", "Run scheduled tasks as a Celery worker."),
        "beat": ("worker", "beat", "Send scheduled tasks as Celery's beat."),
        "broker": ("worker", "broker", "Manage the embedded Celery broker."),
        "serve": ("serve", "serve", "Serve the dashboard and the HTTP API."),
        "metrics": ("monitor", "metrics", "Print or serve metrics for Prometheus."),
        "notify": ("notify", "notify", "Send a test message to every service of notify.urls."),
    },
    "Network": {
        "crawl": ("crawl", "crawl", "Collect papers and citations from Semantic Scholar."),
        "find-papers": ("find_papers", "find_papers", "Search Semantic Scholar for papers."),
        "papers": ("papers", "papers", "Search the stored papers."),
        "jobs": ("crawl", "jobs", "List the jobs of the network, or retry those that failed."),
        "network": ("network", "network", "Create and fill the citation network's tables."),
        "notes": ("network", "notes", "Write the network into the Obsidian vault."),
        "export": ("network", "export", "Export papers and citations for other programs."),
        "rank": ("rank", "rank", "Rank all papers, and find the closest papers of each."),
        "summarize": ("rank", "summarize", "Summarize the papers that have no summary, the best first."),
        "import": ("network", "imports", "Import a citation graph from a file."),
        "postgres": ("postgres", "postgres", "Manage the embedded PostgreSQL."),
        "demo": ("demo", "demo", "Lose everything in a sandbox and restore it from backups."),
    },
}
_COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
#: The log that each command's start and end are written to; backups and drills write their own.
_LOGS = {
    "restore": "restore",
    "undo": "restore",
    "recover": "restore",
    "verify": "backup",
    "prune": "backup",
    "copy": "backup",
    "fetch": "restore",
    "forget": "backup",
}
#: The commands that write into the backup folder or the record of runs.
_WRITING = frozenset(
    {
        *("accept", "adopt", "backup", "copy", "drill", "forget", "monitor"),
        *("notify", "pin", "prune", "store", "tag", "unpin", "verify"),
    }
)
_HELP = frozenset({"--help", "-h"})
#: Typer's exit code for a KeyboardInterrupt.
_INTERRUPTED = 130


class _Root(Group):
    """The commands of `_COMMANDS`: first only names and help lines; the called command replaces its entry."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, _, line) in _COMMANDS.items():
            self.add_command(Command(name, short_help=line))

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # of click
        width = max(map(len, _COMMANDS))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, (_, _, line) in commands.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in _COMMANDS:
            self.add_command(_imported(args[0]))
            _exempt_from_collection()
        return super().resolve_command(ctx, args)


def _imported(name: str) -> Any:
    module, attribute, _ = _COMMANDS[name]
    found = getattr(import_module(f"refnet.cli.{module}"), attribute)
    parent = Commands("")
    parent.callback()(lambda: None)  # with a callback Typer makes a group, even of one command
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name)
    else:
        parent.command(name)(found)
    group: Any = typer.main.get_command(parent)
    return group.commands[name]


def _exempt_from_collection() -> None:
    """Exempt the modules that are loaded from garbage collection, and let it begin.

    Else each collection visits them, and the last one, when Python ends, takes them apart: a sixth of a short command.
    """
    gc.freeze()
    gc.enable()


completion_init()  # Typer does it only with options that edit the user's files
app = typer.Typer(
    name="refnet",
    cls=_Root,
    context_settings=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"refnet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[  # its callback ends the run
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    config: Annotated[  # taken by _without_config, before the log is opened
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The settings file; default: refnet.toml here, in REFNET_HOME, or in /etc/refnet.",
        ),
    ] = None,
) -> None:
    """Back up databases and folders, and prove each backup by restoring it."""


@interruptible()
def run() -> None:
    """Run the command line; end with a documented exit code, never with a traceback for a user's error."""
    # Later runs refuse what others can write. The owner keeps all rights, whatever the umask was.
    os.umask((os.umask(0o077) | 0o022) & 0o077)
    try:
        _check_current_folder()
        arguments = _without_config(_without_keys(sys.argv[1:]))
        _run_in_stack(arguments)
        with _logged(arguments):
            try:
                app(standalone_mode=True)
            except SystemExit as ended:
                sys.stdout.flush()
                lost = streams.stdout_error()
                if lost and lost.errno != errno.EPIPE and not ended.code:
                    raise lost from None
                raise
            finally:
                print(end="", flush=True)  # its error is reported here, and not when Python ends
    except OSError as error:  # of the output alone: other errors become a RefnetError where they occur
        if error.errno not in streams.NOT_WRITTEN or error.filename is not None:
            raise
        streams.to_nowhere(1)  # or Python tries to write the rest once more
        if error.errno == errno.EPIPE:
            sys.exit(Exit.FAILED)
        _end(
            RefnetError(
                f"the output cannot be written: {error.strerror}", "Free space, or write it elsewhere."
            )
        )
    except RefnetError as error:
        _end(error)
    except (SystemExit, KeyboardInterrupt) as ended:  # the latter outside of Typer's own handling
        if isinstance(ended, SystemExit) and ended.code != _INTERRUPTED:
            raise
        _end(RefnetError("interrupted", "Nothing half-done is live; retry."))


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise RefnetError(
            "the current folder was deleted", "Change to another one (cd /), and retry.", Exit.USAGE
        ) from None


def _run_in_stack(arguments: list[str]) -> None:
    """Run the command in the container that makes the backups, if there is one; then it does not return."""
    if arguments and arguments[0] in _WRITING and _HELP.isdisjoint(arguments):
        from refnet.cli.in_stack import run_there  # `refnet --help` does without it

        run_there(arguments)


def _end(error: RefnetError) -> NoReturn:
    complain(error)
    sys.exit(error.code)


@contextmanager
def _logged(arguments: list[str]) -> Iterator[None]:
    """Log the start and end of a command of `_LOGS`, if the settings ask for a log."""
    name = _LOGS.get(next(iter(arguments), ""))
    with ExitStack() as log:
        if name and _HELP.isdisjoint(arguments):
            from refnet.cli.context import current_settings

            settings = current_settings()
            if settings.log_folder or settings.log_level:
                from refnet.telemetry.logging import logged, open_log

                log.enter_context(logged(open_log(settings, name), arguments[0], arguments[1:]))
        yield


def _without_keys(arguments: list[str]) -> list[str]:
    """`arguments`; RefnetError if they contain a recovery key, before anything prints it."""
    if any("AGE-SECRET-KEY-" in one.upper() for one in arguments):
        raise RefnetError(
            "a recovery key is among the arguments, which other users and the shell's history see",
            "Type it where a command asks for it. Replace this one: `refnet key rotate`.",
            Exit.USAGE,
        )
    return arguments


def _without_config(arguments: list[str]) -> list[str]:
    """`arguments` from the command on; a preceding `--config FILE` is kept for all that reads settings."""
    output.variables = {}
    while arguments and (arguments[0] in SHARED or arguments[0].startswith("--config")):
        option, equals, value = arguments.pop(0).partition("=")
        if option in SHARED:
            continue
        if option != "--config" or not (equals or arguments):
            break  # Typer reports the error
        from refnet.settings import CONFIG, user_path  # `refnet --help` does not wait for it

        output.variables = {CONFIG: str(user_path(value if equals else arguments.pop(0)).absolute())}
    return arguments
