from __future__ import annotations

from pathlib import Path

import pytest

from refnet.postgres.account import account


@pytest.mark.usefixtures("root")
def test_a_change_above_a_folder_changes_who_can_enter_it(folder: Path) -> None:
    inner, user = folder / "above" / "inner", account()
    inner.mkdir(parents=True)
    found = []
    for mode in (0o700, 0o711, 0o700):
        inner.parent.chmod(mode)
        found.append(user.can_enter(inner))
    assert found == [False, True, False]
