"""Keys: as the sender made them, equal at both ends, durable at the receiver first, delivered once.

The books are kept from what machines say and make durable, over every restart and restore: what once
was true of a key stays in them. They hold every share, so nothing here may reach a machine.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from simulation.machines import LinkEnd, Machine, SimKme, machine_of
from simulation.rules import Checker
from simulation.watching import Watch
from skex.base import limits
from skex.base.ids import BatchId, HubName, Incarnation, KmeName, RequestId, SaeId
from skex.crypto import sharing
from skex.protocol import kme, rollback
from skex.protocol.changes import (
    AllKeysVoided,
    Batch,
    BatchAnswered,
    BatchDropped,
    BatchReceived,
    BatchSent,
    Change,
    KeysAssigned,
    KeysDelivered,
    KeysVoided,
    Role,
    RollbackFound,
    TombstonesDropped,
)
from skex.protocol.envelopes import Outgoing
from skex.protocol.keysets import KeySet
from skex.protocol.traffic import SendToHub
from skex.wire import messages
from skex.wire.context import KEY_PREFIX_BYTES, CompactContext, Purpose
from skex.wire.peer import Assign, KeyRange, decode_peer_message
from skex.wire.realm import Realm

_TAIL_BYTES: Final = 16


@dataclass(slots=True)
class Made:
    """A batch as its sender made it: everything about it that hubs got, together."""

    receiver: KmeName
    context: CompactContext
    tag: bytes
    shares: dict[HubName, bytes] = field(default_factory=dict, repr=False)


class Books(Watch):
    """What senders made, by sender and batch."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self.made: dict[tuple[KmeName, BatchId], Made] = {}
        self._points = {hub.name: int(hub.coordinate) for hub in realm.hubs}

    def sends(self, one: SimKme, send: kme.KmeSend) -> None:
        """Write down each share that leaves its maker."""
        if isinstance(send, SendToHub) and isinstance(send.message, messages.Share):
            share = send.message
            batch = BatchId(one.core.incarnation, share.counter)
            made = self.made.setdefault(
                (KmeName(one.name), batch), Made(share.receiver, share.context, share.tag)
            )
            made.shares[send.hub] = share.share

    def secret(self, sender: KmeName, batch: BatchId) -> bytes:
        """What the shares of a batch rebuild: ``u``, ``v`` and the keys."""
        shares = self.made[sender, batch].shares
        some = sorted(shares)[: self.realm.threshold]
        return sharing.interpolate({self._points[hub]: shares[hub] for hub in some})

    def tails(self, sender: KmeName, batch: BatchId) -> dict[int, bytes]:
        """The last bytes of each share of a batch, by coordinate."""
        made = self.made.get((sender, batch))
        shares = {} if made is None else made.shares
        return {self._points[hub]: share[-_TAIL_BYTES:] for hub, share in shares.items()}


