"""Runs pg_dumpall for the roles and tablespaces of a server."""

from __future__ import annotations

from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.processes import run
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.database import server_errors

_SECONDS = 600.0
#: The same text on every server: VALID UNTIL depends on them.
_SETTINGS = {"timezone": "UTC", "datestyle": "ISO"}


def dumped(binaries: Binaries, target: Target, *, passwords: bool = False) -> str:
    """Output of pg_dumpall --globals-only; RefnetError if the server rejects it, or a name is not UTF-8.

    passwords: include password verifiers; requires read access to pg_authid.
    """
    tool = binaries.tool("pg_dumpall")
    left_out = [] if passwords else ["--no-role-passwords"]
    command: list[str | Path] = [tool, "--globals-only", "--no-password", "--encoding=UTF8", *left_out]
    ran = run(command, _SECONDS, env=target.environment(_SETTINGS), capture_output=True)
    if ran.returncode:
        raise server_errors.of_program("pg_dumpall", ran.stderr, "pg_dumpall failed")
    try:
        return str(ran.stdout, "utf-8")
    except UnicodeDecodeError:
        raise RefnetError(
            f"the server at {target.address} has a role or a tablespace whose name is not UTF-8",
            "Rename it (ALTER ROLE … RENAME TO …), then retry.",
        ) from None
