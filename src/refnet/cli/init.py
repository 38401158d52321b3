"""`refnet init`: ask for database, folders and schedule, write refnet.toml, make the first backup."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from refnet.actions.init import QUESTIONS, Draft, Question, shown, start
from refnet.cli import options
from refnet.cli.backup import back_up
from refnet.cli.context import complain, confirm, context, note
from refnet.cli.schedule import install
from refnet.errors import Exit, RefnetError, worst
from refnet.scheduling.systemctl import Systemd

_Answer = str | None


def init(
    *,
    database_url: Annotated[
        _Answer, typer.Option(metavar="URL", help="The database; put its password into ~/.pgpass.")
    ] = None,
    config_dir: Annotated[
        _Answer, typer.Option(metavar="DIR", help="The folder of the configuration, or none.")
    ] = None,
    vault_dir: Annotated[_Answer, typer.Option(metavar="DIR", help="The Obsidian vault, or none.")] = None,
    backup_dir: Annotated[_Answer, typer.Option(metavar="DIR", help="The backup folder.")] = None,
    schedule: Annotated[
        _Answer, typer.Option(metavar="TIME", help="When the database is backed up, such as 'daily 02:00'.")
    ] = None,
    plan: options.Plan = False,
    force: Annotated[
        bool, typer.Option("--yes", "--force", "-y", help="Ask nothing; take the defaults.")
    ] = False,
) -> None:
    """Write refnet.toml for a new backup, check it, and make and prove the first backup."""
    given = dict(zip(QUESTIONS, (database_url, config_dir, vault_dir, backup_dir, schedule), strict=True))
    draft = start(os.environ, Path.cwd())
    asks = not (force or plan)
    if asks and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RefnetError(
            "refnet init asks questions, and stdin is not a terminal",
            f"Give {', '.join(one.option for one in QUESTIONS)} and --yes.",
            Exit.CONFIRM,
        )
    for question, answer in given.items():
        draft = _answered(draft, question, answer, asks=asks)
        if question.take is Draft.database and draft.login:
            print(draft.login.display)
    timers = (
        asks and Systemd(os.geteuid() != 0).unreachable() is None and _says_yes("Install systemd timers?")
    )
    print(f"\n# {draft.file}\n{draft.text(hidden=True)}")
    if plan:
        return
    confirm(f"Write {draft.file} and make the first backup?", force=force)
    draft.write()
    raise typer.Exit(_begin(draft, timers=timers))


def _begin(draft: Draft, *, timers: bool) -> Exit:
    """Make the first backup and install the timers; return the exit code."""
    print(f"wrote {draft.file}")
    for name in draft.overridden():
        note(f"{name} is set in this environment and has precedence over {draft.file}")
    for sentence in draft.notes:
        note(sentence)
    codes = [back_up(context())]
    if timers:
        try:
            install(user=os.geteuid() != 0)
        except RefnetError as error:
            complain(error)
            codes.append(error.code)
    elif not codes[0]:
        print("next: `refnet check`, and `refnet schedule install` for automatic backups")
    if codes[0]:
        note(f"{draft.file} is written; fix the cause and run `refnet backup`")
    return worst(codes)


def _answered(draft: Draft, question: Question, answer: _Answer, *, asks: bool) -> Draft:
    """Return `draft` with an answer to `question`; at a terminal, ask again after a wrong one."""
    default = question.default(draft)
    if answer is not None or not asks:
        return _taken(draft, question, default if answer is None else answer)
    while True:
        try:
            return _taken(draft, question, _line(f"{question.asks} [{shown(default)}]: ") or default)
        except RefnetError as error:
            if error.code is Exit.CONFIRM:
                raise
            complain(error)


def _taken(draft: Draft, question: Question, answer: str) -> Draft:
    if not answer and question.option != "--database-url":
        raise RefnetError(f"{question.option} is empty", "Give a value, or leave it out.", Exit.USAGE)
    return question.take(draft, answer)


def _says_yes(question: str) -> bool:
    return _line(f"{question} [y/N]: ").lower() in {"y", "yes"}


def _line(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise RefnetError("the input ended before the last question", "Nothing was written.", Exit.CONFIRM)
    return line.strip()
