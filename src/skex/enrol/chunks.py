"""A kit's content on its way through a file: cut, checked, sealed; never more than a chunk in memory.

::

    in clear            piece ‖ check                           for each chunk
    under a passphrase  ciphertext ‖ GCM tag (16)               for each chunk, then the last check
    check of a chunk    SHA-512('skex kit 1 chain' ‖ check before ‖ index u64 ‖ last u8 ‖ stored bytes)
    nonce of a chunk    index u64 ‖ zero (3) ‖ last u8

Stored bytes are the piece, or ciphertext and tag; the check before the first chunk is the header's.
Every piece but the last has 65,536 bytes, and the header says how many there are: so whatever is cut
off, put in another order, repeated, changed or added is found where it is, and nothing of a chunk is
handed out before it was checked. The nonces count up under a key that belongs to one kit (as in
STREAM; Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015).

In clear, the checks find faults, not forgers; what finds those is the fingerprint that people compare.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused, StoreFault
from skex.base.secret import Secret
from skex.enrol.kit import (
    CHECK_BYTES,
    PREAMBLE,
    PROOF_BYTES,
    KitHeader,
    KitLabel,
    PassphraseKeys,
    UnderPassphrase,
    fingerprint,
    header_check,
    preamble,
    read_preamble,
)

CHUNK: Final = limits.KIT_CHUNK_BYTES
TAG_BYTES: Final = 16

Progress: TypeAlias = Callable[[int], None]
"""Hears of so many more content bytes done."""


class Source(Protocol):
    """What a kit is read from: a binary file or stream."""

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes, none at the end only. Raises ``OSError``."""


class Sink(Protocol):
    """What a kit is written to; the caller syncs and closes it."""

    def write(self, data: bytes, /) -> object:
        """Write all of ``data``. Raises ``OSError``."""


@contextmanager
def translated() -> Iterator[None]:
    """The boundary between a medium's ``OSError`` and the tree: ``StoreFault`` (kit-io)."""
    try:
        yield
    except OSError as error:
        raise StoreFault(codes.KIT_IO, errno.errorcode.get(error.errno or 0, "no errno")) from error


def unheard(_: int) -> None:
    """Progress that nobody watches."""


class _Chain:
    """The checks of a kit, one after the other."""

    def __init__(self, first: bytes, chunks: int) -> None:
        self._first = first
        self._chunks = chunks
        self.value = first
        self.index = 0

    @property
    def is_last(self) -> bool:
        """Whether the chunk that comes next is the last one."""
        return self.index == self._chunks - 1

    @property
    def is_over(self) -> bool:
        """Whether the last chunk is done."""
        return self.index == self._chunks

    @property
    def nonce(self) -> bytes:
        """The next chunk's, under a passphrase."""
        return self.index.to_bytes(8, "big") + bytes([0, 0, 0, self.is_last])

    def after(self, stored: bytes) -> bytes:
        """The check of the next chunk, were these its stored bytes."""
        place = self.index.to_bytes(8, "big") + bytes([self.is_last])
        return hashlib.sha512(KitLabel.CHAIN + self.value + place + stored).digest()

    def step(self, check: bytes) -> None:
        """The next chunk is done."""
        self.value = check
        self.index += 1

    def fingerprint(self) -> bytes:
        """The whole kit's, once the last chunk is done."""
        return fingerprint(self._first, self.value)


class KitWriter:
    """Writes one kit: construct, ``write`` the content in pieces of any size, ``finish``.

    Raises ``StoreFault`` (kit-io) when the medium fails; what was written is then no kit.
    """

    def __init__(
        self, sink: Sink, header: KitHeader, stretched: Secret | None, progress: Progress = unheard
    ) -> None:
        """``stretched`` is the stretched passphrase, if the header says that there is one."""
        self._sink = sink
        self._progress = progress
        self._left = header.content_bytes
        self._waiting = bytearray()
        encoded = header.to_bytes()
        check = header_check(encoded)
        self._chain = _Chain(check, header.chunks)
        if (stretched is None) == isinstance(header.protection, UnderPassphrase):
            raise LocalBug(codes.BAD_ARGUMENT, "a passphrase where none belongs, or none")
        self._keys = None if stretched is None else PassphraseKeys.derive(stretched, check)
        self._put(preamble(encoded) + encoded + check + (b"" if self._keys is None else self._keys.proof))

    def write(self, content: bytes) -> None:
        """The next bytes of the content."""
        if len(content) > self._left:
            raise LocalBug(codes.BAD_ARGUMENT, "more content than the header states")
        self._left -= len(content)
        self._waiting += content
        while len(self._waiting) >= CHUNK or (self._waiting and not self._left):
            piece = bytes(self._waiting[:CHUNK])
            self._waiting[: len(piece)] = bytes(len(piece))
            del self._waiting[: len(piece)]
            self._chunk(piece)

    def finish(self) -> bytes:
        """End the kit; its fingerprint, 64 bytes."""
        if not self._chain.is_over:
            raise LocalBug(codes.BAD_ARGUMENT, "less content than the header states")
        if self._keys is not None:
            self._put(self._chain.value)
            self._keys.chunk_key.wipe()
        return self._chain.fingerprint()

    def _chunk(self, piece: bytes) -> None:
        if self._keys is None:
            stored, end = piece, self._chain.after(piece)
            check = end
        else:
            stored = AESGCM(self._keys.chunk_key.expose()).encrypt(self._chain.nonce, piece, None)
            end, check = b"", self._chain.after(stored)
        self._put(stored + end)
        self._chain.step(check)
        self._progress(len(piece))

    def _put(self, data: bytes) -> None:
        with translated():
            self._sink.write(data)


