"""What PostgreSQL and its programs said of a failure, made into the two lines that a user reads."""

from __future__ import annotations

import re

import psycopg

from refnet.errors import RefnetError

_SERVER_ERROR = re.compile(rb"(?:ERROR|FATAL|PANIC):\s+(.*)")
_PROGRAM = re.compile(rb"^(?:psql|pg_restore)(?::<stdin>:\d+)?: (?:error: )?")

#: Where the last room on a disk is less than a page, a write ends short and no error is named.
_NO_SPACE = r"No space left on device|wrote only \d+ of \d+ bytes"

#: What the server's first line says → what to do. `{0}` is what the pattern found.
_HINTS = (
    (r'role "(.*)" does not exist', "Create the role {0} on the server, or restore with --create-roles."),
    (r'extension "(.*)" is not available', "Install the extension {0} on the server, then run it again."),
    (r'could not open extension control file ".*/(.*)\.control"', "Install the extension {0} on the server."),
    (r'could not access file "(.*)"', "Install the library {0} on the server, then run it again."),
    (
        r"backslash commands are restricted",
        "The dump gives commands to psql itself, which RefNet lets no dump do; look into it before you run it.",
    ),
    (
        r"unsupported version .* in file header",
        "A newer pg_dump made it: install PostgreSQL's newer programs.",
    ),
    (
        r"unrecognized configuration parameter",
        "A newer pg_dump made it: dump it with the server's own version.",
    ),
    (_NO_SPACE, "Free space where the server keeps its data, then run it again."),
    (r'tablespace "(.*)" does not exist', "Create the tablespace {0} on the server, then run it again."),
    (r'collation "(.*)" for encoding', "The server lacks the locale {0}: install it, then run it again."),
    (r"permission denied", "Connect as a superuser or as the owner of what the dump holds."),
    (r"must be (?:owner|superuser)", "Connect as a superuser or as the owner of what the dump holds."),
    (
        r"remaining connection slots|too many (?:clients|connections)",
        "Close connections, or give fewer --jobs.",
    ),
    (
        r"terminating connection|the database system is|server closed the connection",
        "Look into the server's log; run it again when the server is up.",
    ),
)
#: What the server says of a state that ends by itself.
_PASSING = re.compile(
    _NO_SPACE + r"|remaining connection slots|too many (?:clients|connections)"
    r"|terminating connection|the database system is|server closed the connection"
)
_NOTHING_SHOWN = "Look into the server's log for the whole message."


def is_transient(said: str) -> bool:
    """Whether the server's words tell of a state that ends by itself."""
    return bool(_PASSING.search(said))


def of_program(name: str, stderr: bytes, doing: str) -> RefnetError:
    """The error of a program that ended with a failure, by the first error line of its stderr."""
    lines = [line for line in stderr.split(b"\n") if line.strip()]
    server = next((m[1] for m in map(_SERVER_ERROR.search, lines) if m), None)
    said = server or (_PROGRAM.sub(b"", lines[0]) if lines else b"ended without a word")
    return _error(doing, said.decode("utf-8", "replace"), name)


def of_server(error: psycopg.Error, doing: str) -> RefnetError:
    """The error of a statement that the server refused, or of a session that broke."""
    said = error.diag.message_primary or str(error).strip().split("\n")[0] or type(error).__name__
    return _error(doing, said, "the server")


def _error(doing: str, said: str, speaker: str) -> RefnetError:
    for pattern, hint in _HINTS:
        if match := re.search(pattern, said):
            return RefnetError(f"{doing}: {said}", hint.format(*match.groups()), transient=is_transient(said))
    return RefnetError(f"{doing}: {speaker} said: {said}", _NOTHING_SHOWN)
