"""Where fuzzing starts: valid bytes of every format, courses of events, and what hurts decoders."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fuzz import outside
from fuzz.targets import STRETCHED, TARGETS, WIRE
from simulation.disk import Disk
from skex.audit.chain import GENESIS, Record, Stamp
from skex.audit.events import DAEMON_STARTED, Event
from skex.base import limits
from skex.base.ids import Direction, SaeId
from skex.base.secret import Secret
from skex.daemon.backup.container import BackupWriter, Header
from skex.enrol.chunks import KitWriter
from skex.enrol.kit import KitHeader
from skex.pad.derived import DerivedPad
from skex.pad.kinds import PadKind
from skex.pad.table import TablePad
from skex.store import encoding

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


FINDINGS: Final = Path(__file__).with_name("findings")


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
    "sealed master key": (
        "8701" + "50" + "ab" * 16 + "1a00040000" + "0304" + "4c" + "cd" * 12 + "5830" + "ef" * 48,
    ),
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


READS_CBOR: Final = frozenset(
    target
    for target in (*WIRE, *outside.DECODERS)
    if target.startswith("column") or (target in WIRE and "frame" not in target and "header" not in target)
)
READS_JSON: Final = frozenset({"ETSI 014 key request", "ETSI 014 key ids", "admin request", "audit line"})
JSON_BOMBS: Final[tuple[bytes, ...]] = (
    b"[" * 60_000,
    b'{"a":' * 20_000,
    b'{"number": ' + b"9" * 60_000 + b"}",
    b'{"number": 1e99999}',
    b'{"number": 1.' + b"0" * 60_000 + b"}",
    b'{"a": "' + b"\\ud800" * 9_000 + b'"}',
    b"{" + b",".join(b'"k%d":0' % number for number in range(6_000)) + b"}",
    b"\xff\xfe{\0}\0",
)
"""Nesting, numbers, halves of characters, many members, another encoding."""


# ── files, doors and disks ──────────────────────────────────────────────────────────────────────
_HUB_TOML: Final = """name = "hub-1"
[listen]
address = "127.0.0.1:7300"
[audit]
segment_bytes = 1048576
"""
_KME_TOML: Final = """name = "north"
[realm]
threshold_floor = 2
[realm.hub_addresses]
hub-1 = "127.0.0.1:7301"
[etsi014]
enabled = true
listen = "127.0.0.1:7443"
[keys]
key_bytes = 32
reserve_low = 8
reserve_high = 64
[[reserve]]
peer = "south"
low = 1
high = 2
"""
_POLICY_TOML: Final = """version = 1
[groups]
branch = ["site-*", "centre"]
[aliases]
legacy-vpn = "vpn@centre"
[[hub.allow]]
id = "all"
from = ["@branch"]
to = ["*"]
both_ways = true
purposes = ["traffic", "control"]
[[hub.pair_quota]]
from = ["*"]
to = ["*"]
stream = "shares"
bytes_per_second = 1.5
requests_burst = 4
[[kme.limit]]
peers = ["*"]
minimum_threshold = 3
[[sae.allow]]
local = ["*@centre"]
remote = ["vpn@@branch"]
role = "master"
"""
_BODY: Final = (
    '{"number": 3, "size": 256, "additional_slave_SAE_IDs": ["b@south"],'
    ' "extension_mandatory": [], "extension_optional": [{"x": [1, {"y": null}]}]}'
)
_IDS: Final = '{"key_IDs": [{"key_ID": "8a1f6d0c-1d2e-8f3a-9b4c-5d6e7f809102"}]}'
_PATH: Final = "/api/v1/keys/b%40south/"


_BOOT_ID: Final = "00000000-0000-4000-8000-000000000000"


def _audit_lines(count: int) -> bytes:
    head, lines = GENESIS, []
    for number in range(count):
        stamp = Stamp(datetime.fromtimestamp(number, UTC), _BOOT_ID, number)
        record = Record.of(Event(DAEMON_STARTED), stamp, "", head)
        head = record.head()
        lines.append(record.to_line())
    return b"\n".join(lines)


def _pad_file(kind: PadKind) -> bytes:
    disk = Disk(0)
    if kind is PadKind.TABLE:
        material = bytes(range(1, 17)) * (outside.PAD_UNITS * limits.TABLE_UNIT_BYTES // 16)
        TablePad.create(disk, "pad", outside.LINK, Direction.TO_HUB, [material])
    else:
        DerivedPad.create(disk, "pad", outside.LINK, Direction.TO_HUB, Secret(bytes(range(64))))
    file = disk.open("pad")
    return bytes(4) + file.read(0, file.size())


def _pad_fields(kind: PadKind) -> bytes:
    file = _pad_file(kind)[4:]
    length = int.from_bytes(file[4096:4098], "big")
    return bytes(4) + file[:24] + bytes([length]) + file[4098 : 4098 + length] + b"\0"


_OUTSIDE: Final[dict[str, tuple[bytes, ...]]] = {
    "policy": (_POLICY_TOML.encode(), b"version = 1\n"),
    "hub configuration": (_HUB_TOML.encode(),),
    "KME configuration": (_KME_TOML.encode(),),
    "ETSI 014 request": (
        f"GET {_PATH}status\n".encode(),
        f"GET {_PATH}enc_keys?number=2&size=256\n".encode(),
        f"POST {_PATH}enc_keys\n{_BODY}".encode(),
        f"GET {_PATH}dec_keys?key_ID=8a1f6d0c-1d2e-8f3a-9b4c-5d6e7f809102\n".encode(),
        f"POST {_PATH}dec_keys\n{_IDS}".encode(),
    ),
    "ETSI 014 key request": (_BODY.encode(),),
    "ETSI 014 key ids": (_IDS.encode(),),
    "admin request": (b"", b'{"peer": "south", "keys": 3}'),
    "audit line": (_audit_lines(1),),
    "audit log": (_audit_lines(3),),
    "column of names": (encoding.write_names(["hub-1", "hub-2"]),),
    "column of SAEs": (encoding.write_names(["vpn@north"]),),
    "column of ranges": (bytes.fromhex(_RANGES),),
    "column of takers": (encoding.write_taken({SaeId("vpn@north"): 5}, 20) or b"",),
    "column of a context": (bytes.fromhex(_CONTEXT),),
    "column of a claim": (bytes.fromhex(_CLAIM),),
    "table pad": (_pad_file(PadKind.TABLE),),
    "fields of a table pad": (_pad_fields(PadKind.TABLE),),
    "derived pad": (_pad_file(PadKind.DERIVED),),
    "fields of a derived pad": (_pad_fields(PadKind.DERIVED),),
}


# ── courses of events: what the bytes mean is in ``machines`` ───────────────────────────────────
def _blobs(*bodies: bytes) -> bytes:
    return b"".join(bytes([len(body)]) + body for body in bodies if len(body) < 256)


def _said(step: bytes, *bodies: str) -> bytes:
    return b"".join(step + _blobs(bytes.fromhex(body)) for body in bodies)


_LIVES: Final = (
    b"\0\0\2" + b"\0\0\4\5hello" + b"\0\0\2" + b"\0\1\4\5hello" + b"\0\1\2",  # meet, talk both ways
    b"\0\0\2" + b"\0\0\4\0\40\0" * 3 + b"\0\0\2" + b"\0\0\7" + b"\0\0\6" + b"\1\0\2",  # then again
    b"\0\0\1" * 4 + b"\0\1\0\0\60" + b"\0\1\1" * 9 + b"\0\0\3\1\0\0\5\1" + b"\0\0\2",  # spoilt
)
_EXCHANGES: Final = (
    b"\0\1" + b"\1\0" * 12,
    b"\0\1" + b"\3\0\0\120\1\0" * 2 + b"\1\0" * 10 + b"\6\20",
    b"\0\0\0\3" + b"\1\3\2\1\4\1\0" * 6 + b"\7\0\1" + b"\1\0" * 9 + b"\6\377",
)
_RELAYED: Final = (
    b"".join(name + b"\0\7" for name in (b"\0", b"\1", b"\2"))
    + _said(b"\0\4", *_HEX["message to the hub"])
    + _said(b"\1\4", *_HEX["message to the hub"])
)
_COURSES: Final[dict[str, tuple[bytes, ...]]] = {
    "link over a table pad": _LIVES,
    "link over a derived pad": _LIVES,
    "preface of a hub": (_blobs(bytes.fromhex(_HEX["frame 1"][0])), _blobs(b"\1", b"\0\0\60")),
    "preface of a KME": (_blobs(bytes.fromhex(_HEX["frame 2"][0])),),
    "link with a hostile KME": (_said(b"", *_HEX["message to the hub"]),),
    "link with a hostile hub": (_said(b"", *_HEX["message to the KME"]),),
    "derived link with a hostile KME": (_said(b"", *_HEX["message to the hub"]),),
    "relay of a hub": (_RELAYED,),
    "exchange of batches": _EXCHANGES,
    "peer messages": (
        b"\0\0\2" + b"\2\0" * 3 + b"\1\0\0\2" + b"\6\0",
        b"\0\0\1" + b"\3\0\0\60\1\1" + b"\2\0\2\0" + b"\5\200",
    ),
    "hostile peer": (
        _said(b"\0", *_HEX["peer message from the sender"]),
        _said(b"\1", *_HEX["peer message from the receiver"]),
    ),
    "KME": (_said(b"\0\2", *_HEX["message to the KME"]),),
}


def valid_seeds() -> Iterator[tuple[str, bytes]]:
    """Target and bytes that it accepts."""
    for target in TARGETS:
        yield from ((target, bytes.fromhex(text)) for text in _HEX.get(target, ()))
        yield from ((target, data) for data in _OUTSIDE.get(target, ()))
        yield from ((target, data) for data in _COURSES.get(target, ()))


def all_seeds() -> Iterator[tuple[str, bytes]]:
    """Every valid seed, every bomb for every target that reads CBOR or JSON, and what was once found."""
    yield from valid_seeds()
    for target in TARGETS:
        if target in READS_CBOR:
            yield from ((target, bomb) for bomb in BOMBS)
        elif target in READS_JSON:
            yield from ((target, bomb) for bomb in JSON_BOMBS)
    yield from findings()


def findings() -> Iterator[tuple[str, bytes]]:
    """Inputs that were found once and must stay harmless: ``findings/TARGET-NUMBER`` hold them."""
    for path in sorted(FINDINGS.glob("*")):
        name, _, number = path.name.rpartition("-")
        if number.isdigit():
            yield name.replace("_", " "), path.read_bytes()