class KitReader:
    """Reads one kit, strictly forwards. Constructing it reads and checks the header.

    Every method raises ``Refused`` (kit-truncated, kit-altered) for what is not the kit that was
    written, and ``StoreFault`` (kit-io) when the medium fails.
    """

    def __init__(self, source: Source, progress: Progress = unheard) -> None:
        """Raises also: kit-malformed, kit-version, hub-not-in-realm, and those of realm files."""
        self._source = source
        self._progress = progress
        length = read_preamble(self._exactly(PREAMBLE.size))
        encoded = self._exactly(length)
        check = header_check(encoded)
        if self._exactly(CHECK_BYTES) != check:
            raise Refused(codes.KIT_ALTERED, "its header")
        self.header = KitHeader.from_bytes(encoded)
        self._check = check
        self._is_sealed = isinstance(self.header.protection, UnderPassphrase)
        self._proof = self._exactly(PROOF_BYTES) if self._is_sealed else b""
        self._chain = _Chain(check, self.header.chunks)
        self._unread = self.header.content_bytes
        self._opened = bytearray()

    # ── the content ─────────────────────────────────────────────────────────────────────────────
    def unlock(self, stretched: Secret) -> PassphraseKeys:
        """The keys of a kit under a passphrase. Raises ``Refused`` (kit-passphrase)."""
        keys = PassphraseKeys.derive(stretched, self._check)
        keys.require(self._proof)
        return keys

    def take(self, count: int, keys: PassphraseKeys | None) -> Secret:
        """The next ``count`` bytes of the content, at most a chunk, checked."""
        while len(self._opened) < count:
            self._opened += self._piece(keys)
        taken = Secret(self._opened[:count])
        self._opened[:count] = bytes(count)
        del self._opened[:count]
        return taken

    def pieces(self, count: int, keys: PassphraseKeys | None) -> Iterator[bytes]:
        """The next ``count`` bytes of the content in pieces, each checked."""
        while count:
            size = min(count, len(self._opened) or CHUNK, CHUNK)
            taken = self.take(size, keys)
            yield taken.expose()
            taken.wipe()
            count -= size

    def finish(self) -> bytes:
        """Nothing may follow the content that was taken; the kit's fingerprint, 64 bytes."""
        if not self._chain.is_over or self._opened:
            raise LocalBug(codes.BAD_STATE, "content of the kit was not taken")
        self._end()
        return self._chain.fingerprint()

    def examine(self) -> bytes:
        """Check every chunk without opening any; the kit's fingerprint, 64 bytes."""
        while not self._chain.is_over:
            self._stored()
        self._end()
        return self._chain.fingerprint()

    # ── chunks ──────────────────────────────────────────────────────────────────────────────────
    def _piece(self, keys: PassphraseKeys | None) -> bytes:
        if (keys is None) == self._is_sealed or self._chain.is_over:
            raise LocalBug(codes.BAD_STATE, "no key for this kit, or no content left")
        nonce = self._chain.nonce
        stored = self._stored()
        if keys is None:
            return stored
        try:
            return AESGCM(keys.chunk_key.expose()).decrypt(nonce, stored, None)
        except InvalidTag as error:
            raise self._altered(self._chain.index - 1) from error

    def _stored(self) -> bytes:
        """The next chunk as it is stored; in clear, checked."""
        index = self._chain.index
        size = min(self._unread, CHUNK)
        stored = self._exactly(size + (TAG_BYTES if self._is_sealed else 0))
        check = self._chain.after(stored)
        if not self._is_sealed and self._exactly(CHECK_BYTES) != check:
            raise self._altered(index)
        self._chain.step(check)
        self._unread -= size
        self._progress(size)
        return stored

    def _end(self) -> None:
        if self._is_sealed and self._exactly(CHECK_BYTES) != self._chain.value:
            raise Refused(codes.KIT_ALTERED, "its last check")
        with translated():
            rest = self._source.read(1)
        if rest:
            raise Refused(codes.KIT_ALTERED, "something follows its end")

    def _altered(self, index: int) -> Refused:
        return Refused(codes.KIT_ALTERED, f"chunk {index + 1} of {self.header.chunks}")

    def _exactly(self, count: int) -> bytes:
        """``count`` bytes, however the source cuts them. Raises ``Refused`` (kit-truncated)."""
        read = bytearray()
        while len(read) < count:
            with translated():
                piece = self._source.read(count - len(read))
            if not piece:
                raise Refused(codes.KIT_TRUNCATED)
            read += piece
        return bytes(read)
