"""Nights of copies that share pieces, while keys change, somebody else deletes, and bits flip."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import NOW, Machine, artifact, cut_finely, delete, objects
from tests.shared_pieces import DAY, SCALE, damage, fixed_cuts, flipped, memory, named, pieces_in, read

from refnet.actions.store import accept, plan_acceptance
from refnet.catalog.artifact import silent
from refnet.catalog.remote import Copy
from refnet.core.errors import Exit, RefnetError
from refnet.store.copy_checks import sample_back
from refnet.store.encryption import PrivateKey
from refnet.store.live_pieces import open_pieces
from refnet.store.sending_pieces import Encrypter

NIGHTS, KEPT = 14, 5
NOISE = random.Random(23).randbytes(NIGHTS * 4096 + (1 << 20))


@pytest.fixture(autouse=True)
def _fine_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_finely(monkeypatch, SCALE)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    found = fixed_cuts(tmp_path / "home")
    memory(found).now = found.same
    return found


def _data(night: int) -> bytes:
    """An artifact that grows at its end."""
    return NOISE[: (1 << 20) + night * 4096]


def _night(machine: Machine, night: int) -> Copy:
    """Send the artifact of a night, read it back, and read samples of the others, as `refnet copy` does."""
    machine.ticks = night * 24 * 60
    sent = machine.sent(artifact(night, _data(night)))
    copy = machine.fetch_back(sent.copy)
    sample_back(machine.store(), sent.others, machine.now, unlisted=sent.unlisted)
    return copy


def _prune(machine: Machine) -> None:
    """Keep the newest KEPT copies."""
    store = machine.store().with_versions()
    due = sorted(store.entries(), key=lambda one: one.name)[:-KEPT]
    with store.alone(seconds=0.0), store.pruning({one.document.key for one in due}):
        for one in due:
            store.unpublish(one)
        for _, act in store.delete_pieces(due):
            act()


def _clean(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the leftovers, whatever their age by the clock of this computer."""
    monkeypatch.setattr("refnet.store.remote._ON_THE_WAY", -100 * 365 * DAY)
    for one in machine.store().leftovers():
        machine.store().clean(one)


def _new_recipient(machine: Machine) -> None:
    machine.recovery = PrivateKey.new()


def _new_signer(machine: Machine) -> None:
    machine.trusted = (machine.keys.signer().fingerprint,)
    machine.keys.signing_file.unlink()
    machine.keys.make_missing()


def _new_keys(machine: Machine) -> None:
    _new_signer(machine)
    machine.keys.catalog_file.unlink()
    machine.keys.make_missing()


