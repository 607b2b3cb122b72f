"""The standard's requests and answers: parsed from untrusted bytes, rendered from checked values.

Everything here is pure, bounded and total: whatever arrives, the outcome is a value or a
``DeliveryFault``. It must not know HTTP machinery, certificates or who may have which key. Clause
numbers are those of ETSI GS QKD 014 V1.1.1.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl, unquote

from skex.base import codes, limits
from skex.base.errors import DeliveryFault
from skex.delivery.etsi014 import strictjson
from skex.delivery.etsi014.extensions import said_of
from skex.delivery.etsi014.strictjson import Json
from skex.keys.api import DeliveredKey, PairStatus

PATH_PREFIX: Final = "/api/v1/keys/"
_ABSOLUTE: Final = re.compile(r"https?://[^/?]*", re.IGNORECASE)
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VISIBLE_ASCII: Final = re.compile(r"[!-~]+")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_DECIMAL: Final = re.compile(r"[0-9]{1,9}")
_INTEGER_MAX: Final = 10**9 - 1
"""More than any count or size that could be meant; what a KME can give is far below."""


class Operation(Enum):
    """The three methods, by the last part of their paths (Table 2)."""

    STATUS = "status"
    ENC_KEYS = "enc_keys"
    DEC_KEYS = "dec_keys"


METHODS: Final[Mapping[Operation, tuple[str, ...]]] = MappingProxyType(
    {
        Operation.STATUS: ("GET",),
        Operation.ENC_KEYS: ("GET", "POST"),
        Operation.DEC_KEYS: ("GET", "POST"),
    }
)
"""The HTTP methods of each operation; nothing else is served."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a request line asks for. ``sae`` is the decoded name in the path, ``query`` its fields."""

    operation: Operation
    sae: str
    query: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """Clause 6.2, checked for form. ``key_bytes`` None means the default size.

    ``mandatory`` and ``optional`` hold extensions' names and values, ``ignored`` other names that have no
    effect.
    """

    number: int = 1
    key_bytes: int | None = None
    additional: tuple[str, ...] = ()
    mandatory: tuple[tuple[str, Json], ...] = ()
    optional: tuple[tuple[str, Json], ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyIds:
    """Clause 6.4: at least one id, each once."""

    key_ids: tuple[uuid.UUID, ...]
    ignored: tuple[str, ...] = ()


# ── request lines ───────────────────────────────────────────────────────────────────────────────
def parse_target(method: str, target: str) -> Call:
    """Read a request line. Raises ``DeliveryFault`` (door-request)."""
    if not _VISIBLE_ASCII.fullmatch(target) or _BROKEN_ESCAPE.search(target):
        raise _bad("the path is not URL-encoded")
    path, _, query = _ABSOLUTE.sub("", target, count=1).partition("?")
    sae, separator, last = path.removeprefix(PATH_PREFIX).partition("/")
    operation = next((one for one in Operation if one.value == last), None)
    if not path.startswith(PATH_PREFIX) or not separator or operation is None:
        raise _bad("there is no such path; it is /api/v1/keys/{SAE_ID}/ and status, enc_keys or dec_keys")
    if method not in METHODS[operation]:
        raise _bad(f"{operation.value} is asked for with {' or '.join(METHODS[operation])}")
    return Call(operation, _check_name(_unquote(sae)), _parse_query(query))


def _unquote(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise _bad("the path is not URL-encoded UTF-8") from error


def _check_name(name: str) -> str:
    """Refuse what cannot be anybody's SAE ID; whose it is, and whether it exists, is asked later."""
    if not name.isprintable() or name != name.strip() or not 0 < len(name) <= limits.POLICY_ALIAS_CHARACTERS:
        raise _bad("an SAE ID is blank, too long or has characters that no name has")
    return name


def _parse_query(query: str) -> tuple[tuple[str, str], ...]:
    try:
        return tuple(
            parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=limits.DOOR_QUERY_FIELDS)
        )
    except ValueError as error:
        raise _bad("the query is not URL-encoded, or has too many fields") from error


# ── clause 6.2: key request ─────────────────────────────────────────────────────────────────────
def parse_key_request_query(query: Sequence[tuple[str, str]]) -> KeyRequest:
    """The GET form: ``number`` and ``size`` only. Raises ``DeliveryFault``."""
    fields = _fields(query, ("number", "size"))
    for name in ("additional_slave_SAE_IDs", "extension_mandatory", "extension_optional"):
        if name in fields:
            raise _bad(f"{name} needs POST")
    return KeyRequest(
        number=_decimal(fields, "number", default=1),
        key_bytes=_key_bytes(_decimal(fields, "size", default=0)) if "size" in fields else None,
        ignored=_others(fields, ("number", "size")),
    )


def parse_key_request_body(body: bytes) -> KeyRequest:
    """The POST form; no body at all is an empty request. Raises ``DeliveryFault``."""
    value = strictjson.parse(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise _bad("the key request is not a JSON object")
    # Clients write null for a member that they leave out.
    given = {name: member for name, member in value.items() if member is not None}
    return KeyRequest(
        number=_integer(given, "number", default=1),
        key_bytes=_key_bytes(_integer(given, "size", default=0)) if "size" in given else None,
        additional=_additional(given),
        mandatory=_extensions(given, "extension_mandatory"),
        optional=_extensions(given, "extension_optional"),
        ignored=_others(value, _KEY_REQUEST),
    )


_KEY_REQUEST: Final = (
    "number",
    "size",
    "additional_slave_SAE_IDs",
    "extension_mandatory",
    "extension_optional",
)


def _key_bytes(bits: int) -> int:
    if bits % 8:
        raise DeliveryFault(codes.DOOR_SIZE_BITS, f"{bits} bits")
    return bits // 8


def _additional(value: Mapping[str, Json]) -> tuple[str, ...]:
    names: list[str] = []
    for item in _list(value, "additional_slave_SAE_IDs"):
        if not isinstance(item, str):
            raise _bad("additional_slave_SAE_IDs must hold strings")
        names.append(_check_name(item))
    if len(set(names)) != len(names):
        raise _bad("additional_slave_SAE_IDs names an SAE twice")
    return tuple(names)


def _extensions(value: Mapping[str, Json], member: str) -> tuple[tuple[str, Json], ...]:
    extensions: list[tuple[str, Json]] = []
    for item in _list(value, member):
        if not isinstance(item, dict):
            raise _bad(f"{member} must hold objects")
        extensions.extend(item.items())
    if len({name for name, _ in extensions}) != len(extensions):
        raise _bad(f"{member} names an extension twice")
    return tuple(extensions)


# ── clause 6.4: key ids ─────────────────────────────────────────────────────────────────────────
def parse_key_ids_query(query: Sequence[tuple[str, str]]) -> KeyIds:
    """The GET form: exactly one ``key_ID``. Raises ``DeliveryFault``."""
    fields = _fields(query, ("key_ID",))
    return KeyIds((_parse_id(fields.get("key_ID")),), _others(fields, ("key_ID",)))


def parse_key_ids_body(body: bytes) -> KeyIds:
    """The POST form: ``key_IDs``, a list of objects. Raises ``DeliveryFault``."""
    value = strictjson.parse(body)
    if not isinstance(value, dict):
        raise _bad("the key IDs are not a JSON object")
    ids: list[uuid.UUID] = []
    ignored = list(_others(value, ("key_IDs",)))
    for item in _list(value, "key_IDs"):
        if not isinstance(item, dict):
            raise _bad("key_IDs must hold objects with a member key_ID")
        ids.append(_parse_id(item.get("key_ID")))
        ignored.extend(_others(item, ("key_ID",)))
    if not ids:
        raise _bad("key_IDs must hold at least one object")
    if len(set(ids)) != len(ids):
        raise _bad("key_IDs names a key twice")
    return KeyIds(tuple(ids), tuple(dict.fromkeys(ignored)))


def _parse_id(value: Json) -> uuid.UUID:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise _bad("key_ID must be a UUID")
    return uuid.UUID(value)


# ── members of every kind ───────────────────────────────────────────────────────────────────────
def _fields(query: Sequence[tuple[str, str]], known: tuple[str, ...]) -> dict[str, str]:
    fields = dict(query)
    for name in known:
        if sum(one == name for one, _ in query) > 1:
            raise _bad(f"{name} is given twice")
    return fields


def _decimal(fields: Mapping[str, str], name: str, *, default: int) -> int:
    text = fields.get(name)
    if text is None:
        return default
    if not _DECIMAL.fullmatch(text):
        raise _bad(f"{name} must be an integer")
    return _positive(int(text), name)


def _integer(value: Mapping[str, Json], name: str, *, default: int) -> int:
    number = value.get(name, default)
    if isinstance(number, bool) or not isinstance(number, int) or number > _INTEGER_MAX:
        raise _bad(f"{name} must be an integer")
    return _positive(number, name) if name in value else number


def _positive(number: int, name: str) -> int:
    if number < 1:
        raise _bad(f"{name} must be at least 1")
    return number


def _list(value: Mapping[str, Json], name: str) -> list[Json]:
    items = value.get(name, [])
    if not isinstance(items, list) or len(items) > limits.DOOR_LIST_ITEMS:
        raise _bad(f"{name} must be a list of at most {limits.DOOR_LIST_ITEMS}")
    return items


def _others(value: Mapping[str, object], known: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in value if name not in known)


def _bad(what: str) -> DeliveryFault:
    return DeliveryFault(codes.DOOR_REQUEST, what)


# ── answers ─────────────────────────────────────────────────────────────────────────────────────
def render_status(status: PairStatus) -> bytes:
    """Clause 6.1. Sizes become bits; the slave in the path does not count as additional."""
    return _render(
        {
            "source_KME_ID": status.source_kme,
            "target_KME_ID": status.target_kme,
            "master_SAE_ID": status.master,
            "slave_SAE_ID": status.slave,
            "key_size": 8 * status.key_bytes,
            "stored_key_count": status.stored,
            "max_key_count": status.stored_max,
            "max_key_per_request": status.per_request_max,
            "max_key_size": 8 * status.key_bytes_max,
            "min_key_size": 8 * status.key_bytes_min,
            "max_SAE_ID_count": max(0, status.slaves_max - 1),
        }
    )


def render_keys(keys: Sequence[DeliveredKey]) -> bytes:
    """Clause 6.3; the keys are wiped, whatever happens. The rendered bytes are all that is left.

    What holds for every key stands once, in the container's extension; otherwise each key has its own.
    """
    try:
        alike = len({(one.claim, one.period) for one in keys}) == 1
        rendered = []
        for one in keys:
            key: dict[str, object] = {
                "key_ID": str(one.key_id),
                "key": base64.b64encode(one.key.expose()).decode("ascii"),
            }
            rendered.append(key if alike else {**key, "key_extension": said_of(one)})
        container = {"key_container_extension": said_of(keys[0])} if alike else {}
        return _render({"keys": rendered, **container})
    finally:
        for one in keys:
            one.key.wipe()


def render_error(message: str, details: Sequence[Mapping[str, str]] = ()) -> bytes:
    """Clause 6.5. ``details`` is left out when empty."""
    error: dict[str, object] = {"message": message}
    if details:
        error["details"] = list(details)
    return _render(error)


def _render(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
