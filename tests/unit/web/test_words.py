"""Every text of the pages has a Japanese one, with the same places for values."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import refnet.web
from refnet.catalog import run
from refnet.settings import Settings, SourceSettings, StoreSettings
from refnet.settings.report import _descriptions
from refnet.telemetry import facts
from refnet.web.pages.base import by_file, duration, japanese, said, said_plan, sayings, translated

_WEB = Path(refnet.web.__file__).parent
_FILES = sorted([*_WEB.glob("templates/*.j2"), *_WEB.glob("pages/*.py")])
_TEXT = re.compile(r"""\b_\(\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")
_PLACE = re.compile(r"\{(\w+)[^}]*\}")


def texts(file: Path) -> list[str]:
    return [double or single for double, single in _TEXT.findall(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.name)
def test_every_text_of_a_page_has_a_japanese_one(file: Path) -> None:
    assert [one for one in texts(file) if one not in japanese()] == []


def test_a_translation_has_the_places_for_values_of_its_text() -> None:
    for english, text in japanese().items():
        assert sorted(_PLACE.findall(english)) == sorted(_PLACE.findall(text)), english


def test_values_are_put_into_the_translation() -> None:
    assert translated("no such text of {n}", "ja", n=3) == "no such text of 3"
    assert translated("{braces}", "ja") == "{braces}"


def test_a_text_is_in_one_file_alone() -> None:
    found = [english for words in by_file().values() for english in words]
    assert sorted({*found}) == sorted(found)


def test_every_translation_is_of_a_text_that_pages_use() -> None:
    used = "".join(
        file.read_text(encoding="utf-8") for file in [*_FILES, Path(facts.__file__), Path(run.__file__)]
    )
    assert [one for one in japanese() if f'"{one}"' not in used] == []


@pytest.mark.parametrize(("count", "said"), [(1, "1 run of 9"), ("1", "1 run of 9"), (2, "2 runs of 9")])
def test_one_of_something_is_not_a_plural(count: int | str, said: str) -> None:
    assert translated("{count} runs of {n}", "en", count=count, n=9) == said
    assert translated("{count} artifacts", "ja", count=1) == "バックアップ 1 件"


@pytest.mark.parametrize(
    ("text", "japanese_text"),
    [
        ("under 1 min", "1 分未満"),
        ("3 h 5 min", "3 時間 5 分"),
        ("2 d", "2 日"),
        ("2.6 s", "2.6 秒"),
        ("1 h ahead", "1 時間先"),
    ],
)
def test_a_duration_has_japanese_units_on_japanese_pages(text: str, japanese_text: str) -> None:
    assert (duration(text, "ja"), duration(text, "en")) == (japanese_text, text)


@pytest.mark.parametrize("declaring", [Settings, SourceSettings, StoreSettings])
def test_every_description_of_a_setting_has_a_japanese_one(declaring: type) -> None:
    assert [one for one in _descriptions(declaring).values() if one not in sayings()] == []


@pytest.mark.parametrize(
    ("text", "japanese_text"),
    [
        ("no log is written", "ログは書かれていません"),
        ("something that no module says", "something that no module says"),
        ("failed: no space left in /var/backups", "失敗: /var/backups に空き容量がありません"),
        ("a.sql.gz is 5 h old, one is due every 1 d", "a.sql.gz は 5 時間前のものです(予定は 1 日ごと)"),
        ("a.sql.gz is 2 d old; its schedule is off", "a.sql.gz は 2 日前のものです。スケジュールはオフです"),
        (
            "stopped by Ctrl-C; a.sql.gz exists, unproven",
            "Ctrl-C により停止。a.sql.gz は作成済みです(復元・照合は未実施)",
        ),
        ("{braces} does not exist", "{braces} がありません"),
        (
            "schema: it differs from what pg_restore makes of the same archive",
            "スキーマ: pg_restore が同じアーカイブから作るものと異なります",
        ),
        (
            "on: refnet on RefNet's own server (/srv/pg) (settings file: /srv/refnet.toml)",
            "対象: RefNet 自身のサーバー（/srv/pg）の refnet（設定ファイル: /srv/refnet.toml）",
        ),
        ("12.5 MiB, 2 of ann (psql)", "12.5 MiB, 2 of ann (psql)"),
        ("Live now: 12.5 MiB, 2 of ann (psql)", "稼働中: 12.5 MiB、ann のセッション 2 個（psql）"),
        (
            "not verified: table public.a: 3 rows where 4 were recorded",
            "未確認: テーブル public.a: 3 行あります(記録では 4 行)",
        ),
        (
            "WAL is damaged: 00000001000000000000000F; `refnet backup main-cluster` makes later moments reachable",
            "破損している WAL: 00000001000000000000000F。`refnet backup main-cluster` を実行すると、それ以後の時点に戻せるようになります",
        ),
        (
            "commits up to 0.23 s ago are received; no receiver runs",
            "0.23 秒前までのコミットを受信済みです。受信は動いていません",
        ),
        ("with: 8 segments of WAL (8.0 MiB), timeline 1", "WAL: セグメント 8 個（8.0 MiB）、タイムライン 1"),
        (
            "recover the server to 2026-12-01 10:05:56+09:00 in a scratch server, and dump shop there",
            "使い捨てのサーバーで 2026-12-01 10:05:56+09:00 まで復旧し、shop をダンプする",
        ),
        (
            "SHRUNK: 8 tables → 0; 5 MiB of content → 0 B",
            "縮小: テーブル 8 個 → 0。内容 5 MiB → 0 B",
        ),
    ],
)
def test_a_reason_is_japanese_on_japanese_pages_and_keeps_its_values(text: str, japanese_text: str) -> None:
    assert (said(text, "ja"), said(text, "en")) == (japanese_text, text)


def test_a_plan_is_japanese_on_japanese_pages_and_keeps_its_columns_names_and_numbers() -> None:
    plan = (
        "Restore a.sql.gz of 2026-11-25 10:52:58 UTC (of refnet) as shop on /run/pg:\n"
        "  1. create a database beside shop and load a.sql.gz into it\n"
        "  2. keep the previous version for 7 days: `refnet undo database` restores it\n"
        "  2 added\n    nothing to do\n"
        "would delete  a.sql.gz    20 days old, kept for 7 days\n"
        "keep          bb.sql.gz   younger than 7 days; daily: 2026-11-25\n"
        "note: hook wait\n    and 1,171 more\n"
    )
    assert said_plan(plan, "en") == plan
    assert said_plan(plan, "ja") == (
        "a.sql.gz（2026-11-25 10:52:58 UTC に作成、refnet のもの）を shop on /run/pg として復元:\n"
        "  1. shop の隣にデータベースを作成し、a.sql.gz を読み込む\n"
        "  2. 置き換え前のバージョンを 7 日間保持する。`refnet undo database` で元に戻せる\n"
        "  追加 2 件\n    nothing to do\n"
        "削除予定      a.sql.gz    20 日経過（保持期間 7 日）\n"
        "保持          bb.sql.gz   7 日以内。日次: 2026-11-25\n"
        "注: フック wait\n    ほか 1,171 件\n"
    )


def test_a_reason_of_any_text_is_translated_in_a_moment() -> None:
    begun = time.process_time()
    for text in (
        "; " * 1000,
        ": " * 1000,
        " is  old, one is due every " * 70,
        "overdue: " * 200,
        "x" * 10_000,
    ):
        said(text, "ja")
    assert time.process_time() - begun < 1


def test_every_reason_is_one_that_a_module_says() -> None:
    # A pattern without letters matches anything.
    told = [re.compile(one, re.DOTALL) for one in {*_told()} if re.search(r"[^\W\d_]", one)]
    # `WHAT: {why}` can also be put together of two texts
    ways = {one: (one, one.removesuffix(": {why}")) for one in sayings() if one not in _DESCRIBED}
    found = {one: [_PLACE.sub("…", each) for each in each_way] for one, each_way in ways.items()}
    unknown = {
        one
        for one, texts in found.items()
        if not any(each.fullmatch(text) for text in texts for each in told)
    }
    assert unknown == _OF_PARTS


#: What modules put together of a count and a word, of a setting and a rule, or of a sentence and a command.
_OF_PARTS = {
    *("1 table", "{count} tables", "1 row", "{count} rows", "1 role", "{count} roles", "1 copy"),
    *("1 artifact", "{count} artifacts", "{count} added", "{count} changed", "{count} removed"),
    *("{before} → {after}", "daily: {day}", "weekly: {week}", "monthly: {month}", "yearly: {year}"),
    *(
        f"{{setting}}: {unit} must be {range_}"
        for unit, range_ in (("hour", "0-23"), ("minute", "0-59"), ("day", "1-28"))
    ),
    *("{setting}: must be like daily 02:00", "{setting}: must name each period once"),
    *("{setting}: must be a known time zone", "{setting}: must be an absolute path"),
    *("{setting}: must not contain a password", "'{name}': {why}", "Did you mean {near}? {usage}"),
    *("{artifact} has no table {table}", "{file} has another name too (a hard link)", "{path} lists them."),
    *("It needs the recovery key: {command}", "Verify the artifact: {command}", "Make one: {command}"),
    *("Change the file by hand: {lines}", "{page}: make it again: `refnet key page`"),
    "installed but not active: {names} (`{command}`)",
}
_DESCRIBED = {
    text for one in (Settings, SourceSettings, StoreSettings) for text in _descriptions(one).values()
}


def _told() -> Iterator[str]:
    """Patterns of the texts in the modules; a value stands for anything."""
    for file in _WEB.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [one.value if isinstance(one, ast.Constant) else None for one in node.values]
                if sum(len(str(one)) for one in parts if one) > 2:
                    found = "".join(
                        ".*" if one is None else re.escape(_PLACE.sub("…", str(one))) for one in parts
                    )
                    yield _BEFORE.sub("", found)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                literals = _PLACE.split(node.value)[::2]
                if any(literals):
                    yield _BEFORE.sub("", ".*".join(map(re.escape, literals)))


#: What stands before a sentence in a line of a plan.
_BEFORE = re.compile(r"\A(?:\\ )*(?:(?:\.\*|\d)\\\.\\ )?")
