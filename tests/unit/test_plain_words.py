"""One word for one thing, and plain ones: words that code, messages and documents do without.

The glossary in docs/design/README.md lists the words to use. Identifiers count too: `held_lock` and `HeldLock` are `held lock`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.documents import ROOT, prose, text

CODE = sorted((ROOT / "src").rglob("*.py"))
JAPANESE = sorted((ROOT / "docs").rglob("*.ja.md"))
DOCUMENTS = [
    path
    for path in sorted(
        [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "monitoring").glob("*.md")]
    )
    if path not in JAPANESE
]
OTHERS = [
    ROOT / "refnet.toml.example",
    *sorted((ROOT / "scripts").iterdir()),
    ROOT / "monitoring" / "rules.yml",
]

#: A regular expression over lower-case words → what to write instead. A space stands for any white space.
FORBIDDEN = {
    "put aside|kept (?:ones?|copy|copies|folders?|databases?(?! =))": "previous version",
    "unlike": "changed",
    "put out": "disconnect, terminate",
    "of nobody|nobody s": "unknown, unowned",
    "shelf": "scan",
    "chain": "gzip members",
    "stock(?! tools)": "pgdump",
    "copier": "psql_copy",
    "witness|oracle": "independent check",
    "well again": "recovered",
    "nobody is there": "stdin is not a terminal",
    "holds? what": "contains",
    "every promise": "(the promises)",
    "whoever": "anyone who, the caller",
    "for ever": "forever",
    "believe[sd]?": "trust",
    "cr(?:y|ies) wolf": "false alarm",
    "room": "free space",
    "ahead of the clock|lies? (?:in the future|ahead)": "dated in the future",
    "passing": "transient",
    "lacking": "missing",
    "reckon(?:s|ed|ing)?": "compute",
    "(?:is|are|was|were|be) (?:wanted|meant)": "required, intended",
    "(?:did|does) not make": "foreign dump",
    "(?:could|can|cannot|may|to) (?:not )?be had": "is not available",
    "lies outside": "must be",
    "just now": "(nothing)",
    "anew": "again",
    "held": "open, locked, pending",
    "exchang(?:e|es|ed|ing)": "swap",
    "whole(?! numbers?| seconds)": "complete, entire",
    "alike": "same",
    "mend(?:s|ed|ing)?": "fix, repair",
    "seams?": "interface",
    "told|tells? (?:a|the) (?:person|user|reader)": "report",
    "(?<!there.)(?:is|are) no(?! longer)|knows? no": "is not a, does not support",
    "goes on|go on|gone on": "continue",
    "lies": "is",
    "of ours": "our, RefNet's",
    "for want of": "because … is not installed",
    "look (?:after|into)": "check",
    "link to nothing": "link whose target is missing",
    "leave (?:one|out one) of": "omit one of them",
    "than a moment ago": "before, meanwhile",
    "in all(?=:)": "overall",
}
#: In code alone: a document also says when to run a command once more.
FORBIDDEN_IN_CODE = {"(?:run|try) (?:it |this |that |the backup |)again": "retry"}
#: In documents alone: the module is `walls.py`.
FORBIDDEN_IN_TEXT = {"walls?": "isolation layer"}
FORBIDDEN_IN_JAPANESE = {
    "元のもの": "以前のバージョン",
    "古いデータベース": "以前のバージョン",
    "取り置": "以前のバージョンを置く",
    "時間が経てば直りうる": "一時的な",
    "答える人がいない": "標準入力が端末ではない",
    "信用(?:する|され)": "拒否する、読む",
    "壁": "隔離層",
}
#: Names from elsewhere, of formats and of keys in reports, which do not change; and other senses.
ALLOWED = (
    "RENAME_EXCHANGE",
    "Please wait and try again or apply for a key",
    "exchange.json",
    '"exchange"',
    '"alike"',
    '"told_by"',
    '"held_back"',
    '"read the whole file"',
    "walls.py",
    "`Walls`",
    "as a whole",
    "on the whole",
)
_QUESTION = re.compile(r"(?:What|Whether|How|Where|Who|Whose|Why)\b")
_BETWEEN = r"""(?:\s|\n\s*\#:?\s*|"\s*f?"|')+"""


def words(text: str) -> str:
    """`text` in lower case, with identifiers split into words; lines stay lines."""
    for name in ALLOWED:
        text = text.replace(name, "")
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return re.sub(r"[_’]", " ", text).lower()


def found(text: str, forbidden: Mapping[str, str]) -> Iterator[str]:
    """The forbidden words of `text`, each with its line and what to write instead."""
    plain = words(text)
    for pattern, instead in forbidden.items():
        for match in re.finditer(rf"\b(?:{pattern.replace(' ', _BETWEEN)})\b", plain):
            line = plain.count("\n", 0, match.start()) + 1
            yield f"line {line}: {' '.join(match[0].split())!r}; write: {instead}"


def found_in(paths: Iterable[Path], forbidden: Mapping[str, str]) -> list[str]:
    return [f"{path.relative_to(ROOT)}, {each}" for path in paths for each in found(text(path), forbidden)]


def test_code_uses_the_words_of_the_glossary() -> None:
    assert found_in(CODE + OTHERS, {**FORBIDDEN, **FORBIDDEN_IN_CODE}) == []


def test_documents_use_the_words_of_the_glossary() -> None:
    assert found_in(DOCUMENTS, {**FORBIDDEN, **FORBIDDEN_IN_TEXT}) == []


def test_japanese_documents_use_one_word_for_one_thing() -> None:
    found = [
        (path.name, pattern, instead)
        for path in JAPANESE
        for pattern, instead in FORBIDDEN_IN_JAPANESE.items()
        if re.search(pattern, prose(path))
    ]
    assert found == []


def test_a_docstring_begins_with_a_verb_or_a_noun() -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [
        (str(path.relative_to(ROOT)), docstring.splitlines()[0])
        for path in CODE
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, documented) and _QUESTION.match(docstring := ast.get_docstring(node) or "")
    ]
    assert found == []


def test_words_are_found_in_identifiers_and_over_lines() -> None:
    forbidden = {"held": "open", "of nobody": "unknown"}
    for one in (
        "held_lock = 1",
        "class HeldLock",
        "_held",
        "a file of\n    # nobody",
        '"of "\n    "nobody"',
    ):
        assert list(found(one, forbidden)), one
    for one in ("upheld", "of nobodys", "RENAME_EXCHANGE"):
        assert not list(found(one, {**forbidden, "exchange": "swap"})), one
