"""What is said: unchanged between the ends of a link, once where once is the rule, and in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from simulation.checkers_keys import Books, purpose_of, remembered
from simulation.machines import LinkEnd, Machine, SimHub, SimKme, machine_of
from simulation.network import Wire
from simulation.rules import Checker
from skex.base import limits
from skex.base.ids import BatchId, Direction, KmeName, RequestId
from skex.pad.layout import HEADER_BYTES
from skex.protocol import assign, kme, sender
from skex.protocol.changes import Role
from skex.protocol.envelopes import Outgoing
from skex.protocol.traffic import SendToHub
from skex.wire import messages
from skex.wire.context import Purpose
from skex.wire.peer import Ok, PeerDirection, decode_peer_message

SLACK_SECONDS = 3.0
"""By how much a world's clock may run past a deadline before its machine is told the time."""
PATIENCE_STEPS = 200
"""So many steps later a machine has been told the time, whatever its clock did."""
_LOOK_STEPS = 20
PROBE_BYTES = 16
"""So many bytes of a share are what a scan looks for."""


class AsSaid(Checker):
    """Compares what comes out of a link with what was put in at its other end."""

    name = "as-said"
    rule = "3: a message is used only after its record verified: it is what the other end said, in order"

    def __init__(self) -> None:
        self._said: WeakKeyDictionary[Wire, dict[Direction, deque[messages.Message]]] = WeakKeyDictionary()

    def said(self, end: LinkEnd, message: messages.Message) -> None:
        """It waits in order; one that the link refuses is passed over."""
        ways = self._said.setdefault(end.wire, {way: deque() for way in Direction})
        ways[end.outgoing].append(message)

    def arrived(self, end: LinkEnd, message: messages.Message) -> None:
        """It is one of those that wait; those before it will not come any more."""
        waiting = self._said.get(end.wire, {}).get(end.outgoing.opposite, deque())
        while waiting:
            if waiting.popleft() == message:
                return
        self.broken(f"{end.owner.name} hears a {type(message).__name__} that was never said")


class OneConfirm(Checker):
    """``v`` is a one-time key."""

    name = "one-confirm"
    rule = "4.5: the one-time key v authenticates one fixed CONFIRM per batch, and nothing else"

    def __init__(self) -> None:
        self._confirms: dict[tuple[Machine, KmeName, BatchId], messages.Confirmation] = {}

    def restored(self, machine: Machine) -> None:
        """A receiver that was rolled back may confirm again what it forgot: the specification names it."""
        known = remembered(machine)
        self._confirms = {
            key: one for key, one in self._confirms.items() if key[0] is not machine or key[1:] in known
        }

    def sends(self, one: SimKme, send: kme.KmeSend) -> None:
        """Compare with the first."""
        if isinstance(send, SendToHub) and isinstance(send.message, messages.Confirm):
            confirm = send.message.confirmation
            key = (one, send.message.sender, confirm.batch)
            if self._confirms.setdefault(key, confirm) != confirm:
                self.broken(f"{one.name} confirms {confirm.batch} in two ways")


class OwnRoot(Checker):
    """The answer that lets a receiver use a root proves that the sender has it.

    A sender that dropped the root since has no other way to answer; nobody uses that root then.
    """

    name = "own-root"
    rule = "3, Peer messages: the answer to a control batch is sealed under the root that it made"

    def __init__(self, books: Books) -> None:
        self._books = books

    def sends(self, one: SimKme, send: kme.KmeSend) -> None:
        """Look at the root of each Ok that answers a control batch."""
        if not isinstance(send, Outgoing) or send.channel.direction is not PeerDirection.FROM_SENDER:
            return
        message = decode_peer_message(send.plaintext, send.channel.direction)
        if isinstance(message, Ok):
            for batch in message.batches:
                control = purpose_of(self._books, KmeName(one.name), batch) is Purpose.CONTROL
                keeps_it = (Role.SENDER, send.channel.receiver, batch) in one.memory.roots
                if control and keeps_it and send.channel.root != batch:
                    self.broken(f"{one.name} answers {batch} under the root {send.channel.root}")


