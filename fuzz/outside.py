"""What files, disks, applications and operators hand in, as fuzzing targets: policies, configurations,
ETSI 014 requests, admin requests, audit lines, columns of the store, pad files.

Each reads any bytes and returns them as they would be written again, or as they are where a format
has many spellings; it raises a refusal, or what must not happen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from simulation.disk import Disk
from skex.audit.chain import GENESIS, Record, Verifier
from skex.base import codes, limits
from skex.base.errors import DeliveryFault, StoreFault
from skex.base.ids import Direction, LinkId
from skex.daemon import admin, config
from skex.delivery.etsi014 import models
from skex.delivery.etsi014.models import Operation
from skex.pad import layout
from skex.pad.derived import DerivedPad
from skex.pad.kinds import PadKind
from skex.pad.table import TablePad
from skex.policy import language
from skex.policy.evaluate import PolicySet
from skex.store import encoding
from skex.wire.codec import encode

HOME: Final = Path("/nowhere")
LINK: Final = LinkId(bytes.fromhex("a0a1a2a3a4a5a6a7"))
PAD_UNITS: Final = 2
_MARK_BYTES: Final = 4
_IDENTITY_BYTES: Final = 24


class ChangedError(AssertionError):
    """What was accepted means something else when it is written and read again."""


# ── TOML ────────────────────────────────────────────────────────────────────────────────────────
def policy(data: bytes) -> bytes:
    """``policy.toml``: what is accepted can be used, and its rendering means the same."""
    parsed = language.parse(data, "policy.toml")
    digest = PolicySet(parsed).digest
    again = language.parse(language.render(parsed).encode(), "policy.toml")
    if PolicySet(again).digest != digest:
        raise ChangedError("a policy's rendering is another policy")
    return data


def hub_configuration(data: bytes) -> bytes:
    """``hub.toml``."""
    config.parse_hub(data, "hub.toml", HOME)
    return data


def kme_configuration(data: bytes) -> bytes:
    """``kme.toml``."""
    config.parse_kme(data, "kme.toml", HOME)
    return data


# ── doors ───────────────────────────────────────────────────────────────────────────────────────
def etsi014_request(data: bytes) -> bytes:
    """One request: the method, a blank, the target, a line feed, the body."""
    line, _, body = data.partition(b"\n")
    method, _, target = line.decode("latin-1").partition(" ")
    call = models.parse_target(method, target)
    posted = method == "POST"
    if call.operation is Operation.ENC_KEYS:
        models.parse_key_request_body(body) if posted else models.parse_key_request_query(call.query)
    elif call.operation is Operation.DEC_KEYS:
        models.parse_key_ids_body(body) if posted else models.parse_key_ids_query(call.query)
    return data


def etsi014_body(parse: Callable[[bytes], object], data: bytes) -> bytes:
    """A body alone."""
    parse(data)
    return data


def admin_request(data: bytes) -> bytes:
    """The body of a command on the admin socket."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DeliveryFault(codes.DOOR_REQUEST) from error  # aiohttp answers it
    if admin.parse_arguments(text) is None:
        raise DeliveryFault(codes.DOOR_REQUEST)
    return data


# ── what a disk holds ───────────────────────────────────────────────────────────────────────────
def audit_line(data: bytes) -> bytes:
    """One line of an audit log."""
    record = Record.from_line(data)
    if record is None:
        raise StoreFault(codes.AUDIT_DAMAGED)
    return record.to_line()


def audit_log(data: bytes) -> bytes:
    """Lines; checking them ends in a report, never in an error."""
    verifier = Verifier(GENESIS, None)
    for line in data.split(b"\n"):
        verifier.feed(line)
    report = verifier.report()
    report.require_sound()
    return data


def names_column(data: bytes) -> bytes:
    """Names of hubs."""
    return encoding.write_names(encoding.read_hubs(data))


def saes_column(data: bytes) -> bytes:
    """Names of SAEs."""
    return encoding.write_names(encoding.read_saes(data))


def ranges_column(data: bytes) -> bytes:
    """Ranges of keys."""
    return encoding.write_ranges(encoding.read_ranges(data))


def taken_column(data: bytes) -> bytes:
    """Which slaves took which keys. Bits have as many bytes as the batch, which the column does not say."""
    encoding.read_taken(data)
    return data


def context_column(data: bytes) -> bytes:
    """A compact context."""
    return encode(encoding.read_context(data).to_value())


def claim_column(data: bytes) -> bytes:
    """A claim."""
    return encode(encoding.read_claim(data).to_value())


def pad_file(kind: PadKind, data: bytes) -> bytes:
    """The store's mark (4 bytes), then a pad file's first bytes; opened as a daemon opens it."""
    _open_pad(kind, int.from_bytes(data[:_MARK_BYTES], "big"), data[_MARK_BYTES:])
    return data


def pad_fields(kind: PadKind, data: bytes) -> bytes:
    """The same with digests that fit, which no mutation would ever make: so the fields are reached.

    The mark, the identity (24 bytes), then for each slot a length (1 byte) and so much payload.
    """
    mark, rest = int.from_bytes(data[:_MARK_BYTES], "big"), data[_MARK_BYTES:]
    identity, rest = rest[:_IDENTITY_BYTES].ljust(_IDENTITY_BYTES, b"\0"), rest[_IDENTITY_BYTES:]
    pages = [identity + hashlib.sha256(b"skex pad identity" + identity).digest()]
    for _ in range(2):
        payload, rest = rest[1 : 1 + rest[0]] if rest else b"", rest[1 + rest[0] :] if rest else b""
        content = len(payload).to_bytes(2, "big") + payload
        pages.append(content + hashlib.sha256(b"skex pad slot" + identity + content).digest())
    _open_pad(kind, mark, b"".join(page.ljust(layout.PAGE_BYTES, b"\0") for page in pages))
    return data


def _open_pad(kind: PadKind, mark: int, content: bytes) -> None:
    disk = Disk(0)
    size = layout.HEADER_BYTES
    if kind is PadKind.TABLE:
        size += PAD_UNITS * limits.TABLE_UNIT_BYTES
    file = disk.create("pad", size)
    file.write(0, content[:size])
    file.close()
    opener = TablePad if kind is PadKind.TABLE else DerivedPad
    pad = opener.open(disk, "pad", LINK, Direction.TO_HUB, mark)
    if pad.mark < mark:
        raise ChangedError("a pad's mark fell below the store's")
    pad.close()


DECODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "policy": policy,
    "hub configuration": hub_configuration,
    "KME configuration": kme_configuration,
    "ETSI 014 request": etsi014_request,
    "ETSI 014 key request": partial(etsi014_body, models.parse_key_request_body),
    "ETSI 014 key ids": partial(etsi014_body, models.parse_key_ids_body),
    "admin request": admin_request,
    "audit line": audit_line,
    "audit log": audit_log,
    "column of names": names_column,
    "column of SAEs": saes_column,
    "column of ranges": ranges_column,
    "column of takers": taken_column,
    "column of a context": context_column,
    "column of a claim": claim_column,
    "table pad": partial(pad_file, PadKind.TABLE),
    "fields of a table pad": partial(pad_fields, PadKind.TABLE),
    "derived pad": partial(pad_file, PadKind.DERIVED),
    "fields of a derived pad": partial(pad_fields, PadKind.DERIVED),
}
