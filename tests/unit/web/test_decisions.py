"""What a decision about an artifact becomes on the command line, and what confirms a deletion."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refnet.core.errors import RefnetError
from refnet.web.children import CommandOutput
from refnet.web.pages.decide import Decision, Verb, fingerprint, prunes_nothing

ARTIFACT = "vault_20261125_105258.tar.gz"
PLAN: dict[str, Any] = {"artifacts": [{"name": ARTIFACT, "needed": None, "reasons": ["5 days old"]}]}


@pytest.mark.parametrize(
    ("decision", "words", "typed"),
    [
        (Decision(Verb.PIN, "obsidian", ARTIFACT), ("pin", ARTIFACT), ""),
        (Decision(Verb.PIN, "obsidian", ARTIFACT, until="2027-01-31"), ("pin", ARTIFACT, "--until=2027-01-31"), ""),
        (Decision(Verb.TAG, "obsidian", ARTIFACT, "a", remove=True), ("tag", ARTIFACT, "a", "--remove"), ""),
        (Decision(Verb.FORGET, "obsidian", ARTIFACT), ("forget", ARTIFACT, "--force"), ARTIFACT),
        (Decision(Verb.FORGET, "obsidian", ARTIFACT, last=True), ("forget", ARTIFACT, "--force-last", "--force"), ARTIFACT),
        (Decision(Verb.PRUNE, "obsidian"), ("prune", "obsidian", "--force"), "obsidian"),
        (Decision(Verb.PRUNE, ""), ("prune", "--force"), "prune"),
    ],
)  # fmt: skip
def test_a_decision_is_a_command_and_only_a_deletion_is_typed(
    decision: Decision, words: tuple[str, ...], typed: str
) -> None:
    assert (decision.to_run, decision.name_to_type) == (words, typed)


def test_a_plan_is_the_same_while_only_time_passes() -> None:
    decision = Decision(Verb.FORGET, "obsidian", ARTIFACT)
    later = json.loads(json.dumps(PLAN).replace("5 days", "6 days"))
    other = json.loads(json.dumps(PLAN).replace(ARTIFACT, "other"))
    first = fingerprint(decision, json.dumps(PLAN))
    assert fingerprint(decision, json.dumps(later)) == first
    assert fingerprint(decision, json.dumps(other)) != first


@pytest.mark.parametrize(
    ("verb", "code", "kept", "leftovers", "nothing"),
    [
        (Verb.PRUNE, 0, True, [], True),
        (Verb.PRUNE, 0, False, [], False),
        (Verb.PRUNE, 0, True, [{"name": "x"}], False),
        (Verb.PRUNE, 5, True, [], False),
        (Verb.FORGET, 0, True, [], False),
    ],
)
def test_only_a_complete_plan_of_a_prune_deletes_nothing(
    verb: Verb, code: int, kept: bool, leftovers: list[Any], nothing: bool
) -> None:
    part = {"artifacts": [{"keep": kept}], "leftovers": leftovers}
    said = CommandOutput(code, json.dumps({"sources": [part], "stores": [part]}), "")
    artifact = "" if verb is Verb.PRUNE else ARTIFACT
    assert prunes_nothing(Decision(verb, "obsidian", artifact), said) is nothing


def test_a_decision_without_its_artifact_or_with_a_strange_tag_is_refused() -> None:
    for verb, artifact, tag in (
        (Verb.PIN, "", ""),
        (Verb.PRUNE, ARTIFACT, ""),
        (Verb.TAG, ARTIFACT, "--force"),
    ):
        with pytest.raises(RefnetError):
            Decision(verb, "obsidian", artifact, tag)
