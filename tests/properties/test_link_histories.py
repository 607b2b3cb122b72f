"""Random lives of a link: dials, messages, cuts, crashes, restores, clones, a hostile network, in any order.

What must hold: no pad byte is sealed twice (the ledger), marks never fall, what arrives is what was
sent, in order and from the beginning, a rollback is noticed by whom it must and by nobody else.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulation.link_pair import Host, HostImage, Joined, LinkPair, Side
from skex.base import codes
from skex.base.errors import Family, Refused
from skex.base.ids import Direction, KmeName
from skex.pad.kinds import PadKind
from skex.wire import messages

UNITS: Final = 200
EXPECTED: Final = {
    codes.CONNECTION_CLOSED,
    codes.LINK_REPLACED,
    codes.PAD_EXHAUSTED,
    codes.PEER_SILENT,
}
"""How connections end when nobody interferes with their bytes."""
NAMES = st.sampled_from(["kme", "hub"])


class LinkHistory(RuleBasedStateMachine):
    """One link's whole life; each example is one world."""

    def __init__(self) -> None:
        super().__init__()
        self.pair: LinkPair
        self.open: list[Joined] = []
        self.tampered: set[int] = set()
        self.sent: dict[int, list[messages.Message]] = {}
        self.images: dict[str, HostImage] = {}
        self.floor: dict[str, tuple[int, int, int]] = {}
        self.behind: dict[str, bool] = {"kme": False, "hub": False}
        self.was_restored = {"kme": False, "hub": False}
        self.number = 0

    @initialize(kind=st.sampled_from(list(PadKind)), seed=st.integers(0, 2**16))
    def enrol(self, kind: PadKind, seed: int) -> None:
        self.pair = LinkPair(kind, seed, units=UNITS)

    def host(self, name: str) -> Host:
        return self.pair.kme if name == "kme" else self.pair.hub

    def sides(self) -> list[Side]:
        return [side for joined in self.open for side in joined.sides]

    # ── what happens ────────────────────────────────────────────────────────────────────────────
    @precondition(lambda self: len(self.open) < 3)
    @rule()
    def dial(self) -> None:
        self.open.append(self.pair.dial())

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 5), count=st.integers(1, 400))
    def deliver(self, which: int, count: int) -> None:
        side = self.sides()[which % len(self.sides())]
        side.deliver(count)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 5), count=st.integers(1, 5))
    def act(self, which: int, count: int) -> None:
        side = self.sides()[which % len(self.sides())]
        for _ in range(count):
            side.step()

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 2))
    def run_one(self, which: int) -> None:
        self.open[which % len(self.open)].run()

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 5), size=st.sampled_from([1, 200, 3000, 20_000]))
    def send(self, which: int, size: int) -> None:
        side = self.sides()[which % len(self.sides())]
        self.number += 1
        body = self.number.to_bytes(4, "big") + bytes(size)
        message: messages.Message = messages.RealmFile(body)
        if side.outgoing is Direction.TO_HUB:
            message = messages.Peer(KmeName("bob"), body)
        with suppress(Refused):
            side.send(message, self.number)
            self.sent.setdefault(id(side), []).append(message)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 2))
    def cut(self, which: int) -> None:
        self.open.pop(which % len(self.open)).cut()

    @rule(seconds=st.sampled_from([1.0, 15.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.pair.now += seconds
        for side in self.sides():
            side.tick()

    @rule(name=NAMES)
    def crash(self, name: str) -> None:
        self.host(name).crash()

    @rule(name=NAMES)
    def snapshot(self, name: str) -> None:
        self.images[name] = self.host(name).image()

    @precondition(lambda self: self.images)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """One end at a time on table links: the other case is the documented residual."""
        name = data.draw(st.sampled_from(sorted(self.images)))
        other = "hub" if name == "kme" else "kme"
        if self.pair.kind is PadKind.TABLE and self.was_restored[other]:
            return
        self.host(name).restore(self.images[name])
        self.was_restored[name] = True
        self.floor.pop(name, None)
        self.behind[name] = False

    @precondition(lambda self: any(joined.cable.waiting(way) for joined in self.open for way in Direction))
    @rule(data=st.data())
    def tamper(self, data: st.DataObject) -> None:
        places = [(joined, way) for joined in self.open for way in Direction if joined.cable.waiting(way)]
        joined, way = data.draw(st.sampled_from(places))
        at = data.draw(st.integers(0, joined.cable.waiting(way) - 1))
        how = data.draw(st.sampled_from(["flip", "drop", "repeat", "insert"]))
        self.tampered.add(id(joined))
        if how == "flip":
            joined.cable.corrupt(way, at, data.draw(st.integers(1, 255)))
        elif how == "drop":
            joined.cable.take(way, at + 1)
        elif how == "repeat":
            joined.cable.insert(way, joined.cable.sent[way][-1], at)
        else:
            joined.cable.insert(way, data.draw(st.binary(min_size=1, max_size=40)), at)

    # ── what must hold ──────────────────────────────────────────────────────────────────────────
    @invariant()
    def marks_never_fall(self) -> None:
        if not hasattr(self, "pair"):
            return
        for name in ("kme", "hub"):
            marks = self.host(name).marks
            now = (marks.to_hub, marks.to_kme, marks.count)
            before = self.floor.get(name, (0, 0, 0))
            assert all(new >= old for new, old in zip(now, before, strict=True))
            self.floor[name] = now

    @invariant()
    def nobody_notices_a_rollback_who_was_not_rolled_back(self) -> None:
        if not hasattr(self, "pair"):
            return
        for name in ("kme", "hub"):
            if not self.was_restored[name]:
                assert not self.host(name).store.alarms

    @invariant()
    def what_arrived_is_what_was_sent(self) -> None:
        for joined in self.open:
            for sender, receiver in (joined.sides, joined.sides[::-1]):
                sent = self.sent.get(id(sender), [])
                if not sender.refused:
                    assert receiver.messages == sent[: len(receiver.messages)]

    @invariant()
    def connections_end_for_a_reason(self) -> None:
        for joined in self.open:
            for side in joined.sides:
                if side.error is None:
                    continue
                assert side.error.code.family is not Family.BUG
                if id(joined) not in self.tampered:
                    assert side.error.code in EXPECTED

    def teardown(self) -> None:
        """A rolled-back end has noticed by the end of the next preface, and the link works."""
        if not hasattr(self, "pair"):
            return
        for joined in self.open:
            joined.cut()
        kme, hub = self.pair.hosts
        behind = [self._behind(kme, hub), self._behind(hub, kme)]
        alarms = [len(host.store.alarms) for host in (kme, hub)]
        last = self.pair.connect()
        if last.kme.error is not None:
            assert last.kme.error.code in {codes.PAD_EXHAUSTED, codes.CONNECTION_CLOSED}
            return
        assert last.hub.open
        noticed = [len(host.store.alarms) - count for host, count in zip((kme, hub), alarms, strict=True)]
        assert noticed == behind
        last.kme.send(messages.GetRealm())
        last.run()
        assert last.hub.messages == [messages.GetRealm()]

    @staticmethod
    def _behind(host: Host, other: Host) -> bool:
        own, seen = host.marks, other.store.marks
        return own.to_hub < seen.seen_to_hub or own.to_kme < seen.seen_to_kme or own.count < seen.seen_count


TestLinkHistories = LinkHistory.TestCase
TestLinkHistories.settings = settings(stateful_step_count=60)
