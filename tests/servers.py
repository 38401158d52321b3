"""The servers that are installed here, for tests of what differs between majors."""

from __future__ import annotations

from refnet.postgres.binaries import installed

_SERVERS = {one.major: one for one in installed(None) if one.has_server}
#: Of the oldest major and of the newest; tests that need one of another major find it by themselves.
OLDEST_AND_NEWEST = {major: _SERVERS[major] for major in sorted({min(_SERVERS), max(_SERVERS)})}
