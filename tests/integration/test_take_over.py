"""A recovered machine takes over the copies of the one that is gone: it counts and prunes them; or it leaves them alone."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.command import Result
from tests.integration.test_recover_settings import Tables

from refnet import wiring
from refnet.actions.fetch import FetchRequest, find
from refnet.actions.take_over import OldCopies, take_over
from refnet.catalog.remote import Signed
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.processes import until
from refnet.settings import load, variable
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.keys import read_keys
from refnet.store.remote_records import SendingJournal
from refnet.store.sending import Sender

_OLD = "copies of other machines"


class Lost(Tables):
    """The machine of the tables after three nights, lost with its backup folder. Its store keeps one copy of each source."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text, place = self.file.read_text(), "[stores.nas]\n"
        self.file.write_text(text.replace(place, f'{place}retention = "keep-last=1"\n'))
        for night in range(3):
            (folder / "notes" / "a.md").write_text(f"# night {night}\n")
            self.backup()
        self.old = self.manifests()
        [self.key] = {one.parent.parent.name for one in self.old}
        self.lose("backups")

    def manifests(self, key: str = "*") -> set[Path]:
        return {*self.folder.glob(f"nas/{key}/manifests/*")}

    def pieces(self) -> set[Path]:
        return {*self.folder.glob(f"nas/{self.key}/pieces/*")}

    def next_second(self) -> None:
        """Wait until an artifact has a name that none of the old ones has: another second."""
        old = max(one.name.partition("_")[0] for one in self.old)
        assert until(lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}" > old, 2)

    def recover(self, *more: str) -> Result:
        where = ("--store", f"file://{self.folder}/nas", "--signer", self.signer)
        return self.refnet("recover", *where, *more)

    def own(self, *arguments: str) -> Result:
        """What this machine does without a recovery key."""
        return self.refnet(*arguments, REFNET_IDENTITY_FILE="")

    def planned(self) -> tuple[Context, OldCopies]:
        """The machine as it is now, and what a recovery with the key finds in the store."""
        environment = {"HOME": str(self.folder), variable("home"): str(self.folder / "home")}
        here = Context(load(environment, Path("/"), root=os.geteuid() == 0, cores=1))
        given = replace(read_keys(self.folder / "key"), signers=(self.signer,))
        store = wiring.remote_store(here.settings, "nas", given)
        return here, OldCopies.of(find(here, store, FetchRequest()))

    def copies(self) -> int:
        listed = self.own("list", "--store", "nas", "--json").json
        assert listed["gaps"] == []
        return len(listed["artifacts"])


@pytest.fixture
def lost(tmp_path: Path) -> Lost:
    return Lost(tmp_path)


def test_copies_of_a_machine_that_is_gone_are_counted_and_not_sent_again(lost: Lost) -> None:
    done = lost.recover("--old-machine", "gone")
    done.succeeds()
    assert (
        f"nas (file://{lost.folder}/nas): {len(lost.old)} manifests of the old machine taken over" in done.out
    )
    assert lost.old < lost.manifests(lost.key) == lost.manifests()
    assert lost.copies() == len(lost.old)
    stats = lost.own("store", "stats", "nas")
    stats.succeeds()
    assert _OLD not in stats.out
    assert (
        "would not find the settings" not in lost.own("check").out
    )  # the next loss may come before the next copy
    lost.own("copy").succeeds()
    assert lost.manifests() == lost.manifests(lost.key)
    lost.own("store", "check", "nas").succeeds()


def test_prune_deletes_copies_that_were_taken_over_with_their_earlier_manifests_and_pieces(
    lost: Lost,
) -> None:
    pieces = lost.pieces()
    lost.recover("--old-machine", "gone").succeeds()
    pruned = lost.own("prune", "--force")
    pruned.succeeds()
    assert lost.copies() == 2
    assert len(lost.manifests(lost.key)) == 4  # of each source one, and the one that it replaces
    assert lost.pieces() < pieces
    lost.next_second()
    (lost.folder / "notes" / "a.md").write_text("# the next night\n")
    (lost.folder / "more" / "b.md").write_text("# the next night\n")
    lost.own("backup", "notes", "more", "--no-prove").succeeds()
    lost.own("prune", "--force").succeeds()
    assert (lost.manifests(lost.key), lost.pieces()) == (set(), set())
    assert lost.copies() == 2
    lost.own("store", "check", "nas").succeeds()


