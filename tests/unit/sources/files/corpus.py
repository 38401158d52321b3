"""Archives that mean harm, and harmless ones that look like it; each made by code, as a function of nothing.

Plain tar.gz, as anybody can make them: no manifest, no list of files.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable

Archive = Callable[[], bytes]


def archive(*members: tuple[tarfile.TarInfo, bytes], pax: bool = False) -> bytes:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out,
        mode="w:gz",
        format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT,
        errors="surrogateescape",
        compresslevel=1,
    ) as tar:
        for info, data in members:
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)
    return out.getvalue()


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=0o755)


def raw_header(edit: Callable[[bytearray], None], *, sum_right: bool = True) -> bytes:
    """One member `a` of 4 bytes, its header edited."""
    info, data = member("a", b"data")
    info.size = 4
    head = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    edit(head)
    if sum_right:
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
    return gzip.compress(bytes(head) + data + bytes(508) + bytes(1024), 1)


def set_bytes(at: int, value: bytes) -> Callable[[bytearray], None]:
    def edit(head: bytearray) -> None:
        head[at : at + len(value)] = value

    return edit


def _with_comment() -> bytes:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "0" * 40}
    ) as tar:
        info, data = member("a.md", b"note")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


GOOD = member("a.md", b"note")

#: Name → the archive, and what the refusal says.
HOSTILE: dict[str, tuple[Archive, str]] = {
    "absolute name": (lambda: archive(GOOD, member("/tmp/evil", b"x")), "/tmp/evil has an absolute name"),
    "absolute folder": (lambda: archive(folder("/etc")), "/etc/ has an absolute name"),
    "parent folder": (lambda: archive(GOOD, member("../evil", b"x")), r"\.\./evil leads out of its folder"),
    "parent folder inside": (lambda: archive(member("a/../../evil", b"x")), "leads out of its folder"),
    "parent folder in a pax header": (
        lambda: archive(member("x/" * 80 + "../../evil", b"x"), pax=True),
        "leads out of its folder",
    ),
    "symlink outside": (lambda: archive(link("l", "/etc/passwd")), r"l is a link that leads outside \(/etc/passwd\)"),
    "symlink up": (lambda: archive(link("d/l", "../../x")), "d/l is a link that leads outside"),
    "symlink up later": (lambda: archive(link("d/l", "x/../../../y")), "d/l is a link that leads outside"),
    "symlink up through another": (
        lambda: archive(link("d/s", "."), link("d/l", "s/../..")),
        "d/l is a link that leads outside",
    ),
    "empty symlink": (lambda: archive(link("l", "")), "l is a link that leads outside"),
    "file through a symlink": (
        lambda: archive(folder("d"), link("l", "d"), member("l/evil", b"x")),
        "l/evil is below l, which is not a folder",
    ),
    "symlink in a folder's place": (
        lambda: archive(folder("d"), member("d/a", b"x"), link("d", "/tmp")),
        "d is in the archive twice, as a folder and as a link|d is a link that leads outside",
    ),
    "folder over a symlink": (lambda: archive(folder("x"), link("d", "x"), folder("d")), "d is in the archive twice"),
    "file over a symlink": (lambda: archive(link("d", "x"), member("d", b"x")), "d is in the archive twice"),
    "hard link outside": (
        lambda: archive(link("h", "/etc/shadow", tarfile.LNKTYPE)), "h is a hard link: /etc/shadow has an absolute name",
    ),
    "hard link up": (lambda: archive(link("h", "../x", tarfile.LNKTYPE)), r"h is a hard link: \.\./x leads out"),
    "hard link to nothing": (lambda: archive(link("h", "no", tarfile.LNKTYPE)), "h is a hard link to no, which is no"),
    "hard link to itself": (lambda: archive(link("h", "h", tarfile.LNKTYPE)), "h is a hard link to h, which is no"),
    "hard link to a symlink": (
        lambda: archive(GOOD, link("l", "a.md"), link("h", "l", tarfile.LNKTYPE)), "h is a hard link to l, which is no",
    ),
    "character device": (lambda: archive(member("null", type=tarfile.CHRTYPE)), "null is a character device"),
    "block device": (lambda: archive(member("sda", type=tarfile.BLKTYPE)), "sda is a block device"),
    "FIFO": (lambda: archive(member("pipe", type=tarfile.FIFOTYPE)), "pipe is a FIFO"),
    "sparse file": (lambda: raw_header(set_bytes(156, b"S")), "a is a sparse file"),
    "unknown kind": (lambda: raw_header(set_bytes(156, b"Z")), "a has the unknown type"),
    "size that lies": (lambda: raw_header(set_bytes(124, b"00077777777\0")), "cut short"),
    "size beyond all disks": (lambda: raw_header(set_bytes(124, b"\x80" + b"\x7f" * 11)), "an invalid size, time or owner"),
    "size below zero": (lambda: raw_header(set_bytes(124, b"\xff" * 12)), "an invalid size, time or owner"),
    "size in words": (lambda: raw_header(set_bytes(124, b"enormous\0\0\0\0")), "in place of a number"),
    "owner that cannot be": (lambda: raw_header(set_bytes(108, b"\xff" * 8)), "an invalid size, time or owner"),
    "huge pax header": (
        lambda: raw_header(lambda head: (set_bytes(156, b"x")(head), set_bytes(124, b"77777777777\0")(head))),
        "bytes is too long",
    ),
    "pax header of a size below zero": (
        lambda: raw_header(lambda head: (set_bytes(156, b"x")(head), set_bytes(124, b"\xff" * 12)(head))),
        "bytes is too long",
    ),
    "damaged pax header": (lambda: raw_header(set_bytes(156, b"x")), "a pax header is damaged"),
    "global header with names": (
        lambda: archive(member("a", b"x", pax_headers={"path": "../evil"}), pax=True), r"\.\./evil",
    ),
    "file below a file": (lambda: archive(member("a", b"x"), member("a/b", b"y")), "a/b is below a, which is not a folder"),
    "folder in a file's place": (lambda: archive(member("a", b"x"), folder("a")), "a is in the archive twice"),
    "wrong checksum": (lambda: raw_header(set_bytes(0, b"b"), sum_right=False), "is damaged, or this is not a tar"),
    "no tar": (lambda: gzip.compress(b"-- PostgreSQL database dump" * 100), "in place of a number"),
    "no gzip": (lambda: b"just a text", "not a gzip file"),
    "nothing": (lambda: b"", "cut short|not a gzip file"),
    "empty gzip": (lambda: gzip.compress(b""), "cut short"),
    "cut short": (lambda: archive(member("a", os.urandom(100_000)))[:50_000], "cut short"),
    "no end": (lambda: gzip.compress(gzip.decompress(archive(GOOD))[:1024]), "cut short"),
    "more after the end": (lambda: archive(GOOD) + gzip.compress(b"hidden" * 100), "data after the end of the archive"),
    "garbage after the gzip stream": (lambda: archive(GOOD) + b"garbage", "not a gzip file, or damaged|cut short"),
    "name that is too long": (lambda: archive(member("n" * 256, b"x")), "too long"),
    "path that is too deep": (lambda: archive(member("d/" * 300 + "f", b"x")), "too long or too deep"),
    "name with a zero byte": (
        lambda: archive(member("a", b"x", pax_headers={"path": "a\0b"}), pax=True), "is not a name",
    ),
}  # fmt: skip

#: Name → the archive, and what must come back: path → content, None for a folder, "→ target" for a link.
HARMLESS: dict[str, tuple[Archive, dict[str, bytes | str | None]]] = {
    "dots in names": (
        lambda: archive(member("..a", b"1"), member("a..b/...", b"2")),
        {"..a": b"1", "a..b": None, "a..b/...": b"2"},
    ),
    "leading dot-slash": (
        lambda: archive(folder("./"), folder("./d"), member("./d/a", b"1"), member("././b", b"2")),
        {"d": None, "d/a": b"1", "b": b"2"},
    ),
    "files without their folders": (lambda: archive(member("a/b/c", b"1")), {"a": None, "a/b": None, "a/b/c": b"1"}),
    "link inside": (
        lambda: archive(link("d/l", "../a.md"), GOOD, link("gone", "nowhere")),
        {"d": None, "d/l": "../a.md", "a.md": b"note", "gone": "nowhere"},
    ),
    "hard link inside": (
        lambda: archive(GOOD, link("d/h", "./a.md", tarfile.LNKTYPE)), {"a.md": b"note", "d": None, "d/h": b"note"},
    ),
    "a file that comes twice": (
        lambda: archive(member("a", b"old and longer"), member("b", b"1"), member("a", b"new")), {"a": b"new", "b": b"1"},
    ),
    "names that differ only in case": (lambda: archive(member("A", b"1"), member("a", b"2")), {"A": b"1", "a": b"2"}),
    "names that differ only in Unicode form": (
        lambda: archive(member("\u00e9", b"1"), member("e\u0301", b"2")), {"\u00e9": b"1", "e\u0301": b"2"},
    ),
    "odd names": (
        lambda: archive(member("a\nb", b"1"), member("\udcff", b"2"), member("'\"$(x)", b"3"), member("n" * 255, b"4")),
        {"a\nb": b"1", "\udcff": b"2", "'\"$(x)": b"3", "n" * 255: b"4"},
    ),
    "pax": (
        lambda: archive(member("長" * 80, b"1"), member("b", b"2", mtime=1.5), pax=True),
        {"長" * 80: b"1", "b": b"2"},
    ),
    "a comment for all members, as git archive writes": (
        _with_comment, {"a.md": b"note"},
    ),
    "several gzip members": (
        lambda: gzip.compress(gzip.decompress(archive(GOOD))[:700]) + gzip.compress(gzip.decompress(archive(GOOD))[700:]),
        {"a.md": b"note"},
    ),
    "zeros after the gzip stream": (lambda: archive(GOOD) + bytes(512), {"a.md": b"note"}),
    "a folder that nobody may write": (
        lambda: archive(member("d", type=tarfile.DIRTYPE, mode=0o555), member("d/a", b"1")), {"d": None, "d/a": b"1"},
    ),
    "no members at all": (archive, {}),
}  # fmt: skip
