"""What stands, as psql and sha256sum see it: none of the code that makes and restores backups takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

#: For every table its name, its rows, and one MD5 over all of them in a fixed order.
SQL = r"""-- What stands in the database: psql -XAt -f witness.sql
SELECT format('SELECT %L, count(*), md5(string_agg(md5(t::text), %L ORDER BY md5(t::text))) FROM %I.%I t',
              tablename, '', schemaname, tablename)
FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename
\gexec
"""
COUNT_ROWS = ("psql", "-XAt", "-v", "ON_ERROR_STOP=1", "-f", "witness.sql")
SUM_FILES = ("find", "config", "vault", "-type", "f", "-exec", "sha256sum", "{}", "+")


@dataclass(frozen=True)
class Witness:
    """`tables`: name → (rows, digest of the content); `files`: path → SHA-256."""

    tables: Mapping[str, tuple[int, str]]
    files: Mapping[str, str]

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.tables.values())

    def below(self, folder: str) -> dict[str, str]:
        """The files of one folder."""
        return {path: digest for path, digest in self.files.items() if PurePosixPath(path).parts[0] == folder}

    def differences(self, other: Witness) -> list[str]:
        """The tables and files that are not the same in both, by name."""
        pairs: tuple[tuple[Mapping[str, object], Mapping[str, object]], ...] = (
            (self.tables, other.tables),
            (self.files, other.files),
        )
        return sorted(
            name
            for mine, its in pairs
            for name in mine.keys() | its.keys()
            if mine.get(name) != its.get(name)
        )


def read_tables(said: str) -> dict[str, tuple[int, str]]:
    """What COUNT_ROWS printed."""
    rows = (line.rsplit("|", 2) for line in said.splitlines())
    return {name: (int(count), digest) for name, count, digest in rows}


def read_files(said: str) -> dict[str, str]:
    """What SUM_FILES printed."""
    return {path: digest for digest, path in (line.split("  ", 1) for line in said.splitlines())}
