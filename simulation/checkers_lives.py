"""Machines with more than one past: what was rolled back rests until it is settled, and keys grow old.

Ages are judged by the world's time, whatever the machines' own clocks show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from simulation.checkers_keys import Books
from simulation.machines import Machine, SimKme
from simulation.rules import Checker
from skex.base import limits
from skex.base.ids import BatchId, KmeName
from skex.protocol import kme
from skex.protocol.changes import BatchReceived, Change, KeysDelivered, Role, RollbackSettled
from skex.protocol.traffic import SendToHub
from skex.wire import messages
from skex.wire.peer import KeyRange

_SLACK: Final = 2.0
"""A store counts whole seconds, and a world's clock may run past an end before its machine is told."""


class RestoredRests(Checker):
    """Knows what the machine cannot: that it was rolled back, and that enough hubs can tell."""

    name = "restored-rests"
    rule = "4.7: a KME that k hubs saw further on delivers nothing, and keeps no key, until it is settled"

    def __init__(self) -> None:
        self._had: dict[Machine, set[tuple[Role, KmeName, BatchId]]] = {}

    def seen_further(self, machine: Machine) -> None:
        """Every key that it has now must be revoked."""
        if isinstance(machine, SimKme):
            self._had[machine] = set(machine.memory.kept())

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Nothing is delivered before it is settled; then nothing is left of what it had."""
        had = self._had.get(machine)
        if had is None or not isinstance(machine, SimKme):
            return
        if any(isinstance(change, KeysDelivered) for change in changes):
            self.broken(f"{machine.label} delivers, and enough hubs saw it further on")
        if any(isinstance(change, RollbackSettled) for change in changes):
            del self._had[machine]
            if had & machine.memory.kept().keys():
                self.broken(f"{machine.label} is settled, and has keys that it had before")


class KeysAge(Checker):
    """Nothing lengthens a key's life: no restart, no clock that is set, no older store.

    What a store cannot know is granted: the time between two looks at a wall clock that was set back.
    """

    name = "keys-age"
    rule = "4, Time: no end hands a key out beyond its life; a wall clock that jumps only shortens it"

    def __init__(self, books: Books) -> None:
        self._books = books
        self._made: dict[tuple[KmeName, BatchId], float] = {}
        self._accepted: dict[tuple[Machine, KmeName, BatchId], float] = {}

    def sends(self, one: SimKme, send: kme.KmeSend) -> None:
        """A batch is as old as the first share of it that left."""
        if isinstance(send, SendToHub) and isinstance(send.message, messages.Share):
            batch = BatchId(one.core.incarnation, send.message.counter)
            self._made.setdefault((KmeName(one.name), batch), one.clock.true())

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """A receiver counts from its acceptance, the last one where it was restored."""
        name = KmeName(machine.name)
        for change in changes:
            match change:
                case BatchReceived(batch):
                    self._accepted[machine, batch.peer, batch.batch] = machine.clock.true()
                case KeysDelivered(Role.SENDER, _, keys):
                    self._judge(machine, name, keys, {one: self._made.get((name, one.batch)) for one in keys})
                case KeysDelivered(Role.RECEIVER, sender, keys):
                    margin = limits.LIFETIME_MARGIN_SECONDS
                    accepted = {one: self._accepted.get((machine, sender, one.batch)) for one in keys}
                    self._judge(machine, sender, keys, accepted, margin)
                case _:
                    pass

    def _judge(
        self,
        machine: Machine,
        sender: KmeName,
        keys: Sequence[KeyRange],
        since: dict[KeyRange, float | None],
        margin: float = 0.0,
    ) -> None:
        for one in keys:
            began = since[one]
            made = self._books.made.get((sender, one.batch))
            if began is None or made is None:
                continue  # a copy, whose original accepted it
            over = began + made.context.lifetime + margin + machine.clock.lost + _SLACK
            late = machine.clock.true() - over
            if late > 0:
                self.broken(f"{machine.label} delivers a key of {one.batch} {late:.0f} seconds too late")