@pytest.mark.parametrize("answer", [(), ("--old-machine", "running"), ("--force",)])
def test_without_the_answer_gone_old_copies_are_counted_by_name_and_never_pruned(
    lost: Lost, answer: tuple[str, ...]
) -> None:
    done = lost.recover(*answer)
    done.succeeds()
    assert "taken over" not in done.out
    assert (lost.manifests(), lost.copies()) == (lost.old, 0)
    there = lost.pieces()
    lost.own("backup", "notes", "more", "--no-prove").succeeds()
    lost.own("prune", "--force").succeeds()
    assert f"nas: {_OLD}: {len(lost.old)}, never pruned here: in {lost.key}" in lost.own("store", "stats").out
    assert (lost.manifests(lost.key), lost.pieces()) == (lost.old, there)


def test_a_machine_that_is_lost_in_its_turn_is_taken_over_with_what_it_had_taken_over(lost: Lost) -> None:
    lost.recover("--old-machine", "gone").succeeds()
    lost.next_second()
    lost.own("backup", "notes", "more", "--no-prove").succeeds()
    second = lost.own("key", "show", "--json").json["signer"]
    (lost.folder / "etc").mkdir()
    lost.lose("backups")
    done = lost.recover("--signer", second, "--old-machine", "gone")
    done.succeeds()
    assert "alarm" not in done.out
    count = len(lost.old) + 2
    assert f"{count} manifests of the old machine taken over" in done.out, done.out
    assert lost.copies() == count
    lost.own("prune", "--force").succeeds()
    assert len(lost.manifests(lost.key)) == 0
    assert lost.copies() == 2


def test_an_interrupted_take_over_is_continued_by_the_next_run(
    lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost.recover().succeeds()
    here, old = lost.planned()
    publish, published = Sender._publish, list[str]()

    def third_fails(self: Sender, journal: SendingJournal, name: str, data: bytes) -> Signed:
        if len(published) == 2:
            raise BucketError(BucketFailure.UNREACHABLE, "the server is gone", "Retry.")
        published.append(name)
        return publish(self, journal, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(Sender, "_publish", third_fails)
        with pytest.raises(BucketError):
            take_over(here, "nas", old)
    here, old = lost.planned()
    assert old.found.gaps == ()
    assert "4 manifests of the old machine" in take_over(here, "nas", old)
    assert lost.copies() == len(lost.old)
    assert len(lost.manifests()) == 2 * len(lost.old)


def test_nothing_is_taken_over_from_a_machine_that_still_sends(lost: Lost) -> None:
    lost.recover().succeeds()
    here, old = lost.planned()
    (lost.folder / "nas" / lost.key / "leases" / ("3" * 32)).touch()
    with pytest.raises(RefnetError, match="the old machine still sends") as caught:
        take_over(here, "nas", old)
    assert "--old-machine running" in caught.value.hint
    assert lost.manifests() == lost.old


def test_a_lease_that_the_lost_machine_left_is_ended(lost: Lost) -> None:
    lease = lost.folder / "nas" / lost.key / "leases" / ("3" * 32)
    lease.touch()
    lost.recover("--old-machine", "gone").succeeds()
    assert lease.with_name(f"{lease.name}.end").exists()
    lost.own("prune", "--force").succeeds()
    assert lost.copies() == 2


def test_nothing_is_taken_over_by_the_word_of_any_signer(lost: Lost) -> None:
    place = ("--store", f"file://{lost.folder}/nas", "--any-signer")
    lost.refnet("recover", *place, "--old-machine", "gone")
    assert lost.manifests() == lost.old


def test_the_answer_needs_a_store(lost: Lost) -> None:
    lost.refnet("recover", "--old-machine", "gone").fails(2, "--old-machine is for remote stores", "--store")
    lost.recover("--old-machine", "dead").fails(2, "'dead' is not a choice", "gone, running")
