"""The database that a restore writes, and the names that it may have."""

import re
from enum import StrEnum

from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError

LONGEST_NAME = 63  # bytes of a PostgreSQL identifier
#: The names of copies and previous versions; only a database with such a name is ever dropped.
OWN_NAME = re.compile(r"(.*)_(copy|before|undone)_(\d{8}_\d{6})(?:_\d+)?", re.DOTALL)


class Where(StrEnum):
    """The database that a restore writes."""

    #: That of the source.
    LIVE = "live"
    #: A new one on the same server (--as).
    NEW = "new"
    #: One on any server (--to), which `refnet prune` and `refnet check` do not look at.
    ELSEWHERE = "elsewhere"


def check_name(name: str, option: str) -> None:
    """RefnetError (USAGE) if PostgreSQL would change or reject `name`, or RefNet reserves it.

    option: where the name comes from, for the error.
    """
    wrong = ""
    if not name.isprintable() or not name.strip():
        wrong = "is empty, or has characters that cannot be printed"
    elif len(name.encode()) > LONGEST_NAME:
        wrong = f"is longer than {LONGEST_NAME} bytes, which is all that PostgreSQL keeps of a name"
    elif OWN_NAME.fullmatch(name):
        wrong = "is like a name that RefNet gives to copies and previous versions"
    if wrong:
        raise RefnetError(
            f"{option}: the name '{formatting.plain(name)}' {wrong}", "Give another name.", Exit.USAGE
        )
