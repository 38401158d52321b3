"""The interface of a restore or undo: plan, description, confirmation, run. Each kind of source implements it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from refnet import wiring
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.identity import SourceId
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.sources.permitted import Permitted
from refnet.sources.restore_options import AsOf, Compare, Mode

if TYPE_CHECKING:
    from refnet.servers import ActsOn


@dataclass(frozen=True)
class RestoreRequest:
    """Options of a restore or undo; options of other kinds of sources have their defaults."""

    #: The folder, or the URL of the database, that is written; None: what is live.
    to: str | None = None
    #: The artifact, or its source, was named, or confirmed with a recovery: it may be of another machine.
    named: bool = False
    damaged_anyway: bool = False
    #: The plan ends the command.
    plan: bool = False
    #: Nothing is asked.
    force: bool = False
    #: Of a folder: paths of the artifact, or patterns of them; empty: everything.
    only: tuple[str, ...] = ()
    #: Of a folder: add what is missing and replace what is older; delete nothing.
    merge: bool = False
    #: Of a database: the one whose data may be restored, beside the target's own.
    from_database: str | None = None
    compare: Compare = Compare.CONTENT
    create_roles: bool = False
    role_powers: bool = False
    #: The powers that roles of a server may get.
    powers: Permitted = Permitted()
    tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    mode: Mode | None = None
    #: The name of a new database beside the live one; "": none.
    new: str = ""
    #: Parallel workers; None: as many as the settings say.
    jobs: int | None = None
    #: The previous version that an undo brings back; None: the last one.
    previous: str | None = None
    #: Of a cluster: the new data folder, and the moment.
    into: str = ""
    as_of: AsOf = AsOf()
    #: Saves tables of a live database whose rows are replaced, for an undo.
    keep: Callable[[Context, SourceName, Sequence[str]], None] = lambda *_: None


class Columns(NamedTuple):
    """Rows of a description, in aligned columns; the first one is the head."""

    rows: Sequence[Sequence[str]]
    right: tuple[int, ...]
    #: The column whose cells lose their middle first.
    shorten: int


class Said(NamedTuple):
    """A line of the result."""

    text: str
    #: Also where the command is quiet.
    always: bool = False


@dataclass(frozen=True)
class RestoreDone:
    """The result of a restore or an undo."""

    values: dict[str, Any]
    said: tuple[Said, ...]
    #: What differs from the artifact; "": nothing.
    differs: str = ""


class WorkPlan(Protocol):
    """A plan."""

    @property
    def problems(self) -> Sequence[RefnetError]:
        """What prevents it."""

    def to_json(self) -> dict[str, Any]: ...


class RestoreWork(ABC):
    """A requested restore or undo. Use it in a `with` block, which closes the plan's resources."""

    #: The title of its progress; "": it shows none.
    title: str = ""
    #: Whether the progress begins with the plan, and not with `run`.
    plans_long: bool = False
    #: The database of the settings that it is about; None: another one, or none. And whether the text names it.
    acts_on: ActsOn | None = None
    names_target: bool = True
    #: The artifact that an undo takes back, for the log.
    artifact: str = ""
    #: What `plan` returns; an undo has it from the beginning.
    planned: WorkPlan

    def __enter__(self) -> Self:
        self.held = ExitStack()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.held.__exit__(kind, error, trace)

    def plan(self, context: Context) -> WorkPlan:  # noqa: ARG002  # of an undo
        """Plan what `run` will do."""
        return self.planned

    @property
    def problems(self) -> Sequence[RefnetError]:
        """Problems that prevent it, from the plan."""
        return self.planned.problems

    @abstractmethod
    def describe(self) -> Iterable[str | Columns]:
        """The plan as text."""

    def question(self) -> str:
        """Question to confirm; "": nothing live is replaced."""
        return ""

    def commands(self) -> tuple[str, ...]:
        """Commands from the backup that run with it; `run` runs no others."""
        return ()

    @abstractmethod
    def run(self, context: Context) -> RestoreDone:
        """Carry out the confirmed plan."""


def take_over(context: Context, source: SourceName, chosen: OpenArtifact) -> None:
    """Continue the identity of `chosen` in `source`, into which all of it was restored."""
    whose = chosen.manifest.whose if chosen.manifest else None
    if not isinstance(whose, SourceId) or chosen.source != source:
        return
    try:
        numbers = (e.manifest.number or 0 for e in context.store.entries(source) if e.whose == whose)
        wiring.identities(context.settings).take_over(source, whose, max(numbers, default=0))
    except RefnetError as error:
        context.note(f"the identity of {source} was not recorded: {error.message}")
