"""POSIX ACLs and `user.*` attributes: of an open file, and as the pax records of GNU tar and bsdtar.

ACLs are kept in the kernel's form and written with numbers, never names. Every other attribute is left out: a backup
must not bring capabilities, labels or `trusted.*` to another machine.
"""

import errno
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from operator import itemgetter
from typing import NamedTuple

from refnet.core.member_names import ArchiveError

ACCESS, DEFAULT, USER = "system.posix_acl_access", "system.posix_acl_default", "user."
#: The most bytes of the names and values of one file's attributes, and the most attributes.
MOST_BYTES, MOST_ATTRIBUTES = 512 << 10, 900
#: Limits of the kernel.
_MOST_NAME, _MOST_VALUE = 255, 1 << 16
_VERSION, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_ACL_VERSION, _NO_ID, _MOST_DIGITS = 2, (1 << 32) - 1, 10
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_WORDS = {
    _OWNER: "user",
    _USER: "user",
    _OWNING_GROUP: "group",
    _GROUP: "group",
    _MASK: "mask",
    _OTHER: "other",
}
_TAGS = {"user": _OWNER, "group": _OWNING_GROUP, "mask": _MASK, "other": _OTHER}
_TAGS |= {word[0]: tag for word, tag in _TAGS.items()}
_OF_NAMED = {_OWNER: _USER, _OWNING_GROUP: _GROUP}
_NAMED = frozenset(_OF_NAMED.values())
#: An ACL of three entries says what the mode says.
_LEAST = 3
_ENTRY_TEXT = re.compile(r"([a-z]{1,5}):(?:([^:]{0,255}):)?([r-][w-][x-])(?::([0-9]{1,10}))?")
_ACLS = {b"SCHILY.acl.access": ACCESS, b"SCHILY.acl.default": DEFAULT}
_XATTR = b"SCHILY.xattr."
#: The names of the attributes are longer than the kernel lists.
_TOO_MANY = {errno.E2BIG, errno.ERANGE}
_ABSENT = {errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

#: An entry of an ACL: tag, permissions, id.
_Entry = tuple[int, int, int]


class Attributes(NamedTuple):
    """The kept attributes of a file or folder."""

    #: ACLs in the kernel's form, or b"".
    access: bytes = b""
    default: bytes = b""
    #: Name (`user.…`) and value of the others, sorted.
    user: tuple[tuple[bytes, bytes], ...] = ()
    #: True if an archive of another program has ACL entries with a name and no number: they are left out.
    unnumbered: bool = False

    @property
    def acl_digest(self) -> str:
        return _digest(record for record in records(self).items() if record[0] in _ACLS)

    @property
    def user_digest(self) -> str:
        return _digest(record for record in records(self).items() if record[0] not in _ACLS)


NONE = Attributes()


def read(handle: int) -> tuple[Attributes, tuple[str, ...]]:
    """Return the kept attributes of an open file or folder, and the names of those that are not kept."""
    try:
        names = os.listxattr(handle)
    except OSError as error:
        if error.errno in _ABSENT:
            return NONE, ()
        if error.errno not in _TOO_MANY:
            raise
        kept, unkept = _read(handle, [ACCESS, DEFAULT])
        return kept, (*unkept, f"{USER}* (more than can be listed)")
    return _read(handle, sorted(names)) if names else (NONE, ())


def _read(handle: int, names: list[str]) -> tuple[Attributes, tuple[str, ...]]:
    acls, left = {ACCESS: b"", DEFAULT: b""}, MOST_BYTES
    user: list[tuple[bytes, bytes]] = []
    unkept: list[str] = []
    for name in names:
        if name not in acls and not name.startswith(USER):
            unkept.append(name)
            continue
        value = _value(handle, name)
        if value is None:
            continue
        if name in acls:
            acls[name], complete = _numbered(name, value)
            if not complete:
                unkept.append(name)
            continue
        left -= len(name) + len(value)
        if left < 0 or len(user) == MOST_ATTRIBUTES:
            unkept.append(name)
        else:
            user.append((os.fsencode(name), value))
    kept = Attributes(acls[ACCESS], acls[DEFAULT], tuple(sorted(user)))
    return (kept if any(kept) else NONE), tuple(unkept)


def _numbered(name: str, value: bytes) -> tuple[bytes, bool]:
    """Return an ACL of the kernel with its entries in order, and False if some have no id in this user namespace."""
    if not _is_acl(value):
        return b"", False
    entries = [one for one in _entries(value) if one[0] not in _NAMED or one[2] != _NO_ID]
    return _blob(name, entries), _VERSION.size + len(entries) * _ENTRY.size == len(value)


def _blob(name: str, entries: list[_Entry]) -> bytes:
    """Return an ACL in the kernel's form; b"" if it says no more than the mode."""
    if name == ACCESS and len(entries) == _LEAST:
        return b""
    ordered = sorted(entries, key=itemgetter(0, 2))
    return _VERSION.pack(_ACL_VERSION) + b"".join(_ENTRY.pack(*one) for one in ordered)


def _value(handle: int, name: str) -> bytes | None:
    """Return the value of an attribute; None if it vanished."""
    try:
        return os.getxattr(handle, name)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def without_mask(mode: int, access: bytes) -> int:
    """Return what owner, owning group and others may do: with an ACL the group bits of a file's mode are its mask."""
    if not access:
        return mode
    allowed = {tag: permissions for tag, permissions, _ in _entries(access)}
    group = allowed[_OWNING_GROUP] & allowed.get(_MASK, 7)
    return (mode & ~0o777) | allowed[_OWNER] << 6 | group << 3 | allowed[_OTHER]


def visible(folder: int) -> tuple[bool, bool]:
    """Return whether the file system of an open folder has ACLs, and whether it has `user.*` attributes."""
    return _has(folder, ACCESS), _has(folder, f"{USER}refnet")


def _has(folder: int, name: str) -> bool:
    try:
        os.getxattr(folder, name)
    except OSError as error:
        return error.errno == errno.ENODATA
    return True


def inherit_nothing(folder: int) -> None:
    """Remove the ACLs that an open folder has from its parent, so that what is created in it has none."""
    for name in (ACCESS, DEFAULT):
        _remove(folder, name)


def _remove(handle: int, name: str) -> None:
    try:
        os.removexattr(handle, name)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise


def set_user(handle: int, kept: Attributes) -> bool:
    """Set the `user.*` attributes of an open file; return False if its file system cannot hold one."""
    try:
        for name, value in kept.user:
            os.setxattr(handle, name, value)
    except OSError as error:
        return _refused(error)
    return True


def set_acls(handle: int, kept: Attributes) -> bool:
    """Set the ACLs of an open file, which has none, after its mode; return False if its file system cannot hold one."""
    try:
        for name, value in ((ACCESS, kept.access), (DEFAULT, kept.default)):
            if value:
                os.setxattr(handle, name, value)
    except OSError as error:
        return _refused(error)
    return not kept.unnumbered


def _refused(error: OSError) -> bool:
    """Return False for the answers of a file system that cannot hold an attribute; raise other errors."""
    if error.errno in {
        *_ABSENT,
        errno.EPERM,
        errno.EACCES,
        errno.EINVAL,
        errno.ENOSPC,
        errno.E2BIG,
        errno.ERANGE,
    }:
        return False
    raise error


def copy(source: int, target: int) -> None:
    """Give the open file or folder `target` mode, ACLs, `user.*` attributes and, as root, owner of the open `source`.

    An attribute that its file system cannot hold is left out.
    """
    (kept, _), status = read(source), os.fstat(source)
    inherit_nothing(target)
    set_user(target, kept)  # before the mode, which may forbid it
    if os.geteuid() == 0:
        os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, without_mask(stat.S_IMODE(status.st_mode), kept.access))
    set_acls(target, kept)