class AsMade(Checker):
    """A receiver accepts what the sender made, or nothing."""

    name = "as-made"
    rule = "5.3: hubs below the threshold cannot make a receiver accept what its sender did not make"

    def __init__(self, books: Books) -> None:
        self._books = books

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Compare what was accepted with the books."""
        for change in changes:
            if isinstance(change, BatchReceived):
                self._accepted(machine, change.batch)

    def _accepted(self, machine: Machine, batch: Batch) -> None:
        made = self._books.made.get((batch.peer, batch.batch))
        where = f"{machine.name}, {batch.batch}"
        if made is None or made.receiver != machine.name:
            self.broken(f"{where}: {batch.peer} never made this batch")
        if made.context != batch.context:
            self.broken(f"{where}: accepted in another context than it was made in")
        keys = self._books.secret(batch.peer, batch.batch)[KEY_PREFIX_BYTES:]
        if keys != batch.keys.expose():
            self.broken(f"{where}: accepted other keys than {batch.peer} made")


class MinorityLearnsNothing(Checker):
    """Tries what k - 1 hubs could: their shares together."""

    name = "minority-learns-nothing"
    rule = "5.3: the shares of fewer than k hubs do not rebuild a batch"

    def __init__(self, books: Books) -> None:
        self._books = books

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """When a batch is accepted; the last bytes of the secret are those of the last key."""
        for change in changes:
            if isinstance(change, BatchReceived):
                batch = change.batch
                tails = self._books.tails(batch.peer, batch.batch)
                key = batch.keys.expose()[-_TAIL_BYTES:]
                for few in combinations(sorted(tails), self._books.realm.threshold - 1):
                    if sharing.interpolate({point: tails[point] for point in few}) == key:
                        self.broken(f"{machine.name}, {batch.batch}: {few} together have its key")


class EnoughHubs(Checker):
    """Counts the hubs that brought one context and tag, by the world's own realm file."""

    name = "enough-hubs"
    rule = "5.3, 4.4: nothing is accepted that fewer than k hubs of the receiver's realm brought alike"

    def __init__(self, books: Books) -> None:
        self._realm = books.realm
        self._brought: dict[tuple[Machine, KmeName, BatchId], set[tuple[HubName, CompactContext, bytes]]] = {}

    def started(self, machine: Machine) -> None:
        """What was brought before is forgotten."""
        self._brought = {key: alike for key, alike in self._brought.items() if key[0] is not machine}

    def arrived(self, end: LinkEnd, message: messages.Message) -> None:
        """A hub brings a share."""
        if isinstance(message, messages.Shared) and end.session is not None:
            key = (machine_of(end), message.sender, message.batch)
            hub = end.session.profile.parties.hub
            self._brought.setdefault(key, set()).add((hub, message.context, message.tag))

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Count when a batch is accepted."""
        for change in changes:
            if isinstance(change, BatchReceived):
                batch = change.batch
                brought = self._brought.get((machine, batch.peer, batch.batch), set())
                known = {hub.name for hub in self._realm.active_hubs}
                by_tag = Counter(
                    tag for hub, context, tag in brought if context == batch.context and hub in known
                )
                least = self._realm.threshold
                if max(by_tag.values(), default=0) < least or batch.context.threshold != least:
                    self.broken(
                        f"{machine.name}, {batch.batch}: accepted from {sorted(by_tag.values())} hubs"
                    )


class EqualKeys(Checker):
    """By digest, over every commit of every machine there ever was."""

    name = "equal-keys"
    rule = "5.2: both ends of a key id hold equal bytes or nothing, always"

    def __init__(self) -> None:
        self._digests: dict[tuple[KmeName, BatchId], bytes] = {}

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Compare with the digest that the batch had before."""
        for change in changes:
            if isinstance(change, BatchSent | BatchReceived):
                batch = change.batch
                sender = KmeName(machine.name) if isinstance(change, BatchSent) else batch.peer
                digest = hashlib.sha256(batch.keys.expose()).digest()
                if self._digests.setdefault((sender, batch.batch), digest) != digest:
                    self.broken(f"{machine.name} holds other keys of {batch.batch} than were held before")


class ReceiverFirst(Checker):
    """The sender's commit comes after the receiver's."""

    name = "receiver-first"
    rule = "5.2: a key is deliverable at its sender only if its receiver durably has it"

    def __init__(self) -> None:
        self._received: set[tuple[KmeName, KmeName, BatchId]] = set()

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Remember what receivers have; a sender's batch must be among it."""
        name = KmeName(machine.name)
        for change in changes:
            if isinstance(change, BatchReceived):
                self._received.add((change.batch.peer, name, change.batch.batch))
            elif isinstance(change, BatchSent):
                batch = change.batch
                if (name, batch.peer, batch.batch) not in self._received:
                    self.broken(f"{name} uses {batch.batch}, which {batch.peer} never had")


