"""Copies that share pieces, for tests: what each adds to the store."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact, objects

from refnet.catalog.object_names import SharedName
from refnet.catalog.remote import Copy

#: Of the usual sizes.
SCALE = 32
MOST_BLOCK, LEAST_PIECE, PIECE = ((size << 20) // SCALE for size in (4, 4, 16))
DAY = timedelta(days=1)
NOISE = random.Random(7)
DATA = NOISE.randbytes(12 * PIECE)


#: A catalog key: it decides where content is cut, so sizes are the same in every run.
CATALOG = "AGE-SECRET-KEY-1266XWHF9Y4VWWKA3NGNX78AQDA5YDDQC3M224KSX8043JMKW5WPQU646YM"


def fixed_cuts(home: Path) -> Machine:
    """A machine that cuts content at the same places in every run."""
    (home / "keys").mkdir(mode=0o700, parents=True)
    file = home / "keys" / "catalog"
    file.touch(mode=0o600)
    file.write_text(f"{CATALOG}\n")
    return Machine(home)


def memory(machine: Machine) -> MemoryBucket:
    assert isinstance(machine.bucket, MemoryBucket)
    return machine.bucket


def pieces_in(machine: Machine) -> set[str]:
    return {name for name in objects(machine.bucket) if SharedName.read(name)}


def named(*copies: Copy) -> set[str]:
    return {piece.name for one in copies for piece in one.document.pieces}


def read(machine: Machine, copy: Copy) -> bytes:
    with machine.store(key=True).artifact(copy).open() as reader:
        return reader.read()


@dataclass
class Sent:
    """A copy, and what was new in the store for it."""

    copy: Copy
    new: set[str]
    size: int


def send(machine: Machine, number: int, data: bytes = DATA, by: Callable[[], Copy] | None = None) -> Sent:
    """Send the artifact `number`; its bytes are those in the store afterwards."""
    before = pieces_in(machine)
    copy = by() if by else machine.send(artifact(number, data))
    new = pieces_in(machine) - before
    assert new <= named(copy) <= pieces_in(machine)
    assert read(machine, copy) == data
    return Sent(copy, new, sum(one.plain for one in copy.document.pieces if one.name in new))


def damage(machine: Machine, name: str, change: Callable[[bytes], bytes | None]) -> None:
    kept = memory(machine).contents[name]
    kept[-1] = replace(kept[-1], data=change(kept[-1].data or b""))


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])
