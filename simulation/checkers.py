"""All checkers of a world, behind one watch: each event goes to those who need it, none is skipped.

Incremental: what an event tells is judged at once, so that a run stops at the step that broke a rule.
Whole disks are scanned every ``SCAN_STEPS`` steps and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from simulation.checkers_hubs import BlamesLiars, RealmByK, RollbackByK
from simulation.checkers_keys import (
    AcceptedOnce,
    AsMade,
    AssignedFirst,
    Books,
    DeliveredOnce,
    EnoughHubs,
    EqualKeys,
    FirstAnswerStays,
    MinorityLearnsNothing,
    ReceiverFirst,
    SameIncarnation,
    TombstonesStand,
    Witnessed,
)
from simulation.checkers_lives import KeysAge, RestoredRests
from simulation.checkers_pads import ErasedFirst, MarkedFirst, SealedOnce
from simulation.checkers_talk import AsSaid, HubForgets, OneConfirm, OwnRoot, PrefacesEnd, RequestsEnd
from simulation.homes import StoreKeeps
from simulation.machines import Machine
from simulation.rules import Checker
from simulation.watching import Watch
from skex.base.ids import HubName
from skex.wire.realm import Realm

SCAN_STEPS: Final = 1000
_HOOKS: Final = tuple(name for name in vars(Watch) if not name.startswith("_"))


class Checkers(Watch):
    """Every checker. ``books`` are theirs: no machine may be told what is in them."""

    def __init__(self, realm: Realm) -> None:
        self.books = Books(realm)
        self._blames = BlamesLiars()
        self.all: Sequence[Checker] = (
            SealedOnce(),
            MarkedFirst(),
            ErasedFirst(),
            EnoughHubs(self.books),
            EqualKeys(),
            AsMade(self.books),
            MinorityLearnsNothing(self.books),
            ReceiverFirst(),
            AssignedFirst(),
            DeliveredOnce(),
            RestoredRests(),
            Witnessed(self.books),
            KeysAge(self.books),
            AcceptedOnce(),
            TombstonesStand(),
            FirstAnswerStays(),
            SameIncarnation(),
            OwnRoot(self.books),
            OneConfirm(),
            AsSaid(),
            HubForgets(self.books),
            RequestsEnd(),
            PrefacesEnd(),
            self._blames,
            RealmByK(realm),
            RollbackByK(realm),
            StoreKeeps(),
        )
        self._steps = 0
        self._step_by_step = [one for one in self.all if type(one).stepped is not Checker.stepped]
        for hook in _HOOKS:
            concerned = [
                getattr(one, hook)
                for one in (self.books, *self.all)
                if getattr(type(one), hook) is not getattr(Watch, hook)
            ]
            setattr(self, hook, partial(_tell, concerned))

    def know_liars(self, liars: Iterable[HubName]) -> None:
        """The world's secret: which hubs lie."""
        self._blames.liars = set(liars)

    def stepped(self, now: float, machines: Iterable[Machine]) -> None:
        """The world made a step."""
        for one in self._step_by_step:
            one.stepped(now)
        self._steps += 1
        if self._steps % SCAN_STEPS == 0:
            self.scan(machines)

    def scan(self, machines: Iterable[Machine]) -> None:
        """Look at everything that is durable."""
        every = tuple(machines)
        for one in self.all:
            one.scan(every)


def _tell(concerned: Sequence[Callable[..., None]], *arguments: Any) -> None:
    for one in concerned:
        one(*arguments)
