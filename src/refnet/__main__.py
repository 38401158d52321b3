"""`python -m refnet`."""

from refnet.cli.main import run

if __name__ == "__main__":
    run()