@dataclass(slots=True)
class _Held:
    """What one receiving machine recorded of one sender's keys, and what it erased."""

    assigned: dict[SaeId, KeySet] = field(default_factory=dict)
    slaves: dict[SaeId, KeySet] = field(default_factory=dict)
    received: KeySet = field(default_factory=KeySet)
    gone: KeySet = field(default_factory=KeySet)


class AssignedFirst(Checker):
    """A receiver, or one of its copies, knows for whom a key is, and still has it, when it is delivered.

    What a receiver erases because it or the sender found that it was rolled back was promised all the
    same: it does not count as gone. Nobody may promise it afterwards.
    """

    name = "assigned-first"
    rule = "4.6: the receiver durably knows who is entitled to a key, and holds it, before it is delivered"

    def __init__(self) -> None:
        self._held: dict[tuple[KmeName, Machine], _Held] = {}
        self._rolled_back: set[str] = set()

    def restored(self, machine: Machine) -> None:
        """What it erased since the image is there again, and may be promised again."""
        for (_, one), held in self._held.items():
            if one is machine:
                held.gone = KeySet()

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Follow what is recorded and erased; judge what is delivered."""
        name = KmeName(machine.name)
        for change in changes:
            match change:
                case KeysDelivered(Role.SENDER, peer, keys, sae):
                    self._delivered(name, peer, keys, sae)
                case KeysDelivered(Role.RECEIVER, peer, keys, sae):
                    self._taken(machine, peer, keys, sae)
                case RollbackFound():
                    self._rolled_back.add(machine.name)
                case _:
                    self._follow(machine, change)

    def _of(self, sender: KmeName, receiver: Machine) -> _Held:
        return self._held.setdefault((sender, receiver), _Held())

    def _follow(self, machine: Machine, change: Change) -> None:
        match change:
            case BatchReceived(batch):
                self._of(batch.peer, machine).received.add((KeyRange(batch.batch, 0, batch.context.keys),))
            case KeysAssigned(sender=sender, keys=keys, master=master, slaves=slaves):
                held = self._of(sender, machine)
                if held.gone.common(keys):
                    self.broken(f"{machine.label} promises {keys} of {sender}, which it has erased")
                held.assigned.setdefault(master, KeySet()).add(keys)
                for slave in slaves:
                    held.slaves.setdefault(slave, KeySet()).add(keys)
            case KeysVoided(Role.RECEIVER, sender, keys):
                self._of(sender, machine).gone.add(keys)
            case BatchAnswered(sender, batch_id, False) | BatchDropped(Role.RECEIVER, sender, batch_id):
                held = self._of(sender, machine)
                held.gone.add(held.received.of_batch(batch_id))
            case AllKeysVoided(Role.RECEIVER, sender):
                held = self._of(sender, machine)
                if not {sender, machine.name} & self._rolled_back:
                    held.gone.add(held.received.ranges())
            case _:
                pass

    def _delivered(self, name: KmeName, peer: KmeName, keys: Sequence[KeyRange], master: SaeId) -> None:
        copies = [held for (sender, one), held in self._held.items() if (sender, one.name) == (name, peer)]
        promised = [held for held in copies if held.assigned.get(master, KeySet()).contains(keys)]
        if not promised:
            self.broken(f"{name} delivers {keys} to {master}, and {peer} never recorded it")
        if all(held.gone.common(keys) for held in promised):
            self.broken(f"{name} delivers {keys}, and {peer} has erased them")

    def _taken(self, machine: Machine, peer: KmeName, keys: Sequence[KeyRange], slave: SaeId) -> None:
        copies = [
            held for (sender, one), held in self._held.items() if (sender, one.name) == (peer, machine.name)
        ]
        if not any(held.slaves.get(slave, KeySet()).contains(keys) for held in copies):
            self.broken(f"{machine.label} delivers {keys} of {peer} to {slave}, who is not entitled to them")


class DeliveredOnce(Checker):
    """Over restarts, restores and clones of whoever delivers."""

    name = "delivered-once"
    rule = "5.2: a key is delivered at most once to each entitled SAE, and to one master"

    def __init__(self) -> None:
        self._masters: dict[tuple[KmeName, KmeName], KeySet] = {}
        self._slaves: dict[tuple[KmeName, KmeName, SaeId], KeySet] = {}

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """A delivery counts once it is durable."""
        name = KmeName(machine.name)
        for change in changes:
            if isinstance(change, KeysDelivered):
                if change.role is Role.SENDER:
                    had = self._masters.setdefault((name, change.peer), KeySet())
                else:
                    had = self._slaves.setdefault((change.peer, name, change.sae), KeySet())
                if had.common(change.keys):
                    self.broken(f"{name} delivers {change.keys} to {change.sae} a second time")
                had.add(change.keys)


def remembered(machine: Machine) -> set[tuple[KmeName, BatchId]]:
    """The batches that a machine's store owes, by sender: after a restore or in a copy, these alone."""
    return set(machine.memory.received) if isinstance(machine, SimKme) else set()


