"""A list of files as pages show it: a folder with sizes, what a search finds, and lists that lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.member_names import ArchiveError
from refnet.sources.folder import browsing
from refnet.sources.folder.browsing import FileNames, FolderPage, entry_of, names_of
from refnet.sources.folder.listing import FileKind, FileList, Listed

_SUM = hashlib.sha256(b"x").hexdigest()
_DECOMPOSED = "memo/か\u3099く.md"


def folder(path: str) -> Listed:
    return Listed(path, FileKind.FOLDER, 0, 0o755, 0, 0, 0, 0)


def file(path: str, size: int = 1) -> Listed:
    return Listed(path, FileKind.FILE, size, 0o644, 0, 0, 0, 0, _SUM)


_FILES = FileList((
    folder("."), folder("memo"), file(_DECOMPOSED, 5), folder("photos"), folder("photos/2020"),
    file("photos/2020/b.jpg", 300), file("photos/2020/A.jpg", 40), file("photos/z.txt", 2), folder("photos/empty"),
    file('a "quoted" \\ name.md', 7), file("b\udcff.md", 8), file("photos2.txt", 9),
    Listed("link", FileKind.LINK, 0, 0o777, 0, 0, 0, 0, target="memo"),
))  # fmt: skip


def shown(page: FolderPage) -> list[tuple[str, str, int, int]]:
    return [(one.path, str(one.kind), one.files, one.size) for one in page.lines]


@pytest.fixture
def names() -> FileNames:
    return FileNames([_FILES.to_json()])


def test_a_folder_has_its_folders_first_with_all_that_is_below_them(names: FileNames) -> None:
    top = names.page("", 0, 100)
    assert shown(top) == [
        ("memo", "folder", 1, 5), ("photos", "folder", 3, 342), ('a "quoted" \\ name.md', "file", 1, 7),
        ("b\udcff.md", "file", 1, 8), ("link", "link", 0, 0), ("photos2.txt", "file", 1, 9),
    ]  # fmt: skip
    assert (top.total, top.files, top.size) == (6, 7, _FILES.raw_bytes)
    assert shown(names.page("photos", 0, 100)) == [
        ("photos/2020", "folder", 2, 340), ("photos/empty", "folder", 0, 0), ("photos/z.txt", "file", 1, 2),
    ]  # fmt: skip
    assert [one.name for one in names.page("photos/2020", 0, 100).lines] == ["A.jpg", "b.jpg"]
    assert shown(names.page("photos/empty", 0, 100)) == []


def test_pages_follow_each_other(names: FileNames) -> None:
    pages = [names.page("", first, 4) for first in (0, 4, 8)]
    assert [len(one.lines) for one in pages] == [4, 2, 0]
    assert {one.total for one in pages} == {6}
    assert [line for one in pages for line in shown(one)] == shown(names.page("", 0, 100))


@pytest.mark.parametrize("path", ["nowhere", "photos/2020/b.jpg", "photo", "link", "photos/2020/b.jpg/x"])
def test_what_is_no_folder_is_not_opened(names: FileNames, path: str) -> None:
    with pytest.raises(LookupError):
        names.page(path, 0, 10)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2020", ["photos/2020", "photos/2020/b.jpg", "photos/2020/A.jpg"]),
        ("a.JPG", ["photos/2020/A.jpg"]),
        ("がく", [_DECOMPOSED]),
        ('"quoted" \\', ['a "quoted" \\ name.md']),
        ("*", []),
        ("é", []),
    ],
)
def test_a_search_finds_a_part_of_a_path_in_any_case_and_spelling(
    names: FileNames, text: str, found: list[str]
) -> None:
    assert [one.path for one in names.search(text, 0, 100).lines] == found
    assert names.search(text, 0, 1).total == len(found)


def test_a_search_says_how_many_files_and_bytes_it_found(names: FileNames) -> None:
    page = names.search("photos", 0, 2)
    assert (page.total, page.files, page.size, len(page.lines)) == (7, 4, 351, 2)


def test_a_name_without_a_folder_is_the_one_file_that_has_it(names: FileNames) -> None:
    asked = ["Z.TXT", "がく.md", "a.jpg", "2020", "link", "z.md", ".", ""]
    assert names.only(asked) == {
        "Z.TXT": "photos/z.txt",
        "がく.md": _DECOMPOSED,
        "a.jpg": "photos/2020/A.jpg",
    }
    again = FileNames([_FILES.to_json().replace(b'"path":"photos2.txt"', b'"path":"memo/Z.txt"')])
    assert again.only(["z.txt"]) == {}


def test_an_empty_list_is_an_empty_folder() -> None:
    assert shown(FileNames([FileList(()).to_json()]).page("", 0, 10)) == []


@pytest.mark.parametrize("size", [1, 7, 64, 300])
def test_a_list_is_read_in_pieces_that_end_anywhere(names: FileNames, size: int) -> None:
    text = _FILES.to_json()
    read = FileNames(text[at : at + size] for at in range(0, len(text), size))
    assert read.page("", 0, 100) == names.page("", 0, 100)
    assert read.search("photos", 0, 100) == names.search("photos", 0, 100)


_LINES = _FILES.to_json().split(b"\n")


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]\n", b"\n".join(_LINES[:-2]), b"\n".join((*_LINES[:5], b"", *_LINES[5:])),
        _FILES.to_json().replace(b'"kind":"file"', b'"kind":"pipe"', 1),
        _FILES.to_json().replace(b'"size":300', b'"size":-300'),
        _FILES.to_json().replace(b'"size":300', b'"size":99999999999999999999'),
        _FILES.to_json().replace(b'{"path":"memo"', b'{"path": "memo"'),
        _FILES.to_json().replace(b"\\\\", b"\\x"),
        _FILES.to_json().replace(b'path_base64":"', b'path_base64":"*'),
    ],
)  # fmt: skip
def test_a_list_that_is_not_as_a_backup_writes_it_is_refused(text: bytes) -> None:
    with pytest.raises(ArchiveError):
        FileNames([text])


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a//b", "./a", "a/../b", "a\\u0000b"])
def test_a_path_that_leads_outside_is_not_shown(path: str) -> None:
    names = FileNames([_FILES.to_json().replace(b'"path":"link"', f'"path":"{path}"'.encode())])
    with pytest.raises(ArchiveError):
        names.search(path.replace("\\u0000", "\0"), 0, 10)


def test_a_path_that_is_listed_twice_is_refused() -> None:
    names = FileNames([_FILES.to_json().replace(b'"path":"link"', b'"path":"memo"')])
    with pytest.raises(ArchiveError, match="listed twice"):
        names.page("", 0, 100)


def stored(text: bytes) -> OpenArtifact:
    def pieces() -> Iterator[bytes]:
        yield from (text[at : at + 100] for at in range(0, len(text), 100))

    return OpenArtifact(SourceName.OBSIDIAN, "vault.tar.gz", Path("/nowhere").open, None, file_pieces=pieces)


def test_one_entry_is_checked_as_a_restore_checks_it() -> None:
    artifact = stored(_FILES.to_json())
    for one in _FILES.files:
        assert entry_of(artifact, one.path) == one
    assert entry_of(artifact, "nowhere") is None
    forged = _FILES.to_json().replace(_SUM.encode(), b"0", 1)
    with pytest.raises(RefnetError) as refused:
        entry_of(stored(forged), _DECOMPOSED)
    assert refused.value.code is Exit.DAMAGED


def test_a_list_that_is_too_long_for_a_page_says_how_to_search_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsing, "LONGEST", 1000)
    with pytest.raises(RefnetError) as refused:
        names_of(stored(_FILES.to_json()))
    assert "refnet show vault.tar.gz --files" in refused.value.hint


def test_an_archive_without_a_list_says_so() -> None:
    with pytest.raises(RefnetError, match="has no list of files"):
        names_of(OpenArtifact(SourceName.OBSIDIAN, "vault.tar.gz", Path("/nowhere").open, None))
