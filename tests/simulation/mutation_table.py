"""Which planted bug is caught by which checker: in which setting, within how many seeds and steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final, Protocol

import pytest

from simulation.rules import RuleBrokenError
from simulation.scenarios import SCENARIOS, Scenario
from simulation.world import World
from skex.pad.kinds import PadKind
from tests.simulation import adversaries, mutations
from tests.simulation.link_walk import LinkWalk


class Walk(Protocol):
    """What can be run; it raises ``RuleBrokenError``."""

    def run(self, steps: int) -> None:
        """So many things happen."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a planted bug needs around it. ``begin`` makes one run's world."""

    description: str
    begin: Callable[[int], Walk]
    flips: float = 0.0


def _world(scenario: Scenario) -> Callable[[int], World]:
    return lambda seed: World(seed, scenario)


def _lies(adversary: Callable[[], adversaries.Adversary], scenario: Scenario) -> Callable[[int], World]:
    def begin(seed: int) -> World:
        lie = adversary()
        world = World(seed, replace(scenario, lie=lie))
        lie.books = world.checkers.books
        return world

    return begin


_SILENCES: Final = Scenario(
    "machines and pairs cannot be reached, again and again; bytes wait",
    outage_rate=0.01,
    delay_rate=0.05,
    cut_rate=0.03,
)
_WORN: Final = Scenario(
    "disks fail again and again, and machines lose power", disk_rate=0.03, crash_rate=0.01
)
_LIAR: Final = Scenario("one hub lies as the setting says", liars=1)
_RESTLESS: Final = Scenario(
    "two hubs are down, connections break and machines lose power often",
    down=2,
    cut_rate=0.03,
    crash_rate=0.003,
)
_DWINDLING: Final = Scenario("machines lose power, and after a while three hubs are down", crash_rate=0.004)
SETTINGS: Final[dict[str, Setting]] = {
    **{name: Setting(one.description, _world(one)) for name, one in SCENARIOS.items()},
    "restless": Setting(_RESTLESS.description, _world(_RESTLESS)),
    "dwindling": Setting(_DWINDLING.description, lambda seed: adversaries.Dwindling(seed, _DWINDLING)),
    "rotting store": Setting(
        "a KME is stopped after some work, and single bits of its store flip", adversaries.RottenAtRest
    ),
    "worn disks": Setting(_WORN.description, _world(_WORN)),
    "silences": Setting(_SILENCES.description, _world(_SILENCES)),
    "flips": Setting("the network flips bits", _world(SCENARIOS["calm"]), flips=0.02),
    "table link": Setting(
        "one table link: cuts, crashes, ends restored in turns", lambda seed: LinkWalk(PadKind.TABLE, seed)
    ),
    "derived link": Setting(
        "one derived link: cuts, crashes, both ends restored and cloned",
        lambda seed: LinkWalk(PadKind.DERIVED, seed),
    ),
    "key services": Setting(
        "two KMEs with their key services: applications that never rest, one KME that starts again and again",
        adversaries.Restless,
    ),
    "renewal": Setting(
        "nothing goes wrong; each KME renews its root once",
        lambda seed: adversaries.Renewing(seed, SCENARIOS["calm"]),
    ),
    "forger": Setting("a hub makes batches up", _lies(adversaries.MakesItUp, _LIAR)),
    "usurper": Setting(
        "a hub makes batches up and says that it alone is enough",
        _lies(adversaries.LowersTheThreshold, _LIAR),
    ),
    "algebraist": Setting(
        "a hub that knows the keys moves the tag's key, one hub is down",
        _lies(adversaries.ShiftsTheKey, replace(_LIAR, down=1)),
    ),
    "confirmer": Setting("a hub forges CONFIRMs", _lies(adversaries.ForgesConfirms, _LIAR)),
    "rolled-back sender": Setting(
        "a sender is restored after each batch, and a hub brings it the old CONFIRM",
        adversaries.RolledBackSender,
    ),
    "repeaters": Setting(
        "two hubs bring every share again and again",
        _lies(adversaries.RepeatsShares, replace(_LIAR, liars=2)),
    ),
}


@dataclass(frozen=True, slots=True)
class Planted:
    """One bug. From one of the first ``seeds`` seeds ``caught_by`` must see it within ``steps``."""

    apply: mutations.Apply
    setting: str
    caught_by: str
    steps: int
    seeds: int = 3

    @property
    def name(self) -> str:
        """As it is called in the documentation."""
        return self.apply.__name__.replace("_", "-")

    @property
    def meaning(self) -> str:
        """What the bug is, in a sentence."""
        return (self.apply.__doc__ or "").partition("\n\n")[0]


