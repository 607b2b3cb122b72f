"""The one tree of errors, and the stable codes that operators, logs and peers see.

A code never changes its meaning once released. Five families say whose fault it is, because that
decides what happens next: a bug ends the process, a peer's fault ends a connection, a store's fault
ends the write, a refusal is an answer, a delivery fault belongs to the application's hop.

Detail texts name sizes, names and positions in frames; never key or pad bytes, never pad positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class Family(Enum):
    """Whose fault it is."""

    BUG = "bug"
    PEER = "peer"
    STORE = "store"
    REFUSED = "refused"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One stable code: name, family, a plain sentence, what to do about it, and what follows from it."""

    name: str
    family: Family
    sentence: str
    hint: str
    effect: str = ""


class SkexError(Exception):
    """Root of every error that skex raises on purpose.

    ``code`` is stable and public; ``detail`` says more to the local log and may change freely.
    """

    family: ClassVar[Family | None] = None
    """Set by each family's class; the root itself is never raised."""

    def __init__(self, code: ErrorCode, detail: str = "") -> None:
        if code.family is not self.family:
            raise TypeError(f"code {code.name} does not belong to {type(self).__name__}")
        super().__init__(f"{code.name}: {code.sentence}" + (f" ({detail})" if detail else ""))
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[SkexError], tuple[ErrorCode, str]]:
        """Copies and crosses to worker processes with its code and detail."""
        return type(self), (self.code, self.detail)


class LocalBug(SkexError):
    """A rule inside this process was broken by this process; nothing after it can be trusted."""

    family: ClassVar[Family | None] = Family.BUG


class PeerFault(SkexError):
    """The other end, or something between, sent what the protocol forbids."""

    family: ClassVar[Family | None] = Family.PEER


class StoreFault(SkexError):
    """The disk, the store or a pad file is not what it must be."""

    family: ClassVar[Family | None] = Family.STORE


class Refused(SkexError):
    """A well-formed request that is not granted."""

    family: ClassVar[Family | None] = Family.REFUSED


class DeliveryFault(SkexError):
    """The hop to the application failed."""

    family: ClassVar[Family | None] = Family.DELIVERY
