"""Passwords and tokens as they are kept: only as hashes, so that who reads the database can't sign in.

Passwords go through scrypt (C. Percival, "Stronger key derivation via sequential memory-hard functions", 2009; RFC 7914) with
a salt each. Tokens are 32 random bytes, which nobody can guess, so one SHA-256 is enough for them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

LOG2_N, R, P = 14, 8, 5
"""Cost of a new hash: 16 MiB and a tenth of a second or so (OWASP's Password Storage Cheat Sheet lists N=2^14, r=8, p=5)."""
MIN_CHARS, MAX_CHARS = 8, 1000
_MAX_MEMORY = 256 * 2**20


def make_token() -> str:
    """A new secret for a link or a cookie: 32 random bytes, in characters that URLs allow."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is stored of a token: 64 hex digits."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def hash_password(password: str) -> str:
    """What is stored of a password: the costs, a new salt and the hash.

    Raises:
        ValueError: The password is too short or too long.
    """
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise ValueError(f"a password needs {MIN_CHARS} to {MAX_CHARS} characters, got {len(password)}")
    salt = secrets.token_bytes(16)
    return f"scrypt${LOG2_N}${R}${P}${salt.hex()}${_scrypt(password, salt, LOG2_N, R, P).hex()}"


def check_password(password: str, stored: str | None) -> bool:
    """Whether this is the password; without a stored one, False after as much work, so that time doesn't tell who exists."""
    if len(password) > MAX_CHARS:
        return False
    if stored is None:
        _scrypt(password, bytes(16), LOG2_N, R, P)
        return False
    _, log2_n, r, p, salt, expected = stored.split("$")
    found = _scrypt(password, bytes.fromhex(salt), int(log2_n), int(r), int(p))
    return hmac.compare_digest(found, bytes.fromhex(expected))


def _scrypt(password: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    text = password.encode(errors="surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=2**log2_n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32)
