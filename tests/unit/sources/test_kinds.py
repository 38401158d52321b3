"""Each kind is declared once, and has a class."""

from __future__ import annotations

from datetime import datetime

import pytest

from refnet.catalog.source_name import Kind, SourceName, artifact_names, likely_kind, read_file_name
from refnet.sources import Source, kind_of


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_has_a_class_and_files_that_are_read_as_its_own(kind: Kind) -> None:
    name = SourceName(f"shop{kind.row.name_ends}", kind)
    moment = datetime(2026, 11, 29, 2, 30)  # noqa: DTZ001  # the time in a file's name has no zone
    assert issubclass(kind_of(name), Source)
    for file in artifact_names(name, moment)[:2]:
        said = read_file_name(file)
        assert said == (name, moment)
        assert said[0].kind is kind


@pytest.mark.parametrize(
    ("name", "by_name", "kind"),
    [
        ("main-globals", True, Kind.GLOBALS),
        ("main-globals", False, Kind.GLOBALS),
        ("shop", True, Kind.DATABASE),
        ("shop", False, Kind.FOLDER),
    ],
)
def test_the_kind_of_a_name_alone_is_guessed(name: str, kind: Kind, *, by_name: bool) -> None:
    assert likely_kind(name, by_name=by_name) is kind
