"""A change of the settings file by a page, and what `prune` printed for it: exactly that change, values, or one error."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import ECHO, fuzzed, outcome
from tests.fuzz.strategies import damaged, documents, texts

from refnet.core import checked
from refnet.settings import Settings
from refnet.settings.writable import IN_TABLE, OF_SHORT, check_place, subject, text_of
from refnet.web.pages.decide import Decision, Verb, fingerprint
from refnet.web.pages.simulation import deleted, kept_of
from refnet.web.settings_file import _changed, edited

_FILE = """# a
jobs = 2 # b
[schedule]
obsidian = "daily 01:00" # c

# d
[folders.notes]
path = "/srv/notes" # e
[databases.app]
path = "/srv/app.db"
[folders.more]
path = "/srv/more"
exclude = [ # f
  "a", # g
]
"""
_DECISION = {"name": "a", "created": "2026-11-25T10:52:58Z", "size": 1, "keep": False, "reasons": ["old"]}
_KEYS = [
    *OF_SHORT["obsidian"],
    "folders.notes.exclude",
    "folders.more.exclude",
    "stores.nas.url",
    "prove.every",
]
_VALUES = st.none() | texts | st.integers(-5, 5) | st.booleans() | st.lists(texts, max_size=3)
SETTINGS = Settings(home=Path("/srv/home"), vault_dir=Path("/srv/vault"), origins={"vault_dir": "x"})


@fuzzed
@given(
    st.sampled_from([_FILE, "", "[schedule]", _FILE.rstrip()]),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES),
)
@example(_FILE, {"folders.more.exclude": None, "schedule.obsidian": '"\n[hooks]\n'})
def test_a_change_is_made_exactly_and_no_comment_is_lost(text: str, changes: dict[str, Any]) -> None:
    by_path = {tuple(key.split(".")): value for key, value in changes.items()}
    found = outcome(lambda: edited(text, by_path), longest=2 * ECHO)
    if found is not None:
        assert tomllib.loads(found) == _changed(tomllib.loads(text), by_path)
        kept = [one for one in ("# a", "# b", "# d", "# e") if one in text]
        assert all(one in found for one in kept)


@fuzzed
@given(damaged(_FILE.encode()), st.dictionaries(st.sampled_from(_KEYS), _VALUES, min_size=1, max_size=2))
def test_a_file_of_any_form_is_changed_exactly_or_refused(file: bytes, changes: dict[str, Any]) -> None:
    text = file.decode(errors="replace")
    by_path = {tuple(key.split(".")): value for key, value in changes.items()}
    found = outcome(lambda: edited(text, by_path), longest=2 * ECHO)
    if found is not None:
        assert tomllib.loads(found) == _changed(tomllib.loads(text), by_path)


@fuzzed
@given(
    st.sampled_from(["", *IN_TABLE]) | texts, texts, st.dictionaries(st.sampled_from(_KEYS) | texts, texts)
)
def test_a_form_becomes_values_of_listed_keys_or_an_error(
    table: str, name: str, fields: dict[str, str]
) -> None:
    def values() -> dict[str, Any]:
        about = subject(SETTINGS, table, name)
        found = about.values(SETTINGS, fields)
        assert found.keys() <= {*about.keys}
        return found

    outcome(values, longest=ECHO)


@fuzzed
@given(
    st.sampled_from(["folders", "databases", "stores"]), texts | texts.map(lambda one: f"/srv/vault/{one}")
)
@example("folders", "/srv/vault/../home/x")
@example("stores", "rclone:x:y")
def test_a_place_is_inside_of_a_source_or_a_bucket(table: str, text: str) -> None:
    def is_known() -> bool:
        check_place(SETTINGS, table, text)
        return True

    if outcome(is_known, longest=ECHO):
        assert text.startswith(("/srv/vault/", "s3:", "gs:", "az:", "sftp:"))
        assert "?" not in text or table != "stores"


@fuzzed
@given(
    st.sampled_from(_KEYS),
    _VALUES | st.dictionaries(st.sampled_from(["days", "weekly"]), st.integers(1, 9), min_size=1),
)
def test_every_value_of_a_file_is_shown_as_text(key: str, value: Any) -> None:
    if value is not None and not (isinstance(value, dict) and "retention" not in key):
        assert isinstance(text_of(key, value), str)


@fuzzed
@given(
    documents(json.dumps({"database": [_DECISION]})),
    documents(json.dumps({"sources": [{"artifacts": [_DECISION]}]})),
)
def test_what_prune_printed_is_read_or_refused(simulated: bytes, planned: bytes) -> None:
    for work in (
        lambda: kept_of(30, checked.parsed(simulated)),
        lambda: dict(deleted(checked.parsed(planned))),
    ):
        outcome(work, ValueError, longest=ECHO)


@fuzzed
@given(st.sampled_from(Verb), texts, texts, texts, texts, st.booleans())
def test_no_text_of_a_browser_becomes_an_option_of_a_decision(
    verb: Verb, source: str, artifact: str, tag: str, until: str, flag: bool
) -> None:
    """Source and artifact are those of the catalog; every other text is checked here."""
    source, artifact = source.lstrip("-"), artifact.lstrip("-")
    found = outcome(
        lambda: Decision(verb, source, artifact, tag, remove=flag, until=until, last=flag), longest=ECHO
    )
    if found is not None:
        options = [one for one in found.to_run if one.startswith("-")]
        assert all(
            one.startswith("--until=") or one in {"--remove", "--force", "--force-last"} for one in options
        )


@fuzzed
@given(documents(json.dumps({"artifacts": [_DECISION]})))
def test_a_plan_of_any_form_has_a_fingerprint_or_none(printed: bytes) -> None:
    outcome(
        lambda: fingerprint(Decision(Verb.FORGET, "a", "b"), printed.decode(errors="replace")),
        ValueError,
        longest=ECHO,
    )
