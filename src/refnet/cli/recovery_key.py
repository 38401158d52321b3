"""Reads the recovery key from a file or a hidden prompt, never from an argument or a variable."""

from __future__ import annotations

import os
import sys
from getpass import getpass
from pathlib import Path

from refnet.core.errors import Exit, RefnetError
from refnet.settings import IDENTITY_FILE, user_path
from refnet.store.keys import GivenKeys, parse_keys, read_keys

_QUESTION = "Recovery key (AGE-SECRET-KEY-1…): "


def can_ask(file: Path | None) -> bool:
    """Whether a recovery key can be read, from a file or at the terminal."""
    return bool(file or os.environ.get(IDENTITY_FILE)) or (sys.stdin.isatty() and sys.stderr.isatty())


def recovery_keys(file: Path | None) -> GivenKeys:
    """Read recovery keys from `file`, from the file in the environment, or at the terminal.

    RefnetError (USAGE) for an invalid key, or without file and terminal.
    """
    named = os.environ.get(IDENTITY_FILE, "")
    if "AGE-SECRET-KEY-" in named.upper():
        hint = "Other programs may have seen it. Name a file, and replace the key: `refnet key rotate`."
        raise RefnetError(f"{IDENTITY_FILE} is a recovery key, not the name of a file", hint, Exit.USAGE)
    if found := file or named:
        return read_keys(user_path(found).absolute())
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        hint = f"Name its file (--identity-file FILE or {IDENTITY_FILE}), or run this at a terminal."
        raise RefnetError("the recovery key is needed, and stdin is not a terminal", hint, Exit.USAGE)
    try:
        typed = getpass(_QUESTION, sys.stderr)
    except EOFError:
        raise RefnetError("no recovery key was typed", "Nothing was read.", Exit.USAGE) from None
    return parse_keys(typed.encode(errors="replace"), "the recovery key")
