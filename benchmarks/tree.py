"""The size of the product's source: what `./dev check` reports, and nobody aims at.

Usage: python -m benchmarks.tree [FOLDER]
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

#: CONTRIBUTING's limits of a function and of a file, in lines.
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


def main() -> None:
    """Print the counts of the Python files in FOLDER; default: src."""
    counted = Tree()
    for path in sorted(Path(sys.argv[1] if len(sys.argv) > 1 else "src").rglob("*.py")):
        counted.add(path)
    for one in fields(counted):
        print(f"{one.name.replace('_', ' '):24} {getattr(counted, one.name):>8,}")


if __name__ == "__main__":
    main()
