"""The file that a backup is: a header in clear, then content sealed in chunks under a passphrase.

::

    preamble   magic 'skexback' (8) ‖ version u8 ‖ zero (3) ‖ header length u32           16 bytes
    header     deterministic CBOR: [backup id (16), daemon, name, realm or null, created,
               content bytes, salt (16), KiB, passes, lanes]
    proof      16 bytes that show whether the passphrase is the right one
    chunks     ciphertext ‖ GCM tag (16) for each piece of 65,536 bytes; the last piece has the rest
    nonce      of a chunk: index u64 ‖ zero (3) ‖ last u8

The key of the chunks comes from the passphrase (Argon2id) and from the digest of preamble and header, so
it belongs to one backup; its nonces count up. Whatever is cut off, put in another order, repeated,
changed or added, in the header too, does not open. Parsing is total, and bounded before anything is
allocated. It must not know what the content means.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skex.base import codes, ids, limits
from skex.base.errors import LocalBug, PeerFault, Refused, StoreFault
from skex.base.ids import RealmName
from skex.base.secret import Secret
from skex.crypto import kdf, mac
from skex.enrol.passphrase import SALT_BYTES, Cost
from skex.wire.codec import UINT_MAX, Fields, decode, encode

MAGIC: Final = b"skexback"
VERSION: Final = 1
PREAMBLE: Final = struct.Struct(">8sB3sL")
ID_BYTES: Final = 16
PROOF_BYTES: Final = 16
TAG_BYTES: Final = 16
CHUNK: Final = limits.BACKUP_CHUNK_BYTES
_KEY_BYTES: Final = 32


class BackupLabel(bytes, Enum):
    """What a digest or key of a backup is for. None begins like a label of the protocol."""

    HEADER = b"skex backup 1 header"
    """Preamble and header to the digest that everything behind depends on (SHA-512)."""
    PROOF = b"skex backup 1 proof"
    """Stretched passphrase to what shows that it is the right one (HKDF)."""
    CHUNK = b"skex backup 1 chunk"
    """Stretched passphrase to the key of the chunks (HKDF)."""


class DaemonKind(IntEnum):
    """Whose home it was."""

    HUB = 1
    KME = 2

    @property
    def word(self) -> str:
        """As people and files name it."""
        return self.name.lower()


class Source(Protocol):
    """What a backup is read from: a binary file or stream."""

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes, none at the end only. Raises ``OSError``."""