class AcceptedOnce(Checker):
    """Within one machine's history; one that was restored may accept again what it forgot, only that."""

    name = "accepted-once"
    rule = "4.4: a batch id is never accepted twice"

    def __init__(self) -> None:
        self._accepted: dict[Machine, set[tuple[KmeName, BatchId]]] = {}

    def restored(self, machine: Machine) -> None:
        """What it accepted since the image it does not know."""
        self._accepted[machine] = remembered(machine)

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Each acceptance is the first."""
        accepted = self._accepted.setdefault(machine, set())
        for change in changes:
            if isinstance(change, BatchReceived):
                key = (change.batch.peer, change.batch.batch)
                if key in accepted:
                    self.broken(f"{machine.name} accepts {change.batch.batch} a second time")
                accepted.add(key)


class FirstAnswerStays(Checker):
    """Within one machine's history."""

    name = "first-answer-stays"
    rule = "4.5: a receiver keeps the sender's first authentic answer; a Void after an Ok is refused"

    def __init__(self) -> None:
        self._answers: dict[tuple[Machine, KmeName, BatchId], bool] = {}

    def restored(self, machine: Machine) -> None:
        """An answer since the image is forgotten; those before it stay."""
        self._answers = {key: ok for key, ok in self._answers.items() if key[0] is not machine}
        if isinstance(machine, SimKme):
            for (sender, batch), row in machine.memory.received.items():
                if row.answer is not None:
                    self._answers[machine, sender, batch] = row.answer

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Compare with the answer that was durable before."""
        for change in changes:
            if isinstance(change, BatchAnswered):
                key = (machine, change.sender, change.batch)
                if self._answers.setdefault(key, change.ok) is not change.ok:
                    self.broken(f"{machine.name}: another answer for {change.batch} than the first")


class SameIncarnation(Checker):
    """What a receiver records was asked of the one that runs."""

    name = "same-incarnation"
    rule = "4.6: an ASSIGN that names another incarnation of the receiver is not recorded"

    def __init__(self) -> None:
        self._asked: dict[tuple[KmeName, RequestId], set[Incarnation]] = {}

    def sends(self, one: SimKme, send: kme.KmeSend) -> None:
        """Which incarnation an ASSIGN names."""
        if isinstance(send, Outgoing):
            message = decode_peer_message(send.plaintext, send.channel.direction)
            if isinstance(message, Assign):
                key = (KmeName(one.name), message.request)
                self._asked.setdefault(key, set()).add(message.receiver_incarnation)

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Which incarnation records it."""
        for change in changes:
            if isinstance(change, KeysAssigned) and isinstance(machine, SimKme):
                asked = self._asked.get((change.sender, change.request), set())
                if machine.core.incarnation not in asked:
                    self.broken(f"{machine.name} records an ASSIGN that another incarnation was asked for")


_MARGIN: Final = limits.LIFETIME_MARGIN_SECONDS
_WHOLE_SECONDS: Final = 1
"""A store counts whole seconds: what was loaded at a start may go so much earlier, out of the margin."""


