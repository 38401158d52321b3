"""What is missing in a remote store is accepted once it was deleted on purpose, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.remote_store import Machine, artifact, delete

from refnet.actions.store import accept, plan_acceptance
from refnet.core.errors import RefnetError

DATA = b"some rows"


def test_what_another_machine_pruned_can_be_accepted(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    copies = [machine.send(artifact(n, DATA[:n])) for n in range(1, 4)]
    elsewhere = replace(machine, home=tmp_path / "elsewhere")
    elsewhere.trusted = (machine.keys.signer().fingerprint,)
    delete(elsewhere.store(key=True), copies[0])
    assert elsewhere.store(key=True).contents().gaps == (), "it deleted that itself"
    planned = plan_acceptance(machine.store())
    assert ([one.counter for one in planned.ending], planned.staying) == ([1], ())
    delete(elsewhere.store(key=True), copies[1])
    with pytest.raises(RefnetError, match="changed meanwhile"):
        accept(planned)
    assert accept(plan_acceptance(machine.store())).to_json()["accepted"]
    assert machine.store().contents().gaps == ()
    with pytest.raises(RefnetError, match="has no gap"):
        plan_acceptance(machine.store())
    machine.send(artifact(4, DATA[:4]))
    assert machine.store().contents().gaps == ()
    machine.bucket.delete(copies[2].object)
    assert [one.counter for one in machine.store().contents().gaps] == [3]
