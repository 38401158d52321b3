"""The errors of an installation of units."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refnet.core.errors import RefnetError
from refnet.scheduling import install
from refnet.scheduling.units import File, UnitState


def test_units_of_the_system_that_a_user_may_not_write_need_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(install, "replace_file", refuse)
    systemd: Any = SimpleNamespace(unreachable=lambda: None, command="systemctl")
    step = install.FileStep(tmp_path / "refnet.timer", UnitState.NOTHING, File("refnet.timer", "[Timer]\n"))

    with pytest.raises(RefnetError) as caught:
        install.act(install.InstallPlan(systemd, (step,), ()), force=False)

    assert caught.value.hint == "Run this as root (sudo), or give --user for units of your own."
