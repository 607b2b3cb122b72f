"""A seeded life of one link: messages, cuts, crashes, and both ends restored or cloned.

What ``LinkHistory`` does with hypothesis, as a walk that can be repeated by its seed and stops at the
step that broke a rule. A table link's second end is restored only after the two met in between: the
other case is the residual risk that the specification names.
"""

from __future__ import annotations

from contextlib import suppress

from simulation.chance import Chance
from simulation.link_pair import Host, HostImage, LinkPair
from skex.base import codes
from skex.base.errors import Refused
from skex.base.ids import KmeName
from skex.pad.kinds import PadKind
from skex.wire import messages


class LinkWalk:
    """One link's life. ``steps`` counts; the pair's ledger raises where pad bytes are used twice."""

    def __init__(self, kind: PadKind, seed: int) -> None:
        self.chance = Chance(f"walk {seed}")
        self.pair = LinkPair(kind, seed, units=400)
        self.joined = self.pair.connect()
        self.images: dict[str, HostImage] = {}
        self.steps = 0
        self.met = True

    def run(self, steps: int) -> None:
        """So many things happen."""
        for _ in range(steps):
            self.steps += 1
            self._step()

    def _step(self) -> None:
        draw = self.chance.random()
        if draw < 0.6:
            self._talk()
        elif draw < 0.75:
            self._reconnect()
        elif draw < 0.83:
            self.chance.choice(self.pair.hosts).crash()
        elif draw < 0.9:
            host = self.chance.choice(self.pair.hosts)
            self.images[host.name] = host.image()
        elif draw < 0.97 and self.images:
            self._restore()
        elif self.images and self.pair.kind is PadKind.DERIVED:
            self._clone()

    def _talk(self) -> None:
        side = self.chance.choice(self.joined.sides)
        if not side.open:
            self._reconnect()
            return
        with suppress(Refused):
            side.send(_message(side is self.joined.kme, self.chance.randrange(4000)))
        self.joined.run()

    def _reconnect(self) -> None:
        self.joined.cut()
        self.joined = self.pair.dial()
        if self.chance.random() < 0.3:
            for side in self.joined.sides * 3:
                side.run()
                side.deliver(self.chance.randint(1, 200))
        else:
            self._meet()

    def _meet(self) -> None:
        self.joined.run()
        ends = [side.error.code for side in self.joined.sides if side.error is not None]
        self.met = codes.PAD_EXHAUSTED not in ends

    def _restore(self) -> None:
        if self.pair.kind is PadKind.TABLE and not self.met:
            self._reconnect()
            return
        host = self.pair.kme if self.chance.random() < 0.5 else self.pair.hub
        if host.name in self.images:
            host.restore(self.images[host.name])
            self.met = False

    def _clone(self) -> None:
        """Both ends' copies meet once; what they seal is sealed for good."""
        kme, hub = (self._copy(host) for host in self.pair.hosts)
        both = self.pair.connect(kme, hub)
        for side in both.sides:
            if side.open:
                side.send(_message(side is both.kme, 100))
        both.run()
        both.cut()

    def _copy(self, host: Host) -> Host:
        image = self.images.get(host.name)
        return host if image is None else self.pair.clone(image, f"{host.name}'s clone")


def _message(of_kme: bool, size: int) -> messages.Message:
    body = bytes(size + 1)
    return messages.Peer(KmeName("bob"), body) if of_kme else messages.RealmFile(body)
