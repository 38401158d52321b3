"""Child process that opens an SQLite file, as its owner or an unprivileged user, isolated and with limits.

`python -c` gets its text, so it imports nothing of RefNet. Its argument is a job, its answer a file, both in JSON. The file
may be hostile: no extension is loaded, a schema calls no function that does more than compute, and no virtual table is read.
"""

import hashlib
import json
import os
import resource
import sqlite3
import sys
import time
from collections import Counter
from typing import Any
from urllib.parse import quote

#: Seconds to wait for a writer's lock, bytes of SQLite's heap, the most problems that are named, and characters of each.
_BUSY, _HEAP, _SHOWN, _LONGEST = 30.0, 512 << 20, 20, 200
_PRAGMAS = ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "temp_store = MEMORY")
#: Errors of SQLite about what a database needs and this library does not have: a program brings it along.
_LACKS = ("no such collation", "no such function", "no such module", "unknown tokenizer")
#: A row does not fit into the memory of this process.
_TOO_LARGE = (sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_TOOBIG)
_READS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)


def live(job: dict[str, Any]) -> dict[str, Any]:
    """Count, or digest, the tables of a live database in one transaction; copy that moment in one step, if `copy` says where."""
    source = _opened(job, "rw")
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the moment
    if not job["copy"]:
        return _contents(source, digests=True) | {"format": 1}
    copy = _opened(job | {"path": job["copy"], "inode": 0}, "rwc")
    copy.execute("PRAGMA synchronous = OFF")
    source.backup(copy, pages=-1)
    waits = source.execute("PRAGMA journal_mode").fetchone() != (
        "wal",
    )  # a writer, until this transaction ends
    digested = job["digests"] and not waits
    found = _contents(source, digests=digested) | {"format": 1, "digested": digested}
    source.close()
    if not digested:
        digests = {one["name"]: one["sha256"] for one in _contents(copy, digests=True)["tables"]}
        found["tables"] = [one | {"sha256": digests.get(one["name"], "")} for one in found["tables"]]
    copy.close()
    return found


def check(job: dict[str, Any]) -> dict[str, Any]:
    """Check a file without writers: structure, tables, and foreign keys."""
    found = _opened(job, "ro&immutable=1")
    wrong, unchecked = _integrity(found)
    if wrong:  # a forged tree may lead to one page a billion times
        return {"wrong": wrong}
    return {**_contents(found, digests=True), "unchecked": unchecked, "keys": _foreign_keys(found)}


def query(job: dict[str, Any]) -> dict[str, Any]:
    """Answer a query that only reads, with at most `rows` and about `bytes`; `cut`: there is more."""
    connection = _opened(job, "ro&immutable=1")
    connection.set_authorizer(_only_reads)
    rows, size, cut = list[list[Any]](), 0, False
    cursor = connection.execute(job["sql"])
    for row in cursor:
        size += sum(len(str(one)) for one in row)
        if cut := len(rows) == job["rows"] or size > job["bytes"]:
            break
        rows.append([_shown(one) for one in row])
    return {"columns": [one[0] for one in cursor.description or ()], "rows": rows, "cut": cut}


