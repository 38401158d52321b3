"""The file of a store's credential: `credentials_file`, TOML with mode 0600."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refnet.core import trust
from refnet.core.errors import Exit, RefnetError, nearest
from refnet.settings.store_url import StoreKind

#: The largest file of a credential, in bytes, and the most characters of one of its values.
LARGEST, _LONGEST = 16 * 1024, 8192
#: The keys by the kind of store; True: needed.
_KEYS = {
    StoreKind.S3: {"access_key_id": True, "secret_access_key": True, "session_token": False},
    StoreKind.AZ: {"account": True, "key": True},
    StoreKind.GS: {"service_account": True},
}


@dataclass(frozen=True)
class Credentials:
    """A credential of a store. Its values are never shown."""

    #: access_key_id, secret_access_key and session_token of S3; account and key of Azure; service_account of Google:
    #: the path of a JSON file.
    values: Mapping[str, str] = field(repr=False)


def read_credentials(path: Path, kind: StoreKind) -> Credentials:
    """Read the credential at `path` for a store of `kind`; RefnetError (USAGE) never repeats a value."""
    keys = _KEYS[kind]
    needed = [name for name, is_needed in keys.items() if is_needed]
    usage = f'Write {" and ".join(needed)}, like {needed[0]} = "…", a line each.'
    given = _table(path, usage)
    for name, value in given.items():
        if name not in keys:
            near = nearest(name, keys)
            raise _wrong(
                path, f"has a key that {kind} does not use", f"{near and f'Did you mean {near}? '}{usage}"
            )
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise _wrong(path, f"{name} must be text without spaces", usage)
        if not 0 < len(value) <= _LONGEST:
            raise _wrong(path, f"{name} must have 1 to {_LONGEST:,} characters", usage)
    if missing := [name for name in needed if name not in given]:
        raise _wrong(path, f"has no {missing[0]}", usage)
    if named := given.get("service_account"):
        _check_private(Path(named))
    return Credentials(given)


def _table(path: Path, usage: str) -> dict[str, str]:
    try:
        return tomllib.loads(_check_private(path).decode())
    except (ValueError, RecursionError):
        raise _wrong(
            path, "is not TOML in UTF-8", usage
        ) from None  # the parser's own words may repeat a secret


def _check_private(path: Path) -> bytes:
    """Read a file; RefnetError if anyone but this user and root can access it."""
    if not path.is_absolute():
        raise _wrong(path, "is not an absolute path", "Write the absolute path of a file.")
    try:
        found = trust.read(path, LARGEST)
    except OSError as error:
        hint = "Put the credential there, readable only by this user (chmod 600)."
        raise _wrong(path, f"cannot be read: {error.strerror}", hint) from None
    if found.readable_by_others:
        raise _wrong(
            path, f"can be read by others (mode {found.mode:04o})", f"Run: chmod 600 {trust.shown(path)}"
        )
    return found.content


def _wrong(path: Path, why: str, hint: str) -> RefnetError:
    return RefnetError(f"the credential {trust.shown(path)[:1000]}: {why}", hint, Exit.USAGE)
