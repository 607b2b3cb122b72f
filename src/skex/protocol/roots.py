"""Roots of peer messages: which there are, which one seals, when one goes, when another is due.

A root belongs to the ordered pair that its control batch was made for. The sender of the batch seals
under its newest root at once, for it answers the control batch under it; the receiver seals only
under a root whose answer it opened, because only that shows that the sender kept it. An older root
goes when a newer one was used both ways. It must not know what messages say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from skex.base import limits
from skex.base.ids import BatchId, KmeName
from skex.base.secret import Secret
from skex.protocol.changes import Role, RootDropped, RootKept
from skex.protocol.establishment import RootMade
from skex.protocol.states import StateMachine, Table
from skex.protocol.timers import Timers


class RootState(Enum):
    """Which ways a root was used; a receiver may seal from ``HEARD`` on, a sender always."""

    UNUSED = auto()
    SEALED = auto()
    HEARD = auto()
    USED_BOTH_WAYS = auto()
    DROPPED = auto()


class RootStep(Enum):
    """What happens to a root. ``OPENED`` is, at a receiver, the control batch's own answer only."""

    SEAL = auto()
    OPENED = auto()
    DROP = auto()


TABLE: Final[Table[RootState, RootStep]] = {
    (RootState.UNUSED, RootStep.SEAL): RootState.SEALED,
    (RootState.UNUSED, RootStep.OPENED): RootState.HEARD,
    (RootState.UNUSED, RootStep.DROP): RootState.DROPPED,
    (RootState.SEALED, RootStep.SEAL): RootState.SEALED,
    (RootState.SEALED, RootStep.OPENED): RootState.USED_BOTH_WAYS,
    (RootState.SEALED, RootStep.DROP): RootState.DROPPED,
    (RootState.HEARD, RootStep.SEAL): RootState.USED_BOTH_WAYS,
    (RootState.HEARD, RootStep.OPENED): RootState.HEARD,
    (RootState.HEARD, RootStep.DROP): RootState.DROPPED,
    (RootState.USED_BOTH_WAYS, RootStep.SEAL): RootState.USED_BOTH_WAYS,
    (RootState.USED_BOTH_WAYS, RootStep.OPENED): RootState.USED_BOTH_WAYS,
    (RootState.USED_BOTH_WAYS, RootStep.DROP): RootState.DROPPED,
}
INITIAL: Final = RootState.UNUSED

_BY_FLAGS: Final = {
    (False, False): RootState.UNUSED,
    (True, False): RootState.SEALED,
    (False, True): RootState.HEARD,
    (True, True): RootState.USED_BOTH_WAYS,
}
_HEARD: Final = (RootState.HEARD, RootState.USED_BOTH_WAYS)


class Root:
    """One root at this end."""

    __slots__ = ("_machine", "_secret", "batch", "peer", "role")

    def __init__(self, kept: RootKept) -> None:
        self.role = kept.role
        self.peer = kept.peer
        self.batch = kept.batch
        # A copy of our own: the set that holds ``kept`` may be written after the root was dropped.
        self._secret = Secret(kept.root.expose())
        self._machine: StateMachine[RootState, RootStep] = StateMachine(
            TABLE, _BY_FLAGS[kept.sent, kept.received]
        )

    @property
    def state(self) -> RootState:
        """The state now."""
        return self._machine.state

    @property
    def heard(self) -> bool:
        """Whether it was used towards this end."""
        return self.state in _HEARD

    @property
    def may_seal(self) -> bool:
        """Whether this end may seal under it."""
        return self.role is Role.SENDER or self.heard

    @property
    def secret(self) -> Secret:
        """The root itself; wiped when it is dropped."""
        return self._secret

    def copy(self) -> Secret:
        """The root, for something that may outlive it here."""
        return Secret(self._secret.expose())

    def step(self, step: RootStep) -> tuple[RootKept, ...]:
        """Use the root; what to persist if that was new."""
        before = self.state
        if self._machine.step(step) is before:
            return ()
        sent = self.state in {RootState.SEALED, RootState.USED_BOTH_WAYS}
        return (RootKept(self.role, self.peer, self.batch, self.copy(), sent=sent, received=self.heard),)

    def drop(self) -> RootDropped:
        """Forget the root."""
        self._machine.step(RootStep.DROP)
        self._secret.wipe()
        return RootDropped(self.role, self.peer, self.batch)


