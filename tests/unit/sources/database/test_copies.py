"""What a database's name alone says of the copy that a killed restore left."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from refnet.sources.database.restore.previous_databases import _previous
from refnet.store.previous_records import MarkState


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("app_copy_20261125_170001", datetime(2026, 11, 25, 17, 0, 1).astimezone()),
        ("app_copy_20261125_170001_2", datetime(2026, 11, 25, 17, 0, 1).astimezone()),
        ("app_copy_20261399_999999", datetime.fromtimestamp(0, UTC)),
    ],
)
def test_a_copy_without_a_mark_is_as_old_as_its_name_says(name: str, at: datetime) -> None:
    found = _previous((name, 7, "owner", None, False, 0), None, "1")

    assert found is not None
    assert (found.of, found.why, found.at) == ("app", MarkState.COPY, at)
