"""Hubs that lie together: they share what they saw, and tell the same lie about the same batch.

A ``Plot`` is the memory and the mind of all liars of a world. What it does to a batch follows from the
batch alone, so that every liar does the same to its share, whenever that passes; everything else is
drawn when it is said. Each lie is counted by its kind at the hub that told it.

They never see what honest hubs see; they may say at any time anything that a hub's link lets it say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from simulation.chance import Chance
from simulation.machines import SimHub
from simulation.scenarios import spoil
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName
from skex.pad.material import GrantMaterial
from skex.protocol.preface_hub import HubPreface
from skex.wire import messages
from skex.wire.preface import Marks
from skex.wire.realm import Realm

_REMEMBERED: Final = 200
"""So many messages to each KME are kept for being said again."""
_REPLAYED: Final = 0.05
_SPOILED: Final = 0.2
"""How often a liar lies by itself."""
_ACCUSED: Final = 0.06
"""How often a preface accuses the KME of a rollback: rarely, because that link then rests."""
_JUMP: Final = 1 << 20
"""Further than any chain may be advanced at once."""
_UNMADE: Final = 1 << 40
"""Batches with counters from here on are the liars' own."""

Told = Sequence[tuple[str, messages.Message]]
"""What is said instead, each with the kind of lie it is; "" is the truth."""
States = tuple[Marks, int, bytes]
"""A hub's frame 4: marks, epoch, digest of the realm file."""


