"""Checks of the monitor: status, result, and the limits for them."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from refnet.catalog.source_name import SourceName

#: Tolerance for a late start (a random delay, a machine that slept) and the duration of a run.
GRACE = timedelta(hours=2)
#: The same for a drill, which is less urgent.
DRILL_GRACE = timedelta(days=2)


class Status(StrEnum):
    """The result of a check, from best to worst."""

    OK = "ok"
    NEW = "new"
    UNKNOWN = "unknown"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def exit(self) -> int:
        """The exit code of a monitoring plugin: 0 ok, 1 warning, 2 critical, 3 unknown."""
        return {Status.WARNING: 1, Status.CRITICAL: 2, Status.UNKNOWN: 3}.get(self, 0)


@dataclass(frozen=True)
class Check:
    """One check and its result."""

    #: None: the check concerns all sources.
    source: SourceName | None
    what: str
    status: Status
    says: str

    def to_json(self) -> dict[str, str | None]:
        return {"source": self.source, "check": self.what, "status": self.status, "says": self.says}


@dataclass(frozen=True)
class Gone:
    """Why a source is gone, and how to bring it back; parts of a sentence."""

    why: str
    how: str


@dataclass(frozen=True)
class Limits:
    """The intervals of a source's schedule (None: off), and the smallest expected artifact."""

    interval: timedelta | None
    drill_interval: timedelta | None
    min_bytes: int = 0
    #: Between two proofs; None: each backup is proven.
    proof_interval: timedelta | None = None

    @property
    def proof_age(self) -> timedelta | None:
        """Maximum age of the last proven artifact; above it, a proof was missed."""
        return self.proof_interval and self.proof_interval + (self.interval or timedelta()) + GRACE

    @property
    def age(self) -> timedelta | None:
        """Maximum age of the newest artifact; above it, a run was missed."""
        return self.interval and self.interval + GRACE

    @property
    def drill_age(self) -> timedelta | None:
        return self.drill_interval and self.drill_interval + DRILL_GRACE


def watch_gone(name: SourceName, found: Gone) -> Check:
    """Report a gone source."""
    says = f"{found.why}: {found.how}, `refnet accept {name}` if that is intended"
    return Check(name, "gone", Status.CRITICAL, says)
