"""The bytes of a derived grant: AES-256-CTR under the grant key, made as they are taken.

NIST SP 800-38A section 6.5 with a 128-bit big-endian counter that starts at 0; the keystream itself is
the output. A grant key serves one keystream, and no byte of it is given out twice.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.base import CipherContext
from cryptography.hazmat.primitives.ciphers.modes import CTR

from skex.base import codes, limits
from skex.base.errors import LocalBug

KEY_BYTES: Final = 32

_FIRST_COUNTER: Final = bytes(16)


class Keystream:
    """One grant's keystream, in order, from its first byte, ``limits.DERIVED_GRANT_BYTES`` long.

    Raises ``LocalBug`` (bug-argument) unless the key has 32 bytes.
    """

    __slots__ = ("_cipher", "_left")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise LocalBug(codes.BAD_ARGUMENT, f"keystream key of {len(key)} bytes")
        self._cipher: CipherContext | None = Cipher(AES(key), CTR(_FIRST_COUNTER)).encryptor()
        self._left = limits.DERIVED_GRANT_BYTES

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes; no later call returns them again.

        Raises ``LocalBug``: bug-argument if fewer are left or the length is negative, bug-secret-wiped
        after ``wipe``.
        """
        if self._cipher is None:
            raise LocalBug(codes.SECRET_WIPED)
        if not 0 <= length <= self._left:
            raise LocalBug(codes.BAD_ARGUMENT, f"{length} bytes of a keystream")
        self._left -= length
        return self._cipher.update(bytes(length))

    def wipe(self) -> None:
        """Let go of the key; OpenSSL clears its copy. Any later ``take`` is an error. Idempotent."""
        if self._cipher is not None:
            self._cipher.finalize()
            self._cipher = None
        self._left = 0

    def __repr__(self) -> str:
        return f"<Keystream, {self._left} bytes left>"
