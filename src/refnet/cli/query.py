"""`refnet query` and `refnet browse`: the tables of an artifact in a scratch server, by SQL."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice
from typing import Annotated

import typer
from rich.cells import cell_len

from refnet.actions import look
from refnet.cli import options
from refnet.cli.command import spread
from refnet.cli.context import context, note, print_json_list, printable_json, with_progress
from refnet.cli.output import say
from refnet.core.checked import parsed
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain, plural
from refnet.sources.contents import AnswerLimits, Query, QueryAnswer
from refnet.sources.database.database_contents import checked, doubts
from refnet.sources.database.query.answer import LARGEST_ROW, SETTINGS
from refnet.sources.database.query.copies import ScratchCopy

#: The widths of columns come from so many rows, or characters, which are in memory; none is wider than the last.
_MEASURED, _MEASURED_CHARACTERS, _WIDEST = 1000, 4 << 20, 60
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?|")
_SPACES = str.maketrans("\n\r\t", "   ")
#: The variables that psql gets.
_KEPT = frozenset({"PATH", "TERM", "LANG", "LC_ALL", "LC_CTYPE", "COLUMNS", "LINES", "HOME"})
#: Bytes of a query that is read from stdin.
_LONGEST = 400_000

Trust = Annotated[
    bool, typer.Option("--trust", help="Load a foreign dump even if an isolation layer is missing.")
]


@spread
def query(
    artifact: options.Artifact,
    sql: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL", help="One query: SELECT, VALUES, TABLE or WITH; - reads it from stdin."
        ),
    ] = None,
    *,
    sample: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="Instead of SQL: the first rows of this table, without a server."),
    ] = None,
    at: options.At = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header line.")] = False,
    as_json: options.Json = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Load every table, not only those in the query.")
    ] = False,
    rows: Annotated[
        int, typer.Option(min=1, max=10**9, metavar="N", help="The maximum number of rows to print.")
    ] = AnswerLimits.rows,
    megabytes: Annotated[
        int, typer.Option(min=1, max=10**6, metavar="N", help="The maximum output, in MiB.")
    ] = AnswerLimits.bytes >> 20,
    seconds: Annotated[
        int, typer.Option(min=1, max=86_400, metavar="N", help="The time limit of the query.")
    ] = int(AnswerLimits.seconds),
    trust: Trust = False,
    place: options.StoreOptions,
) -> None:
    """Query an artifact by SQL, in a scratch server.

    It loads the tables that the query reads, answers, and throws the server away; nothing live is touched. Large
    objects and indexes are not loaded. Ends with 1 if the answer is cut short.
    """
    if as_csv and as_json:
        raise RefnetError("--csv and --json exclude each other", "Omit one of them.", Exit.USAGE)
    if (sql is None) == (sample is None):
        problem = "there is no query" if sql is None else "SQL and --sample exclude each other"
        raise RefnetError(problem, "Give SQL, or --sample TABLE.", Exit.USAGE)
    text = sys.stdin.read(_LONGEST) if sql == "-" else sql or ""
    limits = AnswerLimits(seconds, rows, megabytes << 20)
    asked = Query(text, limits, at, everything, trust, as_json, sample or "")
    with ExitStack() as stack:
        with with_progress(context(place, key=True), "query") as here:  # its line ends before the first row
            if not sample:
                checked(text)  # before anything is read
            answer = stack.enter_context(look.query(here, artifact, asked))
        (_print_json if as_json else _print_csv if as_csv else _print_table)(answer)
    for sentence in answer.notes:
        note(sentence)
    if answer.cut:
        raise answer.cut
    if not (as_csv or as_json):
        say(f"{plural(answer.asker.count, 'row')} from {answer.artifact.name}")


def _print_json(answer: QueryAnswer) -> None:
    print_json_list(answer.head(), "rows", (_checked(value) for (value,) in answer.rows))


def _checked(text: str | None) -> str:
    """The server's JSON for a row, with escapes for unprintable characters."""
    try:
        parsed(text or "", LARGEST_ROW)
    except ValueError as error:
        raise RefnetError(f"the server's JSON of a row cannot be read: {error}", "Use --csv.") from None
    return printable_json((text or "").translate(_SPACES))  # outside of texts, where JSON allows no others


