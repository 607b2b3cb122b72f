"""What must be done now and then: end what is over, give up what lies idle, drop empty rows."""

from __future__ import annotations

import asyncio

from skex.base import limits
from skex.keys.blocks import Blocks
from skex.keys.engine import Engine


class Upkeep:
    """Looks after the keys of a KME while ``run`` runs."""

    def __init__(self, engine: Engine, blocks: Blocks) -> None:
        self._engine = engine
        self._blocks = blocks
        self._tidied_at = engine.now()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(limits.UPKEEP_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Do what is due now."""
        self._engine.expire()
        self._blocks.tend()
        now = self._engine.now()
        if now - self._tidied_at >= limits.TIDY_SECONDS:
            self._tidied_at = now
            await self._engine.tidy()
