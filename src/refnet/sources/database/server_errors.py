"""Turns errors of PostgreSQL and its programs into message and hint.

pg_restore prints no SQLSTATE, so a cause is found by the server's English words; a session's SQLSTATE counts as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

import psycopg

from refnet.catalog.artifact import TransientError
from refnet.core.errors import RefnetError

#: pg_dump writes the server's words on a line after its own, with the severity in the server's language.
_SERVER_ERROR = re.compile(
    rb"(?:Error message from server: \w+|ERROR|FATAL|PANIC):\s+(?:(?P<state>[0-9A-Z]{5}): )?(?P<said>.*)"
)
#: What pg_restore --verbose says beside errors.
_STEP = re.compile(rb"pg_restore: (?!error: |warning: )")
_ENTRY = re.compile(rb"^pg_restore: from TOC entry [0-9]+; [0-9]+ [0-9]+ (.*)", re.MULTILINE)
#: Where the server raised an error: in a function that users wrote, whatever calls it.
_IN_FUNCTION = re.compile(r"^(?:CONTEXT:  )?(?:SQL|PL/\w+) function ", re.MULTILINE)
_PROGRAM = re.compile(rb"^(?:psql|pg_[a-z]+)(?::<stdin>:\d+)?: (?:error: )?")


class Cause(Enum):
    """The cause of a server's error."""

    #: It ends by itself: the disk is full, the server restarts.
    TRANSIENT = auto()
    #: An object was dropped or changed while it was read.
    CHANGED = auto()
    MISSING_ROLE = auto()
    #: The object's kind belongs to superusers alone.
    OWNER = auto()
    PRIVILEGE = auto()
    #: The server or its programs lack something or are too old.
    UNSUPPORTED = auto()
    #: Rows that break a key.
    ROWS = auto()
    OTHER = auto()


#: The causes that end by themselves.
_ENDING = frozenset({Cause.TRANSIENT, Cause.CHANGED})


class ServerError(RefnetError):
    """An error of the server or of its programs."""

    def __init__(self, message: str, hint: str, cause: Cause = Cause.OTHER, subject: str = "") -> None:
        super().__init__(message, hint, transient=cause in _ENDING)
        self.cause = cause
        #: The role, extension … that it names, or "".
        self.subject = subject
        #: SQLSTATE; "": the program does not say it.
        self.sqlstate = ""
        #: The kind and name of the entry that pg_restore could not restore, or "".
        self.entry = ""
        #: A function of the database raised it.
        self.in_function = False

    @property
    def lacks(self) -> bool:
        """Whether the server lacks something that another may have: a right, memory, a library, an extension."""
        known = self.cause in {Cause.PRIVILEGE, Cause.OWNER, Cause.UNSUPPORTED}
        own = bool(self.sqlstate) and is_servers(self.sqlstate)
        known |= self.is_of_role_in_value
        return known or own or self.entry.startswith(("EXTENSION ", "COMMENT EXTENSION "))

    @property
    def is_of_role_in_value(self) -> bool:
        """Whether a row has a value of the type regrole or aclitem that names a missing role."""
        return self.cause is Cause.MISSING_ROLE and not self.entry and bool(self.sqlstate)

    @property
    def is_of_index(self) -> bool:
        """Whether an index cannot be built, as its function fails."""
        return self.in_function and self.entry.startswith("INDEX ")


class SchemaChangedError(ServerError, TransientError):
    """An object was dropped or changed during the read: unlike tables, the schema is not locked."""

    tries = 6


@dataclass(frozen=True)
class _Known:
    #: Found in the server's first line; its group is the subject.
    words: str
    cause: Cause
    #: `{0}` is the subject.
    hint: str


_SEE_LOG = "Check the server's log for the complete message."
_FUNCTION_HINT = "A function of the database fails: repair it in the source, where names in it need their schemas, and back up again."
_PRIVILEGE_HINT = "Connect as a superuser, or as a member of the roles that own the objects in the dump."

