"""The metrics as a file for node_exporter's textfile collector: complete or not there, readable by all."""

from __future__ import annotations

from pathlib import Path

from refnet.files import explained, replace_file


def write(path: Path, text: bytes) -> None:
    """Put `text` in the place of `path` in one step. RefnetError where its folder cannot be written.

    node_exporter runs as another user, so the file is 0644 whatever the umask; the temporary name does not end
    in `.prom`, so that a half-written file is never read.
    """
    with explained(path):
        replace_file(path, text, 0o644)
