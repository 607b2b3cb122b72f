"""Fills reserves in the background, between a low and a high mark for each peer and key length.

Nothing is tried while this KME may not deliver, or policy forbids a peer. A refusal is followed by a
wait that doubles, until keys come or a hub does. It can be switched off; requests are then served on
demand alone. It must not know who asks for keys.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from skex.base import limits
from skex.base.errors import Refused
from skex.base.ids import KmeName
from skex.keys.engine import Engine, Heard, most_keys
from skex.keys.health import Turn, Watch
from skex.protocol import kme, rollback
from skex.protocol.changes import Role


@dataclass(frozen=True, slots=True)
class ReserveMarks:
    """One reserve: filled up to ``high`` keys when it holds fewer than ``low``."""

    peer: KmeName
    key_bytes: int
    low: int
    high: int


@dataclass(slots=True)
class _Level:
    """How filling one reserve goes. ``idle`` is set while nothing is under way."""

    marks: ReserveMarks
    idle: asyncio.Event
    watch: Watch
    failures: int = 0
    next_at: float = 0.0


class Filling:
    """Keeps every reserve between its marks while ``run`` runs."""

    def __init__(
        self,
        engine: Engine,
        reserves: Iterable[ReserveMarks],
        *,
        batch_keys: int,
        lifetime: int,
        turned: Callable[[ReserveMarks, Turn], None],
    ) -> None:
        """``batch_keys`` are established at once, with a ``lifetime`` in seconds.

        ``turned`` hears when a reserve becomes starved, and when it is so no more.
        """
        self._engine = engine
        self._turned = turned
        self._batch_keys = batch_keys
        self._lifetime = lifetime
        self._levels: dict[tuple[KmeName, int], _Level] = {}
        self._wake = asyncio.Event()
        self._is_on = True
        for marks in reserves:
            self.add(marks)
        engine.subscribe(self._heard)

    @property
    def is_on(self) -> bool:
        """Whether reserves are filled."""
        return self._is_on

    @property
    def reserves(self) -> tuple[ReserveMarks, ...]:
        """The reserves that are kept filled."""
        return tuple(level.marks for level in self._levels.values())

    def add(self, marks: ReserveMarks) -> None:
        """Fill another reserve; one that is filled already keeps its marks."""
        if (marks.peer, marks.key_bytes) not in self._levels:
            taken = self._engine.reserve.taken(marks.peer, marks.key_bytes)
            watch = Watch(marks.low, taken, self._engine.now())
            level = self._levels[marks.peer, marks.key_bytes] = _Level(marks, asyncio.Event(), watch)
            level.idle.set()
            self.wake()

    def failures(self, peer: KmeName, key_bytes: int) -> int:
        """How many tries in a row were refused."""
        level = self._levels.get((peer, key_bytes))
        return 0 if level is None else level.failures

    def watch(self, marks: ReserveMarks) -> Watch:
        """Whether one of ``reserves`` keeps up with what is taken from it."""
        return self._levels[marks.peer, marks.key_bytes].watch

    # ── switching ───────────────────────────────────────────────────────────────────────────────
    def switch_on(self) -> None:
        """Fill again."""
        self._is_on = True
        self.wake()

    async def switch_off(self) -> None:
        """Begin no more batches; returns when none is under way, so that a reserve stays as it is."""
        self._is_on = False
        for level in tuple(self._levels.values()):
            await level.idle.wait()

    def wake(self) -> None:
        """Look soon: keys were taken."""
        self._wake.set()

    def _heard(self, heard: Heard) -> None:
        """A hub came, or delivering is allowed: what was refused may be granted now."""
        if isinstance(heard, kme.LinkProved | rollback.DeliveryAllowed):
            for level in self._levels.values():
                level.next_at = 0.0
            self.wake()

    # ── filling ─────────────────────────────────────────────────────────────────────────────────
    async def run(self) -> None:
        """Fill until cancelled."""
        while True:
            self._wake.clear()
            for level in self._levels.values():
                self._look(level)
                if self._is_due(level):
                    level.idle.clear()
                    self._engine.spawn(self._fill(level), f"reserve for {level.marks.peer}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.FILL_LOOK_SECONDS):
                    await self._wake.wait()

    def _look(self, level: _Level) -> None:
        marks, engine = level.marks, self._engine
        taken = engine.reserve.taken(marks.peer, marks.key_bytes)
        filled = self._is_on and engine.may_establish(marks.peer)
        turn = level.watch.look(self._depth(level), taken, engine.now(), filled=filled)
        if turn is not None:
            self._turned(marks, turn)

    def _may_fill(self, level: _Level) -> bool:
        """No keys are made that would rest, or that policy would not let anybody have."""
        engine, peer = self._engine, level.marks.peer
        rests = engine.reserve.suspensions.rests(Role.SENDER, peer)
        return self._is_on and engine.core.may_deliver and not rests and engine.may_establish(peer)

    def _depth(self, level: _Level) -> int:
        return self._engine.reserve.depth(level.marks.peer, level.marks.key_bytes)

    def _is_due(self, level: _Level) -> bool:
        return (
            level.idle.is_set()
            and self._may_fill(level)
            and self._engine.now() >= level.next_at
            and self._depth(level) < level.marks.low
        )

    async def _fill(self, level: _Level) -> None:
        marks, engine = level.marks, self._engine
        try:
            await engine.root(marks.peer)
            while self._may_fill(level) and (missing := marks.high - self._depth(level)) > 0:
                await engine.establish(
                    marks.peer,
                    keys=min(self._batch_keys, missing, most_keys(marks.key_bytes)),
                    key_bytes=marks.key_bytes,
                    lifetime=self._lifetime,
                )
                level.failures = 0
        except Refused:
            self._back_off(level)
        finally:
            level.idle.set()

    def _back_off(self, level: _Level) -> None:
        """Wait twice as long each time; spread, or many KMEs would come back at once."""
        doubled = limits.FILL_RETRY_SECONDS * 2.0 ** min(level.failures, 30)
        spread = 0.75 + self._engine.random(1)[0] / 512
        level.next_at = self._engine.now() + min(doubled, limits.FILL_RETRY_SECONDS_MAX) * spread
        level.failures += 1
