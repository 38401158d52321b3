"""The content of the demo's database and folders, read by psql and sha256sum instead of RefNet's own code."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

#: For every table: name, number of rows, MD5 over all rows in a fixed order.
SQL = r"""-- The content of the database: psql -XAt -f check.sql
SELECT format('SELECT %L, count(*), md5(string_agg(md5(t::text), %L ORDER BY md5(t::text))) FROM %I.%I t',
              tablename, '', schemaname, tablename)
FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename
\gexec
"""
COUNT_ROWS = ("psql", "-XAt", "-v", "ON_ERROR_STOP=1", "-f", "check.sql")
SUM_FILES = ("find", "config", "vault", "-type", "f", "-exec", "sha256sum", "{}", "+")


@dataclass(frozen=True)
class Contents:
    """The content of the database, the vault and the configuration."""

    #: Name → number of rows, digest of the content.
    tables: Mapping[str, tuple[int, str]]
    #: Path → SHA-256.
    files: Mapping[str, str]

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.tables.values())

    def below(self, folder: str) -> dict[str, str]:
        """Return path → SHA-256 of the files below `folder`."""
        return {path: digest for path, digest in self.files.items() if path.startswith(f"{folder}/")}

    @property
    def notes(self) -> list[str]:
        """The paths of the vault's notes."""
        return [path for path in self.below("vault") if path.endswith(".md")]

    def differences(self, other: Self) -> list[str]:
        """Return the names of the tables and files that differ."""
        mine, its = {**self.tables, **self.files}, {**other.tables, **other.files}
        return sorted(name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name))


def read_tables(output: str) -> dict[str, tuple[int, str]]:
    """Parse the output of COUNT_ROWS."""
    rows = (line.rsplit("|", 2) for line in output.splitlines())
    return {name: (int(count), digest) for name, count, digest in rows}


def read_files(output: str) -> dict[str, str]:
    """Parse the output of SUM_FILES."""
    return {path: digest for digest, path in (line.split("  ", 1) for line in output.splitlines())}