@pytest.mark.parametrize("change", [_new_recipient, _new_signer, _new_keys])
def test_a_rotation_in_the_middle_sends_everything_once_and_the_old_copies_go_with_time(
    machine: Machine, change: Callable[[Machine], None]
) -> None:
    sizes, pages = list[int](), [machine.recovery]
    for night in range(NIGHTS):
        if night == NIGHTS // 2:
            change(machine)
            pages.append(machine.recovery)
        before = pieces_in(machine)
        copy = _night(machine, night)
        sizes.append(len(pieces_in(machine) - before))
        assert copy.state == "fetched"
        _prune(machine)
    whole = [night for night, count in enumerate(sizes) if count > max(sizes) // 2]
    assert whole == [0, NIGHTS // 2]
    left = machine.store().entries()
    assert [one.name for one in left] == [artifact(night, b"").name for night in range(NIGHTS - KEPT, NIGHTS)]
    assert [read(machine, one) for one in left] == [_data(night) for night in range(NIGHTS - KEPT, NIGHTS)]
    own = {one for one in pieces_in(machine) if one.startswith(f"{machine.store().own_key}/")}
    assert own == named(*left)
    if change is _new_keys:  # the folder of the old catalog key is for those who have the recovery key
        assert len(machine.store(key=True).entries()) == 2 * KEPT
    else:
        assert pieces_in(machine) == own
    assert machine.store().contents().gaps == ()


def test_after_trust_was_withdrawn_pieces_stay_until_the_old_manifests_are_accepted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for night in range(3):
        old = _night(machine, night)
    _new_signer(machine)
    machine.trusted = ()
    for night in range(3, 3 + KEPT + 2):
        new = _night(machine, night)
        assert new.state == "fetched"
        assert not named(old) & named(new)
    before = pieces_in(machine)
    with pytest.raises(RefnetError, match="no piece is deleted") as stopped:
        _prune(machine)
    assert stopped.value.code is Exit.UNVERIFIED
    assert pieces_in(machine) == before

    accept(plan_acceptance(machine.store()))
    _clean(machine, monkeypatch)

    assert pieces_in(machine) == named(*machine.store().entries())
    assert all(machine.fetch_back(one).state == "fetched" for one in machine.store().entries())


@pytest.mark.parametrize("days", [1, 5])
def test_a_rule_of_the_bucket_that_deletes_what_is_old_costs_no_new_copy(machine: Machine, days: int) -> None:
    """A lifecycle rule does not know that tonight's copy names a piece of last week."""
    for night in range(NIGHTS):
        lost = [one for one in machine.store().entries() if not named(one) <= pieces_in(machine)]
        copy = _night(machine, night)
        assert copy.state == "fetched"
        assert read(machine, copy) == _data(night)
        states = {one.object: one.state for one in machine.store().entries()}
        assert all(states[one.object] == "damaged" for one in lost), "each run says which are lost"
        end = NOW + (night + 1 - days) * DAY
        memory(machine).contents = {
            name: kept for name, kept in memory(machine).contents.items() if kept[-1].created > end
        }
        if night > days:
            assert "missing" in machine.store().contents().gaps[0].why, "it is an alarm as well"


def test_a_bit_that_flipped_before_a_piece_was_encrypted_ends_with_the_next_drill(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signed manifest has the digest of the wrong bytes, so that no run without the recovery key can see it."""
    encrypt = Encrypter.piece
    with monkeypatch.context() as patched:
        patched.setattr(Encrypter, "piece", lambda self, data: encrypt(self, flipped(data)))
        first = _night(machine, 0)
    for night in range(1, 4):
        poisoned = _night(machine, night)
        assert named(poisoned) & named(first), "it is shared"
        assert poisoned.state == "fetched"

    machine.ticks += 60
    found = open_pieces(machine.store(key=True), machine.now, silent)

    assert found.exit is Exit.DAMAGED
    assert {one.state for one in machine.store().entries()} == {"damaged"}
    for night in range(4, 7):
        sound = _night(machine, night)
        assert not named(sound) & named(first)
        assert read(machine, sound) == _data(night)
        assert sound.state == "fetched"


def test_a_bit_that_flips_in_the_store_is_found_within_30_nights_and_poisons_none_after(
    machine: Machine,
) -> None:
    first = _night(machine, 0)
    lost = sorted(named(first))[3]
    damage(machine, lost, flipped)
    for night in range(1, 32):
        copy = _night(machine, night)
        if any(one.damaged for one in machine.store().entries()):
            break
    assert any(one.damaged for one in machine.store().entries())
    for later in range(night + 1, night + 4):
        copy = _night(machine, later)
        assert lost not in named(copy)
        assert (copy.state, read(machine, copy)) == ("fetched", _data(later))


def test_an_artifact_that_is_damaged_at_home_after_its_proof_is_not_published_and_poisons_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _night(machine, 0)
    good, middle = _data(1), len(_data(1)) - 2000
    wrong = good[:middle] + flipped(good[middle : middle + 1]) + good[middle + 1 :]
    made = artifact(1, good)
    machine.ticks = 24 * 60
    with pytest.raises(RefnetError, match="its bytes do not match its manifest") as refused:
        machine.send(replace(made, open=artifact(1, wrong).open))
    assert refused.value.code is Exit.DAMAGED
    assert machine.store().entries() == (machine.store().entries()[0],)
    assert machine.store().unfinished()[0] == ()

    second = _night(machine, 2)

    assert named(second) & named(first)
    assert read(machine, second) == _data(2)
    _clean(machine, monkeypatch)
    assert pieces_in(machine) == named(first, second)


def test_a_counter_that_is_put_back_is_an_alarm_and_shares_nothing_that_is_gone(machine: Machine) -> None:
    """A pruned manifest is put back; then the head of this machine is too, and it continues the order of the store."""
    for night in range(KEPT + 2):
        copy = _night(machine, night)
        if night == 0:
            name, data = copy.object, machine.bucket.get(copy.object, 1 << 20)
            head = machine.store().records.head()
    _prune(machine)
    assert name not in objects(machine.bucket)
    machine.bucket.put(name, data)
    assert [one.why for one in machine.store().contents().gaps] == ["number 1 was deleted and has reappeared"]

    for night in (KEPT + 2, KEPT + 3):
        copy = _night(machine, night)
        assert copy.document.counter == night + 1
        assert (copy.state, read(machine, copy)) == ("fetched", _data(night))
        whys = [one.why for one in machine.store().contents().gaps]
        assert whys == ([] if night > KEPT + 2 else ["number 1 was deleted and has reappeared"])
        machine.store().records.keep_head(head)
    back = next(one for one in machine.store().entries() if one.object == name)
    delete(machine.store(), back)
    assert all(machine.fetch_back(one).state == "fetched" for one in machine.store().entries())


def test_a_manifest_of_another_store_of_this_machine_is_a_copy_without_pieces(machine: Machine) -> None:
    """Who reads one bucket and writes in another one brings it there: this machine signed it."""
    other = replace(machine, name="other", bucket=MemoryBucket(now=machine.same))
    theirs = _night(other, 0)
    _night(other, 1)
    machine.bucket.put(theirs.object, other.bucket.get(theirs.object, 1 << 20))

    sent = machine.sent(artifact(0, _data(0)))
    assert not sent.is_new, "the store says that it has the artifact"
    assert machine.fetch_back(sent.copy).state == "damaged", "and does not"
    again = machine.fetch_back(machine.send(artifact(0, _data(0))))

    assert (again.state, read(machine, again)) == ("fetched", _data(0))
    for night in range(1, 4):
        assert _night(machine, night).state == "fetched"
    _prune(machine)
    assert [one.state for one in machine.store().entries()] == [*["fetched"] * 4, "damaged"]
    delete(machine.store(), next(one for one in machine.store().entries() if one.damaged))
    assert all(machine.fetch_back(one).state == "fetched" for one in machine.store().entries())
    assert timedelta() < machine.same() - NOW
