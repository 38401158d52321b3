"""The hidden names of objects that are being written, in the buckets that write first and name later."""

import secrets

_ENDING = ".part"
#: No object takes so long to write, in seconds: a hidden one of that age is of a killed run.
_LEFTOVER = 24 * 3600


def hidden_name() -> str:
    """Return a new hidden name."""
    return f".{secrets.token_hex(8)}{_ENDING}"


def is_leftover(name: str, modified: float, now: float) -> bool:
    """Whether `name` is a hidden name left by a killed run; times in seconds since 1970."""
    return name.startswith(".") and name.endswith(_ENDING) and modified < now - _LEFTOVER
