"""Handles become keyed hashes: the same author can be told again, but not found out."""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b, sha256
from pathlib import Path

from ingest.errors import BadSettings

KEY_FILE = "author.key"


class AuthorHash:
    """Hashes handles under a secret; without the secret nobody can hash a list of known handles and compare."""

    def __init__(self, key: bytes) -> None:
        self._key = sha256(key).digest()

    def __call__(self, source: str, handle: str) -> str:
        """32 hex digits; case and a leading @ make no difference, the source does."""
        name = f"{source}:{handle.removeprefix('@').casefold()}"
        return blake2b(name.encode(), key=self._key, digest_size=16).hexdigest()


def kept_key(folder: Path) -> bytes:
    """The secret kept in `folder`, made at first use: who has sent a post is then told alike after a restart."""
    path = folder / KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{KEY_FILE}.{os.getpid()}.part"
        if not path.exists():
            unfinished.touch(mode=0o600)
            unfinished.write_bytes(secrets.token_bytes(32))
            try:
                path.hardlink_to(unfinished)  # fails if another process was faster: its key is everybody's
            except FileExistsError:
                pass
            finally:
                unfinished.unlink()
        return path.read_bytes()
    except OSError as error:
        raise BadSettings(
            f"the secret of the author hashes cannot be kept in {folder} ({error.strerror}): "
            "let MOODSTREAM_STATE name a folder that can be written to, or set MOODSTREAM_AUTHOR_KEY"
        ) from error
