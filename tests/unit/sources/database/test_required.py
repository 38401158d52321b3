"""Which tables an artifact must hold, and of which database."""

from __future__ import annotations

import pytest

from refnet.catalog.manifest import Outcome
from refnet.proof_run import MIGRATIONS, NETWORK, Required, Tables

SHOP: Tables = {("public", "orders"): ("id",), ("app", "users"): ("id",)}
OWN: Tables = {("public", name): ("id", *columns) for name, columns in NETWORK.items()}


def missing(required: Required, tables: Tables, database: str | None = "shop") -> list[str]:
    found = required.check(tables, database)
    return [one.what.removeprefix("required table ") for one in found if one.outcome is Outcome.FAILED]


def without(*names: str) -> Tables:
    return {table: columns for table, columns in OWN.items() if table[1] not in names}


def test_each_required_table_must_exist_with_or_without_its_schema() -> None:
    assert missing(Required(("orders", "app.users", "public.users", "carts")), SHOP) == [
        "public.users",
        "carts",
    ]
    assert missing(Required(()), {}) == []


@pytest.mark.parametrize(("database", "lacks"), [("shop", ["carts"]), (None, ["carts"]), ("wiki", [])])
def test_the_settings_speak_of_the_database_that_they_mean(database: str | None, lacks: list[str]) -> None:
    assert missing(Required(("carts",), "shop"), SHOP, database) == lacks


def test_without_the_setting_only_refnets_own_schema_must_be_complete() -> None:
    assert missing(Required(), SHOP) == []
    assert missing(Required(), {("public", "jobs"): ("id", "state")}) == []
    assert missing(Required(), OWN) == []
    assert missing(Required(), {("public", MIGRATIONS): ("version_num",)}) == list(NETWORK)


@pytest.mark.parametrize("lost", list(NETWORK))
def test_refnets_own_schema_is_recognised_by_any_of_its_tables(lost: str) -> None:
    assert missing(Required(), without(lost)) == [lost]
    others = [name for name in NETWORK if name != lost]
    assert missing(Required(), without(*others)) == others
