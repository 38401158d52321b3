"""Progress on a terminal: seen where something takes long, from as many threads as there are, gone at the end."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

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


def on_a_terminal(quiet: float) -> str:
    """What the program shows on a terminal of its own."""
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(quiet=quiet)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    ) as program:
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
    assert program.returncode == 0, shown.decode()
    return shown.decode()


def test_what_takes_long_is_shown_whichever_thread_reports_it() -> None:
    shown = on_a_terminal(0)
    assert "Traceback" not in shown
    for step in ("load", "compare", "check"):
        assert f"database  {step}" in shown


def test_what_is_quick_shows_nothing() -> None:
    assert on_a_terminal(60) == "done\r\n"
