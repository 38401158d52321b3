"""The reference of a proof: the artifact's schema, restored without rows by plain pg_restore beside the load.

The copy must have the same schema. A load leaves a core idle at its beginning and its end.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Self

from refnet.core.errors import RefnetError
from refnet.core.processes import run
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target, server_version
from refnet.postgres.tempdirs import private_folder
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.dump.pgdump import SCHEMA_SECONDS, refuses_lz4, schema_text
from refnet.sources.database.proof.guarded_schema import GuardedSchema, Logins, create_empty
from refnet.sources.database.restore.left_out import Leaves, LeftOut, align
from refnet.sources.database.restore.schema_archive import Archive
from refnet.sources.database.server_errors import ServerError
from refnet.sources.database.sql_text import Codec
from refnet.sources.database.workers import Programs

_REFERENCE = "reference"


class Reference(AbstractContextManager["Reference"]):
    """The schema of an artifact in a database of its own. What still runs at the end is ended."""

    def __init__(self, binaries: Binaries, logins: Logins, index: Index) -> None:
        self._binaries, self._logins, self._index = binaries, logins, index
        self._target = logins.as_superuser(_REFERENCE)
        self._superuser = Programs(self._target.environment())
        self._builder = Programs(logins.as_builder(_REFERENCE).environment())
        self._restored: Future[None] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            #: The archive of the schema.
            self.path = stack.enter_context(private_folder()) / "schema.dump"
            self.path.write_bytes(self._index.archive)
            self._pool = stack.enter_context(ThreadPoolExecutor(1, "reference"))
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._held.close()

    def begin(self) -> None:
        """Restore it beside what follows."""
        self._restored = self._restored or self._pool.submit(self._restore)

    def stop(self) -> None:
        """End its restore, if that still runs."""
        if self._restored is None or self._restored.done():
            return
        self._superuser.stop()
        self._builder.stop()
        self._logins.end_sessions(_REFERENCE)

    def equals(self, copy: Target, left_out: tuple[LeftOut, ...]) -> bool:
        """Return whether the database `copy`, which lacks what was left out, has the same schema."""
        self.begin()
        if self._restored:
            self._restored.result()
        with copy.connect(encoding=self._index.encoding) as filled, self._target.connect() as plain:
            codec, _ = Codec.of_server(plain)
            align(filled, plain, left_out, codec)
        expected = self._pool.submit(_schema_of, self._binaries, self._target)
        return _schema_of(self._binaries, copy) == expected.result()

    def _restore(self) -> None:
        """Restore the schema, without rows; errors (of a view, for example) show as differences."""
        with self._logins.as_superuser("postgres").connect() as admin:
            create_empty(admin, _REFERENCE, self._index)
            try:
                self._fill()
            except RefnetError as error:
                if isinstance(error, ServerError) and error.is_of_index:
                    admin.execute(f"DROP DATABASE {_REFERENCE}")
                    create_empty(admin, _REFERENCE, self._index)
                    self._fill(indexes_last=True)
                elif error.transient:
                    raise

    def _fill(self, *, indexes_last: bool = False) -> None:
        with self._target.connect() as session:
            server = server_version(session)
            text = schema_text(self._binaries, self.path, "pre-data", "refnet")
            lz4 = refuses_lz4(session, text)
        archive = Archive(self.path, self._binaries, _REFERENCE, server, lz4, tablespaces=False)
        unread = {oid for oid, _ in self._index.foreign_views}
        with GuardedSchema(archive, self._logins, self._superuser, self._builder) as guarded:
            guarded.create()
            entries = archive.entries(self._superuser, "post-data")
            items = [item for item in entries if not (item.is_refresh and item.oid in unread)]
            leaves = Leaves(archive, self._logins.as_builder(_REFERENCE).connect, Codec())
            last = leaves.plain_indexes(self._superuser, items) if indexes_last else {}
            leaves.build(last.values())
            guarded.finish([item for item in items if item not in last], 1, leaves)


def _schema_of(binaries: Binaries, target: Target) -> bytes:
    command = [
        str(binaries.tool("pg_dump")),
        "--schema-only",
        "--no-tablespaces",
        "--restrict-key=refnet",
        target.name,
    ]
    ran = run(command, SCHEMA_SECONDS, env=target.environment(), capture_output=True)
    ran.check_returncode()
    return bytes(ran.stdout)
