"""Keys assigned ahead to pairs that ask often, so that a delivery needs no round trip.

A pair becomes busy by asking several times within seconds; then a block of keys out of the reserve is
assigned to it, as many as it used of late, and the next one when half of that is gone. A block is
delivered from only while the peer holds it, renewed by the machines, and given up when nobody asked for
a while: its keys are void then, because a key is recorded once. Blocks are a convenience: whoever finds
none, or loses a race with the end of one, takes the ordinary way. It must not know how keys are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from skex.base import limits
from skex.base.ids import KmeName, RequestId
from skex.keys.engine import Engine, Heard
from skex.keys.orders import Pair
from skex.keys.reserve import Taken
from skex.protocol import assign


@dataclass(slots=True)
class _Use:
    """How much a pair asked for of late, fading with time."""

    at: float
    requests: float = 0.0
    keys: float = 0.0
    quiet_until: float = -math.inf

    def note(self, number: int, now: float) -> None:
        fading = math.exp((self.at - now) / limits.BLOCK_BUSY_SECONDS)
        self.requests = self.requests * fading + 1
        self.keys = self.keys * fading + number
        self.at = now

    def is_busy(self, now: float) -> bool:
        return self.requests >= limits.BLOCK_BUSY_REQUESTS and now >= self.quiet_until


@dataclass(eq=False, slots=True)
class _Block:
    """One assignment ahead. ``until`` is None before the peer's first answer; ``out`` are being delivered."""

    pair: Pair
    left: Taken
    used_at: float
    until: float | None = None
    out: int = 0

    def serves(self, number: int, now: float) -> bool:
        return self.until is not None and now < self.until and self.left.count >= number


@dataclass(frozen=True, slots=True)
class Lot:
    """Assigned keys that are about to be delivered; ``ahead`` if they are out of a block."""

    request: RequestId
    taken: Taken
    ahead: bool


class Blocks:
    """All blocks of a KME."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._uses: dict[Pair, _Use] = {}
        self._blocks: dict[RequestId, _Block] = {}
        self._by_pair: dict[Pair, list[RequestId]] = {}
        engine.subscribe(self._heard)

    def __len__(self) -> int:
        return len(self._blocks)

    def depth(self, pair: Pair) -> int:
        """How many keys could be delivered to a pair at once."""
        blocks = (self._blocks[request] for request in self._by_pair.get(pair, ()))
        return sum(block.left.count for block in blocks if block.serves(1, self._engine.now()))

    # ── taking ──────────────────────────────────────────────────────────────────────────────────
    def take(self, pair: Pair, number: int) -> Lot | None:
        """Keys out of a block, if one has so many."""
        now = self._engine.now()
        for request in self._by_pair.get(pair, ()):
            block = self._blocks[request]
            if block.serves(number, now):
                taken, block.left = block.left.split(number)
                block.out += number
                block.used_at = now
                return Lot(request, taken, ahead=True)
        return None

    def delivered(self, pair: Pair, lot: Lot) -> None:
        """A lot was delivered, ahead or not: learn how busy the pair is, and assign ahead if it is."""
        block = self._blocks.get(lot.request)
        if block is not None:
            block.out -= lot.taken.count
            if not block.out and not block.left.count:
                self._forget(lot.request)
        now = self._engine.now()
        self._note(pair, lot.taken.count, now)
        self._assign_ahead(pair, lot.taken.count, now)

    def put_back(self, lot: Lot) -> None:
        """A lot was not delivered: the next may take it, if the block still is one."""
        block = self._blocks.get(lot.request)
        if block is not None:
            block.out -= lot.taken.count
            block.left = block.left.joined(lot.taken)

    # ── assigning ahead ─────────────────────────────────────────────────────────────────────────
    def _note(self, pair: Pair, number: int, now: float) -> None:
        use = self._uses.pop(pair, None) or _Use(now)
        use.note(number, now)
        self._uses[pair] = use
        if len(self._uses) > limits.BLOCK_PAIRS:
            del self._uses[next(iter(self._uses))]  # the pair that did not ask for the longest time

    def _assign_ahead(self, pair: Pair, number: int, now: float) -> None:
        """Begin another block when half of what a busy pair uses is gone, as far as the reserve goes."""
        use = self._uses[pair]
        mine = self._by_pair.get(pair, ())
        if not use.is_busy(now) or len(mine) >= limits.BLOCKS_PER_PAIR or len(self._blocks) >= limits.BLOCKS:
            return
        size = min(math.ceil(use.keys), limits.BLOCK_KEYS)
        if 2 * sum(self._blocks[request].left.count for request in mine) > size:
            return
        # Half of the reserve stays for everybody else.
        size = min(size, self._engine.reserve.available(pair.kind, now) // 2)
        taken = self._engine.reserve.take(pair.kind, size, now) if size >= 2 * number else None
        if taken is None:
            return
        request = self._engine.offer_ahead(pair, taken)
        if request is not None:
            self._blocks[request] = _Block(pair, taken, now)
            self._by_pair.setdefault(pair, []).append(request)

    def _forget(self, request: RequestId) -> None:
        block = self._blocks.pop(request)
        mine = self._by_pair[block.pair]
        mine.remove(request)
        if not mine:
            del self._by_pair[block.pair]

    # ── giving up ───────────────────────────────────────────────────────────────────────────────
    def tend(self) -> None:
        """Give up the blocks that nobody took from for a while."""
        idle_since = self._engine.now() - limits.BLOCK_IDLE_SECONDS
        for request, block in list(self._blocks.items()):
            if block.used_at <= idle_since:
                self._give_up(request)

    def release(self, peer: KmeName) -> None:
        """Give up every block with a peer."""
        for request, block in list(self._blocks.items()):
            if block.pair.kind.peer == peer:
                self._give_up(request)

    def _give_up(self, request: RequestId) -> None:
        peer = self._blocks[request].pair.kind.peer
        self._forget(request)
        self._engine.release(peer, request)

    def _heard(self, heard: Heard) -> None:
        match heard:
            case assign.Deliverable(_, request, _, until):
                block = self._blocks.get(request)
                if block is not None:
                    block.until = until
            case assign.AssignmentEnded(_, request):
                self._ended(request)
            case _:
                pass

    def _ended(self, request: RequestId) -> None:
        """The peer did not even answer, or refused: do not throw more keys after these for a while."""
        block = self._blocks.get(request)
        if block is None:
            return
        use = self._uses.get(block.pair)
        if block.until is None and use is not None:
            use.quiet_until = self._engine.now() + limits.BLOCK_QUIET_SECONDS
        self._forget(request)
