"""Optional dependencies (extras): a missing one is reported with the command that installs it."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from refnet.core.errors import RefnetError

_SETUP = Path(__file__).parents[3] / "dev"


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Import modules of `extra` in the block; RefnetError if one is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in {"", "refnet"}:
            raise
        raise RefnetError(
            f"{module} is not installed; it is part of the extra `{extra}`", how_to_install(extra)
        ) from None


def how_to_install(extra: str) -> str:
    """Return a sentence with the command that installs `extra` into this installation."""
    if _SETUP.is_file():
        return f"Run: {shlex.quote(str(_SETUP))} setup, which installs every extra."
    if find_spec("pip"):
        return f"Run: {shlex.quote(sys.executable)} -m pip install 'refnet[{extra}]'"
    return f"Install RefNet again, with [{extra}] after the path of its wheel."
