"""refnet.toml and the environment."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.documents import ROOT
from tests.fuzz.harness import LONGEST, assert_told, fuzzed, outcome
from tests.fuzz.strategies import damaged, texts

from refnet import settings
from refnet.catalog.source_name import wrong_name
from refnet.settings.known_keys import keys_of
from refnet.settings.urls import parse_store_url

#: The example with every setting in force.
EXAMPLE = re.sub(
    r"^# ?(?=[\w.]+ +=|\[)", "", (ROOT / "refnet.toml.example").read_text("utf-8"), flags=re.MULTILINE
)
_TOML = (
    "0", "1", "64", "65", "-1", "9" * 30, "9" * 5000, "0x10", "1_0", "1.5", "nan", "inf", "-inf", "1e400", "true",
    "2026-11-25", "02:00:00", "2026-11-25T02:00:00Z", "9999-12-31T23:59:59-14:00", "[]", "{}", "[[]]", "[1]",
    "{days = 7}", "{days = -1}", "{days = 1e9}", "{days = true}", "{weeks = 1}", "{a = {b = {c = 1}}}", '["a", 1]',
    '["a"]', '[""]', '["\\u0000"]', "[" * 2000, "[" * 900 + "]" * 900, "{a = " * 300, '"""', "'", '"\\ud800"', "*",
    '"/srv\\u0000"', '"/a/../b"', '"~"', '"~root"', '"~\\u0000/a"', '"redis://[::1"', '"redis://h:99999/0"',
    '"s3://bucket/x?lock=1d"', '"sftp://u@[::1]:22/x"', '"rclone:x:y"', '"file:///mnt"', '"20 MiB/s"', '"30d"',
    '"http://["', '"postgresql://%80"', '"redis+socket:///\\u0000"',
)  # fmt: skip
_VALUES = st.one_of(
    st.sampled_from(_TOML), texts.map(json.dumps), st.integers().map(str), st.floats().map(str)
)
_KEYS = st.one_of(
    st.sampled_from(sorted(settings.keys())),
    st.sampled_from(
        [f"databases.shop.{key}" for key in (*keys_of("databases"), "x")]
        + [
            f"folders.{key}"
            for key in ("notes.path", "a-b.entries", "a.exclude", '"A b".path', "config.path", "x")
        ]
        + [f"stores.cloud.{key}" for key in (*keys_of("stores"), "retention.database", "url.x", "x")]
        + ["databases", "folders", "databases.shop", "stores", "stores.cloud"]
    ),
    st.sampled_from(
        ["a.b.c.d.e.f", "jobs.x", "retention.database.days", '""', '"\\u0000"', "postgres", "=", "."]
    ),
)
_LINES = st.lists(st.tuples(_KEYS, _VALUES).map(" = ".join), max_size=5).map("\n".join)
_VARIABLES = st.dictionaries(
    st.one_of(
        st.sampled_from([settings.variable(key) for key in sorted(settings.keys())]),
        st.sampled_from(["REFNET_HOME", "REFNET_X", "REFNET_", "REFNET_DATABASE_URL_FILE", "XDG_DATA_HOME"]),
    ),
    texts.filter(
        lambda text: re.fullmatch("[^\0\ud800-\udc7f\udd00-\udfff]*", text)
    ),  # no environment holds others
    max_size=4,
)


@fuzzed
@given(text=st.one_of(_LINES.map(str.encode), damaged(EXAMPLE.encode())), environment=_VARIABLES)
def test_settings_are_read_or_refused(text: bytes, environment: dict[str, str], folder: Path) -> None:
    (folder / settings.FILE_NAME).write_bytes(text)
    environment = {"REFNET_HOME": str(folder / "home"), **environment}
    examined = outcome(lambda: settings.examine(environment, folder, root=False, cores=4))
    assert examined
    for problem in examined.problems:
        assert_told(problem.message, LONGEST)
        assert_told(problem.hint, LONGEST)
    found = outcome(examined.valid)
    assert (found is None) == bool(examined.problems)
    if found:
        assert 1 <= found.jobs <= 64
        assert found.recover_seconds >= 1
        assert found.monitor_min_bytes >= 0
        for source in ("database", "config", "obsidian"):
            kept = getattr(found, f"retention_{source}")
            assert all(0 <= number <= 36_500 for number in vars(kept).values())
        for key in settings.keys().values():
            value = getattr(found, key.name)
            assert not isinstance(value, Path) or value.is_absolute()
            assert "\0" not in str(value)
        for source in found.sources.values():
            assert found.of(source.name).retention
            assert not wrong_name(source.name)
        for store in found.stores.values():
            assert parse_store_url(str(store.place).replace("%", "%25")).place == store.place.place
            assert store.lock is None or 1 <= store.lock <= 36_500
        assert found.schedule


_PARTS = (
    r"""s3: sftp: rclone: file: // / @ : .. %2e%2e/ %0a ~ h ? & = region lock 30d %ff [::1] -o * \ ' " , é"""
)
_URLS = st.lists(st.sampled_from([*_PARTS.split(), "\0", " "]), max_size=12).map("".join)


@fuzzed
@given(
    st.one_of(
        _URLS, texts, damaged(b"s3://bucket/a?lock=30d").map(lambda text: text.decode(errors="replace"))
    )
)
def test_the_url_of_a_store_is_read_or_refused(text: str) -> None:
    store = outcome(lambda: settings.StoreSettings.from_url(text))
    if store:
        place = store.place
        assert str(place).isprintable()
        assert not {".", ".."} & {*place.path.split("/")} or place.kind == "file"
        assert not place.place.startswith("-")


@fuzzed
@given(st.sampled_from(sorted(settings.keys())), texts)
def test_a_setting_in_a_variable_is_read_or_refused(key: str, text: str) -> None:
    environment = {"REFNET_HOME": "/nowhere", settings.variable(key): text}
    outcome(lambda: settings.load(environment, Path("/nowhere"), root=False, cores=4))
