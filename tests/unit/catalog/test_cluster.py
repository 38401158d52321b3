"""The databases of a cluster are sources whose names depend on the names of cluster and database alone."""

from __future__ import annotations

import pytest

from refnet.catalog.source_name import globals_name, member_name
from refnet.store.source_records import SeenDatabases

ODD = ["Shop", "wiki talk", "論文", "a" * 63, "globals", "x-0123abcd", "..", "a/b", "a\nb"]


def test_a_plain_name_follows_that_of_the_cluster() -> None:
    assert member_name("main", "shop") == "main-shop"
    assert globals_name("main") == "main-globals"


@pytest.mark.parametrize("database", ODD)
def test_any_other_name_gets_a_digest(database: str) -> None:
    name = member_name("main", database)
    assert name.startswith("main-")
    assert name != f"main-{database}"
    assert name == member_name("main", database)


def test_no_two_databases_share_a_name() -> None:
    names = [*ODD, "shop", "wiki_talk", "a" * 62, "a" * 40, "main-shop", "globals_"]
    assert len({member_name("main", one) for one in names}) == len(names)


def test_a_record_is_read_as_it_was_written() -> None:
    seen = SeenDatabases(("shop", "wiki talk"))
    assert SeenDatabases.from_json(seen.to_json()) == seen
    assert list(seen.members("main").values()) == ["shop", "wiki talk"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 2, "databases": []}', '{"format": 1, "databases": [""]}']
)
def test_a_malformed_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        SeenDatabases.from_json(text)
