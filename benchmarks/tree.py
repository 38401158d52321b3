"""The size of the tree, and its ratchet: `./dev check` prints both, and fails above a limit.

The limits are in pyproject.toml (`[tool.refnet.tree]`). A commit that shrinks the tree may lower them; a feature pays for
its lines by what it makes simpler.

Usage: python -m benchmarks.tree
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

#: Where a function and a file are counted as long, in lines.
_FUNCTION, _FILE = 40, 400
_KINDS = ("DATABASE", "FOLDER", "GLOBALS", "CLUSTER", "SQLITE")
#: The table that declares the kinds, and the standard sources of each.
_REGISTRATION = Path("catalog/source_name.py")
_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Tree:
    """What is counted, over all files."""

    files: int = 0
    lines: int = 0
    #: Lines with code: no blank ones, comments or docstrings.
    code: int = 0
    statements: int = 0
    imports_in_functions: int = 0
    type_blocks: int = 0
    long_functions: int = 0
    long_files: int = 0
    #: Attributes `Kind.X` outside sources/ and the table that declares the kinds.
    kinds_outside_sources: int = 0

    def add(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines = text.count("\n")
        self.files += 1
        self.lines += lines
        self.code += len(_code_lines(text, tree))
        self.statements += sum(isinstance(node, ast.stmt) for node in ast.walk(tree))
        self.long_files += lines > _FILE
        inside = {
            id(one) for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) for one in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports_in_functions += id(node) in inside
            elif isinstance(node, _FUNCTIONS):
                self.long_functions += (node.end_lineno or node.lineno) - node.lineno >= _FUNCTION
            elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                self.type_blocks += 1
            elif (
                isinstance(node, ast.Attribute) and node.attr in _KINDS and ast.unparse(node.value) == "Kind"
            ):
                outside = "sources" not in path.parts and not path.match(str(_REGISTRATION))
                self.kinds_outside_sources += outside


def _code_lines(text: str, tree: ast.Module) -> set[int]:
    found = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            found.update(range(token.start[0], token.end[0] + 1))
    return found - set(_docstrings(tree))


def _docstrings(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTIONS)) and ast.get_docstring(node, clean=False):
            yield from range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)


def counted(root: Path) -> tuple[Tree, Mapping[str, int]]:
    """Counts of `src` below `root`, and the counts that have a limit, by its name."""
    tree = Tree()
    for path in sorted((root / "src").rglob("*.py")):
        tree.add(path)
    tests = sum(path.read_bytes().count(b"\n") for path in (root / "tests").rglob("*.py"))
    return tree, {"statements": tree.statements, "files": tree.files, "test_lines": tests}


def over(counts: Mapping[str, int], limits: Mapping[str, int]) -> Iterator[str]:
    """A sentence for each count above its limit; KeyError if a count has no limit."""
    for name, count in counts.items():
        if count > limits[name]:
            yield f"{name}: {count:,} is over the limit of {limits[name]:,}"


def main() -> int:
    """Print the counts of the clone in the current folder; 1 if one is over its limit, else 0."""
    tree, counts = counted(Path())
    for one in fields(tree):
        print(f"{one.name.replace('_', ' '):24} {getattr(tree, one.name):>8,}")
    limits = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["refnet"]["tree"]
    for name, count in counts.items():
        print(f"{'limit: ' + name.replace('_', ' '):24} {count:>8,} of {limits[name]:,}")
    found = list(over(counts, limits))
    for sentence in found:
        print(
            f"{sentence}.\n    Make something simpler in exchange; the limits are in pyproject.toml.",
            file=sys.stderr,
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
