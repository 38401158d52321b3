"""A query on an artifact with a forged index is answered, or refused in two lines; nothing of it runs outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.hostile import forge
from tests.hostile.forge import Change

from refnet.actions.look import query
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.sources.contents import Query

_QUERY = "SELECT count(*), (SELECT last_value FROM notes_id_seq) FROM notes"


def _answer(home: Path, path: Path, text: str = _QUERY) -> tuple[list[tuple[str | None, ...]], list[str]]:
    settings = Settings(home=home, backup_dir=home / "backups")
    with query(Context(settings), str(path), Query(text)) as found:
        return [*found.rows], found.notes


def _setting(values: dict[str, Any]) -> None:
    values["database"]["settings"] = [{"role": None, "setting": 'search_path="'}]


def _sequence(values: dict[str, Any]) -> None:
    values["sequences"] = [["public.nothing'; DROP TABLE notes; --", 1, True]]


def _role(values: dict[str, Any]) -> None:
    values["roles"][0]["name"] = "a\udcffb"


@pytest.mark.parametrize("change", [_setting, _sequence, _role])
def test_what_a_forged_index_says_of_the_server_is_refused(
    genuine: bytes, tmp_path: Path, short_home: Path, change: Change
) -> None:
    path = tmp_path / "refnet_20261125_020000.sql.gz"
    path.write_bytes(forge.forged(genuine, change))
    with pytest.raises(RefnetError) as refused:
        _answer(short_home, path)
    assert refused.value.hint
    assert list(short_home.rglob("scratch-*")) == []


def test_rows_of_another_table_are_damage_and_an_empty_table_is_named(
    genuine: bytes, tmp_path: Path, short_home: Path
) -> None:
    path = tmp_path / "refnet_20261125_020000.sql.gz"
    index = forge.index_of(genuine)
    notes = next(at for at, table in enumerate(index["tables"]) if table["name"] == "notes")
    member = next(at for at, one in enumerate(index["members"]) if one["table"] == notes)
    path.write_bytes(forge.with_member(genuine, member, b"COPY public.papers (id) FROM stdin;\n1\n\\.\n"))
    with pytest.raises(RefnetError) as refused:
        _answer(short_home, path)
    assert refused.value.code is Exit.DAMAGED

    def renamed(values: dict[str, Any]) -> None:
        values["tables"][notes]["name"] = "other"

    path.write_bytes(forge.forged(genuine, renamed))
    rows, said = _answer(short_home, path, "TABLE notes")
    assert rows == []
    assert said == ["the artifact has no rows of public.notes"]
