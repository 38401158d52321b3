"""The metrics as a file for node_exporter's textfile collector: whole or not there, readable by all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from refnet.recovery.stores.disk import explained


def write(path: Path, text: bytes) -> None:
    """Put `text` in the place of `path` in one step. RefnetError where its folder cannot be written.

    node_exporter runs as another user, so the file is 0644 whatever the umask; the temporary name does not end
    in `.prom`, so that the half-written file is never read.
    """
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with explained(path):
        handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
            hidden.replace(path)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
