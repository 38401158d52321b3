"""The metrics as a file for node_exporter's textfile collector: complete or absent, readable by all."""

from __future__ import annotations

from pathlib import Path

from refnet.files import explained, replace_file


def write(path: Path, text: bytes) -> None:
    """Replace `path` by `text` atomically. RefnetError if its folder cannot be written.

    node_exporter runs as another user, so the mode is 0644 whatever the umask; the temporary name does not end
    in `.prom`, so node_exporter never reads a half-written file.
    """
    with explained(path):
        replace_file(path, text, 0o644)
