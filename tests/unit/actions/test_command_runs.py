"""A foreign command: its words and environment as they are, its time and output bounded, nothing left running."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from refnet.sources.hooks import MOST_LINES, run_command


def ran(*words: str, seconds: float = 20.0, env: dict[str, str] | None = None) -> tuple[str, list[str]]:
    """Why the command failed, and the lines of its output."""
    lines: list[str] = []
    why = run_command(
        words, seconds=seconds, tell=lines.append, env=env or {"PATH": os.environ["PATH"]}, cwd="/"
    )
    return why, lines


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_words_are_passed_as_they_are_and_no_shell_reads_them() -> None:
    assert ran("printf", "%s\\n", "$HOME; `id`", " a  b ", "*") == ("", ["$HOME; `id`", " a  b", "*"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["sh", "-c", "exit 3"], "it ended with 3"),
        (["sh", "-c", "kill -9 $$"], "it was ended by SIGKILL"),
        (["/nowhere/at/all"], "it cannot be started: No such file or directory"),
        (["/etc"], "it cannot be started: Permission denied"),
    ],
)
def test_a_command_that_fails_says_how(words: list[str], why: str) -> None:
    assert ran(*words)[0] == why


def test_a_command_that_hangs_is_ended_with_all_that_it_started() -> None:
    script = "sleep 300 & echo $!; setsid sleep 300 & echo $!; trap '' TERM; sleep 300"
    began = time.monotonic()
    why, lines = ran("sh", "-c", script, seconds=1.0)

    assert why == "it did not end within 1 s"
    assert time.monotonic() - began < 15
    assert len(lines) == 3
    assert not any(alive(int(pid)) for pid in lines[:2])


def test_a_commands_background_processes_are_ended_and_not_waited_for() -> None:
    daemon = "import os, time\nif os.fork() == 0:\n os.setsid()\n print(os.getpid(), flush=True)\n time.sleep(300)\n"
    began = time.monotonic()
    why, lines = ran(sys.executable, "-c", daemon)

    assert (why, lines[1:]) == ("", ["(processes that it left running were killed)"])
    assert time.monotonic() - began < 15
    assert not alive(int(lines[0]))


def test_a_flood_of_output_is_read_and_dropped() -> None:
    why, lines = ran("sh", "-c", "head -c 300000000 /dev/zero; echo; echo secret")
    assert why == ""
    assert lines == ["(the output has 300,000,008 bytes; the rest was dropped)"]

    why, lines = ran("seq", "200000")
    assert why == ""
    assert lines[:2] == ["1", "2"]
    assert len(lines) == MOST_LINES + 1
    assert lines[-1].endswith("the rest was dropped)")


def test_output_that_is_no_text_is_told_as_far_as_it_can_be() -> None:
    assert ran("printf", "\\377\\376\\n\\n\\nlast") == ("", ["��", "last"])
