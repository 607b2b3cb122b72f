"""What a kit says about itself, byte for byte: its preamble, its header, the keys of its chunks.

::

    preamble   magic 'skex kit' (8) ‖ version u8 ‖ zero (3) ‖ header length u32          16 bytes
    header     deterministic CBOR: [kit id (16), realm file, hub, KME, link id (8), pad kind,
               capacity to hub, capacity to KME, created, expires, enrolment, protection]
    check      SHA-512('skex kit 1 header' ‖ preamble ‖ header)                          64 bytes
    proof      under a passphrase only: 16 bytes that show whether it is the right one
    chunks     the content in pieces of 65,536 bytes, each with its check (``chunks``)

    content    static link key (64) ‖ blind (64) ‖ material to hub ‖ material to KME
    protection [0] in clear, or [1, salt (16), KiB, passes, lanes]: Argon2id, then AES-256-GCM

Times are UNIX seconds. Material is a seed of 64 bytes, or 4096 bytes for each position of a table. The
blind is random and used for nothing: with it the fingerprint, which is a digest of everything, says
nothing about pads, whatever its reader can compute. A later version may change all that follows the
version. Parsing is total, and bounded before anything is allocated.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from skex.base import codes, ids, limits
from skex.base.errors import LocalBug, PeerFault, Refused
from skex.base.ids import Direction, HubName, KmeName, LinkId
from skex.base.secret import Secret
from skex.crypto import kdf, mac
from skex.enrol.passphrase import SALT_BYTES, Cost
from skex.enrol.words import words_of
from skex.pad.kinds import PadKind
from skex.wire.claim import Enrolment
from skex.wire.codec import UINT_MAX, Fields, Value, decode, encode
from skex.wire.realm import Realm

MAGIC: Final = b"skex kit"
VERSION: Final = 1
PREAMBLE: Final = struct.Struct(">8sB3sL")
CHECK_BYTES: Final = 64
PROOF_BYTES: Final = 16
KIT_ID_BYTES: Final = 16
BLIND_BYTES: Final = 64
CHUNK_KEY_BYTES: Final = 32
_IN_CLEAR: Final = 0
_UNDER_PASSPHRASE: Final = 1


class KitLabel(bytes, Enum):
    """What a digest or key of a kit is for. None begins like a label of the protocol."""

    HEADER = b"skex kit 1 header"
    """Preamble and header to their check (SHA-512)."""
    PROOF = b"skex kit 1 proof"
    """Stretched passphrase to what shows that it is the right one (HKDF)."""
    CHUNK = b"skex kit 1 chunk"
    """Stretched passphrase to the key of the chunks (HKDF)."""
    CHAIN = b"skex kit 1 chain"
    """Each chunk and the check before it to the next check (SHA-512)."""
    FINGERPRINT = b"skex kit 1 fingerprint"
    """First and last check to what people compare (SHA-512)."""


@dataclass(frozen=True, slots=True)
class InClear:
    """Whoever holds the kit can read it."""


@dataclass(frozen=True, slots=True)
class UnderPassphrase:
    """Whoever holds the kit must guess the passphrase, at this cost for each try."""

    salt: bytes
    cost: Cost


Protection: TypeAlias = InClear | UnderPassphrase


@dataclass(frozen=True, slots=True)
class KitHeader:
    """Everything about a kit that is not secret. ``realm`` is the whole canonical realm file.

    A header that is constructed here passes the checks of one that is read: ``Refused``
    (kit-malformed, hub-not-in-realm, and those of a realm file).
    """

    kit_id: bytes
    realm: bytes
    hub: HubName
    kme: KmeName
    link_id: LinkId
    kind: PadKind
    capacity_to_hub: int
    capacity_to_kme: int
    created: int
    expires: int
    protection: Protection

    def __post_init__(self) -> None:
        _check(self)

    def to_bytes(self) -> bytes:
        """The canonical header."""
        return encode(
            [
                self.kit_id,
                self.realm,
                self.hub,
                self.kme,
                self.link_id,
                int(self.kind),
                self.capacity_to_hub,
                self.capacity_to_kme,
                self.created,
                self.expires,
                int(self.enrolment),
                _protection_value(self.protection),
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> KitHeader:
        """Read a header. Raises ``Refused``: kit-malformed, hub-not-in-realm, realm-*."""
        try:
            return _read(Fields(decode(data, limits.KIT_HEADER_BYTES)))
        except PeerFault as error:
            raise Refused(codes.KIT_MALFORMED, error.detail) from error

    @property
    def enrolment(self) -> Enrolment:
        """How the material travels: what claims will say of the link."""
        if isinstance(self.protection, UnderPassphrase):
            return Enrolment.UNDER_PASSPHRASE
        return Enrolment.CARRIED_IN_CLEAR

    @property
    def parsed_realm(self) -> Realm:
        """The realm file, read."""
        return Realm.from_bytes(self.realm)

    def capacity(self, direction: Direction) -> int:
        """Positions of one direction's pad."""
        return self.capacity_to_hub if direction is Direction.TO_HUB else self.capacity_to_kme

    def material_bytes(self, direction: Direction) -> int:
        """Bytes of one direction's material."""
        if self.kind is PadKind.DERIVED:
            return kdf.CHAIN_KEY_BYTES
        return self.capacity(direction) * limits.TABLE_UNIT_BYTES

    @property
    def content_bytes(self) -> int:
        """Bytes of everything secret."""
        material = sum(self.material_bytes(direction) for direction in Direction)
        return limits.LINK_KEY_BYTES + BLIND_BYTES + material

    @property
    def chunks(self) -> int:
        """In how many chunks the content is cut."""
        return -(-self.content_bytes // limits.KIT_CHUNK_BYTES)


def preamble(header: bytes) -> bytes:
    """The 16 bytes before a header."""
    return PREAMBLE.pack(MAGIC, VERSION, bytes(3), len(header))


def read_preamble(data: bytes) -> int:
    """How long the header is. Raises ``Refused``: kit-malformed, kit-version."""
    magic, version, zero, length = PREAMBLE.unpack(data)
    if magic != MAGIC:
        raise Refused(codes.KIT_MALFORMED, "it does not begin like one")
    if version != VERSION:
        raise Refused(codes.KIT_VERSION, f"version {version}, known is {VERSION}")
    if any(zero) or not 1 <= length <= limits.KIT_HEADER_BYTES:
        raise Refused(codes.KIT_MALFORMED, f"a header of {length} bytes")
    return int(length)


def header_check(header: bytes) -> bytes:
    """The digest that follows the header, and that everything after it depends on."""
    return hashlib.sha512(KitLabel.HEADER + preamble(header) + header).digest()


def fingerprint(first_check: bytes, last_check: bytes) -> bytes:
    """The 64 bytes that both operators compare, as words: of the header and of every chunk."""
    return hashlib.sha512(KitLabel.FINGERPRINT + first_check + last_check).digest()


def fingerprint_words(digest: bytes) -> str:
    """A kit's fingerprint as people say it."""
    return words_of(digest)


@dataclass(frozen=True, slots=True)
class PassphraseKeys:
    """What a stretched passphrase gives for one kit: the chunks' key, and the proof in the file."""

    chunk_key: Secret
    proof: bytes

    @classmethod
    def derive(cls, stretched: Secret, check: bytes) -> PassphraseKeys:
        """For the kit with this header check: another header means other keys."""

        def key(label: KitLabel, length: int) -> bytes:
            return kdf.hkdf_sha512(stretched.expose(), check, label, length)

        return cls(Secret(key(KitLabel.CHUNK, CHUNK_KEY_BYTES)), key(KitLabel.PROOF, PROOF_BYTES))

    def require(self, proof: bytes) -> None:
        """Raises ``Refused`` (kit-passphrase) unless the kit was made with the same passphrase."""
        if not mac.equal(self.proof, proof):
            raise Refused(codes.KIT_PASSPHRASE)


# ── the header's parts ──────────────────────────────────────────────────────────────────────────
def _protection_value(protection: Protection) -> Value:
    if isinstance(protection, InClear):
        return [_IN_CLEAR]
    cost = protection.cost
    return [_UNDER_PASSPHRASE, protection.salt, cost.memory_kib, cost.passes, cost.lanes]


def _read_protection(fields: Fields) -> Protection:
    if fields.uint(_IN_CLEAR, _UNDER_PASSPHRASE) == _IN_CLEAR:
        fields.finish()
        return InClear()
    salt = fields.blob(SALT_BYTES)
    cost = Cost(
        memory_kib=fields.uint(limits.KIT_KDF_MEMORY_KIB_MIN, limits.KIT_KDF_MEMORY_KIB_MAX),
        passes=fields.uint(1, limits.KIT_KDF_PASSES_MAX),
        lanes=fields.uint(1, limits.KIT_KDF_LANES_MAX),
    )
    fields.finish()
    return UnderPassphrase(salt, cost)


def _read(fields: Fields) -> KitHeader:
    kit_id = fields.blob(KIT_ID_BYTES)
    realm = fields.blob(1, limits.REALM_FILE_BYTES)
    hub = ids.parse_hub_name(_name(fields))
    kme = ids.parse_kme_name(_name(fields))
    link_id = LinkId(fields.blob(kdf.LINK_ID_BYTES))
    kind = PadKind(fields.uint(min(PadKind), max(PadKind)))
    to_hub, to_kme = (fields.uint(1, limits.PAD_POSITION_MAX) for _ in Direction)
    created, expires = fields.uint(0, UINT_MAX), fields.uint(0, UINT_MAX)
    enrolment = fields.uint(0, max(Enrolment))
    protection = _read_protection(fields.fields())
    fields.finish()
    header = KitHeader(kit_id, realm, hub, kme, link_id, kind, to_hub, to_kme, created, expires, protection)
    if enrolment != header.enrolment:
        raise PeerFault(codes.BODY_RANGE, "the enrolment is not that of its protection")
    return header


def _name(fields: Fields) -> str:
    return fields.text(limits.NAME_CHARACTERS)


def _check(header: KitHeader) -> None:
    """What must hold between the fields."""
    if len(header.kit_id) != KIT_ID_BYTES or len(header.link_id) != kdf.LINK_ID_BYTES:
        raise LocalBug(codes.BAD_ARGUMENT, "an id of another length")
    if not 0 < header.expires - header.created <= limits.KIT_SECONDS_MAX:
        raise Refused(codes.KIT_MALFORMED, "it expires before it was made, or too late")
    capacities = [header.capacity(direction) for direction in Direction]
    if header.kind is PadKind.DERIVED and capacities != [limits.PAD_POSITION_MAX] * len(Direction):
        raise Refused(codes.KIT_MALFORMED, "a derived pad with a capacity of its own")
    if header.parsed_realm.hub_named(header.hub) is None:
        raise Refused(codes.HUB_NOT_IN_REALM, header.hub)
