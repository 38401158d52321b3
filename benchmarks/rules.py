"""Rules of the source that `./dev check` enforces, each with its reason and its exceptions.

No fork: a fork copies one thread, and the locks of all others stay locked in it for ever. RefNet has threads, of its own and of
libraries (an object store's client), so a child is always a new program: fork and exec in one call, as `subprocess` does
without `preexec_fn`. Celery's pool forks its workers itself; that parent runs no task, so no store's client has threads there.

Usage: python -m benchmarks.rules
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

#: (file below src, what it uses) → why that is right.
EXCEPTIONS: Mapping[tuple[str, str], str] = {}
_CALLS = {"os.fork", "os.forkpty", "pty.fork"}
_MODULES = {"multiprocessing", "billiard"}
#: What is imported from it starts no process. `import multiprocessing.connection` also brings what does.
_HARMLESS = "multiprocessing.connection"


class Broken(NamedTuple):
    """A place where a rule is broken."""

    path: Path
    line: int
    what: str


def forks(path: Path, text: str) -> Iterator[Broken]:
    """Every use of a fork without exec in the source `text` of `path`."""
    for node in ast.walk(ast.parse(text)):
        for what in _of(node):
            yield Broken(path, getattr(node, "lineno", 0), what)


def _of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute() if (name := ast.unparse(node)) in _CALLS:
            yield name
        case ast.Call(func=ast.Attribute(attr="fork" | "forkpty")) if (
            name := ast.unparse(node.func)
        ) not in _CALLS:  # of a module under another name
            yield name
        case ast.keyword(arg="preexec_fn") | ast.Constant(value="preexec_fn"):
            yield "preexec_fn"
        case ast.Name(id="ProcessPoolExecutor") | ast.alias(name="ProcessPoolExecutor"):
            yield "ProcessPoolExecutor"
        case ast.Attribute(attr="ProcessPoolExecutor"):
            yield "ProcessPoolExecutor"
        case ast.Import(names=names):
            yield from (one.name for one in names if one.name.partition(".")[0] in _MODULES)
        case ast.ImportFrom(module=str(module), names=names):
            yield from (f"{module}.{one.name}" for one in names if f"{module}.{one.name}" in _CALLS)
            if module.partition(".")[0] in _MODULES and module != _HARMLESS:
                yield module


def main() -> int:
    """Print what breaks a rule below src, and exceptions that nothing needs; 1 if there is any, else 0."""
    root = Path("src")
    found = [
        one for path in sorted(root.rglob("*.py")) for one in forks(path, path.read_text(encoding="utf-8"))
    ]
    used = {(str(one.path.relative_to(root)), one.what) for one in found}
    wrong = [one for one in found if (str(one.path.relative_to(root)), one.what) not in EXCEPTIONS]
    for one in wrong:
        print(f"{one.path}:{one.line}: {one.what} forks a process that may have threads.", file=sys.stderr)
        print("    Start a program of its own with subprocess, without preexec_fn.", file=sys.stderr)
    unused = EXCEPTIONS.keys() - used
    for path, what in sorted(unused):
        print(f"benchmarks/rules.py: nothing needs the exception {path}: {what}. Remove it.", file=sys.stderr)
    return 1 if wrong or unused else 0


if __name__ == "__main__":
    sys.exit(main())
