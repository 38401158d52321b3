"""The first moment of the command, before its modules are loaded."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from refnet.__main__ import run


class _Interrupted(ModuleType):
    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_ctrl_c_while_the_modules_are_loading_ends_in_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "refnet.cli.main", _Interrupted("main"))
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == "refnet: interrupted\n        Nothing was begun; retry."  # text: exit code 1
