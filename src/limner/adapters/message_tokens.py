"""Tokens by which a page shows that it was given a message: unguessable, and nothing has to be stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from limner.errors import InvalidSetting, StorageError

_SHORTEST_SECRET = 16


class MessageTokens:
    """Makes the token of a message: HMAC-SHA256 of its id under a secret.

    The secret is given (at least 16 bytes), or kept in `file`, which is made when the first token is asked
    for and readable by its owner only. Tokens are the same after a restart as long as the secret is.
    """

    def __init__(self, file: Path, secret: bytes | None = None) -> None:
        given: object = secret
        if given is not None and not (isinstance(given, bytes) and len(given) >= _SHORTEST_SECRET):
            raise InvalidSetting(f"web_secret must be bytes, at least {_SHORTEST_SECRET} of them")
        self._file = file
        self._secret = secret

    def __repr__(self) -> str:
        """Without the secret."""
        return f"MessageTokens({str(self._file)!r})"

    def token(self, message_id: str) -> str:
        """The message's token, 43 characters that may stand in an address. Raises `StorageError`."""
        if self._secret is None:
            self._secret = self._read_or_make()
        digest = hmac.new(self._secret, message_id.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def is_token(self, message_id: str, given: str) -> bool:
        """Whether `given` is the message's token; takes the same time whatever it is."""
        return hmac.compare_digest(self.token(message_id).encode(), given.encode("utf-8", "surrogatepass"))

    def _read_or_make(self) -> bytes:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if not self._file.exists():
                self._make()
            secret = self._file.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot keep the secret in {self._file}: {error.strerror}") from error
        if len(secret) < _SHORTEST_SECRET:
            raise StorageError(f"{self._file} holds no secret; delete it and a new one is made")
        return secret

    def _make(self) -> None:
        # Named only once it is whole, and only where no other process was quicker: all must have the same.
        draft = self._file.with_name(f".{self._file.name}.{secrets.token_hex(8)}.part")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
            with suppress(FileExistsError):
                self._file.hardlink_to(draft)
        finally:
            draft.unlink()
