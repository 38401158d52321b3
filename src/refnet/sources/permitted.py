"""Powers of roles, and who permitted them.

A backup may be forged, and a signature of its copy does not say who made it. So a recovery gives a role only those powers that
the recovery page lists (by a digest of the whole list), or that a person confirms by name.

The digest is printed on pages and read for ever: SHA-256 of the JSON of the sorted list of [role, power], in ASCII and without
spaces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import NamedTuple, Self

from refnet.core.errors import Exit, RefnetError

_DIGEST = re.compile(r"SHA256:[0-9a-f]{64}")
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]{0,62}")
#: The longest value of --permit, in characters: a role, and a power with its value.
_LONGEST = 4096


class Power(NamedTuple):
    """One power of one role."""

    role: str
    #: `SUPERUSER`, `member of pg_read_all_data`, `may change work_mem`, `sets session_preload_libraries to 'x'`.
    what: str

    def __str__(self) -> str:
        """`ROLE: POWER` in ASCII, as `--permit` takes it; no other role has the same text."""
        return f"{shown(self.role)}: {self.what}"


def shown(name: str) -> str:
    """A name that cannot be taken for another: what is not a plain identifier is quoted, in ASCII."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def digest(powers: Iterable[Power]) -> str:
    """`SHA256:` and the digest of a complete list of powers, in hex."""
    text = json.dumps(sorted(map(list, powers)), separators=(",", ":"))
    return f"SHA256:{sha256(text.encode()).hexdigest()}"


class ListedRoles(NamedTuple):
    """The roles that an artifact lists, read without a server."""

    #: Every power of every role, as a recovery page lists them.
    powers: tuple[Power, ...] = ()
    #: Those that log in and have no password in it.
    without_password: tuple[str, ...] = ()


@dataclass(frozen=True)
class Permitted:
    """The powers that somebody permitted."""

    #: All of them (`--role-powers`).
    everything: bool = False
    #: Digests of lists, from recovery pages.
    digests: frozenset[str] = frozenset()
    #: `ROLE: POWER`.
    names: frozenset[str] = frozenset()
    #: SHA-256 of an artifact → powers that were confirmed at a terminal, for this artifact only.
    confirmed: tuple[tuple[str, Power], ...] = ()

    @classmethod
    def of(cls, values: Sequence[str], *, everything: bool = False) -> Self:
        """Parse values of `--permit`; RefnetError (USAGE) for one that is neither a digest nor `ROLE: POWER`."""
        for one in values:
            named = ": " in one and one.isascii() and one.isprintable() and len(one) <= _LONGEST
            if not _DIGEST.fullmatch(one) and not named:
                raise RefnetError(
                    f"--permit: {json.dumps(one[:80])} is neither a digest of a recovery page nor a power of a role",
                    "Write it as the page or the plan (--plan) shows it: SHA256:…, or 'ROLE: POWER'.",
                    Exit.USAGE,
                )
        digests = frozenset(one for one in values if _DIGEST.fullmatch(one))
        return cls(everything, digests, frozenset(values) - digests)

    def with_confirmed(self, artifact: str, powers: Iterable[Power]) -> Self:
        """Also `powers`, confirmed for the artifact with the SHA-256 `artifact`."""
        confirmed = (*self.confirmed, *((artifact, power) for power in powers))
        return replace(self, confirmed=confirmed)

    def by(self, power: Power, artifact: str, listed: str) -> str:
        """The reason why a role may get `power`, for display; "": nobody permitted it.

        Args:
            artifact: SHA-256 of the artifact that asks for it.
            listed: the digest of all powers in that artifact.
        """
        if listed in self.digests:
            return "the recovery page"
        if str(power) in self.names or (artifact, power) in self.confirmed:
            return "by name"
        return "--role-powers" if self.everything else ""


NOTHING = Permitted()


@dataclass(frozen=True)
class AskedPowers:
    """The powers that an artifact asks for."""

    #: SHA-256 of the artifact (hex).
    artifact: str = ""
    #: Each power that is permitted → what permits it.
    permitted: Mapping[Power, str] = field(default_factory=dict)
    #: Those that nobody permitted yet.
    open: tuple[Power, ...] = ()
    #: The SQL that gives these.
    granting: tuple[str, ...] = ()