def records(kept: Attributes) -> dict[bytes, bytes]:
    """Return the pax records of a member."""
    made = {
        key: acl_text(acl).encode()
        for key, acl in zip(_ACLS, (kept.access, kept.default), strict=True)
        if acl
    }
    return made | {
        _XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D"): value for name, value in kept.user
    }


def from_records(found: Mapping[bytes, bytes]) -> Attributes:
    """Parse the pax records of a member; other records are ignored. ArchiveError if one is not valid."""
    acls, unnumbered = {ACCESS: b"", DEFAULT: b""}, False
    user: dict[bytes, bytes] = {}
    for key, value in found.items():
        if kind := _ACLS.get(key):
            acls[kind], by_name = _parsed(kind, value)
            unnumbered |= by_name
        elif key.startswith(_XATTR + USER.encode()):
            name = key.removeprefix(_XATTR).replace(b"%3D", b"=").replace(b"%25", b"%")
            if not len(USER) < len(name) <= _MOST_NAME or b"\0" in name or len(value) > _MOST_VALUE:
                raise ArchiveError(f"a header has an invalid attribute: {name[:40]!r}")
            user[name] = value
    kept = Attributes(acls[ACCESS], acls[DEFAULT], tuple(sorted(user.items())), unnumbered)
    return kept if any(kept) else NONE


