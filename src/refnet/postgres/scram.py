"""Passwords of one run: random and only in memory; the server gets a verifier."""

import base64
import hashlib
import hmac
import secrets


def new_password() -> str:
    """Return a random password."""
    return secrets.token_urlsafe(32)


def verifier(password: str) -> str:
    """Return the verifier of `password` that a server stores (SCRAM-SHA-256, RFC 5803); it does not let anybody log in.

    One iteration is enough: more of them slow guessing down, and a random password cannot be guessed.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256$1:{}${}:{}".format(*parts)
