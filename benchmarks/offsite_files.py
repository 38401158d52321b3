"""`./dev bench --offsite-files`: copies of a folder on an object server, night after night, against restic and Borg."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from filecmp import cmp
from pathlib import Path
from random import Random

from benchmarks import bars, files
from benchmarks.bars import Bar, Table
from benchmarks.measure import FailedError, Run, pipeline
from benchmarks.objects import ObjectServer
from benchmarks.offsite import private_file
from benchmarks.rivals import Borg, Restic
from benchmarks.turns import say
from benchmarks.ways import Result, together
from refnet.store.encryption import PrivateKey
from refnet.store.keys import MachineKeys

_STORE = "cloud"
#: Notes that change in a night; nights, and how many are kept.
CHANGED_NOTES, ALL_NIGHTS, _KEPT = 94, 30, 10
_MEMORY_MB = 200
#: Requests of a prune for each object that goes.
_EACH = 3
#: Added to the number of a round: a backup folder of its own for what is fetched.
_FETCHED = 1000
#: The server counts a request shortly after its answer.
_COUNTED_SECONDS = 0.2
FIRST, AGAIN = "refnet copy, first", "refnet copy, nothing changed"
CHANGED = f"refnet copy, {CHANGED_NOTES} notes changed"
NIGHTS = f"refnet copy, {ALL_NIGHTS - 3} more such nights"
FETCH, ONE = (
    f"refnet fetch obsidian --store {_STORE}",
    f"refnet restore obsidian --store {_STORE} --only NOTE",
)
PRUNE = f"refnet prune --store {_STORE}, {ALL_NIGHTS - _KEPT} of {ALL_NIGHTS} copies"
RESTIC, RESTIC_AGAIN = "restic backup (s3), first", "restic backup (s3), nothing changed"
RESTIC_CHANGED = f"restic backup (s3), {CHANGED_NOTES} notes changed"
RESTIC_NIGHTS = f"restic backup (s3), {ALL_NIGHTS - 3} more such nights"
RESTIC_RESTORE, RESTIC_ONE = "restic restore latest", "restic restore latest --include NOTE"
RESTIC_PRUNE = f"restic forget --keep-last {_KEPT} --prune"
BORG, BORG_AGAIN = "borg create (folder), first", "borg create (folder), nothing changed"
BORG_CHANGED = f"borg create (folder), {CHANGED_NOTES} notes changed"
_REFNETS = (FIRST, AGAIN, CHANGED, NIGHTS, FETCH, ONE, PRUNE)


@dataclass(frozen=True, kw_only=True)
class Bench(files.Bench):
    """The folder with the files, an object server, and the rivals: in each round with new repositories."""

    server: ObjectServer
    rival: Restic
    random: Random
    #: Of restic, in the nights that RESTIC_NIGHTS reports.
    nights: list[Result] = field(default_factory=list)

    @property
    def borg(self) -> Borg:
        return Borg(self.folder / f"borg-{self.number}")

    @property
    def copying(self) -> Bench:
        """The bench whose `refnet` has the store in its settings; the other one makes backups and no copies."""
        return replace(self, home=f"copying {self.number}")

    @property
    def prefix(self) -> str:
        """Of the round's copies in the bucket."""
        return f"vault-{self.number}"

    @property
    def note(self) -> Path:
        """The note that is restored alone."""
        notes = sorted((self.vault / "notes").rglob("*.md"))
        return notes[len(notes) * 3 // 4]

    def begin(self) -> None:
        """Write the keys and settings of the round's home with the store, and make the first artifact."""
        key, home = PrivateKey.new(), self.folder / self.copying.home
        private_file(home / "recovery.key", f"{key.revealed()}\n")
        for name in ("s3.toml", "prune.toml"):  # RefNet refuses one file for both
            private_file(home / name, self.server.credential())
        more = {"prune_credentials_file": home / "prune.toml", "retention": f"keep-last={_KEPT}"}
        store = self.server.settings(_STORE, self.prefix, home / "s3.toml", **more)
        private_file(home / "refnet.toml", f'{store}\n[encryption]\nrecipients = ["{key.recipient.text}"]\n')
        MachineKeys(home / "keys").make_missing()
        self.back_up()

    def change(self) -> None:
        """Add a line to some notes."""
        notes = sorted((self.vault / "notes").rglob("*.md"))
        for note in self.random.sample(notes, min(CHANGED_NOTES, len(notes))):
            note.write_text(f"{note.read_text()}\nAdded: {self.random.random()}\n")

    def back_up(self) -> None:
        """Make a new artifact, without a proof and without a copy; not part of what is measured."""
        before = set((self.backups / "obsidian").glob("vault_*.tar.gz"))
        self.refnet("backup", "obsidian", "--no-prove")
        if self.artifact() in before:
            raise FailedError("there is no new artifact")

    def copy(self) -> Run:
        return self.copying.refnet("copy", "obsidian", "--store", _STORE)

    def resticked(self, *arguments: str) -> Run:
        """Run restic with the object server."""
        if shutil.which("restic") is None:
            raise FailedError("not installed")
        os.sync()
        command = self.rival.command(*arguments)
        return pipeline([command], self.rival.environment(self.number), self.folder, sample=self.sample)


def _of_refnet(bench: Bench) -> dict[str, int]:
    return bench.server.objects(bench.prefix)


def _of_restic(bench: Bench) -> dict[str, int]:
    return bench.server.objects(f"restic-{bench.number}")


def _asking(bench: Bench, way: Callable[[Bench], Run]) -> Result:
    """Run `way`; return it with its requests, and what they sent."""
    time.sleep(_COUNTED_SECONDS)
    requests, received = bench.server.requests(), bench.server.received()
    run = way(bench)
    time.sleep(_COUNTED_SECONDS)
    return Result(run, requests=bench.server.requests() - requests, sent=bench.server.received() - received)


def _counted(
    way: Callable[[Bench], Run],
    stored: Callable[[Bench], dict[str, int]],
    before: Callable[[Bench], None] = lambda _bench: None,
) -> Callable[[Bench], Result]:
    """Return `way` with what it asked and sent, and what is stored then; `pieces`: objects that went. `before`: not counted."""

    def counting(bench: Bench) -> Result:
        before(bench)
        had = stored(bench)
        result = _asking(bench, way)
        has = stored(bench)
        return replace(result, size=sum(has.values()), pieces=len(had.keys() - has.keys()))

    return counting


def _night(bench: Bench) -> None:
    bench.change()
    bench.back_up()


def _nights(bench: Bench) -> Result:
    """Let more nights pass; restic has its turn in each, reported by RESTIC_NIGHTS."""
    copies = list[Result]()
    for number in range(ALL_NIGHTS - 3):
        _night(bench)
        copies.append(_asking(bench, Bench.copy))
        if shutil.which("restic"):
            bench.nights.append(_asking(bench, restic))
        say(f"night {number + 4} of {ALL_NIGHTS}")
    return together(copies, _of_refnet(bench))


def _restic_nights(bench: Bench) -> Result:
    if not bench.nights:
        raise FailedError("no night passed")
    return together(bench.nights, _of_restic(bench))


def restic(bench: Bench) -> Run:
    return bench.resticked("backup", str(bench.vault))


def _borg(bench: Bench) -> Result:
    if not bench.borg.repository.exists():
        bench.borg.create()
    os.sync()
    command = ["borg", "create", "::{now:%Y%m%d%H%M%S%f}", str(bench.vault)]
    run = pipeline([command], bench.borg.environment(), bench.folder, sample=bench.sample)
    return Result(run, bench.borg.stored())


def _fetch(bench: Bench) -> Run:
    """Fetch the newest copy into an empty backup folder."""
    into = replace(bench.copying, number=bench.number + _FETCHED)
    run = into.refnet("fetch", "obsidian", "--store", _STORE, "--identity-file", _key(bench))
    if not cmp(into.artifact(), bench.artifact(), shallow=False):
        raise FailedError("what was fetched is not the artifact")
    return run


def _key(bench: Bench) -> str:
    return str(bench.folder / bench.copying.home / "recovery.key")


def one(bench: Bench) -> Run:
    target, note = bench.folder / f"one {bench.number}", bench.note.relative_to(bench.vault)
    options = ("--store", _STORE, "--identity-file", _key(bench), "--only", str(note), "--to", str(target))
    run = bench.copying.refnet("restore", "obsidian", *options)
    return _same(bench, target / note, run)


def _restic_restore(bench: Bench) -> Run:
    return bench.resticked("restore", "latest", "--target", str(bench.folder / f"restored {bench.number}"))


def restic_one(bench: Bench) -> Run:
    target = bench.folder / f"restic one {bench.number}"
    run = bench.resticked("restore", "latest", "--include", str(bench.note), "--target", str(target))
    return _same(bench, target / bench.note.relative_to("/"), run)


def _same(bench: Bench, restored: Path, run: Run) -> Run:
    if not cmp(restored, bench.note, shallow=False):
        raise FailedError("the note did not come back")
    return run


def _prune(bench: Bench) -> Run:
    return bench.copying.refnet("prune", "obsidian", "--store", _STORE, "--yes")


def _restic_prune(bench: Bench) -> Run:
    return bench.resticked("forget", f"--keep-last={_KEPT}", "--prune")


#: In the order of a round: the state of the folder is the same for the ways of one step.
WAYS: dict[str, Callable[[Bench], Result]] = {
    FIRST: _counted(Bench.copy, _of_refnet, Bench.begin),
    RESTIC: _counted(restic, _of_restic, lambda bench: bench.rival.create(bench.number)),
    BORG: _borg,
    AGAIN: _counted(Bench.copy, _of_refnet, Bench.back_up),
    RESTIC_AGAIN: _counted(restic, _of_restic),
    BORG_AGAIN: _borg,
    CHANGED: _counted(Bench.copy, _of_refnet, _night),
    RESTIC_CHANGED: _counted(restic, _of_restic),
    BORG_CHANGED: _borg,
    FETCH: _counted(_fetch, _of_refnet),
    RESTIC_RESTORE: _counted(_restic_restore, _of_restic),
    ONE: _counted(one, _of_refnet),
    RESTIC_ONE: _counted(restic_one, _of_restic),
    NIGHTS: _nights,
    RESTIC_NIGHTS: _restic_nights,
    PRUNE: _counted(_prune, _of_refnet),
    RESTIC_PRUNE: _counted(_restic_prune, _of_restic),
}
#: In the sampled round alone.
ONCE = {NIGHTS, RESTIC_NIGHTS, PRUNE, RESTIC_PRUNE}


def _sent(table: Table, way: str) -> int:
    return max(one.sent or 0 for one in table[way].runs)


def _requests(table: Table, way: str, but: str = "") -> int:
    counted = [one.requests or Counter() for one in table[way].runs]
    return max(requests.total() - requests[but] for requests in counted)


def _stored(one: str, other: str, ceiling: float) -> Bar:
    return Bar(
        f"{one}, stored, against {other}",
        (one, other),
        lambda table: table[one].size / table[other].size,
        ceiling=ceiling,
    )


def promises() -> tuple[Bar, ...]:
    """Return the promises for copies of a folder."""

    def bar(
        what: str, needs: tuple[str, ...], value: Callable[[Table], float], most: float, unit: str
    ) -> Bar:
        return Bar(what, needs, value, ceiling=most, unit=unit)

    against = f"{CHANGED}, sent, against {RESTIC_CHANGED}"
    of_prune, memory = f"{PRUNE}, requests for each object that goes", bars.MEMORY
    return (
        *(bars.at_most(FIRST, other, 0.6) for other in (RESTIC, BORG)),
        *(_stored(FIRST, other, 1.1) for other in (RESTIC, BORG)),
        bars.at_most(AGAIN, RESTIC_AGAIN, 0.5),
        bar(f"{AGAIN}, sent", (AGAIN,), lambda table: _sent(table, AGAIN) / 1e3, 20, "KB"),
        bar(f"{AGAIN}, requests besides GET", (AGAIN,), lambda table: _requests(table, AGAIN, "GET"), 5, "requests"),
        bars.at_most(CHANGED, RESTIC_CHANGED, 0.5),
        bar(against, (CHANGED, RESTIC_CHANGED), lambda t: _sent(t, CHANGED) / _sent(t, RESTIC_CHANGED), 1.5, "×"),
        _stored(NIGHTS, RESTIC_NIGHTS, 1.2),
        bars.at_most(FETCH, RESTIC_RESTORE, 0.5),
        bars.at_most(ONE, RESTIC_ONE, 0.5),
        bars.at_most(PRUNE, RESTIC_PRUNE, 0.3),
        bar(of_prune, (PRUNE,), lambda t: _requests(t, PRUNE) / max(1, t[PRUNE].runs[0].pieces), _EACH, "requests"),
        bar(memory, _REFNETS, lambda table: max(table[way].peak for way in _REFNETS) / 1e6, _MEMORY_MB, "MB"),
    )  # fmt: skip
