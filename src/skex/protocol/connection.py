"""One connection from its first byte to its last: a preface, then a link.

The shell sees one machine; it learns of the change through ``Established``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from skex.base import codes
from skex.base.errors import LocalBug, Refused
from skex.protocol.effects import Effects
from skex.protocol.link import Link, LinkEvent, LinkNotice, Send
from skex.protocol.preface_hub import HubPreface
from skex.protocol.preface_kme import KmePreface
from skex.protocol.session import (
    LinkFound,
    LinkPersist,
    Owned,
    PrefaceDone,
    PrefaceNotice,
    RollbackNoted,
    Session,
)


@dataclass(frozen=True, slots=True)
class Established:
    """The preface is done; messages can be sent and arrive. ``session`` says with whom."""

    session: Session


ConnectionEvent: TypeAlias = LinkEvent | LinkFound | Owned | RollbackNoted
ConnectionNotice: TypeAlias = PrefaceNotice | LinkNotice | Established
ConnectionEffects: TypeAlias = Effects[LinkPersist, bytes, ConnectionNotice]


class Connection:
    """Hands events to the preface until it is done, then to the link."""

    def __init__(self, preface: KmePreface | HubPreface) -> None:
        self._preface = preface
        self._link: Link | None = None

    @property
    def link(self) -> Link | None:
        """The link, once established."""
        return self._link

    @property
    def paused(self) -> bool:
        """Whether the shell should stop reading for now: more bytes could only be kept."""
        return self._link is None and self._preface.paused

    @property
    def next_deadline(self) -> float | None:
        """When a ``Tick`` is due."""
        return self._preface.next_deadline if self._link is None else self._link.next_deadline

    def start(self) -> ConnectionEffects:
        """What the dialling end sends first; nothing at the other."""
        if isinstance(self._preface, KmePreface):
            return self._preface.start()
        return Effects()

    def handle(self, event: ConnectionEvent, now: float) -> ConnectionEffects:
        """Advance by one event.

        Raises ``Refused`` (link-down, link-busy, pad-exhausted) for a ``Send`` that is not taken,
        ``LocalBug`` (bug-state) for an answer to a question that the preface does not ask any more.
        """
        if self._link is not None:
            if isinstance(event, LinkFound | Owned | RollbackNoted):
                raise LocalBug(codes.BAD_STATE, f"{type(event).__name__} behind the preface")
            return self._link.handle(event, now)
        if isinstance(event, Send):
            raise Refused(codes.LINK_DOWN)
        return self._watch(self._preface.handle(event, now), now)

    def _watch(self, effects: ConnectionEffects, now: float) -> ConnectionEffects:
        """Turn a finished preface into a link, which opens what came behind it."""
        done = next((notice for notice in effects.notify if isinstance(notice, PrefaceDone)), None)
        if done is None:
            return effects
        self._link = Link(done.session)
        first = self._link.start(now)
        return Effects(
            effects.persist + first.persist,
            effects.send + first.send,
            (Established(done.session), *first.notify),
        )
