"""The beginning of the command, also as `python -m refnet`."""

import sys


def run() -> None:
    """Run the command. Ctrl-C while its modules are loading ends it like one right after that."""
    try:
        from refnet.cli.main import run as command
    except KeyboardInterrupt:
        sys.exit("refnet: interrupted\n        Nothing was begun; retry.")
    command()


if __name__ == "__main__":
    run()
