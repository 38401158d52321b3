"""The beginning of the command, also as `python -m refnet`."""

import sys

from refnet.cli.streams import prepare


def run() -> None:
    """Run the command. Ctrl-C while its modules are loading ends it like one right after that."""
    prepare(sys.argv[1:])
    try:
        from refnet.cli.main import run as command
    except KeyboardInterrupt:
        sys.exit("refnet: interrupted\n        Nothing was begun; retry.")
    command()


if __name__ == "__main__":
    run()
