"""The settings file of `refnet init`: what is written is what is read, whatever the answers contain."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.actions.init import Draft
from refnet.errors import Exit, RefnetError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.dictionaries(
    st.sampled_from(["database_url", "backup_dir", "config.entries", "schedule.database"]),
    TEXT | st.lists(TEXT, max_size=4),
)


@given(VALUES)
def test_the_file_is_toml_with_the_same_values(table: dict[str, object]) -> None:
    read = tomllib.loads(Draft(Path("/x"), {}, table).text())
    flat = {k: v for k, v in read.items() if not isinstance(v, dict)}
    nested = {
        f"{t}.{k}": v for t, values in read.items() if isinstance(values, dict) for k, v in values.items()
    }
    assert flat | nested == table


@given(TEXT.filter(bool))
def test_a_password_is_hidden_in_what_is_shown(password: str) -> None:
    draft = Draft(Path("/x"), {}, {"database_url": f"postgresql://u:pass{password}@h/d", "backup_dir": "/b"})
    assert tomllib.loads(draft.text(hidden=True)) == {"database_url": "(hidden)", "backup_dir": "/b"}


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "refnet.toml"
    file.write_text("jobs = 1\n")
    with pytest.raises(RefnetError) as raised:
        Draft(file, {}, {"jobs": 2}).write()
    assert raised.value.code is Exit.USAGE
    assert file.read_text() == "jobs = 1\n"