class Roots:
    """All roots of one KME, by role and peer, oldest first.

    Bounded: a sender keeps two, a receiver two that were answered and ``limits.ROOT_CANDIDATES``
    that were not.
    """

    __slots__ = ("_roots",)

    def __init__(self, kept: Iterable[RootKept]) -> None:
        """``kept`` as stored, in the order in which each root was kept first."""
        self._roots: dict[tuple[Role, KmeName], list[Root]] = {}
        for one in kept:
            self._insert(Root(one))

    def find(self, role: Role, peer: KmeName, batch: BatchId) -> Root | None:
        """The root that a control batch made, if it is still kept."""
        return next((root for root in self._roots.get((role, peer), ()) if root.batch == batch), None)

    def for_sealing(self, role: Role, peer: KmeName) -> Root | None:
        """The newest root that this end may seal under."""
        return next((root for root in reversed(self._roots.get((role, peer), [])) if root.may_seal), None)

    def add(self, made: RootMade) -> tuple[RootDropped, ...]:
        """A control batch made a root; one that is known stays as it is. Returns what it displaces."""
        if self.find(made.role, made.peer, made.batch) is not None:
            return ()
        self._insert(Root(RootKept(made.role, made.peer, made.batch, made.root, sent=False, received=False)))
        roots = self._roots[made.role, made.peer]
        surplus = _surplus_at_sender(roots) if made.role is Role.SENDER else _surplus_at_receiver(roots)
        return self._drop(surplus)

    def sealed(self, root: Root) -> tuple[RootKept | RootDropped, ...]:
        """This end seals under ``root``; what to persist with the message."""
        return (*root.step(RootStep.SEAL), *self._retire(root))

    def opened(self, root: Root) -> tuple[RootKept | RootDropped, ...]:
        """The other end used ``root``: any message at a sender, at a receiver only its own answer."""
        changes = root.step(RootStep.OPENED)
        roots = self._roots[root.role, root.peer]
        surplus = _surplus_at_receiver(roots) if root.role is Role.RECEIVER else ()
        return (*changes, *self._retire(root), *self._drop(surplus))

    def refuse(self, root: Root) -> tuple[RootDropped, ...]:
        """At a receiver: the sender does not hold the control batch of this unanswered root."""
        return self._drop((root,))

    def _insert(self, root: Root) -> None:
        """Oldest first; within one incarnation of the sender its counter decides, not the arrival."""
        roots = self._roots.setdefault((root.role, root.peer), [])
        place = next((i for i, other in enumerate(roots) if _is_newer(other.batch, root.batch)), len(roots))
        roots.insert(place, root)

    def _retire(self, root: Root) -> tuple[RootDropped, ...]:
        """Drop what is older than a root that was used both ways."""
        if root.state is not RootState.USED_BOTH_WAYS:
            return ()
        roots = self._roots[root.role, root.peer]
        return self._drop(tuple(roots[: roots.index(root)]))

    def _drop(self, surplus: Iterable[Root]) -> tuple[RootDropped, ...]:
        dropped = []
        for root in surplus:
            self._roots[root.role, root.peer].remove(root)
            dropped.append(root.drop())
        return tuple(dropped)


def _is_newer(batch: BatchId, other: BatchId) -> bool:
    return batch.incarnation == other.incarnation and batch.counter > other.counter


def _surplus_at_sender(roots: list[Root]) -> tuple[Root, ...]:
    """All but the newest and the one before it that the receiver is most likely to seal under."""
    older = roots[:-1]
    if len(older) < 2:
        return ()
    kept = next((root for root in reversed(older) if root.heard), older[-1])
    return tuple(root for root in older if root is not kept)


def _surplus_at_receiver(roots: list[Root]) -> tuple[Root, ...]:
    answered = [root for root in roots if root.heard]
    candidates = [root for root in roots if not root.heard]
    return (*answered[:-2], *candidates[: -limits.ROOT_CANDIDATES])


class Renewals:
    """When this end, as sender, wants another root with a peer.

    Three reasons: there is none; the newest has its age, or was made before this start; requests
    stay unanswered so long that the peer may have lost it.
    """

    __slots__ = ("_doubt", "_quiet", "_renew", "_timers")

    def __init__(self) -> None:
        self._renew: dict[KmeName, float] = {}
        self._doubt: dict[KmeName, float] = {}
        self._quiet: dict[KmeName, float] = {}
        self._timers: Timers[KmeName] = Timers()

    def made(self, peer: KmeName, now: float) -> None:
        """There is a new root."""
        self._renew[peer] = now + limits.ROOT_SECONDS
        self._doubt.pop(peer, None)
        self._quiet.pop(peer, None)
        self._schedule(peer)

    def loaded(self, peer: KmeName, now: float) -> None:
        """There is a root from before this start, whose age the boot-time clock cannot tell."""
        self._renew[peer] = now
        self._schedule(peer)

    def asked(self, peer: KmeName, now: float, *, has_root: bool) -> None:
        """A request to a peer left, or could not for want of a root."""
        doubt = now + limits.ROOT_DOUBT_SECONDS if has_root else now
        self._doubt[peer] = min(doubt, self._doubt.get(peer, math.inf))
        self._schedule(peer)

    def heard(self, peer: KmeName) -> None:
        """A message of the peer opened."""
        if self._doubt.pop(peer, None) is not None:
            self._schedule(peer)

    def due(self, now: float) -> list[KmeName]:
        """The peers with whom another root is wanted; each again only after a while."""
        peers = self._timers.due(now)
        for peer in peers:
            self._doubt.pop(peer, None)
            self._quiet[peer] = now + limits.ROOT_RETRY_SECONDS
            self._schedule(peer)
        return peers

    @property
    def next(self) -> float | None:
        """When ``due`` has something next."""
        return self._timers.next

    def _schedule(self, peer: KmeName) -> None:
        when = min(self._renew.get(peer, math.inf), self._doubt.get(peer, math.inf))
        if math.isinf(when):
            self._timers.cancel(peer)
        else:
            self._timers.set(peer, max(when, self._quiet.get(peer, when)))