class TombstonesStand(Checker):
    """Also: the keys themselves stay so long, so that no sender hands out what its receiver dropped."""

    name = "tombstones-stand"
    rule = "4.4, 4.5: a batch and its tombstone stay until its lifetime and a margin are over"

    def __init__(self) -> None:
        self._ends: dict[tuple[Machine, KmeName, BatchId], tuple[float, float]] = {}
        self._aged: dict[Machine, float] = {}

    def started(self, machine: Machine) -> None:
        """From a start on a machine counts with what its wall clock was set ahead before."""
        self._aged[machine] = machine.clock.forward

    def restored(self, machine: Machine) -> None:
        """What it accepted since the image it does not know."""
        known = remembered(machine)
        self._ends = {
            key: end for key, end in self._ends.items() if key[0] is not machine or key[1:] in known
        }

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Compare what is dropped with when it was accepted."""
        for change in changes:
            match change:
                case BatchReceived(batch):
                    key = (machine, batch.peer, batch.batch)
                    end = machine.clock.true() + batch.context.lifetime + _MARGIN
                    self._ends.setdefault(key, (end, machine.clock.forward))
                case BatchDropped(Role.RECEIVER, sender, batch_id):
                    self._dropped(machine, sender, batch_id)
                case TombstonesDropped(sender, incarnation, int(counter)):
                    for _, name, batch_id in list(self._ends):
                        past = batch_id.incarnation == incarnation and batch_id.counter <= counter
                        if name == sender and past:
                            self._dropped(machine, sender, batch_id)
                case _:
                    pass

    def _dropped(self, machine: Machine, sender: KmeName, batch: BatchId) -> None:
        end, forward = self._ends.get((machine, sender, batch), (0.0, 0.0))
        early = end - machine.clock.true() - max(0.0, self._aged.get(machine, 0.0) - forward)
        if early > _WHOLE_SECONDS:
            self.broken(f"{machine.name} drops {batch} {early:.0f} seconds too early")


def purpose_of(books: Books, sender: KmeName, batch: BatchId) -> Purpose | None:
    """What a batch was made for, if anybody made it."""
    made = books.made.get((sender, batch))
    return None if made is None else made.context.purpose


class Witnessed(Checker):
    """Counts the hubs of one start that showed no rollback, without those that showed one.

    Once they were enough, the word of a hub alone takes nothing back: it may lie.
    """

    name = "witnessed"
    rule = "4.7: after a start a KME delivers nothing until at least k hubs showed no rollback"

    def __init__(self, books: Books) -> None:
        self._least = books.realm.threshold
        self._witnesses: dict[Machine, set[HubName]] = {}
        self._accusers: dict[Machine, set[HubName]] = {}
        self._shown: set[Machine] = set()

    def started(self, machine: Machine) -> None:
        """Nobody has said anything yet."""
        self._witnesses[machine] = set()
        self._accusers[machine] = set()
        self._shown.discard(machine)

    def asked(self, one: SimKme, event: kme.KmeEvent) -> None:
        """A preface is done, or shows a rollback; a link that is enrolled again has no past."""
        witnesses = self._witnesses.setdefault(one, set())
        accusers = self._accusers.setdefault(one, set())
        match event:
            case kme.LinkProved(hub, rolled_back=False) if hub not in accusers:
                witnesses.add(hub)
            case rollback.LinkProved(hub, rolled_back=True):
                witnesses.discard(hub)
                accusers.add(hub)
            case rollback.LinkRenewed(hub):
                accusers.discard(hub)
            case _:
                pass
        if len(witnesses) >= self._least:
            self._shown.add(one)

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Deliveries at either end need them."""
        for change in changes:
            if isinstance(change, RollbackFound):
                self._shown.discard(machine)
            if isinstance(change, KeysDelivered) and machine not in self._shown:
                witnesses = self._witnesses.get(machine, set())
                self.broken(f"{machine.label} delivers, and only {sorted(witnesses)} vouch for it")
