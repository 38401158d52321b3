"""The format of age (age-encryption.org/v1) with X25519 keys, by the ciphers of `cryptography`: these take a fifth of pyrage's time.

A file is a header and a payload. The header has the file's own key once for each recipient, and a MAC by that key; the
payload is the plaintext in chunks, each encrypted and authenticated, with its number and whether it is the last one.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from refnet.core.memory import with_room

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_FIRST = b"age-encryption.org/v1\n"
#: The start of a header's last line.
_LAST = b"\n--- "
#: The largest header that is read, in bytes: one recipient takes about 100. The time to read it grows with its recipients.
_HEADER = 8 << 10
_CHUNK, _TAG, _NONCE = 64 << 10, 16, 16
_COLUMNS = 64
_X25519 = b"age-encryption.org/v1/X25519"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


class DecryptionError(ValueError):
    """Data that cannot be decrypted, because it is damaged or not of this format."""


class WrongKeyError(DecryptionError):
    """Data that is encrypted to other keys."""


def raw(key: str) -> bytes:
    """The 32 bytes of a key or recipient in bech32, whose checksum was compared when it was read."""
    value = 0
    for letter in key.lower().rpartition("1")[2][:-6]:
        value = value << 5 | _BECH32.index(letter)
    return (value >> 4).to_bytes(32, "big")


def encrypt(data: bytes, recipients: Sequence[bytes]) -> bytes:
    """Encrypt `data` to the public keys `recipients`, as one file."""
    key, nonce = secrets.token_bytes(16), secrets.token_bytes(_NONCE)
    head = b"".join((_FIRST, *(_stanza(key, one) for one in recipients), b"---"))
    head += b" " + _coded(_mac(key, head)) + b"\n" + nonce
    cipher, plain = _cipher(_derived(key, nonce, b"payload")), memoryview(data)
    size = len(head) + len(data) + _TAG * _chunks(len(data))
    out = with_room(size)
    with out.getbuffer() as room:
        room[: len(head)], at = head, len(head)
        for number, is_last in _numbers(len(data)):
            chunk = plain[number * _CHUNK :][:_CHUNK]
            into = room[at : at + len(chunk) + _TAG]
            cipher.encrypt_into(_nonce(number, is_last), chunk, None, into)
            at += len(into)
            into.release()
    return out.getvalue()


def decrypt(data: bytes, keys: Sequence[bytes], most: int) -> bytes:
    """Decrypt a file with the matching one of the private `keys`; `most`: the largest plaintext. DecryptionError."""
    from cryptography.exceptions import InvalidTag

    stanzas, signed, mac, begin = _header(data)
    key = _file_key(stanzas, keys)
    if not hmac.compare_digest(_mac(key, signed), mac):
        raise DecryptionError("damaged, or not a file of age")
    size = _plain(len(data) - begin)
    if size > most:
        raise DecryptionError(f"larger than {most:,} bytes")
    cipher, body = _cipher(_derived(key, data[begin : begin + _NONCE], b"payload")), memoryview(data)
    out, at = with_room(size), begin + _NONCE
    with out.getbuffer() as room:
        for number, is_last in _numbers(size):
            into = room[number * _CHUNK : min((number + 1) * _CHUNK, size)]
            chunk = body[at : at + len(into) + _TAG]
            try:
                cipher.decrypt_into(_nonce(number, is_last), chunk, None, into)
            except InvalidTag:
                raise DecryptionError("damaged, or not a file of age") from None
            finally:
                into.release()
            at += len(chunk)
    return out.getvalue()


def plain_size(data: bytes) -> int:
    """Bytes that the file `data` encrypts; DecryptionError if it is none."""
    return _plain(len(data) - _header(data)[3])


def _plain(payload: int) -> int:
    """Bytes of the plaintext of a payload."""
    body = payload - _NONCE
    size = body - _TAG * -(-body // (_CHUNK + _TAG))
    if body < _TAG or (size and body % (_CHUNK + _TAG) in range(1, _TAG + 1)):
        raise DecryptionError("not a file of age")
    return size


def _chunks(size: int) -> int:
    """The chunks of a plaintext: an empty one has one."""
    return max(1, -(-size // _CHUNK))


def _numbers(size: int) -> Iterator[tuple[int, bool]]:
    count = _chunks(size)
    return ((number, number == count - 1) for number in range(count))


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _header(data: bytes) -> tuple[list[tuple[list[bytes], bytes]], bytes, bytes, int]:
    """The stanzas of a header (arguments and body), what its MAC is of, the MAC, and where the payload begins."""
    if not data.startswith(_FIRST):
        raise DecryptionError("not a file of age")
    head = data[:_HEADER]
    last = head.find(_LAST)
    end = head.find(b"\n", last + 1)
    if min(last, end) < 0:
        raise DecryptionError("not a file of age, or one with too many recipients")
    stanzas, lines = list[tuple[list[bytes], bytes]](), iter(head[len(_FIRST) : last].split(b"\n"))
    for line in lines:
        body = [next(lines, b"-" * _COLUMNS)]
        while len(body[-1]) == _COLUMNS:
            body.append(next(lines, b"-" * (_COLUMNS + 1)))
        if not line.startswith(b"-> ") or len(body[-1]) > _COLUMNS:
            raise DecryptionError("damaged, or not a file of age")
        stanzas.append((line[3:].split(b" "), b"".join(body)))
    return stanzas, head[: last + len(_LAST) - 1], _decoded(head[last + len(_LAST) : end], 32), end + 1


def _file_key(stanzas: Sequence[tuple[list[bytes], bytes]], keys: Sequence[bytes]) -> bytes:
    """The key of a file; WrongKeyError if it is not encrypted to any of `keys`."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    own = [X25519PrivateKey.from_private_bytes(one) for one in keys]
    for arguments, body in stanzas:
        if arguments[0] != b"X25519":
            continue
        if len(arguments) != 2:
            raise DecryptionError("damaged, or not a file of age")
        share, wrapped = _decoded(arguments[1], 32), _decoded(body, 16 + _TAG)
        for one in own:
            try:
                shared = one.exchange(X25519PublicKey.from_public_bytes(share))
                salt = share + one.public_key().public_bytes_raw()
                return _cipher(_derived(shared, salt, _X25519)).decrypt(bytes(12), wrapped, None)
            except InvalidTag:
                continue
            except ValueError:  # a share that gives every key the same secret
                raise DecryptionError("damaged, or not a file of age") from None
    raise WrongKeyError("encrypted to other keys")


def _stanza(key: bytes, recipient: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    own = X25519PrivateKey.generate()
    share = own.public_key().public_bytes_raw()
    shared = own.exchange(X25519PublicKey.from_public_bytes(recipient))
    wrapped = _cipher(_derived(shared, share + recipient, _X25519)).encrypt(bytes(12), key, None)
    return b"-> X25519 " + _coded(share) + b"\n" + _coded(wrapped) + b"\n"


def _mac(key: bytes, head: bytes) -> bytes:
    return hmac.digest(_derived(key, b"", b"header"), head, "sha256")


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869), 32 bytes."""
    return hmac.digest(hmac.digest(salt, secret, "sha256"), purpose + b"\1", "sha256")


def _cipher(key: bytes) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)


def _coded(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decoded(text: bytes, size: int) -> bytes:
    """Decode canonical base64 without padding of exactly `size` bytes."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        data = b""
    if len(data) != size or _coded(data) != text:
        raise DecryptionError("damaged, or not a file of age")
    return data
