from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from refnet.core.signals import delayed, interruptible

ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def stopped(block: Callable[[list[str]], None]) -> list[str]:
    """The notes that `block` made before KeyboardInterrupt ended it."""
    notes: list[str] = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        block(notes)
    return notes


@pytest.mark.parametrize("number", ENDINGS)
def test_the_first_signal_ends_the_block_and_no_later_one_its_cleanup(number: signal.Signals) -> None:
    def block(notes: list[str]) -> None:
        try:
            send(number)
            notes.append("never")
        finally:
            for each in ENDINGS:
                send(each)
            with delayed():
                send(number)
            notes.append("cleaned")

    before = [signal.getsignal(each) for each in ENDINGS]
    assert stopped(block) == ["cleaned"]
    assert [signal.getsignal(each) for each in ENDINGS] == before


def test_a_delayed_signal_ends_the_outermost_delayed_block() -> None:
    def block(notes: list[str]) -> None:
        with delayed():
            with delayed():
                send(signal.SIGTERM)
                notes.append("inner")
            notes.append("outer")
        notes.append("never")

    assert stopped(block) == ["inner", "outer"]


CODE = """
import os, signal
from refnet.core.signals import interruptible
try:
    with interruptible():
        os.kill(os.getpid(), signal.Signals[os.environ["NUMBER"]])
        print("goes on")
except KeyboardInterrupt:
    print("ended")
"""


@pytest.mark.parametrize(
    ("number", "said"), [("SIGINT", "ended"), ("SIGTERM", "ended"), ("SIGHUP", "goes on")]
)
def test_a_background_job_ends_on_every_signal_that_nohup_passes_on(number: str, said: str) -> None:
    ran = subprocess.run(
        ["sh", "-c", 'nohup "$@" 2>/dev/null & wait', "sh", sys.executable, "-c", CODE],
        env=os.environ | {"NUMBER": number},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.strip() == said
