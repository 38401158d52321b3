"""What a browser asks for, and what the command line printed: an order, a plan, a result, or an error."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import ECHO, fuzzed, outcome
from tests.fuzz.strategies import documents, texts
from tests.unit.web.test_orders import NOTES, RESTORE, VALUES

from refnet.catalog.source_name import SourceName
from refnet.core import checked
from refnet.settings import Settings, SourceSettings
from refnet.web.orders import ByHand, Order, OrderPlan, Verb, by_hand, read_plan, read_result

RESULT = {
    "database": "shop",
    "kept": None,
    "seconds": {"load": 1.5},
    "findings": [{"outcome": "passed"}],
    "notes": ["a"],
    "added": {"count": 1},
    "comparison": {"outcome": "failed", "reason": "a"},
}
PROBLEM = {"problems": [{"message": "it is full", "hint": "Free space."}]}


@fuzzed
@given(st.sampled_from(Verb), texts, texts)
@example(Verb.RESTORE, "--to=x", "")
@example(Verb.UNDO, "-x_before_20261125_105258", "")
def test_no_text_of_a_browser_becomes_an_option_of_its_own(verb: Verb, name: str, beside: str) -> None:
    found = outcome(lambda: Order(verb, SourceName.DATABASE, name, beside), longest=ECHO)
    if found is not None:
        assert not any(word.startswith("-") for word in found.words if not word.startswith("--as="))
        assert all("\0" not in word for word in found.words)


@fuzzed
@given(texts, texts, st.booleans())
@example("--force", "--any-signer", True)
def test_no_place_of_a_browser_becomes_an_option_of_its_own(to: str, store: str, merge: bool) -> None:
    found = outcome(lambda: Order(Verb.RESTORE, NOTES, "a", merge=merge, to=to, store=store), longest=ECHO)
    if found is not None:
        own = [word for word in found.words if word.startswith("-")]
        assert all(word.startswith(("--to=", "--store=")) or word == "--merge" for word in own)
        there = Settings(sources={"notes": SourceSettings("notes", "folders", path=Path("/srv/notes"))})
        assert by_hand(found, there) in {None, *ByHand}


@fuzzed
@given(
    documents(json.dumps(VALUES | PROBLEM)),
    texts,
    st.dictionaries(st.sampled_from(["typed", "fingerprint"]), texts),
)
@example(b"[" * 100_000, "", {})
def test_what_a_command_printed_is_a_plan_that_can_be_shown_or_an_error(
    printed: bytes, messages: str, form: dict[str, str]
) -> None:
    def shown() -> OrderPlan:
        plan = read_plan(RESTORE, 1, printed.decode(errors="replace"), messages)
        json.dumps([plan.name_to_type, plan.problems], ensure_ascii=False).encode()
        assert plan.refusal(form) is not None
        return plan

    outcome(shown, longest=ECHO)


@fuzzed
@given(documents(json.dumps(RESULT)))
def test_a_result_is_shown_as_far_as_it_is_one(printed: bytes) -> None:
    try:
        values: object = checked.parsed(printed)
    except ValueError:
        return
    found = read_result(values)
    assert {type(one) for one in found.get("seconds", {}).values()} <= {float}
    assert all(isinstance(one["outcome"], str) for one in found.get("findings", ()))