def _shown(value: object) -> object:
    """The value as JSON has it."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return str(value) if value in {float("inf"), float("-inf")} else value


def _only_reads(action: int, _first: str | None, function: str | None, *_: str | None) -> int:
    risky = action == sqlite3.SQLITE_FUNCTION and function in {"load_extension", "fts3_tokenizer"}
    return sqlite3.SQLITE_OK if action in _READS and not risky else sqlite3.SQLITE_DENY


def _opened(job: dict[str, Any], mode: str) -> sqlite3.Connection:
    path, end = job["path"], time.monotonic() + job["seconds"]
    uri = f"file:{quote(os.fsencode(path))}?mode={mode}"
    connection = sqlite3.connect(uri, timeout=_BUSY, isolation_level=None, uri=True)
    connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.text_factory = lambda text: text.decode(errors="surrogateescape")
    for pragma in (*_PRAGMAS, f"hard_heap_limit = {_HEAP}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    if job["inode"] and os.lstat(path).st_ino != job["inode"]:
        raise OSError(f"{path} was replaced while it was opened")
    return connection


def _contents(connection: sqlite3.Connection, *, digests: bool) -> dict[str, Any]:
    """The tables, and a digest of all definitions and of what programs keep in the header.

    A virtual table has no pages: its content is in tables that have.
    """
    definitions = "SELECT type, name, tbl_name, sql, rootpage > 0 FROM sqlite_master ORDER BY type, name"
    listed = connection.execute(definitions).fetchall()
    header = [
        connection.execute(f"PRAGMA {one}").fetchone()
        for one in ("user_version", "application_id", "encoding")
    ]
    names = [name for kind, name, _, _, pages in listed if kind == "table" and pages]
    tables = [_table(connection, name, digest=digests) for name in names]
    return {"tables": tables, "schema": hashlib.sha256(ascii((listed, header)).encode()).hexdigest()}


def _table(connection: sqlite3.Connection, name: str, *, digest: bool) -> dict[str, Any]:
    """Count the rows of a table, and digest them in their order, without computed columns, which may need a program's function."""
    table, rows, content = f"main.{_quoted(name)}", 0, hashlib.sha256()
    try:
        if digest:
            columns = connection.execute(
                "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", (name,)
            ).fetchall()
            listed = ", ".join(_quoted(one) for (one,) in columns)
            for row in connection.execute(f"SELECT {listed} FROM {table} NOT INDEXED"):  # noqa: S608  # quoted
                content.update(ascii(row).encode())
                rows += 1
            return {"name": name, "rows": rows, "sha256": content.hexdigest()}
    except (MemoryError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_NOMEM) not in _TOO_LARGE:
            raise
    (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # quoted
    return {"name": name, "rows": rows, "sha256": ""}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _integrity(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
    """Errors, and tables that cannot be checked because they need a program's own functions."""
    wrong, unchecked = list[str](), list[str]()
    parts = [str(_SHOWN)]
    for part in parts:
        try:
            lines = connection.execute(f"PRAGMA integrity_check({part})").fetchall()
            wrong += [_said(one) for (one,) in lines if one != "ok"]
        except sqlite3.OperationalError as error:
            if not str(error).startswith(_LACKS):
                raise
            if part == parts[0]:
                parts += [_quoted(one["name"]) for one in _contents(connection, digests=False)["tables"]]
            else:
                unchecked.append(_said(f"{part}: {error}"))
    return wrong[:_SHOWN], unchecked[:_SHOWN]


def _foreign_keys(connection: sqlite3.Connection) -> list[str]:
    """Name the violated foreign keys."""
    try:
        violated = connection.execute("PRAGMA foreign_key_check")
        found = Counter(_said(f"foreign key {child} → {parent}") for child, _row, parent, _key in violated)
    except sqlite3.OperationalError as error:  # what one refers to is not unique, or does not exist
        return [f"foreign keys: {_said(error)}"]
    counts = found.most_common(_SHOWN)
    return [f"{key}: {count} {'row' if count == 1 else 'rows'} without parent" for key, count in counts]


def _said(value: object) -> str:
    """A sentence that may be long, or no valid text."""
    return str(value)[:_LONGEST].encode(errors="replace").decode()


def _main() -> None:
    job = json.loads(sys.argv[1])
    for number, most in (
        (resource.RLIMIT_AS, job["memory"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(job["seconds"]) + 1),
    ):
        resource.setrlimit(number, (most, most))
    os.umask(0o077)
    try:
        answer = {"live": live, "check": check, "query": query}[job["verb"]](job)
    except (sqlite3.Error, sqlite3.Warning, OSError, MemoryError, ValueError) as error:
        answer = {"error": _said(error) or "out of memory", "code": getattr(error, "sqlite_errorname", "")}
    try:
        with open(job["answer"], "x", encoding="ascii") as file:  # noqa: PTH123  # pathlib takes longer to load
            json.dump(answer, file)
    except OSError as error:
        sys.exit(error.errno)


if __name__ == "__main__":
    _main()
