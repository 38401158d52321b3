"""`refnet init`: ask for database, folders and schedule, write refnet.toml, make the first backup."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Annotated

import typer

from refnet.actions.backup import Options
from refnet.actions.init import MORE, NONE, OWN, QUESTIONS, WAL, Question, SettingsDraft, clusters, start
from refnet.cli import options
from refnet.cli.backup import back_up, with_databases
from refnet.cli.check import print_lines
from refnet.cli.context import at_terminal, confirm, context, note
from refnet.cli.output import complain, output, say
from refnet.cli.schedule import install
from refnet.core.errors import Exit, RefnetError, worst
from refnet.core.formatting import plain
from refnet.scheduling.systemd import Systemd
from refnet.servers import ActsOn
from refnet.settings import is_secret
from refnet.sources.check_result import CheckLine


def init(
    *,
    database_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The database; put its password into ~/.pgpass.")
    ] = None,
    config_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="The folder of the configuration, or none.")
    ] = None,
    vault_dir: Annotated[str | None, typer.Option(metavar="DIR", help="The Obsidian vault, or none.")] = None,
    backup_dir: Annotated[str | None, typer.Option(metavar="DIR", help="The backup folder.")] = None,
    another_database: Annotated[
        list[str] | None,
        typer.Option(metavar="URL|FILE", help="One more database, or an SQLite file (repeatable)."),
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="A database of a server; all databases of the server are backed up (repeatable).",
        ),
    ] = None,
    wal: Annotated[
        bool | None,
        typer.Option(
            "--wal/--no-wal",
            help="With --cluster: also base backups and WAL, for a restore to any second. They have every database,"
            " and the verifiers of all passwords.",
        ),
    ] = None,
    folder: Annotated[
        list[str] | None, typer.Option(metavar="DIR", help="One more folder (repeatable).")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When the database is backed up, such as 'daily 02:00'."),
    ] = None,
    plan: options.Plan = False,
    force: Annotated[
        bool, typer.Option("--yes", "--force", "-y", help="Ask no questions; use the defaults.")
    ] = False,
) -> None:
    """Write refnet.toml and make the first backup.

    Checks the settings first, and proves the backup.
    """
    given = zip(QUESTIONS, (database_url, config_dir, vault_dir, backup_dir, schedule), strict=True)
    further = {"--another-database": another_database, "--cluster": cluster, "--folder": folder}
    draft = start({**os.environ, **output.variables}, Path.cwd())
    asks = not (force or plan)
    if asks and not at_terminal():
        raise RefnetError(
            "refnet init asks questions, but stdin is not a terminal",
            f"Give {', '.join(one.option for one in QUESTIONS)} and --yes.",
            Exit.CONFIRM,
        )
    lines: list[CheckLine] = []
    for question, answer in given:
        if answer is None and not asks and any(further.values()) and not question.default(draft):
            answer = NONE  # noqa: PLW2901  # the other sources are enough
        draft, found = _answered(draft, question, answer, asks=asks)
        lines += found
        for more in MORE.get(question.option, ()):
            draft, others = _repeated(draft, more, further[more.option] or (), asks=asks)
            lines += others
    if clusters(draft):
        draft, found = _answered(draft, WAL, wal if wal is None else "yes" if wal else "no", asks=asks)
        lines += found
    elif wal:
        raise RefnetError("--wal is for a cluster", "Name its server with --cluster URL.", Exit.USAGE)
    systemd = asks and Systemd(os.geteuid() != 0).unreachable() is None
    timers = systemd and _line("Install systemd timers afterwards? [y/N]: ").lower() in {"y", "yes"}
    if plan or not output.quiet:
        print_lines(lines)
        print(f"\n# {plain(str(draft.file))}")
        print(*map(plain, draft.text(hidden=True).split("\n")), sep="\n")
    if not plan:
        confirm(f"Write {draft.file} and make the first backup?", force=force)
        draft.write()
        raise typer.Exit(_begin(draft, timers=timers))


def _begin(draft: SettingsDraft, *, timers: bool) -> Exit:
    """Make the first backup and install the timers; return the exit code."""
    say(f"wrote {draft.file}")
    for name in draft.overridden():
        note(f"{name} is set in this environment and takes precedence over {draft.file}")
    here, failed = with_databases(context(), (), record=True)
    codes = [worst((back_up(here, how=Options(first=True)), *(error.code for error in failed)))]
    if timers:
        try:
            install(user=os.geteuid() != 0)
        except RefnetError as error:
            complain(error)
            codes.append(error.code)
    if codes[0]:
        note(f"{draft.file} stays; fix the cause and run `refnet backup`")
    else:
        say(f"next: `refnet check`{'' if timers else ' and `refnet schedule install`'}")
        say("to encrypt the artifacts too: `refnet key new`, then encryption.local in the settings file")
    return worst(codes)


def _answered(
    draft: SettingsDraft, question: Question, answer: str | None, *, asks: bool
) -> tuple[SettingsDraft, tuple[CheckLine, ...]]:
    """`draft` with an answer to `question`, and its checks; a terminal user is asked again after an error."""
    default = question.default(draft) or (NONE if asks else "")
    if answer is not None or not asks:
        return draft.answered(question, default if answer is None else answer)
    hidden = default == OWN or is_secret("database_url", default)
    shown = ActsOn.of(draft.settings).shown if hidden else default
    while True:
        answer = _line(f"{question.asks} [{shown}]: ") or default
        try:
            return draft.answered(question, answer)
        except RefnetError as error:
            complain(error)


def _repeated(
    draft: SettingsDraft, question: Question, answers: Sequence[str], *, asks: bool
) -> tuple[SettingsDraft, list[CheckLine]]:
    """`draft` with all `answers`, and with answers from the terminal up to "none"; and their checks."""
    lines: list[CheckLine] = []
    for answer in answers or (repeat(None) if asks else ()):
        before = draft
        draft, found = _answered(draft, question, answer, asks=asks)
        if draft.table != before.table:
            lines += found
        elif answer is None:
            break
    return draft, lines


def _line(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise RefnetError("the input ended before the last question", "Nothing was written.", Exit.CONFIRM)
    return line.strip()
