"""Hubs that lie to some purpose, and a network that flips bits: what some planted bugs need to show.

Each of them is powerless against the product: the same run without a planted bug breaks no rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Protocol, cast

import pytest

from simulation.chance import Chance
from simulation.checkers_keys import Books, FirstAnswerStays
from simulation.exchange import ALICE, BOB, Exchange, hub_name
from simulation.homes import STORE
from simulation.machines import Machine
from simulation.network import Wire
from simulation.world import World, make_realm
from skex.base.errors import SkexError
from skex.base.ids import Coordinate, Direction, HubName, Incarnation, KmeName
from skex.crypto import gf256, sharing
from skex.crypto.tag import end_to_end_tag
from skex.protocol.traffic import FromHub
from skex.wire import messages
from skex.wire.context import CompactContext, Context, Purpose
from tests.properties.keys_lives import NAMES, Lives
from tests.simulation.mutations import two_element_blocks
from tests.unit.crypto import reference

OWN: int = 5
"""The coordinate of the one hub that lies in these scenarios: the last."""
REALM = make_realm()
_DWINDLES_AT = 300
_WORKS_STEPS = 600
KMES = (KmeName("north"), KmeName("south"))


class Adversary(Protocol):
    """A lie with a memory. ``books`` are the world's: what an attacker may know by other means."""

    books: Books

    def __call__(self, message: messages.Message, chance: Chance) -> Sequence[messages.Message]:
        """What is said instead of ``message``."""


def _context(message: messages.Shared, compact: CompactContext) -> Context:
    receiver = KMES[1 - KMES.index(message.sender)]
    names = tuple(HubName(f"hub-{one}") for one in compact.hubs)
    return Context(REALM.name, message.sender, receiver, message.batch, names, compact)


class _Liar:
    books: Books


class MakesItUp(_Liar):
    """Makes a batch of its own under the id of an honest one, and brings as many shares as it takes."""

    def __call__(self, message: messages.Message, chance: Chance) -> Sequence[messages.Message]:
        if not isinstance(message, messages.Shared) or OWN not in message.context.hubs:
            return (message,)
        compact = self._compact(message.context)
        secret = chance.randbytes(compact.secret_bytes)
        tag = end_to_end_tag(secret[:48], _context(message, compact).to_bytes(), secret[48:])
        forged = replace(message, context=compact, tag=tag)
        coefficients = chance.randbytes((compact.threshold - 1) * len(secret))
        shares = sharing.split(secret, compact.threshold, compact.hubs, coefficients)
        of_hub = dict(zip(compact.hubs, shares, strict=True))
        mine = [of_hub.pop(Coordinate(OWN))]
        return [replace(forged, share=share) for share in (*mine, *of_hub.values())]

    def _compact(self, context: CompactContext) -> CompactContext:
        return context


class LowersTheThreshold(MakesItUp):
    """Also says that one hub is enough, itself."""

    def _compact(self, context: CompactContext) -> CompactContext:
        claim = replace(context.claim, computational=())
        return replace(context, threshold=1, hubs=(Coordinate(OWN),), claim=claim)


class ShiftsTheKey(_Liar):
    """Knows a batch's keys already; moves the tag's key c and all that a two-element tag lets it move.

    The manipulation of tests/properties/test_share_manipulation, aimed at the receiver that rebuilds
    from the first hubs that are up and from this one.
    """

    def __call__(self, message: messages.Message, chance: Chance) -> Sequence[messages.Message]:
        if not isinstance(message, messages.Shared) or OWN not in message.context.hubs:
            return (message,)
        known = self.books.made.get((message.sender, message.batch))
        if known is None or len(known.shares) < REALM.threshold:
            return (message,)
        tail = self.books.secret(message.sender, message.batch)[48:]
        covered = two_element_blocks(_context(message, message.context).to_bytes(), tail)
        blocks = [covered[at : at + 16] for at in range(0, len(covered), 16)]
        delta = chance.randbytes(16)
        moved, constant = reference.shifted(blocks, delta)
        changed = b"".join(gf256.add(new, old) for new, old in zip(moved[1:], blocks[1:], strict=True))
        aimed = (delta + constant + bytes(16) + changed)[: len(message.share)]
        others = [one for one in message.context.hubs if one != OWN][: REALM.threshold - 1]
        weight = sharing.interpolate({int(one): bytes([one == OWN]) for one in (*others, OWN)})[0]
        lie = gf256.scale(aimed, gf256.inverse(weight))
        return (replace(message, share=gf256.add(message.share, lie)),)


class ForgesConfirms(_Liar):
    """Tells the sender that the receiver has confirmed, before it can have."""

    def __init__(self) -> None:
        self._relayed: deque[messages.Shared] = deque(maxlen=64)

    def __call__(self, message: messages.Message, chance: Chance) -> Sequence[messages.Message]:
        if isinstance(message, messages.Shared):
            self._relayed.append(message)
        if not isinstance(message, messages.Done) or not self._relayed:
            return (message,)
        shared = self._relayed.pop()
        confirmation = messages.Confirmation(
            shared.batch, 1, Incarnation(chance.randbytes(16)), shared.context.claim, chance.randbytes(16)
        )
        receiver = KMES[1 - KMES.index(shared.sender)]
        return (message, messages.Confirmed(receiver, confirmation))


