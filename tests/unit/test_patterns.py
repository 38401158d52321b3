"""Rules of exclude are those of .gitignore, and no name takes long to match."""

from __future__ import annotations

import time

import pytest

from refnet.settings.converters import InvalidError
from refnet.settings.sources import LONGEST_RULE, exclude_rules, matcher


@pytest.mark.parametrize(
    "rule",
    [
        "#comment",
        "/",
        "!",
        "a\\",
        "[z-a]",
        "[",
        "[[:foo:]]",
        "x" * (LONGEST_RULE + 1),
        "*a*b*c",
        "**/a/**/b/**/c/**/d",
        "a\nb",
    ],
)
def test_what_is_not_a_rule_or_takes_too_long_is_refused(rule):
    with pytest.raises(InvalidError):
        exclude_rules([rule])


@pytest.mark.parametrize("value", [1, True, "", [1], [""], ["*.tmp"] * 101, {"a": 1}])
def test_what_is_not_a_list_of_rules_is_refused(value):
    with pytest.raises(InvalidError):
        exclude_rules(value)


def test_rules_come_from_a_list_or_a_variable():
    assert exclude_rules(["*.tmp", "!keep.tmp"]) == exclude_rules("*.tmp,!keep.tmp") == ("*.tmp", "!keep.tmp")
    assert exclude_rules([]) == ()


@pytest.mark.parametrize(
    "rule", ["*a*ab", "*a*a*", "**/a*/**/a*/**/*a*b", "a*/*a*/**/**/*a*b", "**/*a*ab/**"]
)
@pytest.mark.parametrize("path", ["/".join(["a" * 255] * 16), "/".join(["a"] * 256), "a" * 4095])
def test_a_hostile_name_is_matched_in_bounded_time(rule, path):
    matches, begun = matcher(exclude_rules([rule])), time.process_time()
    matches(path)
    assert time.process_time() - begun < 2
