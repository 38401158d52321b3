from __future__ import annotations

from refnet.sources.database.proof.guarded_schema import ItemRun, Who, after_rows, before_rows
from refnet.sources.database.restore import schema_archive

BEFORE = schema_archive.parse("""\
1; 2615 1 SCHEMA - shop refnet
2; 3079 2 EXTENSION - citext
3; 0 0 COMMENT - EXTENSION citext
4; 2328 4 FOREIGN DATA WRAPPER - w refnet
5; 1255 5 FUNCTION shop f() mallory
6; 1255 6 AGGREGATE shop total(integer) mallory
7; 1255 7 AGGREGATE shop other(integer) mallory
8; 1259 8 TABLE shop orders mallory
9; 1259 9 SEQUENCE shop orders_id_seq mallory
10; 0 0 TABLE ATTACH shop orders_1 mallory
11; 1259 11 FOREIGN TABLE shop far mallory
12; 0 0 ACL shop TABLE orders mallory
13; 0 0 COMMENT shop TABLE orders mallory
14; 826 14 DEFAULT ACL shop DEFAULT PRIVILEGES FOR TABLES mallory
""")
AFTER = schema_archive.parse("""\
20; 2606 20 CONSTRAINT shop orders orders_pkey mallory
21; 0 0 COMMENT shop CONSTRAINT orders_pkey ON orders mallory
22; 1259 22 INDEX shop orders_i mallory
23; 2606 23 FK CONSTRAINT shop orders orders_fk mallory
24; 6104 24 PUBLICATION - everything refnet
25; 3466 25 EVENT TRIGGER - on_ddl refnet
26; 0 0 COMMENT - EVENT TRIGGER on_ddl refnet
27; 0 27 MATERIALIZED VIEW DATA shop m mallory
28; 0 0 ACL shop TABLE m mallory
""")


def _ids(runs: tuple[ItemRun, ...]) -> list[tuple[Who, list[int]]]:
    return [(run.who, [item.dump_id for item in run.items]) for run in runs]


def test_what_can_run_an_owners_code_is_never_made_by_the_superuser() -> None:
    assert _ids(before_rows(BEFORE, {7})) == [
        (Who.SUPERUSER, [1, 2]),
        (Who.OWNER, [4]),
        (Who.SUPERUSER, [5, 6]),
        (Who.BUILDER, [7, 8, 9, 10]),
        (Who.SUPERUSER, [11, 3, 13]),
    ]


def test_privileges_follow_rows_then_filled_views_then_event_triggers() -> None:
    assert _ids(after_rows(BEFORE, AFTER)) == [
        (Who.BUILDER, [20, 22, 23]),
        (Who.OWNER, [24]),
        (Who.SUPERUSER, [21, 12, 14, 28]),
        (Who.BUILDER, [27]),
        (Who.OWNER, [25, 26]),
    ]


def test_every_entry_is_restored_exactly_once() -> None:
    runs = (*before_rows(BEFORE, {7}), *after_rows(BEFORE, AFTER))
    found = [item for run in runs for item in run.items]
    assert sorted(item.dump_id for item in found) == [item.dump_id for item in (*BEFORE, *AFTER)]
