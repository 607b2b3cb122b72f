"""One record as one message of RFC 5424, with everything that it says as structured data. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from skex.audit import events
from skex.audit.chain import Record
from skex.audit.events import Verdict, kind_named
from skex.audit.fields import Detail

ENTERPRISE: Final = 32473
"""The private enterprise number that RFC 5612 keeps for examples: skex has none of its own. Whoever
collects messages of several sources may have another one written."""
ENTERPRISE_MAX: Final = 2**32 - 1
_FACILITY: Final = 13
"""Log audit (RFC 5424 section 6.2.1)."""
_ERROR, _WARNING, _NOTICE, _INFORMATIONAL = 3, 4, 5, 6
_ALARMS: Final = frozenset(
    kind.name
    for kind in (
        events.AUDIT_CONTRADICTED,
        events.AUDIT_RECOVERED,
        events.DISK_FULL,
        events.FORGERY_ATTEMPTED,
        events.HUB_BLAMED,
        events.PAD_EXHAUSTED,
        events.RANDOMNESS_FAILED,
        events.ROLLBACK_NOTICED,
        events.SELF_TEST_FAILED,
        events.TWO_CANDIDATES,
    )
)
_ESCAPED: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "]": "\\]"})
_NIL: Final = "-"
_IDENTITY: Final = re.compile(r"[!-~]{1,32}")
"""What a message id may be: records of a later version, or of somebody else, may say more."""
_NAME_CHARACTERS: Final = 32
"""The longest name of a parameter."""
_BOM: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"


def message(record: Record, owner: str, enterprise: int = ENTERPRISE) -> str:
    """The message of a record, without a line's end; ``owner`` is whose log it is: ``kme:north``.

    Host name is the hub's or KME's name, application ``skex-hub`` or ``skex-kme``, message id the event.
    """
    where, _, name = owner.partition(":")
    kind = kind_named(record.event)
    told = record.event if kind is None else kind.sentence
    head = f"<{_FACILITY * 8 + severity(record)}>1 {record.time} {name or _NIL} skex-{where}"
    pairs = "".join(
        f' {key[:_NAME_CHARACTERS]}="{value.translate(_ESCAPED)}"' for key, value in _pairs(record)
    )
    data = f"[skex@{enterprise}{pairs}]"
    identity = record.event if _IDENTITY.fullmatch(record.event) else _NIL
    return f"{head} {_NIL} {identity} {data} {'' if told.isascii() else _BOM}{told}"


def severity(record: Record) -> int:
    """3 for alarms, 4 for what was refused, 5 for what is important, 6 for the rest."""
    if record.event in _ALARMS:
        return _ERROR
    if record.verdict == Verdict.REFUSED.value or record.cause:
        return _WARNING
    kind = kind_named(record.event)
    return _NOTICE if kind is None or kind.important else _INFORMATIONAL


def _pairs(record: Record) -> Iterator[tuple[str, str]]:
    """Parameters; one with several values stands several times, as section 6.3.3 allows."""
    yield "sequence", str(record.sequence)
    yield "boot", record.boot
    yield "clockMs", str(record.clock)
    for name in ("actor", "second", "verdict", "rule", "policy", "cause"):
        value: str = getattr(record, name)
        if value:
            yield name, value
    for kind, ids in record.subjects.items():
        for one in ids:
            yield f"subject.{kind}", one
    for name, detail in record.details.items():
        for one in _values(detail):
            yield f"detail.{name}", one
    if record.seal:
        yield "epoch", str(record.epoch)
        yield "seal", record.seal
    yield "previous", record.previous


def _values(detail: Detail) -> tuple[str, ...]:
    if isinstance(detail, tuple):
        return detail
    return (str(detail).lower() if isinstance(detail, bool) else str(detail),)
