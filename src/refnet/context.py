"""The context of an action: settings, clock, progress, and a place for notes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from refnet import wiring
from refnet.catalog.artifact import Progress, silent
from refnet.catalog.source_name import SourceName
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import check_closed, check_own, make_folder
from refnet.settings import Examined, Given, Settings, examine
from refnet.store import backup_folder
from refnet.store.local import LocalStore
from refnet.wiring import with_clusters

if TYPE_CHECKING:
    from refnet.store.remote import RemoteStore
    from refnet.store.sealed import SealedStore


@dataclass(frozen=True)
class Context:
    settings: Settings
    clock: Clock = Clock()
    #: Called with each step, its bytes done, and its bytes in all.
    progress: Progress = silent
    #: Called with a sentence about a problem that does not stop the run.
    note: Callable[[str], None] = logging.getLogger("refnet").warning
    #: Whether this is a service, which logs to stderr.
    service: bool = False
    #: The stores that did not answer in this run, and their errors: they are not asked to copy again. None: all are asked.
    down: dict[str, RefnetError] | None = None

    #: `hooks.around` calls it when a restore is done, before the hooks that follow it: a recovery then records the source.
    restored: Callable[[], None] = lambda: None

    #: Called before each swap of a restore, with what `Source.resumed` needs to tell later whether it was done.
    swapping: Callable[[str], None] = lambda _: None

    #: Variables that a process of this run gets beside those of the environment: what somebody said instead of setting them.
    variables: Mapping[str, str] = field(default_factory=dict)

    #: The store of copies that a command reads; None: that of this machine's artifacts.
    remote: RemoteStore | None = None

    @property
    def local(self) -> LocalStore:
        """The store that artifacts are made in, and fetched into; see `wiring.workplace`."""
        return wiring.workplace(self.settings)

    @property
    def catalog(self) -> LocalStore | SealedStore:
        """The store with the artifacts of this machine; see `wiring.catalog`."""
        return wiring.catalog(self.settings)

    @property
    def store(self) -> LocalStore | RemoteStore:
        """The store that artifacts are read from."""
        return self.remote or self.catalog

    @property
    def has_key(self) -> bool:
        """Return whether the recovery key of the store that is read is at hand."""
        return bool(self.remote and self.remote.trust.opener.recovery)

    @contextmanager
    def restore_lock(self, name: SourceName) -> Iterator[None]:
        """Lock `name` for a restore: with the lock of its backups, or in REFNET_HOME if the store is read-only."""
        with ExitStack() as locked:
            try:
                locked.enter_context(self.local.lock(name))
            except RefnetError as error:
                if error.code is Exit.LOCKED:
                    raise
                own = self.settings.home / "locks" / name
                make_folder(own)
                locked.enter_context(backup_folder.locked(own, name))
            yield


def examine_settings(variables: Mapping[str, str] | None = None, given: Given | None = None) -> Examined:
    """Return the settings of this process and their problems.

    Args:
        variables: those that take precedence over its environment.
        given: the settings file; None: search for it.
    """
    environment, cores = {**os.environ, **(variables or {})}, len(os.sched_getaffinity(0))
    return examine(environment, Path.cwd(), root=os.geteuid() == 0, cores=cores, given=given)


def read_settings(
    warn: Callable[[str], None], variables: Mapping[str, str] | None = None, *, own: bool = True
) -> Settings:
    """Return the settings of this process; RefnetError where they are wrong.

    Args:
        warn: called with each warning about the settings files.
        variables: those that take precedence over the environment.
        own: refuse a REFNET_HOME of another user.
    """
    settings = examine_settings(variables).valid()
    for sentence in settings.warnings:
        warn(sentence)
    settings = with_clusters(settings)
    return own_home(settings) if own else settings


def own_home(settings: Settings) -> Settings:
    """Return `settings`; RefnetError unless REFNET_HOME belongs to this user and no other user can write in it.

    What root writes into the folder of a user, that user can neither read nor undo.
    """
    advice = "set REFNET_HOME to a folder of your own"
    check_own(settings.home, "REFNET_HOME", advice)
    check_closed(settings.home, "REFNET_HOME", advice)
    return settings