class RepeatsShares(_Liar):
    """Brings every share of the last while again and again."""

    def __init__(self) -> None:
        self._kept: dict[KmeName, deque[messages.Shared]] = {}

    def __call__(self, message: messages.Message, chance: Chance) -> Sequence[messages.Message]:
        match message:
            case messages.Shared(sender):
                kept = self._kept.setdefault(sender, deque(maxlen=6))
                kept.append(message)
                return tuple(kept)
            case _:
                return (message,)


@contextmanager
def flipped_bits(rate: float, seed: int) -> Iterator[None]:
    """A network that changes one bit of what a wire carries, at this rate."""
    chance = Chance(f"flips {seed}")
    carry = Wire.carry

    def flip(self: Wire, direction: Direction, draws: Chance) -> bytes:
        data = carry(self, direction, draws)
        if chance.random() >= rate:
            return data
        place = chance.randrange(len(data))
        return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "carry", flip)
        yield


class Dwindling(World):
    """After a while three hubs are down: keys cannot be made, and who starts anew must not deliver."""

    def step(self, *, faults: bool) -> None:
        """As any world; in the calm at the end every hub is back."""
        if self.survived.counts["steps"] == _DWINDLES_AT:
            self.down = {HubName(f"hub-{number}") for number in (1, 2, 3)}
        if not faults:
            self.down = set()
        super().step(faults=faults)


class Restless:
    """Applications that never rest, at a receiver whose KME dies and starts again and again.

    After each start they ask once more for keys that they had.
    """

    def __init__(self, seed: int) -> None:
        self.steps = 0
        self._chance = Chance(f"restless {seed}")
        self.lives = Lives(seed, self._chance.choice([0.0, 0.01, 0.1]))

    def run(self, steps: int) -> None:
        """So many things happen; then all is well, and keys must flow."""
        for name in NAMES:
            self.lives.fill(name, on=True)
        for _ in range(steps):
            self.steps += 1
            self._work()
            if self._chance.random() < 0.1:
                self._restart()
            self.lives.wait(self._chance.choice([0.0, 0.01, 0.1, 1.0]))
            self.lives.check()
        self.lives.check_flow()

    def _work(self) -> None:
        chance, given = self._chance, self.lives.given[-5:]
        if given and chance.random() < 0.5:
            one = chance.choice(given)
            keys = chance.sample(one.keys, chance.randint(1, len(one.keys)))
            self.lives.fetch(one.slaves[0], one, keys, chance.randint(1, 2))
        else:
            self.lives.ask("north", "a", "b", [chance.randint(1, 3) for _ in range(chance.randint(1, 4))])

    def _restart(self) -> None:
        self.lives.restart("south")
        self.lives.wait(1.0)
        for one in self.lives.given[-3:]:
            self.lives.fetch(one.slaves[0], one, one.keys)


class RottenAtRest:
    """A KME's store after some work: one bit after the other flips in it, and each time it is opened.

    A start that fails, however, is harmless here; one that succeeds is held to what was acknowledged.
    """

    def __init__(self, seed: int) -> None:
        self.steps = 0
        self._world = World(seed, "calm")
        self._chance = Chance(f"rotten {seed}")

    def run(self, steps: int) -> None:
        """So many bits flip, one at a time."""
        for _ in range(_WORKS_STEPS):
            self._world.step(faults=False)
        one = self._world.kmes[KMES[0]]
        one.home.store.scrub()
        one.be_killed()
        healthy = one.store_disk.copy()
        for _ in range(steps):
            self.steps += 1
            one.store_disk.restore(healthy)
            place = self._chance.randrange(len(one.store_disk.durable(STORE)))
            one.store_disk.rot(STORE, place, 1 << self._chance.randrange(8))
            with suppress(SkexError, UnicodeDecodeError):
                one.home.open()
            one.be_killed()


class _Named:
    """All that a checker asks of a machine in this scene."""

    def __init__(self, name: str) -> None:
        self.name = name


class RolledBackSender:
    """A restored sender has lost a batch; a hub repeats the CONFIRM, and its Void comes after its Ok."""

    def __init__(self, seed: int) -> None:
        self.steps = 0
        self._exchange = Exchange(seed=seed)
        self._checker = FirstAnswerStays()
        self._receiver = cast("Machine", _Named(BOB))
        self._seen = 0

    def run(self, steps: int) -> None:
        """So many batches."""
        for _ in range(steps):
            self.steps += 1
            self._batch()

    def _batch(self) -> None:
        exchange = self._exchange
        image = len(exchange.sent.changes)
        exchange.establish()
        exchange.run()
        confirm = [one for _, one in exchange.carried if isinstance(one, messages.Confirm)][-1]
        del exchange.sent.changes[image:]
        exchange.start_alice()
        exchange.link(*(hub_name(number) for number in range(1, 6)), only=ALICE)
        kept = messages.Confirmed(BOB, confirm.confirmation)
        exchange.tell(ALICE, FromHub(hub_name(5), 0, kept))
        exchange.run()
        committed = exchange.received.changes[self._seen :]
        self._seen = len(exchange.received.changes)
        self._checker.committed(self._receiver, committed)


class Renewing(World):
    """Each KME makes a new root once, long after the first is in use both ways."""

    RENEWED_AT = 400

    def step(self, *, faults: bool) -> None:
        if faults and self.survived.counts["steps"] == self.RENEWED_AT:
            for one in self.kmes.values():
                self._establish(one, Purpose.CONTROL, 1, 64)
        super().step(faults=faults)