#: The first that matches counts.
_KNOWN = (
    # A write ends short, and no error is named, where less than a page is free.
    _Known(
        r"No space left on device|wrote only \d+ of \d+ bytes",
        Cause.TRANSIENT,
        "Free space where the server keeps its data, then retry.",
    ),
    _Known(
        r"remaining connection slots|too many (?:clients|connections)",
        Cause.TRANSIENT,
        "Close connections, or give fewer --jobs.",
    ),
    _Known(
        r"terminating connection|the database system is|server closed the connection|Connection refused",
        Cause.TRANSIENT,
        "Check the server's log; retry when the server is up.",
    ),
    _Known(
        r"out of shared memory",
        Cause.UNSUPPORTED,
        "Raise max_locks_per_transaction of the server, and restart it.",
    ),
    _Known(
        r"^out of memory",
        Cause.UNSUPPORTED,
        "Give the server more memory, or fewer --jobs.",
    ),
    _Known(
        r"could not open relation with OID|cache lookup failed for|with OID \d+ (?:does not exist|not found)"
        r"|tuple concurrently (?:updated|deleted)|returned 0 rows \(expected 1\)",
        Cause.CHANGED,
        "Views, sequences or types were dropped meanwhile: retry when fewer schema changes are made.",
    ),
    _Known(
        r'role "(.*)" does not exist',
        Cause.MISSING_ROLE,
        'CREATE ROLE "{0}", then retry; for an artifact of RefNet --create-roles does it.',
    ),
    _Known(
        r'extension "(.*)" is not available',
        Cause.UNSUPPORTED,
        "Install the extension {0} on the server, then retry.",
    ),
    _Known(
        r'could not open extension control file ".*/(.*)\.control"',
        Cause.UNSUPPORTED,
        "Install the extension {0} on the server.",
    ),
    _Known(
        r'could not access file "(.*)"',
        Cause.UNSUPPORTED,
        "Install the library {0} on the server, then retry.",
    ),
    _Known(
        r"could not create (?:unique index|exclusion constraint)",
        Cause.ROWS,
        "Rows of the source break this key, which is never left out: remove them there, and back up again.",
    ),
    _Known(
        r"backslash commands are restricted",
        Cause.UNSUPPORTED,
        "The dump contains psql commands, which RefNet does not run; check it before you run it with psql.",
    ),
    _Known(
        r"unsupported version .* in file header",
        Cause.UNSUPPORTED,
        "A newer pg_dump made it: install PostgreSQL's newer programs.",
    ),
    _Known(
        r"unrecognized configuration parameter",
        Cause.UNSUPPORTED,
        "Load the library that has the parameter (shared_preload_libraries); or a newer pg_dump made it.",
    ),
    _Known(
        r'tablespace "(.*)" does not exist',
        Cause.OTHER,
        "Create the tablespace {0} on the server, then retry.",
    ),
    _Known(
        r'collation "(.*)" for encoding',
        Cause.UNSUPPORTED,
        "Install the locale {0} on the server, then retry.",
    ),
    _Known(
        r'row-level security policy for table "(.*)"',
        Cause.PRIVILEGE,
        "Give the role the attribute BYPASSRLS (ALTER ROLE … BYPASSRLS), or back up as the owner of {0}.",
    ),
    _Known(
        r"permission denied for schema (.*)",
        Cause.PRIVILEGE,
        'GRANT USAGE ON SCHEMA "{0}" to the role, or connect as the owner of the schema.',
    ),
    _Known(
        r'must be (?:able to SET ROLE|a? ?member of role) "(.*)"',
        Cause.PRIVILEGE,
        'GRANT "{0}" to the role that restores, or restore as a superuser.',
    ),
    _Known(r"permission denied to change owner of", Cause.OWNER, _PRIVILEGE_HINT),
    _Known(
        r"permission denied|must be (?:a )?(?:superuser|owner|member)|[Oo]nly superusers|only roles with",
        Cause.PRIVILEGE,
        _PRIVILEGE_HINT,
    ),
    # Last: the name of a table that a privilege is missing for may have these letters.
    _Known(r"compression method|for encoding|ICU|not supported by this build", Cause.UNSUPPORTED, _SEE_LOG),
)
#: No disk, memory or connection left, a statement that somebody cancelled, and the ends of a server.
_TRANSIENT_STATES = frozenset(
    {"53000", "53100", "53200", "53300", "53400", "57014", "57P01", "57P02", "57P03"}
)
#: The classes of connections, transactions, resources, interventions, and of the server's own faults.
_SERVERS = ("08", "25", "40", "53", "57", "58", "F0", "XX")


