"""Random folders, and their judges: rsync, getfacl and getfattr, which know nothing of RefNet."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

_NAMES = [
    b"plain.md", b"two\nlines", "文献 📚".encode(), b"not \xff utf-8", b"-rf", b" space ", b"a=b%3D", b"back\\slash",
    b"'\"`$(x)", b"n" * 255, b"\x01\x7f", "é".encode(), b"e\xcc\x81", b"A", b"a", b".hidden", b"#", b"x|y",
]  # fmt: skip
_SECONDS = [-(2**31), -1, 0, 1, 2**31 - 1, 2**31, 2**32, 9_223_372_036, 9_223_372_037, 15_032_385_535]
_OWNERS = [0, 1, 1000, 65534, 4_294_967_293]


class Tree:
    """A random folder at `root`; what no backup keeps of it is rare, and named in `odd`."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.odd: set[str] = set()
        self._random = random.Random(seed)  # the same tree for the same seed
        self._paths: list[Path] = [root]
        self._is_root = os.geteuid() == 0
        root.mkdir()
        if self._chance(4):
            (root / ".refnet-notes").mkdir()
            self._paths.append(root / ".refnet-notes")
        self._fill(root, 0)
        for path in reversed(self._paths):
            self._metadata(path)

    def _chance(self, of: int) -> bool:
        return self._random.randrange(of) == 0

    def _odd(self, of: int) -> bool:
        """Like `_chance`, for what a run names: it names the first five of a kind."""
        return self._chance(of) and len(self.odd) < 3

    def _fill(self, folder: Path, depth: int) -> None:
        for name in self._random.sample(_NAMES, self._random.randrange(1, 7)):
            path = folder / os.fsdecode(name)
            kind = self._random.randrange(20)
            if kind < 5 and depth < 4:
                path.mkdir()
                self._paths.append(path)
                self._fill(path, depth + 1)
            elif kind < 8:
                self._link(path, depth)
            elif kind == 8 and self._odd(4):
                os.mkfifo(path)
                self._note(path)
                continue
            elif (
                kind == 9
                and self._odd(1)
                and (files := [one for one in self._paths if one.is_file() and not one.is_symlink()])
            ):
                path.hardlink_to(self._random.choice(files))
                self._note(path)
            else:
                self._file(path)
            if path not in self._paths and not path.is_dir():
                self._paths.append(path)

    def _file(self, path: Path) -> None:
        size = self._random.choice([0, 1, 511, 512, 513, 5000])
        with path.open("wb") as file:
            file.write(self._random.randbytes(size))
            if self._chance(25):
                file.seek(self._random.choice([1 << 20, 3 << 20]))
                file.write(b"end")

    def _link(self, path: Path, depth: int) -> None:
        targets = [os.fsdecode(self._random.choice(_NAMES)), "missing", "../" * depth + "plain.md", "."]
        if self._odd(8):
            targets = ["/etc/hostname", "../" * (depth + 1) + "outside"]
            self._note(path)
        path.symlink_to(self._random.choice(targets))

    def _note(self, path: Path) -> None:
        self.odd.add(str(path.relative_to(self.root)))

    def names(self, path: str) -> list[str]:
        """The paths of the same file."""
        if not os.path.lexists(self.root / path):
            return [path]
        inode = (self.root / path).lstat().st_ino
        return [str(one.relative_to(self.root)) for one in self._paths if one.lstat().st_ino == inode] or [
            path
        ]

    def _metadata(self, path: Path) -> None:
        link, folder = path.is_symlink(), path.is_dir()
        if self._is_root and self._chance(3):
            os.chown(path, self._random.choice(_OWNERS), self._random.choice(_OWNERS), follow_symlinks=False)
        if not link:
            self._attributes(path)
            self._mode(path, folder=folder)
            if self._chance(3):
                self._acl(path, folder=folder)
        if self._chance(2):
            time = self._random.choice(_SECONDS) * 10**9 + self._random.choice([0, 1, 999_999_999])
            os.utime(path, ns=(0, min(time, _SECONDS[-1] * 10**9)), follow_symlinks=False)

    def _mode(self, path: Path, *, folder: bool) -> None:
        least = 0 if self._is_root else 0o700 if folder else 0o600
        mode = self._random.randrange(0o1000) | least
        if folder:
            mode |= self._random.choice([0, 0, 0o1000, 0o2000])
        elif self._odd(20):
            mode |= self._random.choice([0o4000, 0o2000])
            self._note(path)
        path.chmod(mode)

    def _attributes(self, path: Path) -> None:
        if self._chance(3):
            name = b"user." + self._random.choice(
                [b"tag", b"a=b", b"100%25", b"\xff", b"two\nlines", b"n" * 100]
            )
            os.setxattr(path, name, self._random.randbytes(self._random.choice([0, 1, 20, 1500])))
        if self._is_root and self._odd(30):
            os.setxattr(path, "trusted.judge", b"x")
            self._note(path)
        if self._is_root and path.is_file() and self._odd(30):
            os.setxattr(path, "security.capability", bytes.fromhex("01000002" + "0004" + "00" * 14))
            self._note(path)

    def _acl(self, path: Path, *, folder: bool) -> None:
        def letters() -> str:
            return "".join(self._random.choice((letter, "-")) for letter in "rwx")

        entries = [
            f"u:{self._random.choice(_OWNERS)}:{letters()}",
            f"g:{self._random.randrange(9)}:{letters()}",
        ]
        entries += [f"g::{letters()}"] if self._chance(2) else []
        entries += [f"m::{letters()}"] if self._chance(2) else []
        if folder and self._chance(2):
            entries += [f"d:{entry}" for entry in entries]
        if not folder or self._is_root or self._chance(2):
            tool("setfacl", "-m", ",".join(entries), "--", path)


def tool(*command: str | Path, at: Path | None = None) -> bytes:
    """Run a stock tool; what it prints."""
    done = subprocess.run(command, cwd=at, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def differences(one: Path, other: Path) -> dict[str, str]:
    """Path → what rsync, getfacl or getfattr see differently."""
    found: dict[str, str] = {}
    arguments = ("-aAXHn", "--delete", "--modify-window=-1", "--out-format=%i %n", f"{one}/", f"{other}/")
    for line in tool("rsync", *arguments).splitlines():  # eleven characters, and a path with `\#ooo`
        name = re.sub(rb"\\#([0-7]{3})", lambda found: bytes([int(found[1], 8)]), line[12:])
        found[_path(name)] = line[:11].decode()
    for command in (
        ("getfacl", "-Rnp", "--absolute-names"),
        ("getfattr", "-dR", "-h", "-m", "-", "-e", "hex"),
    ):
        before, after = (_blocks(tool(*command, ".", at=folder)) for folder in (one, other))
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                found.setdefault(name, f"{command[0]}: {before.get(name)} {after.get(name)}")
    return found


def _blocks(text: bytes) -> dict[str, tuple[bytes, ...]]:
    """Path → the lines of a tool about it; of a tool that prints nothing where nothing is, without these."""
    found = {}
    for block in text.split(b"\n\n"):
        head, *lines = block.strip(b"\n").split(b"\n")
        if head:
            found[_name(head.removeprefix(b"# file: "))] = tuple(lines)
    return found


def _name(raw: bytes) -> str:
    r"""Decode a path of getfacl and getfattr: `\ooo`, and a backslash as two."""
    return _path(re.sub(rb"\\(?:([0-7]{3})|\\)", lambda found: bytes([int(found[1] or b"134", 8)]), raw))


def _path(raw: bytes) -> str:
    path = os.fsdecode(raw).rstrip("/")
    return path.removeprefix("./") or "."
