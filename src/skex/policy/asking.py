"""Asks a policy what a daemon would ask, in the order in which it does, and says what others must allow too.

Nothing is decided here: every answer is of ``PolicySet``, so that it is the one that a daemon gives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from skex.base.ids import Coordinate, KmeName, SaeId, kme_of
from skex.policy.decisions import Decision
from skex.policy.evaluate import PolicySet
from skex.policy.rules import Direction
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.realm import Realm

_UNKNOWN_LINKS = Claim((), Randomness.SYSTEM, Enrolment.UNDER_PASSPHRASE)


@dataclass(frozen=True, slots=True)
class Request:
    """Keys that are wanted. ``lifetime`` None is what the KME gives; sizes are bytes."""

    purpose: str = "any"
    number: int = 1
    key_bytes: int = 32
    lifetime: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One question, who asks it, and the answer."""

    asked_by: str
    question: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Answer:
    """Every step, in the order in which daemons take them. A daemon stops at its first refusal."""

    steps: tuple[Step, ...]
    elsewhere: tuple[str, ...] = ()

    @property
    def deciding(self) -> Step | None:
        """The first refusal, or else the last step; None where nothing was asked."""
        refusals = (step for step in self.steps if not step.decision.allowed)
        return next(refusals, self.steps[-1] if self.steps else None)

    @property
    def allowed(self) -> bool:
        """Whether nothing was refused, and something was asked."""
        return bool(self.steps) and all(step.decision.allowed for step in self.steps)


@dataclass(frozen=True, slots=True)
class Asking:
    """Puts questions to one policy; ``realm`` is the one in force, where it is known."""

    policy: PolicySet
    realm: Realm | None = None

    def hub(self, sender: KmeName, receiver: KmeName) -> Iterator[Step]:
        """What a hub is asked for keys from ``sender`` to ``receiver``."""
        for purpose, question in (
            (Purpose.CONTROL, "may the two KMEs make the root of their messages?"),
            (Purpose.TRAFFIC, "may they make keys for SAEs?"),
        ):
            yield Step("hub", question, self.policy.hub.may_establish(sender, receiver, purpose))

    def kme(self, own: KmeName, peer: KmeName, direction: Direction, request: Request) -> Iterator[Step]:
        """What the KME ``own`` asks before it makes a batch, or accepts one."""
        asked_by, kme = f"KME {own}", self.policy.kme
        yield Step(asked_by, f"may keys go {direction.value} {peer}?", kme.may_exchange(peer, direction))
        realm = self.realm
        if realm is not None:
            attributes = [hub.attributes for hub in realm.active_hubs]
            threshold = kme.may_rebuild_from(peer, direction, realm.threshold)
            yield Step(asked_by, f"is the threshold of {realm.name} enough?", threshold)
            parties = kme.may_rest_on(peer, direction, attributes, realm.threshold)
            yield Step(asked_by, "are its hubs independent enough, while all are up?", parties)
        if direction is Direction.FROM_PEER:
            batch = self._batch(peer, direction, request)
            yield Step(asked_by, "may a batch be so?", kme.may_make(peer, direction, batch))

    def _batch(self, peer: KmeName, direction: Direction, request: Request) -> CompactContext:
        bounds = self.policy.kme.bounds(peer, direction)
        threshold = int(bounds.minimum_threshold.value) if self.realm is None else self.realm.threshold
        hubs = tuple(Coordinate(one) for one in range(1, threshold + 1))
        lifetime = request.lifetime or 1
        return CompactContext(
            1,
            threshold,
            hubs,
            request.number,
            request.key_bytes,
            Purpose.TRAFFIC,
            lifetime,
            None,
            _UNKNOWN_LINKS,
        )

    def master(self, master: SaeId, slave: SaeId, request: Request) -> Iterator[Step]:
        """What the master's KME asks when it wants new keys."""
        own, peer, sae = kme_of(master), kme_of(slave), self.policy.sae
        decision = sae.may_take_new(
            master, slave, request.number, request.key_bytes, request.purpose, lifetime=request.lifetime
        )
        yield Step(f"KME {own}", f"may {master} have new keys with {slave}?", decision)
        yield from self.kme(own, peer, Direction.TO_PEER, request)

    def slave(self, master: SaeId, slave: SaeId, request: Request) -> Iterator[Step]:
        """What the slave's KME asks: when the batch comes, when it is assigned, when it is taken."""
        own, sae = kme_of(slave), self.policy.sae
        asked_by = f"KME {own}"
        yield from self.kme(own, kme_of(master), Direction.FROM_PEER, request)
        assigned = sae.may_assign(master, (slave,), request.purpose, request.lifetime or 1)
        yield Step(asked_by, f"may keys of {master} be assigned to {slave}?", assigned)
        taken = sae.may_take_by_id(slave, master, request.number, request.purpose)
        yield Step(asked_by, f"may {slave} take them by their ids?", taken)


def elsewhere(sender: KmeName, receiver: KmeName, asked: Collection[str], saes: str = "") -> tuple[str, ...]:
    """What the places that were not asked must allow, too; ``asked`` names those that were.

    ``saes`` is what the two KMEs must allow besides, in words.
    """
    found = {
        "hub": f"as many hubs as the threshold: {sender} to {receiver}, for control and for traffic",
        f"KME {sender}": f"the KME {sender}: keys to-peer {receiver}{saes}",
        f"KME {receiver}": f"the KME {receiver}: keys from-peer {sender}{saes}",
    }
    return tuple(text for place, text in found.items() if place not in asked)
