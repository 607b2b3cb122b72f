"""An exchange of batches whose ends have a bench each."""

from __future__ import annotations

from simulation.exchange import ALICE, BOB, Exchange
from skex.base import codes
from skex.base.ids import BatchId, HubName, KmeName
from skex.protocol.bench import BatchFailed, Bench, BenchEvent, BenchRule, HubBenched, HubBroughtBack, Stored
from skex.protocol.receiver import HubBlamed, ReceiverEvent, ShareCounted, ShareMissing, SharesRight
from skex.protocol.sender import NotEstablished, SenderEvent
from skex.protocol.traffic import Tick


class Strict:
    """A policy that benches at once, for an hour."""

    def __init__(self, wrong: int = 1, missing: int = 3) -> None:
        self.rule = BenchRule(wrong, missing, 3600, "kme.bench.strict", "kme.bench.strict")

    def bench_rule(self, hub: HubName, peer: KmeName) -> BenchRule | None:
        """The same for everybody."""
        return self.rule if hub and peer else None


class BenchedExchange(Exchange):
    """What ``KmeCore`` does with a bench, for the two machines of an exchange."""

    def __init__(self, hubs: int = 5, threshold: int = 3, seed: int = 1, rules: Strict | None = None) -> None:
        rules = Strict() if rules is None else rules
        self.benches = {end: Bench(rules, Stored(), 1000.0) for end in (ALICE, BOB)}
        self.benched: list[tuple[KmeName, HubBenched | HubBroughtBack]] = []
        super().__init__(hubs, threshold, seed)

    def start_alice(self) -> None:
        """As before, with the bench."""
        super().start_alice()
        self.sender._standing = self.benches[ALICE].standing

    def start_bob(self) -> None:
        """As before, with the bench."""
        super().start_bob()
        self.receiver._standing = self.benches[BOB].standing

    def tell(self, end: KmeName, event: SenderEvent | ReceiverEvent) -> None:
        """Hand an event to an end, and what it tells of hubs to the end's bench."""
        before = len(self.told_alice if end == ALICE else self.told_bob)
        super().tell(end, event)
        for notice in self.told_alice[before:] if end == ALICE else self.told_bob[before:]:
            match notice:
                case HubBlamed() | ShareCounted() | ShareMissing() | SharesRight():
                    self.bench(end, notice)
                case NotEstablished(batch=BatchId(), code=codes.DEADLINE_PASSED | codes.NOT_ENOUGH_HUBS):
                    self.bench(end, BatchFailed(notice.peer))
                case _:
                    pass
        if isinstance(event, Tick):
            self.bench(end, Tick())

    def bench(self, end: KmeName, event: BenchEvent) -> None:
        """Something happens to an end's bench."""
        effects = self.benches[end].handle(event, self.now)
        self.benched += [(end, notice) for notice in effects.notify]