def is_servers(sqlstate: str | None) -> bool:
    """Whether the state is unrelated to the statement and its objects, which may succeed later."""
    return not sqlstate or sqlstate.startswith(_SERVERS)


def is_transient(said: str, sqlstate: str | None = None) -> bool:
    """Whether the condition ends by itself, judging by message or SQLSTATE."""
    return sqlstate in _TRANSIENT_STATES or _find(said)[0].cause in _ENDING


def of_program(name: str, stderr: bytes, doing: str) -> ServerError:
    """Error of a failed program, from the first error line of its stderr."""
    lines = [line for line in stderr.split(b"\n") if line.strip() and not _STEP.match(line)]
    server = next((m for m in map(_SERVER_ERROR.search, lines) if m), None)
    own = next(
        (line for line in lines if b": error: " in line), lines[0] if lines else b"ended without a message"
    )
    said = server["said"] if server else _PROGRAM.sub(b"", own)
    found = _error(doing, said.decode("utf-8", "replace"), name)
    if server is None and b"No space left on device" in own:
        found.hint = "Free space on the disk of this machine, then retry."
    found.sqlstate = (server["state"] or b"").decode() if server else ""
    entry = _ENTRY.search(stderr)
    found.entry = entry[1].decode("utf-8", "replace") if entry else ""
    return _of_function(found, stderr.decode("utf-8", "replace"))


def of_server(error: psycopg.Error, doing: str) -> ServerError:
    """Error of a rejected statement or a broken session."""
    said = error.diag.message_primary or str(error).strip().split("\n")[0] or type(error).__name__
    return _of_function(_error(doing, said, "the server", error.sqlstate), error.diag.context or "")


def _of_function(error: ServerError, context: str) -> ServerError:
    """`error` as one of a function, if `context` names one."""
    if error.cause is Cause.OTHER and _IN_FUNCTION.search(context):
        error.in_function, error.hint = True, _FUNCTION_HINT
    return error


def words(error: psycopg.Error) -> str:
    """What the server said, its first line."""
    return (error.diag.message_primary or str(error)).strip().split("\n")[0]


def hint(said: str) -> str:
    """Hint for an error of the server, from its message."""
    known, subject = _find(said)
    return known.hint.format(subject)


def _find(said: str) -> tuple[_Known, str]:
    """The known cause that matches the server's message, and its subject."""
    for known in _KNOWN:
        if match := re.search(known.words, said):
            return known, match[1] if match.re.groups else ""
    return _Known("", Cause.OTHER, _SEE_LOG), ""


def _error(doing: str, said: str, speaker: str, sqlstate: str | None = None) -> ServerError:
    known, subject = _find(said)
    cause = Cause.TRANSIENT if sqlstate in _TRANSIENT_STATES else known.cause
    message = f"{doing}: {speaker} said: {said}" if known.hint is _SEE_LOG else f"{doing}: {said}"
    made = SchemaChangedError if cause is Cause.CHANGED else ServerError
    found = made(message, known.hint.format(subject), cause, subject)
    found.sqlstate = sqlstate or ""
    return found
