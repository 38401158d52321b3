"""What has `refnet` show every step at once; loaded before it."""

from __future__ import annotations

from refnet.cli import context

context._QUIET = 0