class HubForgets(Checker):
    """Looks for shares on both disks of each hub, in files and in freed blocks."""

    name = "hub-forgets"
    rule = "3: a hub keeps no share on disk, in clear"

    def __init__(self, books: Books) -> None:
        self._books = books
        self._searched = 0

    def scan(self, machines: Iterable[Machine]) -> None:
        """The shares that were made since the last scan; a share is a file's or block's, whole or in part."""
        fresh = list(self._books.made.values())[self._searched :]
        self._searched = len(self._books.made)
        probes = [(hub, share[:PROBE_BYTES]) for made in fresh for hub, share in made.shares.items()]
        for machine in machines:
            if not isinstance(machine, SimHub):
                continue
            # Table pads are looked at unit by unit elsewhere: nothing but what was enrolled, or zeros.
            pads = {
                HEADER_BYTES + len(one) for link in machine.links.values() for one in link.material.values()
            }
            on_disks = (*machine.disk.evidence(), *machine.store_disk.evidence())
            whole = b"\0".join(piece for piece in on_disks if len(piece) not in pads)
            for hub, probe in probes:
                if hub == machine.name and probe in whole:
                    self.broken(f"{hub} has a share on its disk")


class RequestsEnd(Checker):
    """Every request of a running machine ends by its own deadline, whatever goes wrong around it.

    A clock may jump past a deadline before the machine was told the time; it gets some steps for that.
    """

    name = "requests-end"
    rule = "5.8: nothing fails silently: establishing and assigning end well or with a refusal, in time"

    def __init__(self) -> None:
        self._waiting: dict[tuple[SimKme, BatchId | RequestId], float] = {}
        self._overdue: dict[tuple[SimKme, BatchId | RequestId], int] = {}
        self._steps = 0

    def started(self, machine: Machine) -> None:
        """What waited went with the memory."""
        for key in [key for key in self._waiting if key[0] is machine]:
            self._end(*key)

    def asked(self, one: SimKme, event: kme.KmeEvent) -> None:
        """An assignment begins."""
        if isinstance(event, assign.AssignKeys):
            self._waiting[one, event.request] = one.now() + limits.ASSIGN_SECONDS

    def sends(self, one: SimKme, send: kme.KmeSend) -> None:
        """A batch begins with its first share."""
        if isinstance(send, SendToHub) and isinstance(send.message, messages.Share):
            batch = BatchId(one.core.incarnation, send.message.counter)
            self._waiting.setdefault((one, batch), one.now() + limits.ESTABLISH_SECONDS)

    def notices(self, one: SimKme, notice: kme.KmeNotice) -> None:
        """Something ends, or is answered."""
        match notice:
            case sender.Established(batch=batch):
                self._end(one, batch.batch)
            case sender.NotEstablished(batch=BatchId() as batch_id):
                self._end(one, batch_id)
            case (
                assign.Deliverable(request=request)
                | assign.NotOffered(request=request)
                | assign.AssignmentEnded(request=request)
            ):
                self._end(one, request)
            case _:
                pass

    def _end(self, one: SimKme, what: BatchId | RequestId) -> None:
        self._waiting.pop((one, what), None)
        self._overdue.pop((one, what), None)

    def stepped(self, now: float) -> None:
        """Nobody who runs waits too long, and stays so."""
        del now
        self._steps += 1
        if self._steps % _LOOK_STEPS:
            return
        for key, deadline in self._waiting.items():
            one, what = key
            if not one.running or one.now() <= deadline + SLACK_SECONDS:
                self._overdue.pop(key, None)
            elif self._steps - self._overdue.setdefault(key, self._steps) > PATIENCE_STEPS:
                self.broken(f"{one.name} still waits for {what!r}")


class PrefacesEnd(Checker):
    """A connection of which nothing comes holds a place at both ends, and keeps the KME from dialling."""

    name = "prefaces-end"
    rule = "3, Preface: a connection is proved or ended in time, however silent its other end is"

    def __init__(self) -> None:
        self._begun: dict[LinkEnd, float] = {}
        self._overdue: dict[LinkEnd, int] = {}
        self._steps = 0

    def begun(self, end: LinkEnd) -> None:
        """The time counts from here."""
        self._begun[end] = machine_of(end).clock.true()

    def stepped(self, now: float) -> None:
        """Nobody who runs waits too long, and stays so."""
        self._steps += 1
        if self._steps % _LOOK_STEPS:
            return
        for end, begun in list(self._begun.items()):
            if end.over or end.session is not None or not machine_of(end).running:
                del self._begun[end]
                self._overdue.pop(end, None)
            elif now > begun + limits.PREFACE_SECONDS + SLACK_SECONDS:
                since = self._overdue.setdefault(end, self._steps)
                if self._steps - since > PATIENCE_STEPS // 2:
                    self.broken(f"{end.owner.name} still waits for a preface that began at {begun:.1f}")
