"""Handles become keyed hashes: the same author can be told again, but not found out."""

from __future__ import annotations

from hashlib import blake2b, sha256


class AuthorHash:
    """Hashes handles under a secret; without the secret nobody can hash a list of known handles and compare."""

    def __init__(self, key: bytes) -> None:
        self._key = sha256(key).digest()

    def __call__(self, source: str, handle: str) -> str:
        """32 hex digits; case and a leading @ make no difference, the source does."""
        name = f"{source}:{handle.removeprefix('@').casefold()}"
        return blake2b(name.encode(), key=self._key, digest_size=16).hexdigest()
