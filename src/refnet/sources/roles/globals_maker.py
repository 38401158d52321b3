"""Roles, memberships and tablespaces of a server as a source of backups: the text of pg_dumpall, compressed."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from refnet.catalog.artifact import Made, Progress, Turn, at_once, silent
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.sources.roles.global_statements import NotGlobalsError, StatementKind, counted, read
from refnet.sources.roles.globals_dump import dumped

_LEVEL = 6


@dataclass(frozen=True)
class GlobalsMaker:
    """The global objects of a server."""

    name: SourceName
    target: Callable[[], Target]
    #: Return the programs for a server's major.
    binaries: Callable[..., Binaries]
    #: Include the SCRAM verifiers of passwords.
    passwords: bool = False

    def digesting(self, up_to: int) -> None:  # noqa: ARG002  # the interface's
        return None

    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        target = self.target()
        with target.connect(READER_SETTINGS, encoding="UTF8") as session:
            binaries = self.binaries(server_version(session))
            row = session.execute(
                "SELECT now(), current_setting('server_version_num')::int, current_setting('server_version')"
            ).fetchone()
        assert row is not None  # noqa: S101  # for the type checker
        moment, number, version = row
        progress("roles and tablespaces", 0, None)
        text = dumped(binaries, target, passwords=self.passwords)
        turn()
        try:
            text, dropped = without_weak_passwords(text)
            counts = counted(read(text))
        except NotGlobalsError as error:
            raise RefnetError(
                f"the roles of the server at {target.address} cannot be backed up: {error}",
                "Rename the role or the tablespace with the unusual name, then retry.",
            ) from None
        out.write(gzip.compress(text.encode(), _LEVEL, mtime=0))
        return Made(
            created=moment,
            details={"server_version": version, "server_version_num": number, **counts},
            unchecked=tuple(
                f"the password of the role {one} is left out: it is not a SCRAM verifier" for one in dropped
            ),
        )


def without_weak_passwords(text: str) -> tuple[str, tuple[str, ...]]:
    """`text` with only SCRAM password verifiers, and the roles whose passwords were dropped."""
    dropped, pieces, at = [], [], 0
    for statement in read(text):
        if statement.kind is not StatementKind.ATTRIBUTES or "PASSWORD" not in statement.tokens:
            continue
        password = statement.tokens[statement.tokens.index("PASSWORD") + 1]
        begin = text.index(f" PASSWORD {password}", at)
        end = begin + len(f" PASSWORD {password}")
        if not password.startswith("'SCRAM-SHA-256$"):
            pieces.append(text[at:begin])
            dropped.append(statement.subject)
        else:
            pieces.append(text[at:end])
        at = end
    return "".join((*pieces, text[at:])), tuple(dropped)
