"""The question before something live is replaced."""

from __future__ import annotations

import sys

from refnet.errors import Exit, RefnetError


def confirm(question: str, *, force: bool) -> None:
    """Ask on the terminal unless `force`; RefnetError (CONFIRM) if the answer is no or stdin is not a terminal."""
    if force:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RefnetError(
            "something live would be replaced, and stdin is not a terminal",
            "Look at it with --plan, then give --force.",
            Exit.CONFIRM,
        )
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise RefnetError("not confirmed", "Nothing was changed.", Exit.CONFIRM)
