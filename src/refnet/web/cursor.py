"""The place in a list at which the next page begins, as opaque text: keyset pagination."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from dataclasses import dataclass

from refnet.errors import Exit, RefnetError

#: Version, citations, id, and the checksum of the list that the place belongs to.
_FORM = struct.Struct(">BiqI")
_VERSION = 1
_LENGTH = len(base64.urlsafe_b64encode(bytes(_FORM.size)).rstrip(b"="))


@dataclass(frozen=True)
class Place:
    """The last row of a page; its order is the most citations first, then the highest id."""

    #: As the provider counts; -1: unknown.
    citations: int
    id: int

    def text(self, of: str) -> str:
        """Return this place in the list that `of` describes, as text for a URL."""
        packed = _FORM.pack(_VERSION, self.citations, self.id, zlib.crc32(of.encode()))
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def parse(text: str, of: str) -> Place:
    """Return the place of `text`; RefnetError (USAGE) if it is not one of the list that `of` describes."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        packed = b""
    if len(text) == _LENGTH and len(packed) == _FORM.size:
        version, citations, number, checksum = _FORM.unpack(packed)
        place = Place(citations, number)
        right = (
            version == _VERSION and citations >= -1 and number >= 1 and checksum == zlib.crc32(of.encode())
        )
        if right and place.text(of) == text:
            return place
    raise RefnetError(
        "cursor: not a place in this list",
        "Send `next` of the last page as it is, with the same parameters; or begin without a cursor.",
        Exit.USAGE,
    )
