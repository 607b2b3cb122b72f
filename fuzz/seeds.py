"""Where fuzzing starts: valid bytes of every structure, and the classic ways to hurt a CBOR decoder."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

from fuzz.targets import STRETCHED, TARGETS
from skex.daemon.backup.container import BackupWriter, Header
from skex.enrol.chunks import KitWriter
from skex.enrol.kit import KitHeader

_BATCH: Final = "5818" + "11" * 16 + "0000000000000007"
_INCARNATION: Final = "50" + "22" * 16
_REQUEST: Final = "50" + "33" * 16
_CLAIM: Final = "8341020101"
_CONTEXT: Final = "890302430102090118200119" + "0e10" + "50" + "44" * 16 + _CLAIM
_CONTROL: Final = "890302430102090118400019" + "0e10" + "f6" + _CLAIM
_SHARE: Final = "50" + "55" * 16 + "5870" + "66" * 112
_NAME: Final = "656b6d652d61"
_CONFIRMATION: Final = _BATCH + "03" + _INCARNATION + _CLAIM + "50" + "77" * 16
_RANGES: Final = "82" + "83" + _BATCH + "0004" + "83" + _BATCH + "0801"
_SAE: Final = "67" + b"s@kme-a".hex()
_ATTRIBUTES: Final = "8561616162616361646165"
_HUBS: Final = "".join(
    "85" + "6268" + digit + "0" + point + "00" + "63613a31" + _ATTRIBUTES
    for digit, point in (("31", "1"), ("32", "2"))
)
_REALM: Final = (
    "896a" + b"skex realm".hex() + "0161610302" + "1a684ee180" + "1a00015180" + "190e10" + "82" + _HUBS
)

_KIT_START: Final = "8c50" + "ab" * 16 + "5849" + _REALM + "626831" + "6161" + "48" + "cd" * 8
_KIT_TIMES: Final = "1a684ee180" + "1a684ee181"
_KIT: Final = _KIT_START + "01" + "1affffffff" * 2 + _KIT_TIMES + "018100"
_SEALED_KIT: Final = _KIT_START + "020105" + _KIT_TIMES + "02" + "850150" + "ef" * 16 + "1920000101"


def _whole_kit() -> str:
    """A kit with its digests, which no mutation would ever hit upon."""
    sink = io.BytesIO()
    header = KitHeader.from_bytes(bytes.fromhex(_KIT))
    writer = KitWriter(sink, header, None)
    writer.write(b"\xa5" * header.content_bytes)
    writer.finish()
    return sink.getvalue().hex()


_BACKUP_START: Final = "8a50" + "ab" * 16 + "02" + "6161" + "6162" + "1a684ee180"
_BACKUP_END: Final = "50" + "ef" * 16 + "1920000101"
_BACKUP: Final = _BACKUP_START + "14" + _BACKUP_END
_RECORD: Final = (
    "8c48" + "cd" * 8 + "6161" + "626831" + "6163" + "01" + "1affffffff" * 2 + "01" + "1a684ee180"
)
_RECORDS: Final = (
    "82" + _RECORD + "00f680" + _RECORD.replace("cd", "ce") + "011a684ee18181" + "687061642d6a756d70"
)
_FILES: Final = "82" + "8301" + "686b6d652e746f6d6c" + "03" + "8305" + "67" + b"audit/a".hex() + "1903e8"
_MANIFEST: Final = "83" + "65302e312e30" + "82" + "5849" + _REALM + _RECORDS + _FILES


def _whole_backup() -> str:
    """A backup with its tags, which no mutation would ever hit upon."""
    sink = io.BytesIO()
    header = Header.from_bytes(bytes.fromhex(_BACKUP))
    writer = BackupWriter(sink, header, STRETCHED)
    writer.write(b"\xa5" * header.content_bytes)
    writer.finish()
    return sink.getvalue().hex()


_HEX: Final[dict[str, tuple[str, ...]]] = {
    "value": ("8301820203820405", "1bffffffffffffffff", "6449455446", "f6"),
    "message to the hub": (
        "83010518" + "20",
        "8202191000",
        "8304010b",
        "810d",
        "8108",
        "8605" + _NAME + "07" + _CONTEXT + _SHARE,
        "8706" + _NAME + _CONFIRMATION,
        "8307" + _NAME + "4101",
    ),
    "message to the KME": (
        "820301",
        "8609" + _NAME + _BATCH + _CONTEXT + _SHARE,
        "870a" + _NAME + _CONFIRMATION,
        "830b" + _NAME + "4101",
        "820c4101",
    ),
    "peer message from the sender": (
        "820181" + _BATCH,
        "820281" + _BATCH,
        "8403" + _REQUEST + _INCARNATION + _RANGES,
        "8a04"
        + _REQUEST
        + _RANGES
        + _SAE
        + "81"
        + _SAE
        + "6170"
        + "190e10"
        + _INCARNATION
        + _INCARNATION
        + "01",
        "8407" + _REQUEST + "01f6",
        "820881" + _REQUEST,
    ),
    "peer message from the receiver": (
        "8505" + _REQUEST + _INCARNATION + "183c01",
        "8406" + _REQUEST + _INCARNATION + "02",
        "8407" + _REQUEST + "01" + _RANGES,
    ),
    "envelope": ("84" + _BATCH + "01" + "5820" + "88" * 32 + "51" + "99" * 17,),
    "context": (_CONTEXT, _CONTROL),
    "claim": (_CLAIM, "83400000"),
    "realm": (_REALM,),
    "kit": (_KIT, _SEALED_KIT),
    "whole kit": (_whole_kit(),),
    "backup header": (_BACKUP, _BACKUP_START.replace("6162", "f6") + "1b0000000400000000" + _BACKUP_END),
    "backup manifest": (_MANIFEST, "83" + "65302e312e30" + "82f680" + "81830161610a"),
    "whole backup": (_whole_backup(),),
    "record header": ("0101000000000064001122334455667700000005" + "00000010",),
    "frame 1": ("01000030" + b"skex".hex() + "01020000" + "ab" * 40,),
    "frame 2": ("02000064" + "01000000" + "ab" * 96,),
    "frame 3": ("03000074" + "00" * 32 + "ab" * 16 + "00" * 4 + "cd" * 64,),
    "frame 4": ("040000b0" + "00" * 32 + "00000001" + "ab" * 64 + "0000000100000001" + "00" * 4 + "cd" * 64,),
    "frame 5": ("05000048" + "0000000100000001" + "cd" * 64,),
    "header of frame 1": ("01000030",),
    "header of frame 2": ("02000064",),
    "header of frame 3": ("03000074",),
    "header of frame 4": ("040000b0",),
    "header of frame 5": ("05000048",),
}

BOMBS: Final[tuple[bytes, ...]] = (
    b"\x81" * 4000,  # nesting
    b"\xa1" * 4000,
    b"\xc2" * 4000,
    b"\xd8\x1c" * 2000,
    b"\x9f" * 4000,
    *(bytes([head]) + b"\xff" * 8 for head in (0x5B, 0x7B, 0x9B, 0xBB, 0xDB)),  # giant lengths
    *(bytes([head]) + b"\x00\x00\x00\x00\x7f\xff\xff\xff" for head in (0x5B, 0x7B, 0x9B, 0xBB)),
    b"\x9b" + (2**20).to_bytes(8, "big") + b"\x9b" + (2**20).to_bytes(8, "big"),
    b"\x99\x0f\x00" + b"\x80" * 0x0F00,  # many empty arrays
    b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01",  # a decimal fraction with a giant exponent
    b"\xc5\x82\x1b" + b"\x7f" * 8 + b"\x01",
    b"\xd8\x1e\x82\x01\x00",  # a fraction over zero
    b"\xd8\x23\x78\x1e" + b"(a+)+" * 6,  # a regular expression
    b"\xd8\x1d\x18\xff",  # a reference to nothing
    b"\xd8\x1c\x81\xd8\x1d\x00",  # an array that holds itself
    b"\xd9\x01\x00\x82\x61a\xd8\x19\x00",  # a reference to a string
    b"\xd9\x01\x02\x81\x81\x00",  # a set of arrays
)


def valid_seeds() -> Iterator[tuple[str, bytes]]:
    """Target and bytes that it accepts."""
    for target in TARGETS:
        for text in _HEX[target]:
            yield target, bytes.fromhex(text)


def all_seeds() -> Iterator[tuple[str, bytes]]:
    """Every valid seed, and every bomb for every target that reads CBOR."""
    yield from valid_seeds()
    for target in TARGETS:
        if "frame" not in target and "header" not in target:
            for bomb in BOMBS:
                yield target, bomb