PLANTED: Final = (
    Planted(mutations.used_before_sync, "calm", "marked-first", 100),
    Planted(mutations.mark_not_committed, "calm", "marked-first", 100),
    Planted(mutations.announced_before_erased, "calm", "erased-first", 100),
    Planted(mutations.old_chain_key_kept, "calm", "erased-first", 100),
    Planted(mutations.both_marks_ignored, "table link", "sealed-once", 400),
    Planted(mutations.reused_after_reconnect, "cuts", "sealed-once", 500, 5),
    Planted(mutations.nonces_left_out, "derived link", "sealed-once", 200),
    Planted(mutations.consumed_before_verified, "flips", "as-said", 400),
    Planted(mutations.two_shares_from_one_hub, "forger", "enough-hubs", 200),
    Planted(mutations.own_threshold_believed, "usurper", "enough-hubs", 200),
    Planted(mutations.two_element_tag, "algebraist", "as-made", 200, 5),
    Planted(mutations.v_used_twice, "calm", "one-confirm", 200),
    Planted(mutations.tombstone_forgotten, "repeaters", "accepted-once", 1500, 8),
    Planted(mutations.margin_ignored, "short", "tombstones-stand", 800),
    Planted(mutations.last_answer_counts, "rolled-back sender", "first-answer-stays", 10),
    Planted(mutations.one_coefficient_too_few, "calm", "minority-learns-nothing", 200),
    Planted(mutations.used_before_confirmed, "calm", "receiver-first", 200),
    Planted(mutations.confirm_without_its_tag, "confirmer", "receiver-first", 200),
    Planted(mutations.keys_of_another_batch, "calm", "equal-keys", 400),
    Planted(mutations.deadline_forgotten, "crashes", "requests-end", 1000),
    Planted(mutations.answer_under_another_root, "renewal", "own-root", 600),
    Planted(mutations.delivered_before_answered, "calm", "assigned-first", 400),
    Planted(mutations.incarnation_ignored, "restless", "same-incarnation", 1000, 5),
    Planted(mutations.delivered_without_witnesses, "dwindling", "witnessed", 1000, 5),
    Planted(mutations.handed_out_before_committed, "key services", "delivered-once", 60, 6),
    Planted(mutations.silent_prefaces_waited_for, "silences", "prefaces-end", 400, 5),
    Planted(mutations.suspects_named_for_certain, "colluders", "blames-liars", 1500),
    Planted(mutations.minority_votes_an_epoch_in, "colluders", "realm-by-k", 1500),
    Planted(mutations.one_accuser_believed, "colluders", "rollback-by-k", 1500),
    Planted(mutations.checksums_left_out, "rotting store", "store-keeps", 100),
    Planted(mutations.failed_sync_built_upon, "worn disks", "store-keeps", 900, 5),
    Planted(mutations.word_of_hubs_ignored, "restores", "restored-rests", 2600),
    Planted(mutations.revoked_at_the_peer_only, "restores", "restored-rests", 2000),
    Planted(mutations.age_by_the_wall_clock, "clocks", "keys-age", 2000),
    Planted(mutations.boot_clock_stored, "clocks", "keys-age", 2000),
    Planted(mutations.hub_keeps_shares, "crashes", "hub-forgets", 1000),
)


@dataclass(frozen=True, slots=True)
class Caught:
    """How a run with a planted bug ended."""

    checker: str
    step: int
    message: str


def play(setting: Setting, seed: int, steps: int, plant: mutations.Apply | None = None) -> Caught | None:
    """Run a setting; with a bug planted, without the calm that proves liveness afterwards."""
    with ExitStack() as stack:
        if setting.flips:
            stack.enter_context(adversaries.flipped_bits(setting.flips, seed))
        if plant is not None:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(World, "_calm", lambda _: None)
            plant(patch)
        world = setting.begin(seed)
        if isinstance(world, adversaries.Restless):
            stack.callback(world.lives.close)
        try:
            world.run(steps)
        except RuleBrokenError as broken:
            return Caught(broken.checker, _steps(world), str(broken))
    return None


def _steps(walk: Walk) -> int:
    if isinstance(walk, World):
        return walk.survived.counts["steps"]
    return int(getattr(walk, "steps", 0))