def _print_csv(answer: QueryAnswer) -> None:
    _print_line(answer.columns)
    for row in answer.rows:
        _print_line(row)
    sys.stdout.flush()


def _print_line(row: Iterable[str | None]) -> None:
    line = ",".join(map(_cell, row))
    if sys.stdout.isatty():
        print("\n".join(map(plain, line.split("\n"))))
    else:
        sys.stdout.buffer.write(f"{line}\n".encode("utf-8", "surrogateescape"))


def _cell(value: str | None) -> str:
    """A value in PostgreSQL's CSV: NULL is empty, empty text is quoted."""
    if value is None:
        return ""
    special = not value or value == "\\." or any(one in value for one in ',"\r\n')
    return '"' + value.replace('"', '""') + '"' if special else value


def _print_table(answer: QueryAnswer) -> None:
    rows = map(_plain_row, answer.rows)
    head, measured, left = _plain_row(answer.columns), list[list[str]](), _MEASURED_CHARACTERS
    for row in islice(rows, _MEASURED):
        measured.append(row)
        left -= sum(map(len, row))
        if left < 0:
            break
    columns = range(len(head))
    widths = [min(max(cell_len(row[at]) for row in (head, *measured)), _WIDEST) for at in columns]
    numbers = [measured != [] and all(_NUMBER.fullmatch(row[at]) for row in measured) for at in columns]

    def show(row: list[str]) -> None:
        gaps = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = (
            gap + cell if number else cell + gap for cell, gap, number in zip(row, gaps, numbers, strict=True)
        )
        print("  ".join(cells).rstrip())

    for row in (head, *measured):
        show(row)
    for row in rows:
        show(row)


def _plain_row(row: Iterable[str | None]) -> list[str]:
    return [plain(value or "") for value in row]


@spread
def browse(
    artifact: options.Artifact,
    *,
    at: options.At = None,
    trust: Trust = False,
    place: options.StoreOptions,
) -> None:
    """Open psql on an artifact, in a scratch server.

    The server has all tables and ends when you leave psql; nothing live is touched. The login reads everything.
    """
    with ExitStack() as stack:
        with with_progress(context(place, key=True), "browse") as here:
            chosen, copy = stack.enter_context(look.browse(here, artifact, at, trust=trust))
        for sentence in doubts(copy):
            note(sentence)
        say(
            f"{chosen.name} in a scratch server, which ends when you leave (\\q). Nothing live is connected.",
            flush=True,
        )
        code = run_psql(copy)
    if code:
        raise RefnetError(f"psql ended with {code}", "See its messages above.")


def run_psql(copy: ScratchCopy) -> int:
    """Run psql until it ends; return its exit code.

    A hostile backup controls the output, so results go through `less`, which shows control characters as text, and
    messages of the server through this process.
    """
    less = shutil.which("less")
    command = [str(copy.cluster.binaries.tool("psql")), "-X", "--no-password", "-v", "HISTFILE=/dev/null"]
    pages = less is not None and sys.stdin.isatty() and sys.stdout.isatty()
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql's own: it ends a query
    try:
        with subprocess.Popen(
            [*command, "-P", "pager=always"] if pages else command,
            env=_environment(copy, less if pages else None),
            stderr=subprocess.PIPE,
        ) as psql:
            try:
                for line in psql.stderr or ():
                    print(plain(line.decode(errors="replace").rstrip("\n")), file=sys.stderr, flush=True)
                return psql.wait()
            finally:
                psql.terminate()  # where a signal ends this process
    finally:
        signal.signal(signal.SIGINT, interrupt)


def _environment(copy: ScratchCopy, less: str | None) -> dict[str, str]:
    """Environment of psql: only terminal, language and login."""
    login = copy.reader.environment(SETTINGS, encoding="UTF8")
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    pager = (
        {"PSQL_PAGER": f"{shlex.quote(less)} -FXS", "LESSSECURE": "1", "LESSHISTFILE": "-"} if less else {}
    )
    return {**kept, **{name: value for name, value in login.items() if name.startswith("PG")}, **pager}
