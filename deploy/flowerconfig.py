"""Flower's settings in its container: behind nginx at /flower/, with a password from a file."""

from pathlib import Path

address = "0.0.0.0"  # noqa: S104  # of the container; nothing publishes it
port = 5555
url_prefix = "flower"
basic_auth = ["refnet:" + Path("/run/secrets/flower_password").read_text(encoding="utf-8").strip()]
