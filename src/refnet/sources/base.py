"""The interface of all kinds of sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from refnet import wiring
from refnet.catalog.artifact import Finding, Maker, OpenArtifact, Progress
from refnet.catalog.identity import Identity, Whose
from refnet.catalog.manifest import Entry
from refnet.catalog.retention import Listing, Outlived
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import AnyStore, HalfMade, Leftover
from refnet.context import Context
from refnet.core import memory
from refnet.core.errors import Exit, RefnetError
from refnet.proof_run import ProofOptions, Required
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings
from refnet.sources.permitted import AskedPowers, ListedRoles, Permitted, Power
from refnet.store.local import LocalStore

if TYPE_CHECKING:
    from refnet.postgres.binaries import Binaries
    from refnet.servers import ActsOn
    from refnet.sources.check_result import CheckLine
    from refnet.sources.contents import Artifact, ArtifactDifference, Finder, ListedTable, Query, QueryAnswer
    from refnet.sources.restoring import RestoreRequest, RestoreWork
    from refnet.store.remote import RemoteStore


@dataclass(frozen=True)
class Permits:
    """Additional permissions that the user of a recovery gives."""

    #: Restore the data of this database, though it is not the target.
    from_database: str | None = None
    #: The powers that roles may get.
    powers: Permitted = Permitted()
    #: An earlier run of this recovery may have created roles without powers that are permitted now.
    continued: bool = False


class Source(ABC):
    """A source of the settings."""

    #: What it is, in logs.
    noun: ClassVar[str]
    #: What it is, in messages.
    called: ClassVar[str]
    #: The options of commands that are for it: those for "databases" or "folders"; "": neither. And single ones of others.
    options: ClassVar[str] = ""
    more_options: ClassVar[tuple[str, ...]] = ()
    #: What its artifacts contain that can be listed, searched and compared: "tables", "files"; "": nothing.
    contains: ClassVar[str] = ""
    #: What compares artifacts of {source}, if these have no differences to show.
    compared_by: ClassVar[str] = ""
    #: Whether dumps of other programs, files or folders, can be artifacts of it.
    takes_dumps: ClassVar[bool] = False
    #: The priority of its backup in Celery's queue; a higher one comes first.
    priority: ClassVar[int] = 9
    #: Whether its artifacts are snapshots: all of one moment.
    is_snapshot: ClassVar[bool] = False
    #: Whether it lies at a path of this machine, `own.path`: then a recovery checks that something may be restored there.
    has_path: ClassVar[bool] = False

    def __init__(self, settings: Settings, name: SourceName) -> None:
        self.settings, self.name = settings, name

    @property
    def own(self) -> SourceSettings:
        """Its settings with defaults; RefnetError (USAGE) if not configured."""
        return self.settings.of(self.name)

    @abstractmethod
    def what(self) -> str:
        """Database with server, or folder, for display; "": not set. Does not connect."""

    @abstractmethod
    def reached(self) -> str:
        """Like `what`; RefnetError if it is unreachable, or a program for its backup is missing."""

    @abstractmethod
    def whose(self) -> Whose | None:
        """Its identity on this machine, or None; does not start RefNet's own server."""

    def named(self) -> Identity | None:
        """Return its identity as far as the settings say it, without a question; None: they do not."""
        return None

    def acts_on(self) -> ActsOn | None:
        """Return the database of the settings and its server, for a display; None: it is on none."""
        return None

    def others(self) -> Iterable[str]:
        """Return the other databases of its server; RefnetError if that cannot be asked."""
        return ()

    @staticmethod
    def of_cluster(cluster: SourceSettings, before: Collection[str]) -> list[str]:  # noqa: ARG004
        """Databases of the server of `cluster` to back up, including those of `before` that now refuse connections."""
        return []

    @abstractmethod
    def maker(
        self,
        *,
        jobs: int | None = None,
        tables: tuple[str, ...] = (),
        into: LocalStore | None = None,
        full: bool = False,
    ) -> Maker:
        """The maker of its artifacts.

        Args:
            jobs: parallel workers; None: as many as the settings say.
            tables: only these tables of a database; empty: everything.
            into: the store with whose last artifact a new one may share bytes; None: the configured one.
            full: make no increment of an earlier artifact.
        """

    @staticmethod
    @abstractmethod
    def opened(stored: OpenArtifact) -> Artifact:
        """The content of one of its artifacts."""

    def proof_options(
        self,
        progress: Progress,
        *,
        trust: bool = False,
        stores: Sequence[AnyStore] = (),  # noqa: ARG002  # most kinds prove an artifact by itself
    ) -> ProofOptions:
        """Return the options of the proof of one of its artifacts; it needs nothing live.

        Args:
            trust: load foreign dumps even where this machine cannot build every isolation layer.
            stores: where artifacts are that the proof needs beside it; the first one that has it counts.
        """
        bound = self.settings.prove_memory
        return ProofOptions(
            base=self.settings.home / "scratch",
            binaries=self._binaries,
            jobs=self.settings.jobs,
            progress=progress,
            required=self.required(),
            memory=memory.available() // 4 if bound is None else min(bound, memory.available()),
            trust=trust,
            memory_bound=bound,
        )

    def _binaries(self, major: int | None, *, server: bool = False) -> Binaries:
        from refnet.local_postgres import proof_binaries

        return proof_binaries(self.settings, major, server=server)

    def required(self) -> Required:
        """Return the tables without which an artifact of it is not intact, and the database that they are of."""
        return Required(self.own.required_tables if self.name in wiring.known(self.settings) else None)

    def checks(self) -> Iterable[CheckLine]:
        """Problems that would stop its backup or restore, for `refnet check`; changes nothing."""
        return ()

    def check_request(self, request: RestoreRequest) -> None:  # noqa: B027  # most kinds have nothing to refuse
        """RefnetError for conflicting options of a restore, or an unset source."""

    @abstractmethod
    def restoring(self, context: Context, chosen: OpenArtifact, request: RestoreRequest) -> RestoreWork:
        """The restore of `chosen` for `request`; changes nothing yet."""

    @abstractmethod
    def undoing(self, context: Context, request: RestoreRequest) -> RestoreWork:
        """The undo of the last restore; RefnetError if there is nothing to undo."""

    def previous(self) -> tuple[Listing, ...]:
        """Lister of previous versions left by restores, which prune removes when due."""
        return ()

    def outlived(self, kept: Sequence[Entry], since: datetime) -> Iterable[Outlived]:  # noqa: ARG002
        """What it keeps beside its artifacts, and neither `kept` nor a recovery to a moment after `since` needs."""
        return ()

    def outlived_in(
        self,
        store: RemoteStore,  # noqa: ARG002
        kept: Sequence[Entry],  # noqa: ARG002
        since: datetime,  # noqa: ARG002
    ) -> Iterable[Leftover]:
        """The same of a remote store, where `kept` are the copies that stay."""
        return ()

    def recorded(self) -> tuple[datetime, ...]:
        """Times of its recorded previous versions, without contacting a server."""
        return ()

    def half_made(self) -> Iterable[HalfMade]:
        """Recorded copies, being loaded or left by killed restores."""
        return ()

    def occupies(self, folder: Path) -> bool:  # noqa: ARG002  # nothing of this machine, unless its kind says so
        """Whether `folder` equals, is inside of, or contains its place: nothing else is restored there."""
        return False

    def replaced(self) -> str:
        """What a restore would replace, for a question; "": nothing. Creates no server."""
        return ""

    def is_of_live(self, entry: Entry) -> bool:  # noqa: ARG002
        """Whether `entry` is of the server that is there now; True where that is not known."""
        return True

    def stands(self, entry: Entry) -> bool:  # noqa: ARG002
        """Whether what an earlier run of a recovery restored from `entry` is still there; ConnectError: unknown."""
        return bool(self.replaced())

    def problems(
        self,
        context: Context,  # noqa: ARG002  # none, unless its kind has some
        chosen: OpenArtifact,  # noqa: ARG002
        permits: Permits,  # noqa: ARG002
    ) -> Sequence[RefnetError]:
        """What would prevent `recover`; ConnectError if its server does not respond. Creates nothing."""
        return ()

    @abstractmethod
    def recover(self, context: Context, chosen: OpenArtifact, permits: Permits) -> list[str]:
        """Restore all of `chosen`, confirmed with the recovery; return sentences about it.

        `context.swapping` is called before the swap, `context.restored` before the hooks that follow.
        """

    def resumed(
        self,
        context: Context,  # noqa: ARG002  # restoring it again changes nothing, unless its kind swaps
        chosen: OpenArtifact,  # noqa: ARG002
        permits: Permits,  # noqa: ARG002
        token: str,  # noqa: ARG002
    ) -> bool:
        """Whether `chosen` is live, swapped in by a run of this recovery that was killed; does what follows but hooks.

        token: what `recover` gave to `context.swapping`.
        """
        return False

    @abstractmethod
    def compare(self, context: Context, chosen: OpenArtifact, permits: Permits) -> tuple[Finding, ...]:
        """Compare the live data with `chosen`, as the login that restores."""

    def powers(self, context: Context, chosen: OpenArtifact, permits: Permits) -> AskedPowers:  # noqa: ARG002
        """The powers of roles that `recover` would give."""
        return AskedPowers()

    def listed_roles(self, chosen: OpenArtifact) -> ListedRoles:  # noqa: ARG002
        """The roles that `chosen` lists. RefnetError: it cannot be read."""
        return ListedRoles()

    def live_powers(self) -> tuple[Power, ...] | None:
        """Every power of the roles on its server, for a recovery page; None: it has no roles. RefnetError: no answer."""
        return None

    def left_to_do(self, context: Context, chosen: OpenArtifact) -> Sequence[str]:  # noqa: ARG002
        """Lines that a person types after a recovery of `chosen`, for psql."""
        return ()

    def chain(self, entry: Entry, entries: Iterable[Entry]) -> tuple[Entry, ...]:  # noqa: ARG002
        """The artifacts among `entries` that a restore of `entry` reads, `entry` last; RefnetError if one is missing."""
        return (entry,)

    def beside(self, context: Context, *, share: bool = False) -> Iterable[Finding]:  # noqa: ARG002
        """Check what it keeps beside its artifacts; `share`: as much as is due in one night."""
        return ()

    def lag_in(self, context: Context, store: str) -> Iterable[str]:  # noqa: ARG002
        """How far what is sent to a remote store beside its artifacts is, a sentence each."""
        return ()

    def send_more(self, context: Context, store: str) -> None:  # noqa: B027  # most kinds have nothing else
        """Send to the remote store `store` what a restore needs besides artifacts; RefnetError if that fails.

        Only for kinds whose row has `sends_more`.
        """

    def fetched(
        self,
        context: Context,  # noqa: ARG002
        store: RemoteStore,  # noqa: ARG002
        entry: Entry,  # noqa: ARG002
    ) -> Iterable[str]:
        """Bring from `store` what a restore of the fetched `entry` needs besides artifacts; return sentences about it."""
        return ()

    def without(self, chosen: OpenArtifact, what: str, advice: str) -> RefnetError:
        """Error: artifacts of this kind have no `what`."""
        return RefnetError(
            f"{chosen.name} is an artifact of {chosen.source}, which has no {what}", advice, Exit.USAGE
        )

    def files(self, chosen: OpenArtifact, advice: str) -> tuple[Any, Any, bool]:
        """`chosen`, its list of files, and whether that was recorded; RefnetError with `advice` if it has no files."""
        raise self.without(chosen, "files", advice)

    def tables(self, chosen: OpenArtifact, advice: str) -> tuple[ListedTable, ...]:
        """The tables of `chosen`; RefnetError with `advice` if it has none."""
        raise self.without(chosen, "tables", advice)

    def query(
        self,
        context: Context,  # noqa: ARG002
        chosen: OpenArtifact,
        asked: Query,  # noqa: ARG002
    ) -> AbstractContextManager[QueryAnswer]:
        """Run a query on `chosen` in a scratch server; RefnetError if the server rejects it."""
        raise self._without_tables(chosen)

    def browse(
        self,
        context: Context,  # noqa: ARG002
        chosen: OpenArtifact,
        *,
        trust: bool,  # noqa: ARG002
    ) -> AbstractContextManager[Any]:
        """Load all of `chosen` into a scratch server, which ends with the block. `trust`: see `contents.Query`."""
        raise self._without_tables(chosen)

    def _without_tables(self, chosen: OpenArtifact) -> RefnetError:
        advice = f"`refnet show {chosen.name} --files` lists its files, `refnet cat` prints one."
        return self.without(chosen, "tables", advice)

    @property
    def unlisted(self) -> RefnetError:
        """Error: its artifacts contain nothing to list or search."""
        return RefnetError(
            f"{self.name} has neither tables nor files",
            "`refnet show` prints what an artifact of roles has.",
            Exit.USAGE,
        )

    def exactly(self, name: str) -> Finder:  # noqa: ARG002
        """Finder of the file or table `name`; RefnetError (USAGE) for an invalid name."""
        raise self.unlisted

    def like(self, pattern: str) -> Finder:  # noqa: ARG002
        """Finder of files or tables that match `pattern`."""
        raise self.unlisted

    def differences(
        self,
        context: Context,  # noqa: ARG002
        before: OpenArtifact,
        after: OpenArtifact,  # noqa: ARG002
    ) -> ArtifactDifference:
        """Differences between two of its artifacts; RefnetError (USAGE) if its kind has none to show."""
        raise self._not_compared(before)

    def live_differences(self, context: Context, before: OpenArtifact) -> ArtifactDifference:  # noqa: ARG002
        """Differences between an artifact and the live data; RefnetError (USAGE) likewise."""
        raise self._not_compared(before)

    def _not_compared(self, artifact: OpenArtifact) -> RefnetError:
        what = f"{artifact.name} has {self.called}, which are not compared as rows or files"
        return RefnetError(what, self.compared_by.format(source=artifact.source), Exit.USAGE)
