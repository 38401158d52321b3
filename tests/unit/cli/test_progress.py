"""Progress on a terminal: seen where something takes long, from as many threads as there are, gone at the end."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from refnet.cli.context import progress
from refnet.core.errors import Exit, RefnetError

PROGRAM = """
import threading, time
from refnet.cli.progress import Display

with Display("database", {quiet}) as display:
    def work(step):
        for done in range(200):
            display(step, done << 20, 200 << 20)
            time.sleep(0.001)
    threads = [threading.Thread(target=work, args=(step,)) for step in ("load", "compare", "load", "check")]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print("done")
"""


def on_a_terminal(quiet: float, program: str = PROGRAM, columns: int = 120) -> str:
    """What the program shows on a terminal of its own."""
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program.format(quiet=quiet)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm", "COLUMNS": str(columns)},
    ) as child:
        os.close(terminal)
        shown = b""
        while True:
            try:
                piece = os.read(main, 65536)
            except OSError:  # the terminal is gone with the program
                break
            if not piece:
                break
            shown += piece
    os.close(main)
    assert child.returncode == 0, shown.decode()
    return shown.decode()


def test_what_takes_long_is_shown_whichever_thread_reports_it() -> None:
    shown = on_a_terminal(0)
    assert "Traceback" not in shown
    for step in ("load", "compare", "check"):
        assert f"database  {step}" in shown


def test_a_narrow_terminal_shows_one_line() -> None:
    shown = on_a_terminal(0, columns=40)
    assert "database  load" in shown
    assert (
        "\x1b[1A\x1b[2K\x1b[1A" not in shown
    )  # the cursor goes up where lines were wrapped, and once between steps


def test_what_is_quick_shows_nothing() -> None:
    assert on_a_terminal(60) == "done\r\n"


STEPS = """
import time
from refnet.cli.progress import Display
from refnet.catalog.artifact import Counted

with Display("title", {quiet}) as display:
    for step, done, total in {steps}:
        display(step, done, total)
        time.sleep(0.15)
"""


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        ("'load', 5 << 20, 20 << 20", "5.0 MiB of 20.0 MiB"),
        ("'load', 5 << 20, None", "5.0 MiB"),
        ("'load', 30 << 20, 20 << 20", "30.0 MiB"),
        ("Counted('write', 'notes'), 1200, 5000", "1,200/5,000 notes"),
    ],
)
def test_an_amount_has_its_unit_and_no_total_that_it_exceeds(step: str, shown: str) -> None:
    program = STEPS.replace("{steps}", f"[({step})] * 3")
    said = on_a_terminal(0, program)
    assert shown in said
    assert ("20.0 MiB" in said) is ("20.0 MiB" in shown)
    assert "bytes" not in said


def test_a_step_without_an_amount_shows_its_name_alone() -> None:
    said = on_a_terminal(0, STEPS.replace("{steps}", repr([("start", 0, None)] * 3)))
    assert "title  start" in said
    assert " B" not in said


def test_a_program_gets_json_lines_per_step_and_at_most_four_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFNET_PROGRESS", "json")
    with progress("database") as report:
        for done in range(1000):
            for step in ("load", "compare \x1b\n"):  # as from several threads
                report(step, done, None if step == "load" else 2000)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[:2] == [
        {"step": "load", "done": 0, "total": None},
        {"step": "compare \x1b\n", "done": 0, "total": 2000},
    ]
    assert len(lines) < 6


def test_another_value_of_the_variable_of_progress_is_a_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFNET_PROGRESS", "xml")
    with pytest.raises(RefnetError, match="REFNET_PROGRESS") as refused, progress("database"):
        pass
    assert refused.value.code == Exit.USAGE
