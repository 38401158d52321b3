"""The documents of the project, as the tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "README.ja.md",
    ROOT / "SECURITY.md",
    ROOT / "monitoring" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
TRANSLATED = [path for path in DOCUMENTS if path.suffixes == [".ja", ".md"]]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"\s+# exit (\d+)$")
_COMMENT = re.compile(r"\s+#.*$", re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """A command of a document, the code that it ends with, and the lines that the document shows of its output."""

    line: str
    code: int
    output: tuple[str, ...]


def text(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of `language`, in order."""
    return [content for name, content in _FENCED.findall(text(document)) if name == language]


def prose(document: Path) -> str:
    """The text without its fenced blocks."""
    return _FENCED.sub("", text(document))


def commands(document: Path) -> Iterator[Shown]:
    """The commands of the ```console blocks: what follows `$ `, up to the next."""
    for block in blocks(document, "console"):
        for one in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *output = one.splitlines()
            wanted = _EXIT.search(line)
            yield Shown(_EXIT.sub("", line), int(wanted[1]) if wanted else 0, tuple(output))


def uncommented(line: str) -> str:
    return _COMMENT.sub("", line)


def essence(said: str) -> str:
    """`said` without what may differ from run to run: numbers and how many are listed, ages, ids, paths, zones, the widths of columns."""
    said = re.sub(r"(\d\d:\d\d:\d\d) (?:[A-Z]{2,5}\b|[+-]\d{2,4}\b)", r"\1", said)
    said = re.sub(r"\.refnet-[0-9a-f]+", ".refnet-#", said)
    said = re.sub(r"\b[0-9a-f]{12}\b", "#", said)
    said = re.sub(r"(?<![\w`])/[\w./-]+", "PATH", said)
    said = re.sub(r"(?:under )?\d+(?:[_.,T:+-]+\w+)*(?: (?:B|KiB|MiB|GiB|s|min|h|d)\b)?", "#", said)
    said = re.sub(r"#(?:, #)+", "#", said)
    return "\n".join(" ".join(line.split()) for line in said.splitlines())


def titles(document: Path) -> list[tuple[int, str]]:
    """The headings, in order: how deep, and their words."""
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.*)$", prose(document), re.MULTILINE)]


def anchor(title: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
