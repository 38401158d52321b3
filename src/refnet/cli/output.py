"""The amount of output of a run: one place decides."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Output:
    """The options -q, -v and --json of this run."""

    #: Print only errors, warnings that need action, and what was asked for.
    quiet: bool = False
    #: Print also phases, programs, servers and checks.
    verbose: bool = False
    #: The result is one JSON document on stdout.
    json: bool = False

    def reset(self) -> None:
        self.quiet = self.verbose = self.json = False


output = Output()


def say(text: str = "", *, flush: bool = False) -> None:
    """Print what a run did, unless it is quiet."""
    if not output.quiet:
        print(text, flush=flush)
