"""The beginning of the command, also as `python -m refnet`."""

import gc
import sys

from refnet.cli.streams import prepare


def run() -> None:
    """Run the command. Ctrl-C while its modules are loading ends it like one right after that."""
    gc.disable()  # modules are no garbage; `refnet.cli.main` enables it when it has loaded the command
    prepare(sys.argv[1:])
    try:
        from refnet.cli.main import run as command
    except KeyboardInterrupt:
        sys.exit("refnet: interrupted\n        Nothing was begun; retry.")
    gc.freeze()  # as there: `refnet --help` loads no command
    try:
        command()
    finally:
        gc.freeze()  # also what was loaded since: the last collection would take it apart


if __name__ == "__main__":
    run()
