"""A program that does not end is ended, and reported."""

from __future__ import annotations

import time

import pytest

from refnet.core.errors import RefnetError
from refnet.core.processes import run, until


def test_a_program_that_does_not_end_in_time_is_killed_and_named() -> None:
    began = time.monotonic()
    with pytest.raises(RefnetError, match="sleep timed out after 0 s") as refused:
        run(["sleep", "60"], 0.1)
    assert refused.value.transient
    assert time.monotonic() - began < 30


def test_a_program_that_fails_is_for_its_caller_to_judge() -> None:
    assert run(["false"]).returncode == 1


def test_a_condition_is_waited_for_until_its_time_is_over() -> None:
    answers = iter([False, False, True])
    assert until(lambda: next(answers), 10)
    assert not until(lambda: False, 0.05)