def _digest(found: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the SHA-256 over pax records; "" if there is none."""
    text = b"".join(b"%d %b=%b" % (len(key) + len(value), key, value) for key, value in found)
    return sha256(text).hexdigest() if text else ""


def acl_text(acl: bytes) -> str:
    """Return an ACL as `getfacl -n` shows it."""
    return "".join(
        f"{_WORDS[tag]}:{ids if tag in _NAMED else ''}:{_letters(allowed)}\n"
        for tag, allowed, ids in _entries(acl)
    )


def _letters(allowed: int) -> str:
    return "".join(letter if allowed & bit else "-" for letter, bit in zip("rwx", (4, 2, 1), strict=True))


def _parsed(name: str, text: bytes) -> tuple[bytes, bool]:
    """Parse the text of an ACL; return it in the kernel's form, and whether entries by name were left out."""
    entries: list[_Entry] = []
    by_name = False
    lines = text.decode("utf-8", "replace").replace(",", "\n").split("\n")
    for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
        entry = _entry(line)
        by_name |= entry is None
        entries += [entry] if entry else []
    blob = _VERSION.pack(_ACL_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in sorted(entries))
    if not _is_acl(blob):
        raise ArchiveError(f"a header has an invalid ACL: {text[:40]!r}")
    return _blob(name, entries), by_name


def _entry(line: str) -> _Entry | None:
    """Parse one entry of the text of an ACL; None if it has a name without a number."""
    found = _ENTRY_TEXT.fullmatch(line)
    tag = _TAGS.get(found[1], 0) if found else 0
    if not found or not tag:
        raise ArchiveError(f"a header has an invalid ACL entry: {line[:40]!r}")
    name, number = found[2] or "", found[4] or ""
    allowed = sum(bit for letter, bit in zip(found[3], (4, 2, 1), strict=True) if letter != "-")
    if not name:
        return tag, allowed, _NO_ID
    who = number or (name if name.isascii() and name.isdigit() else "")
    if tag not in _OF_NAMED or len(who) > _MOST_DIGITS or (who and int(who) >= _NO_ID):
        raise ArchiveError(f"a header has an invalid ACL entry: {line[:40]!r}")
    return (_OF_NAMED[tag], allowed, int(who)) if who else None


def _entries(acl: bytes) -> Iterator[_Entry]:
    return _ENTRY.iter_unpack(acl[_VERSION.size :])


def _is_acl(blob: bytes) -> bool:
    """Return True if `blob` is an ACL that the kernel accepts: its entries are complete, in order and possible."""
    if not _VERSION.size <= len(blob) <= _MOST_VALUE or (len(blob) - _VERSION.size) % _ENTRY.size:
        return False
    entries = tuple(_entries(blob))
    tags = [tag for tag, _, _ in entries]
    return (
        _VERSION.unpack_from(blob)[0] == _ACL_VERSION
        and all(tag in _WORDS and allowed <= 7 for tag, allowed, _ in entries)
        and all(tags.count(tag) == 1 for tag in (_OWNER, _OWNING_GROUP, _OTHER))
        and tags == sorted(tags)
        and tags.count(_MASK) <= 1
        and (_MASK in tags or _NAMED.isdisjoint(tags))
    )
