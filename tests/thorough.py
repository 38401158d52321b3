"""The option --all: without it, tests marked `thorough`, which take minutes, are left out and named at the end."""

from __future__ import annotations

from typing import Any

import pytest

_LEFT_OUT = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", dest="thorough", action="store_true", help="run the tests marked thorough too")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEFT_OUT] = set()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("thorough"):
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    config.stash[_LEFT_OUT] |= {item.nodeid for item in left_out}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of xdist tells the one that started it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = sorted(session.config.stash[_LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_LEFT_OUT] |= {*getattr(node, "workeroutput", {}).get("left_out", ())}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name in sorted(config.stash[_LEFT_OUT]):
        terminalreporter.write_line(f"left out without --all: {name}")
