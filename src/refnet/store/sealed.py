"""The encrypted backup folder, a remote store in it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.core.files import make_folder
from refnet.settings.stores import ENCRYPTED
from refnet.store.local import LocalStore
from refnet.store.remote import RemoteContents, RemoteStore, as_copy
from refnet.store.remote_records import completed


class SealedStore(RemoteStore):
    """The store `local`: the encrypted artifacts in the backup folder (in `encrypted`), in the format of copies.

    Unlike in other remote stores, this machine locks, marks and deletes there, as in an unencrypted backup folder. Artifacts
    are made in its `workplace`.
    """

    folder: LocalStore
    workplace: LocalStore

    def trouble(self) -> RefnetError | None:
        """Return the reason why this may not be the expected backup folder; None if it is."""
        return self.folder.trouble()

    def prepare(self) -> None:
        """Make the folder, before something is written; RefnetError if this is not the expected backup folder."""
        if trouble := self.trouble():
            raise trouble
        make_folder(self.folder.root / ENCRYPTED)
        self.folder.remember()

    def lock(self, source: SourceName) -> AbstractContextManager[object]:
        """Lock `source`, also for its backups and restores."""
        if trouble := self.trouble():
            raise trouble
        return self.workplace.lock(source)

    def mark(self, entry: Entry, marks: Marks) -> None:
        """Replace the marks of `entry` durably. They are in REFNET_HOME: nothing in the store changes."""
        self.records.keep_marks(as_copy(entry).signed, marks.to_file())

    def delete(self, entry: Entry) -> None:
        """Delete an artifact: its manifest, then its pieces."""
        with self.alone(seconds=None):
            self._reopen()
            self.unpublish(entry)
            for _, act in self.delete_pieces([entry]):
                act()

    def _reopen(self) -> None:
        """Let copies whose run was killed before their manifest look again for what they share: it may go now."""
        for journal, name, _ in completed(self.home / "sending"):
            if not any(one.name == name for one in self.bucket.listed(name)):
                journal.reopen()

    def require_manifests(self) -> None:
        if not self.is_new():
            super().require_manifests()

    def is_new(self) -> bool:
        """Whether nothing was encrypted yet."""
        return not os.path.lexists(self.folder.root / ENCRYPTED) and not self.records.head().counter

    def _listed(self) -> RemoteContents:
        if trouble := self.trouble():
            raise trouble
        if self.is_new():
            return RemoteContents((), (), ())
        return super()._listed()