class Plot:
    """What the liars know and decide together. ``realm`` is the true one."""

    def __init__(self, chance: Chance, realm: Realm, members: Sequence[HubName]) -> None:
        self._chance = chance
        self._realm = realm
        self._members = tuple(members)
        self._heard: dict[KmeName, deque[messages.Message]] = {}
        self._shares: dict[tuple[KmeName, BatchId], dict[HubName, bytes]] = {}
        self._forged = _forged_realm(realm)

    def says(self, hub: SimHub, kme: KmeName, message: messages.Message) -> Sequence[messages.Message]:
        """What ``hub`` says to ``kme`` where an honest one says ``message``."""
        told = list(self._instead(HubName(hub.name), message))
        heard = self._heard.setdefault(kme, deque(maxlen=_REMEMBERED))
        if heard and self._chance.random() < _REPLAYED:
            told.append(("replays", self._chance.choice(list(heard))))
        heard.append(message)
        if message not in [one for _, one in told]:
            hub.told[next((kind for kind, _ in told if kind), "withheld")] += 1
        else:
            hub.told.update(kind for kind, _ in told if kind)
        return [one for _, one in told]

    def _instead(self, hub: HubName, message: messages.Message) -> Told:
        if self._chance.random() < _SPOILED:
            return [("" if one == message else "spoiled", one) for one in spoil(message, self._chance)]
        told: Told = (("", message),)
        match message:
            case messages.Shared():
                told = self._share(hub, message)
            case messages.Done(request):
                told = self._one_of(message, "invented refusals", self._refuse(request), 0.1)
            case messages.Refuse(request):
                told = self._one_of(message, "hidden refusals", messages.Done(request), 0.3)
            case messages.Confirmed():
                told = self._confirmed(message)
            case messages.Forwarded():
                told = self._forwarded(message)
            case messages.RealmFile():
                told = (("forged realms", messages.RealmFile(self._forged.to_bytes())),)
            case _:
                pass
        return told

    def _one_of(self, message: messages.Message, kind: str, lie: messages.Message, rate: float) -> Told:
        draw = self._chance.random()
        if draw < rate:
            return ((kind, lie),)
        return () if draw < 1.3 * rate else (("", message),)

    def _refuse(self, request: int) -> messages.Message:
        return messages.Refuse(request, self._chance.choice(list(messages.Refusal)))

    # ── shares: the same plan for all of one batch ──────────────────────────────────────────────
    def _share(self, hub: HubName, message: messages.Shared) -> Told:
        plan = self._chance.fork(f"{message.sender} {message.batch}")
        known = self._shares.setdefault((message.sender, message.batch), {})
        known[hub] = message.share
        lies: tuple[Callable[[], Told], ...] = (
            lambda: (("", message),),
            lambda: (("", message),),
            lambda: (("same differences", _shifted(message, plan)),),
            lambda: (("same tags", replace(message, tag=plan.randbytes(len(message.tag)))),),
            lambda: (("invented deadlines", _short_lived(message, plan)),),
            lambda: () if hub in plan.sample(self._members, 1) else (("", message),),
            lambda: (),
            lambda: (("", message), ("made up batches", self._made_up(message, plan))),
            lambda: (("swapped shares", replace(message, share=self._of_another(hub, known))),),
            lambda: (("lowered thresholds", self._lowered(message)),),
            lambda: (("", message), ("same differences", _shifted(message, plan))),
        )
        return plan.choice(lies)()

    @staticmethod
    def _of_another(hub: HubName, known: dict[HubName, bytes]) -> bytes:
        return next((share for other, share in known.items() if other != hub), known[hub][::-1])

    def _lowered(self, message: messages.Shared) -> messages.Shared:
        """As if the liars were enough, and the only hubs."""
        hubs = tuple(sorted(self._coordinate(name) for name in self._members))
        context = replace(message.context, threshold=len(hubs), hubs=hubs)
        return replace(message, context=context)

    def _coordinate(self, name: HubName) -> Coordinate:
        return next(hub.coordinate for hub in self._realm.hubs if hub.name == name)

    @staticmethod
    def _made_up(message: messages.Shared, plan: Chance) -> messages.Shared:
        batch = BatchId(message.batch.incarnation, _UNMADE + plan.getrandbits(16))
        return replace(message, batch=batch, share=plan.randbytes(len(message.share)))

    # ── answers: another one for each who asks ──────────────────────────────────────────────────
    def _confirmed(self, message: messages.Confirmed) -> Told:
        chance, one = self._chance, message.confirmation
        forged = chance.choice(
            (
                replace(one, incarnation=Incarnation(chance.randbytes(16))),
                replace(one, epoch=one.epoch + 1),
                replace(one, claim=replace(one.claim, computational=())),
                replace(one, mac=chance.randbytes(16)),
            )
        )
        return self._one_of(message, "equivocations", replace(message, confirmation=forged), 0.4)

    def _forwarded(self, message: messages.Forwarded) -> Told:
        """What one said to the other comes back to it, or never arrives."""
        heard = [one for one in self._heard.get(message.sender, ()) if isinstance(one, messages.Forwarded)]
        old = heard[-1].envelope if heard else message.envelope[::-1]
        return self._one_of(message, "reflections", replace(message, envelope=old), 0.3)

    # ── prefaces ────────────────────────────────────────────────────────────────────────────────
    def states(self, hub: SimHub, marks: Marks, epoch: int, digest: bytes) -> States:
        """What ``hub`` states in its frame 4."""
        chance = self._chance
        if chance.random() < _ACCUSED:
            hub.told["accusations"] += 1
            return replace(marks, seen_count=marks.seen_count + 1000), epoch, digest
        up = chance.choice((1, 3, _JUMP))
        kind, stated = chance.choice(
            (
                ("", (marks, epoch, digest)),
                ("", (marks, epoch, digest)),
                ("raised marks", (replace(marks, to_kme=marks.to_kme + up), epoch, digest)),
                ("lowered marks", (replace(marks, to_kme=0, count=0), epoch, digest)),
                ("false grants", (replace(marks, to_hub=marks.to_hub + 1), epoch, digest)),
                (
                    "forgotten marks",
                    (replace(marks, seen_to_hub=0, seen_to_kme=0, seen_count=0), epoch, digest),
                ),
                ("false epochs", (marks, self._forged.epoch, self._forged.digest())),
                ("false epochs", (marks, self._forged.epoch, self._forged.digest())),
                ("false epochs", (marks, epoch, bytes(len(digest)))),
            )
        )
        hub.told.update([kind] if kind else [])
        return stated

    def preface(self, hub: SimHub) -> HubPreface:
        """The hub's end of a new connection."""
        return _LyingPreface(self, hub)


class _LyingPreface(HubPreface):
    """States what its plot says, and goes on from what is true."""

    def __init__(self, plot: Plot, hub: SimHub) -> None:
        super().__init__(hub.chance.randbytes(32), hub.now())
        self._plot = plot
        self._hub = hub

    def _took_to_hub(self, material: GrantMaterial) -> None:
        marks, realm = self._marks, self._realm
        self._marks, epoch, digest = self._plot.states(self._hub, marks, *realm)
        self._realm = (epoch, digest)
        try:
            super()._took_to_hub(material)
        finally:
            self._marks, self._realm = marks, realm


def _forged_realm(realm: Realm) -> Realm:
    """A file that may follow, in which the liars alone would be enough."""
    return replace(realm, epoch=realm.epoch + 1, threshold=2)


def _shifted(message: messages.Shared, plan: Chance) -> messages.Shared:
    """The same difference on every liar's share."""
    difference = plan.randbytes(len(message.share))
    share = bytes(one ^ other for one, other in zip(message.share, difference, strict=True))
    return replace(message, share=share)


def _short_lived(message: messages.Shared, plan: Chance) -> messages.Shared:
    return replace(message, context=replace(message.context, lifetime=plan.choice((1, 2, 86_400))))