class Sink(Protocol):
    """What a backup is written to; the caller syncs and closes it."""

    def write(self, data: bytes, /) -> object:
        """Write all of ``data``. Raises ``OSError``."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup says in clear. It is vouched for only once the passphrase opened what follows.

    ``created`` is UNIX seconds; ``realm`` None for a KME that was not enrolled yet.
    """

    backup_id: bytes
    daemon: DaemonKind
    name: str
    realm: RealmName | None
    created: int
    content_bytes: int
    salt: bytes
    cost: Cost

    def to_bytes(self) -> bytes:
        """The canonical header."""
        return encode(
            [
                self.backup_id,
                int(self.daemon),
                self.name,
                self.realm,
                self.created,
                self.content_bytes,
                self.salt,
                self.cost.memory_kib,
                self.cost.passes,
                self.cost.lanes,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Read a header. Raises ``Refused`` (backup-malformed)."""
        try:
            return _read_header(Fields(decode(data, limits.BACKUP_HEADER_BYTES)))
        except (PeerFault, Refused) as error:
            raise Refused(codes.BACKUP_MALFORMED, error.detail) from error

    @property
    def chunks(self) -> int:
        """In how many chunks the content is cut."""
        return -(-self.content_bytes // CHUNK)


def _read_header(fields: Fields) -> Header:
    backup_id = fields.blob(ID_BYTES)
    daemon = DaemonKind(fields.uint(min(DaemonKind), max(DaemonKind)))
    name = ids.parse_kme_name(fields.text(limits.NAME_CHARACTERS))
    realm = None if fields.null() else ids.parse_realm_name(fields.text(limits.NAME_CHARACTERS))
    created = fields.uint(0, UINT_MAX)
    content = fields.uint(1, limits.BACKUP_BYTES)
    salt = fields.blob(SALT_BYTES)
    cost = Cost(
        memory_kib=fields.uint(limits.KIT_KDF_MEMORY_KIB_MIN, limits.KIT_KDF_MEMORY_KIB_MAX),
        passes=fields.uint(1, limits.KIT_KDF_PASSES_MAX),
        lanes=fields.uint(1, limits.KIT_KDF_LANES_MAX),
    )
    fields.finish()
    return Header(backup_id, daemon, name, realm, created, content, salt, cost)


@contextmanager
def _translated() -> Iterator[None]:
    """The boundary between a medium's ``OSError`` and the tree: ``StoreFault`` (file-io)."""
    try:
        yield
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"the backup: {error.strerror}") from error


class _Sealing:
    """The keys of one backup, and the nonces of its chunks."""

    def __init__(self, encoded: bytes, chunks: int, stretched: Secret) -> None:
        digest = hashlib.sha512(BackupLabel.HEADER + _preamble(encoded) + encoded).digest()

        def key(label: BackupLabel, length: int) -> bytes:
            return kdf.hkdf_sha512(stretched.expose(), digest, label, length)

        self.proof = key(BackupLabel.PROOF, PROOF_BYTES)
        self._cipher = AESGCM(key(BackupLabel.CHUNK, _KEY_BYTES))
        self._chunks = chunks
        self.index = 0

    @property
    def is_over(self) -> bool:
        """Whether the last chunk is done."""
        return self.index == self._chunks

    def seal(self, piece: bytes) -> bytes:
        """The next chunk as it is stored."""
        return self._cipher.encrypt(self._nonce(), piece, None)

    def open(self, stored: bytes) -> bytes:
        """The next chunk's piece. Raises ``Refused`` (backup-damaged)."""
        place = f"chunk {self.index + 1} of {self._chunks}"
        try:
            return self._cipher.decrypt(self._nonce(), stored, None)
        except InvalidTag as error:
            raise Refused(codes.BACKUP_DAMAGED, place) from error

    def _nonce(self) -> bytes:
        if self.is_over:
            raise LocalBug(codes.BAD_STATE, "a chunk behind the last one")
        index, self.index = self.index, self.index + 1
        return index.to_bytes(8, "big") + bytes([0, 0, 0, self.is_over])


class BackupWriter:
    """Writes one backup: construct, ``write`` the content in pieces of any size, ``finish``.

    Raises ``StoreFault`` (file-io) when the medium fails; what was written is then no backup.
    """

    def __init__(self, sink: Sink, header: Header, stretched: Secret) -> None:
        self._sink = sink
        self._left = header.content_bytes
        self._waiting = bytearray()
        encoded = header.to_bytes()
        self._sealing = _Sealing(encoded, header.chunks, stretched)
        self._put(_preamble(encoded) + encoded + self._sealing.proof)

    def write(self, content: bytes) -> None:
        """The next bytes of the content."""
        if len(content) > self._left:
            raise LocalBug(codes.BAD_ARGUMENT, "more content than the header states")
        self._left -= len(content)
        self._waiting += content
        while len(self._waiting) >= CHUNK or (self._waiting and not self._left):
            self._put(self._sealing.seal(bytes(self._waiting[:CHUNK])))
            del self._waiting[:CHUNK]

    def finish(self) -> None:
        """End the backup."""
        if not self._sealing.is_over:
            raise LocalBug(codes.BAD_ARGUMENT, "less content than the header states")

    def _put(self, data: bytes) -> None:
        with _translated():
            self._sink.write(data)


class BackupReader:
    """Reads one backup, strictly forwards. Constructing it reads the header, which nobody vouches for yet.

    Every method raises ``Refused`` (backup-damaged) for what is not the backup that was written, and
    ``StoreFault`` (file-io) when the medium fails.
    """

    def __init__(self, source: Source) -> None:
        """Raises also ``Refused``: backup-malformed, backup-version."""
        self._source = source
        length = _read_preamble(self._exactly(PREAMBLE.size))
        self._encoded = self._exactly(length)
        self.header = Header.from_bytes(self._encoded)
        self._proof = self._exactly(PROOF_BYTES)
        self._unread = self.header.content_bytes
        self._sealing: _Sealing | None = None
        self._opened = bytearray()

    def unlock(self, stretched: Secret) -> None:
        """Take the stretched passphrase. Raises ``Refused`` (backup-passphrase)."""
        sealing = _Sealing(self._encoded, self.header.chunks, stretched)
        if not mac.equal(sealing.proof, self._proof):
            raise Refused(codes.BACKUP_PASSPHRASE)
        self._sealing = sealing

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes of the content, checked; fewer only at its end."""
        while len(self._opened) < count and self._unread:
            self._opened += self._piece()
        taken = bytes(self._opened[:count])
        del self._opened[:count]
        return taken

    def finish(self) -> None:
        """Nothing may be left, of the content or behind it."""
        with _translated():
            behind = self._source.read(1)
        if self._unread or self._opened or behind:
            raise Refused(codes.BACKUP_DAMAGED, "something follows its end")

    def _piece(self) -> bytes:
        if self._sealing is None:
            raise LocalBug(codes.BAD_STATE, "the backup is not unlocked")
        size = min(self._unread, CHUNK)
        piece = self._sealing.open(self._exactly(size + TAG_BYTES))
        self._unread -= size
        return piece

    def _exactly(self, count: int) -> bytes:
        """``count`` bytes, however the source cuts them. Raises ``Refused`` (backup-damaged)."""
        read = bytearray()
        while len(read) < count:
            with _translated():
                piece = self._source.read(count - len(read))
            if not piece:
                raise Refused(codes.BACKUP_DAMAGED, "it ends too early")
            read += piece
        return bytes(read)


def _preamble(header: bytes) -> bytes:
    return PREAMBLE.pack(MAGIC, VERSION, bytes(3), len(header))


def _read_preamble(data: bytes) -> int:
    """How long the header is. Raises ``Refused``: backup-malformed, backup-version."""
    magic, version, zero, length = PREAMBLE.unpack(data)
    if magic != MAGIC:
        raise Refused(codes.BACKUP_MALFORMED, "it does not begin like one")
    if version != VERSION:
        raise Refused(codes.BACKUP_VERSION, f"version {version}, known is {VERSION}")
    if any(zero) or not 1 <= length <= limits.BACKUP_HEADER_BYTES:
        raise Refused(codes.BACKUP_MALFORMED, f"a header of {length} bytes")
    return int(length)
