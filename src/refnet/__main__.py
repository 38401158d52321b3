"""The beginning of the command, also as `python -m refnet`."""

import gc
import os
import signal
import sys
from types import FrameType


def run() -> None:
    """Run the command. Ctrl-C while its modules are loading ends it like one right after that."""
    # Not by an exception: the machinery of imports swallows one in some places, and prints it in others.
    signal.signal(signal.SIGINT, _end)
    gc.disable()  # modules are no garbage; `refnet.cli.main` enables it when it has loaded the command
    from refnet.cli.streams import prepare

    prepare(sys.argv[1:])
    from refnet.cli.main import run as command

    gc.freeze()  # as there: `refnet --help` loads no command
    try:
        command()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        gc.freeze()  # also what was loaded since: the last collection would take it apart


def _end(_number: int, _frame: FrameType | None) -> None:
    try:
        os.write(2, b"refnet: interrupted\n        Nothing was begun; retry.\n")
    finally:
        os._exit(1)


if __name__ == "__main__":
    run()
