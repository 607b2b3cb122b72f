"""What a machine asks of its shell: persist, then send, then notify.

``persist`` is one atomic set. The shell may commit many machines' sets together, but it sends
nothing of a set, and notifies nobody of it, before that set is durable. Sets of one machine are
carried out in the order in which they were returned. If a set cannot be made durable the shell ends
the machine: its memory is ahead of the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

ChangeT = TypeVar("ChangeT")
SendT = TypeVar("SendT")
NoticeT = TypeVar("NoticeT")
ChangeCo = TypeVar("ChangeCo", covariant=True)
SendCo = TypeVar("SendCo", covariant=True)
NoticeCo = TypeVar("NoticeCo", covariant=True)


@dataclass(frozen=True, slots=True)
class Effects(Generic[ChangeCo, SendCo, NoticeCo]):
    """One atomic set of changes, and what may happen once they are durable."""

    persist: tuple[ChangeCo, ...] = ()
    send: tuple[SendCo, ...] = ()
    notify: tuple[NoticeCo, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.persist or self.send or self.notify)


class Collector(Generic[ChangeT, SendT, NoticeT]):
    """Gathers effects while one event is handled; ``take`` hands them out and starts anew."""

    __slots__ = ("_changes", "_notices", "_sends")

    def __init__(self) -> None:
        self._changes: list[ChangeT] = []
        self._sends: list[SendT] = []
        self._notices: list[NoticeT] = []

    def persist(self, *changes: ChangeT) -> None:
        """Add changes to the set."""
        self._changes.extend(changes)

    def send(self, *sends: SendT) -> None:
        """Add what is sent once the set is durable."""
        self._sends.extend(sends)

    def notify(self, *notices: NoticeT) -> None:
        """Add what is told to the layer above once the set is durable."""
        self._notices.extend(notices)

    def take(self) -> Effects[ChangeT, SendT, NoticeT]:
        """Everything gathered since the last ``take``."""
        effects = Effects(tuple(self._changes), tuple(self._sends), tuple(self._notices))
        self._changes, self._sends, self._notices = [], [], []
        return effects
