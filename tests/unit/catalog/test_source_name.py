"""Names of sources: the rule, the kinds, and what reads them."""

import copy
import json
import pickle

import pytest

from refnet.catalog.source_name import RESERVED, STANDARD, Kind, SourceName, read_name


@pytest.mark.parametrize(
    "name",
    ["", "Shop", "sh op", "../shop", "a/b", "1shop", "-a", "é", "a.b", "a\n", "a" * 41, *sorted(RESERVED)],
)
def test_a_name_that_breaks_the_rule_is_refused(name):
    with pytest.raises(ValueError, match=r"not a name|reserved"):
        SourceName(name, Kind.FOLDER)


@pytest.mark.parametrize("name", ["shop", "a", "a" * 40, "shop_2", "my-notes", "refnet2"])
def test_a_name_is_text_with_a_kind(name):
    source = SourceName(name, Kind.FOLDER)
    assert (source, source.kind, f"{source}", json.dumps([source])) == (
        name,
        Kind.FOLDER,
        name,
        f'["{name}"]',
    )


def test_the_kind_of_a_standard_source_is_fixed():
    with pytest.raises(ValueError, match="database is always a database"):
        SourceName("database", Kind.FOLDER)
    assert [one.kind for one in STANDARD] == [Kind.DATABASE, Kind.FOLDER, Kind.FOLDER]
    assert read_name("config", Kind.DATABASE) == SourceName.CONFIG


def test_a_copy_keeps_the_kind_and_nothing_changes_it():
    source = SourceName("shop", Kind.DATABASE)
    for one in (copy.copy(source), copy.deepcopy(source), pickle.loads(pickle.dumps(source))):  # noqa: S301
        assert (one, one.kind) == ("shop", Kind.DATABASE)
    with pytest.raises(AttributeError):
        source.kind = Kind.FOLDER  # type: ignore[misc]


@pytest.mark.parametrize("value", [None, 5, ["database"], "shop", "Database", "database ", True])
def test_a_value_that_is_not_a_name_is_refused(value):
    with pytest.raises(ValueError, match=r"not text|not the name|not a standard"):
        read_name(value)
