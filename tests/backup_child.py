"""A child of `back_up_together` whose backup is one of the acts below: a test says which, in the program's words.

It is a program of its own, as the real one is, so a test cannot hand it a function.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from refnet.actions import backup_together
from refnet.actions.backup import Options
from refnet.core.errors import RefnetError
from refnet.core.processes import until


def all_open(folder: Path, _context: Any, name: str, options: Options) -> Any:
    (folder / f"open-{name}").touch()
    options.turn()
    (folder / f"copied-{name}").touch()
    options.turn()  # of a second attempt: it waits for nothing
    return len(list(folder.glob("open-*")))


def at_work(folder: Path, _context: Any, name: str, options: Options) -> Any:
    options.turn()
    mine = folder / name
    mine.touch()
    time.sleep(0.05)  # time for another one to begin
    found = len(list(folder.iterdir()))
    mine.unlink()
    return found


def breaks(_folder: Path, _context: Any, name: str, options: Options) -> Any:
    if name == "a":
        raise RefnetError("a is down", "Start it.", transient=True)
    options.turn()
    if name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def waits_for_its_end(folder: Path, _context: Any, name: str, options: Options) -> Any:
    if name == "a":
        return "done"
    options.turn()
    try:
        signal.pause()
    except KeyboardInterrupt:
        (folder / f"cleaned-{name}").touch()
        raise


def shows(_folder: Path, context: Any, name: str, options: Options) -> Any:
    for done in range(1, 1001):
        context.progress("rows", done, 1000)
    context.note(f"{name} has a hint")
    options.turn()
    return os.environ.get("REFNET_TEST_SECRET", ""), Path("/proc/self/cmdline").read_text()


def waits_too_long(folder: Path, _context: Any, name: str, options: Options) -> Any:
    if name == "a":
        options.turn()
        (folder / "hangs").touch()
        signal.pause()
    assert until((folder / "hangs").exists, 60)
    backup_together.MOST_WAITING = 0.2
    options.turn()
    return name


def hangs(_folder: Path, _context: Any, name: str, options: Options) -> Any:
    options.turn()
    if name == "a":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as a call of a library that hangs
        while True:
            time.sleep(60)
    return name


def reports(_folder: Path, context: Any, name: str, options: Options) -> Any:
    options.turn()
    for done in range(12):
        time.sleep(0.5)
        context.progress("rows", done, None)
    return name


if __name__ == "__main__":
    act, folder, handle = sys.argv[1:]
    if act == "signalled":
        backup_together.end_with_parent = lambda number: os.kill(os.getpid(), number)
        act = "all_open"
    backup_together.backup = lambda *arguments: globals()[act](Path(folder), *arguments)
    backup_together.main(int(handle))
