"""CONTRIBUTING's rule for imports: they are at the top of a module, but for what is listed here."""

from __future__ import annotations

import ast
import gc
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
#: What else a function may import, by its module.
ALLOWED = {
    # What is loaded once Ctrl-C is handled. The command line, until it knows the command: `refnet --help` loads nothing else.
    "refnet.__main__": ("refnet.cli.main", "refnet.cli.streams"),
    "refnet.cli.main": ("refnet.cli.in_stack", "refnet.cli.context", "refnet.settings", "refnet.telemetry.logging"),
    "refnet.cli.command": ("refnet.sources",),
    # The kinds of stores, as `sources.kind_of` for those of sources; and the ciphers, where a key is used.
    "refnet.wiring": ("refnet.store.remote", "refnet.store.sealed", "refnet.store.piece_cache", "refnet.local_postgres"),
    "refnet.store.encryption": ("cryptography", "pyrage"),
    "refnet.store.age": ("cryptography",),
    "refnet.store.keys": ("cryptography",),
    "refnet.store.cutting": ("cryptography",),
    # What only remote stores need, only clusters, databases, `config` or a service; and only a backup of several sources.
    "refnet.actions.marks": ("refnet.actions.store",),
    "refnet.actions.fetch": ("refnet.servers",),
    "refnet.cli.restore": ("refnet.actions.any_second", "refnet.actions.moment_plan", "refnet.servers"),
    "refnet.actions.cluster_databases": ("refnet.sources.database",),
    "refnet.actions.unprotected": ("refnet.local_postgres", "refnet.postgres", "refnet.sources.folder"),
    "refnet.sources.base": ("refnet.local_postgres",),
    "refnet.cli.list": ("refnet.sources",),
    # A database is named and reached without what only its backup, its restore or a look into its artifacts needs.
    "refnet.sources.database.source": ("refnet.sources.database",),
    # A base backup is made without what only its proof, its restore or a remote store needs: a tenth of an increment's time.
    "refnet.sources.cluster.source": ("refnet.sources.cluster",),
    "refnet.sources.cluster.base_artifact": ("refnet.sources.cluster",),
    "refnet.cli.in_stack": ("refnet.recovery",),
    "refnet.store.settings_copies": ("refnet.store.buckets",),
    "refnet.cli.backup": (
        *("refnet.actions.backup_together", "refnet.actions.cluster_databases"),
        *("refnet.actions.copy", "refnet.cli.copy"),
    ),
    "refnet.cli.options": ("refnet.store.encryption",),
    "refnet.cli.render": ("refnet.postgres",),
    # The same, and what only a backup needs, not its plan and not a restore.
    "refnet.actions.backup": (
        *("refnet.actions.copy", "refnet.actions.seal"),
        *("refnet.actions.unprotected", "refnet.actions.verify", "refnet.actions.watching"),
    ),
    # Each costs more than a tenth of `refnet list`: only on a terminal, only where patterns, messages or pings are set.
    "refnet.cli.context": ("refnet.cli.progress", "refnet.store.keys"),
    "refnet.settings.sources": ("pathspec",),
    "refnet.actions.watching": ("refnet.actions.monitor",),
    "refnet.telemetry.watch": ("urllib", "http", "refnet.telemetry.notify"),
}  # fmt: skip
#: The modules of distributions that have another name, or bring more than one.
_MODULES = {"pyyaml": ("yaml",), "celery": ("celery", "kombu", "redis")}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _of_extras() -> frozenset[str]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split(r"[^\w-]", one)[0].lower() for listed in extras.values() for one in listed}
    return frozenset(each for one in names for each in _MODULES.get(one, (one.replace("-", "_"),)))


@cache
def _trees() -> dict[str, ast.Module]:
    paths = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SOURCE.rglob("*.py")
    }
    gc.disable()  # nothing of a tree is garbage, and looking for some takes most of the time
    try:
        return {name: ast.parse(path.read_text()) for name, path in paths.items()}
    finally:
        gc.enable()


def _named(node: ast.AST) -> Iterator[str]:
    """Yield the modules that an import names."""
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        inner = [f"{node.module}.{one.name}" for one in node.names]
        yield from {one if one in _trees() else node.module for one in inner}


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in `node`: an import is never in an expression."""
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        yield from getattr(node, name, ())


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for one in _children(node):
        yield one
        yield from _statements(one)


def _at_the_top(parent: ast.AST) -> Iterator[str]:
    """Yield the modules that are imported with a module; what is only for types is not."""
    for node in _children(parent):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield from _named(node)
        if not isinstance(node, _FUNCTIONS):
            yield from _at_the_top(node)


@cache
def _imported_by(module: str) -> frozenset[str]:
    tree = _trees().get(module)
    return frozenset(_at_the_top(tree) if tree else ())


@cache
def _loaded_with(module: str) -> frozenset[str]:
    """Return what importing `module` loads, without the packages that its modules are in."""
    found, waiting = {module}, [module]
    while waiting:
        new = _imported_by(waiting.pop()) - found
        found.update(new)
        waiting.extend(new)
    return frozenset(found)


@cache
def _in_functions() -> frozenset[tuple[str, str]]:
    """Each module with an import in a function, and what that names."""
    return frozenset(
        (module, name)
        for module, tree in _trees().items()
        for function in _statements(tree)
        if isinstance(function, _FUNCTIONS)
        for node in _statements(function)
        for name in _named(node)
    )


def _top(module: str) -> str:
    return module.partition(".")[0]


def test_a_function_imports_only_what_an_extra_brings_or_is_listed() -> None:
    extras = _of_extras()
    habit = [
        f"{module} imports {name} in a function"
        for module, name in _in_functions()
        if not extras.intersection(map(_top, _loaded_with(name)))
        and not any(f"{name}.".startswith(f"{one}.") for one in ALLOWED.get(module, ()))
    ]
    assert not habit


def test_all_that_is_listed_is_imported_in_a_function() -> None:
    unused = [
        (module, one)
        for module, names in ALLOWED.items()
        for one in names
        if not any(where == module and f"{name}.".startswith(f"{one}.") for where, name in _in_functions())
    ]
    assert not unused
