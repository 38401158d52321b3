"""Passwords of one run: random, kept in memory alone; the server gets what checks them, not what they are."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets


def new_password() -> str:
    """A password that nobody can guess."""
    return secrets.token_urlsafe(32)


def verifier(password: str) -> str:
    """What a server stores for `password` (SCRAM-SHA-256, RFC 5803); it is no secret that lets anybody in.

    One iteration is enough: they make guessing slower, and a random password is not guessed.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256$1:{}${}:{}".format(*parts)
