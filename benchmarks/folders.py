"""The folders that are measured: the shapes of files that users have, made up from a seed."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from refnet.demo.abstracts import person
from refnet.demo.sample import Prose
from refnet.network.frontmatter import Id
from refnet.network.note import Paper, PaperLink, name_of, render

VAULT, NOTES, PHOTOGRAPHS, TINY, LARGE = "vault", "notes", "photographs", "tiny", "large"
_SMALLEST, _SPREAD = 1_000, 200
_PICTURES = 100
_FOLDER = 500
_NOTE = 3_000
_PHOTOGRAPH = 5_000_000
_LEVELS = 40


@dataclass(frozen=True)
class Folder:
    """A kind of folder. `make`: writes `files` files from a seed, the same each time; returns their bytes."""

    about: str
    #: How many files at a scale of 1.
    files: int
    make: Callable[[Path, int, int], int]


def _vault(vault: Path, files: int, seed: int) -> int:
    random, prose = Random(f"vault {seed}"), Prose(seed, 4_000_000, dense=True)  # noqa: S311  # made up, not secret
    places: dict[int | Id, PaperLink] = {}
    written = _write(vault / ".obsidian" / "app.json", b'{"attachmentFolderPath": "attachments"}\n')
    for number in range(1, files):
        if number % _PICTURES == 0:
            name = f"{_named('図 データ', number // _PICTURES)} {number}.png"
            picture = random.randbytes(int(50_000 + 250_000 * random.random()))
            written += _write(vault / "attachments" / name, picture)
            continue
        paper = _paper(random, prose, number)
        name = _named(f"{paper.authors[0]}のメモ ページ", number) + f" ({number})" if number % 5 == 0 else ""
        folder = f"{_named('研究ノート グラフ', number // _FOLDER)} {number // _FOLDER:03}"
        places[number] = PaperLink(f"{folder}/{name or name_of(paper)}", paper.heading)
        written += _write(vault / f"{places[number].path}.md", render(paper, places).encode())
    return written


def _paper(random: Random, prose: Prose, number: int) -> Paper:
    """Return a paper whose note has 1 to 200 KB; most are small."""
    return Paper(
        number,
        prose.titles[random.randrange(len(prose))],
        (person(random), person(random)),
        1970 + number % 56,
        "Journal of Citation Studies (sample)",
        prose.passage(random.random(), int(_SMALLEST * _SPREAD ** random.random() ** 8)),
        provenance="sample",
        references=tuple(random.randrange(1, number) for _ in range(5)) if number > 1 else (),
    )


def _named(japanese: str, number: int) -> str:
    """Return a name: Japanese, the same with its marks decomposed as macOS does, or a Latin one."""
    return (japanese, unicodedata.normalize("NFD", japanese), "Reading", "Projects")[number % 4]


def _write(path: Path, data: bytes) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(data)


def _notes(folder: Path, files: int, seed: int) -> int:
    prose = Prose(seed, 4_000_000, dense=True)
    random = Random(f"notes {seed}")  # noqa: S311  # made up, not secret
    written = 0
    for number in range(files):
        text = f"# Note {number}\n\n{prose.passage(random.random(), _NOTE)}\n"
        written += _write(folder / f"{number // _FOLDER:03}" / f"note {number}.md", text.encode())
    return written


def _photographs(folder: Path, files: int, seed: int) -> int:
    random = Random(f"photographs {seed}")  # noqa: S311  # made up, not secret
    return sum(
        _write(folder / f"IMG_{number:04}.jpg", random.randbytes(_PHOTOGRAPH)) for number in range(files)
    )


def _tiny(folder: Path, files: int, seed: int) -> int:
    random = Random(f"tiny {seed}")  # noqa: S311  # made up, not secret
    written, place = 0, folder
    for number in range(files):
        if number % _FOLDER == 0:
            place = folder.joinpath(
                *(f"{level:02}" for level in range(number // _FOLDER % _LEVELS)), f"d{number // _FOLDER}"
            )
        written += _write(place / f"{number}.txt", f"{random.random()} {number} ".encode() * 8)
    return written


def _large(folder: Path, files: int, seed: int) -> int:
    """Write one file of `files` MiB, every other one random."""
    random = Random(f"large {seed}")  # noqa: S311  # made up, not secret
    text = Prose(seed, 1 << 20, dense=True).text.encode()[: 1 << 20]
    folder.mkdir(parents=True)
    with (folder / "disk.img").open("wb") as file:
        return sum(file.write(random.randbytes(1 << 20) if number % 2 else text) for number in range(files))


FOLDERS: Mapping[str, Folder] = {
    VAULT: Folder("notes of 1 to 200 KB, 1 % pictures, Japanese names", 50_000, _vault),
    NOTES: Folder("notes of 3 KB", 50_000, _notes),
    PHOTOGRAPHS: Folder("files of 5 MB that do not compress", 300, _photographs),
    TINY: Folder("files of 200 bytes in up to 40 levels", 200_000, _tiny),
    LARGE: Folder("one file of 3 GB; its number of files is one of MiB", 3_000, _large),
}
