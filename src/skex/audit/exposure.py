"""Which keys an attacker knows who had some machines for some time, computed from what happened.

The attacker has recorded every connection for ever. From a machine it has what is on its medium and in
its memory, from the moment it comes until it goes; of a link's material it has what was not erased by
then, and with it everything that the link carries later, until new material takes its place. A share
is known if one of its two legs is, a key if k of its shares are, or if an end was read that held it.
Whatever the records do not say counts against the key. Times are UNIX seconds. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from skex.base import limits

NEVER: Final = math.inf
ALWAYS: Final = -math.inf
SLACK_SECONDS: Final = 120.0
"""How far wall clocks may differ, and how long an end's last message may take: what lies so close to a
moment counts against the key."""


class Where(Enum):
    """What kind of machine somebody had."""

    HUB = "hub"
    KME = "kme"


@dataclass(frozen=True, slots=True)
class Breach:
    """Somebody had a machine in this time; ``until`` is ``NEVER`` while nobody says that it ended."""

    where: Where
    name: str
    since: float
    until: float = NEVER

    def meets(self, begin: float, end: float) -> bool:
        """Whether it overlaps a stretch of time."""
        return self.since <= end and begin <= self.until


# ── what happened ───────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Life:
    """From when until when an end may have had a link's material. Not recorded: ``ALWAYS``, ``NEVER``."""

    begin: float = ALWAYS
    end: float = NEVER


@dataclass(frozen=True, slots=True)
class Link:
    """One enrolment of a KME with a hub. ``is_table``: it is certain that its pads are tables."""

    link: str
    hub: str
    kme: str
    is_table: bool = False
    at_hub: Life = Life()
    at_kme: Life = Life()


@dataclass(frozen=True, slots=True)
class Batch:
    """Keys of one sender and receiver, whose shares travelled between ``begin`` and ``end``.

    ``sender_links`` and ``receiver_links`` are ids of links in the order of ``hubs``; "" is not recorded.
    ``hubs`` is empty where the record does not name them.
    """

    sender: str
    receiver: str
    batch: str
    keys: int
    threshold: int
    hubs: tuple[str, ...]
    begin: float
    end: float
    sender_links: tuple[str, ...] = ()
    receiver_links: tuple[str, ...] = ()
    is_control: bool = False


@dataclass(frozen=True, slots=True)
class Fate:
    """When each end had certainly erased a key; ``NEVER`` where nothing says that it did."""

    at_sender: float = NEVER
    at_receiver: float = NEVER


@dataclass(frozen=True, slots=True)
class History:
    """Everything that records say. ``fates`` are those of single keys by their index; of the others a
    batch's own fate in ``batch_fates``, if anything is known of it.
    """

    batches: Sequence[Batch]
    links: Mapping[str, Link] = field(default_factory=dict)
    fates: Mapping[str, Mapping[int, Fate]] = field(default_factory=dict)
    batch_fates: Mapping[str, Fate] = field(default_factory=dict)


# ── what follows ────────────────────────────────────────────────────────────────────────────────
class Reason(Enum):
    """Why a key counts as exposed, or not."""

    THRESHOLD = "threshold-reached"
    AT_REST = "held-at-compromised-kme"
    NOT_RECORDED = "not-recorded"
    BELOW_THRESHOLD = "below-threshold"
    ERASED_BEFORE = "erased-before"
    LEGS_INTACT = "legs-intact"

    @property
    def is_exposed(self) -> bool:
        """Whether the key must be given up."""
        return self in {Reason.THRESHOLD, Reason.AT_REST, Reason.NOT_RECORDED}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of some keys of a batch. ``known_hubs`` are those whose shares the attacker has.

    ``single`` are the indexes of keys with a fate of their own; the verdict without any is that of the
    ``count`` other keys.
    """

    batch: Batch
    reason: Reason
    known_hubs: tuple[str, ...]
    count: int
    single: tuple[int, ...] = ()

    @property
    def left(self) -> int:
        """How many more hubs would have exposed the keys."""
        return max(0, self.batch.threshold - len(self.known_hubs))


class Attack:
    """What an attacker with some breaches knows."""

    def __init__(self, breaches: Iterable[Breach], history: History, slack: float = SLACK_SECONDS) -> None:
        self._breaches = tuple(breaches)
        self._history = history
        self._slack = slack

    # ── legs ────────────────────────────────────────────────────────────────────────────────────
    def knows_leg(self, kme: str, hub: str, link_id: str, end: float) -> bool:
        """Whether what one link carried shortly before a moment can be read."""
        link = self._history.links.get(link_id, Link(link_id, hub, kme))
        return any(
            self._reads(breach, link, end)
            for breach in self._breaches
            if (breach.where, breach.name) in {(Where.HUB, hub), (Where.KME, kme)}
        )

    def _reads(self, breach: Breach, link: Link, end: float) -> bool:
        """Material that an end had during a breach is read from then on, and back to its last erasing.

        Grants of derived pads live for ten minutes of use; of table pads nothing is left once it is used.
        """
        life = link.at_hub if breach.where is Where.HUB else link.at_kme
        if not breach.meets(life.begin - self._slack, life.end + limits.STORE_SCRUB_SECONDS + self._slack):
            return False
        back = 0 if link.is_table else limits.DERIVED_GRANT_SECONDS
        return end >= breach.since - back - self._slack

    def known_hubs(self, batch: Batch) -> tuple[str, ...]:
        """The hubs of a batch whose shares are known: by one leg, or by the other."""
        return tuple(
            hub
            for at, hub in enumerate(batch.hubs)
            if self.knows_leg(batch.sender, hub, _nth(batch.sender_links, at), batch.end)
            or self.knows_leg(batch.receiver, hub, _nth(batch.receiver_links, at), batch.end)
        )

    # ── keys ────────────────────────────────────────────────────────────────────────────────────
    def assess(self, batch: Batch) -> tuple[Verdict, ...]:
        """The verdicts of all keys of a batch."""
        known = self.known_hubs(batch)
        fates = self._history.fates.get(batch.batch, {})
        found: dict[Reason, list[int]] = {}
        for index, fate in sorted(fates.items()):
            found.setdefault(self._reason(batch, known, fate), []).append(index)
        verdicts = [
            Verdict(batch, reason, known, len(single), tuple(single)) for reason, single in found.items()
        ]
        others = batch.keys - len(fates)
        if others > 0:
            fate = self._history.batch_fates.get(batch.batch, Fate())
            verdicts.append(Verdict(batch, self._reason(batch, known, fate), known, others))
        return tuple(verdicts)

    def _reason(self, batch: Batch, known: tuple[str, ...], fate: Fate) -> Reason:
        if not batch.hubs:
            return Reason.NOT_RECORDED if self._concerns_unnamed(batch) else Reason.LEGS_INTACT
        if len(known) >= batch.threshold:
            return Reason.THRESHOLD
        if self._held(batch.sender, batch.begin, fate.at_sender):
            return Reason.AT_REST
        if self._held(batch.receiver, batch.begin, fate.at_receiver):
            return Reason.AT_REST
        if known:
            return Reason.BELOW_THRESHOLD
        return Reason.ERASED_BEFORE if self._concerns(batch) else Reason.LEGS_INTACT

    def _held(self, kme: str, begin: float, gone: float) -> bool:
        """Whether a breach of a KME found a key there; what was erased leaves its log within a minute."""
        end = gone + limits.STORE_SCRUB_SECONDS + self._slack
        return any(
            breach.meets(begin - self._slack, end)
            for breach in self._breaches
            if (breach.where, breach.name) == (Where.KME, kme)
        )

    def _concerns(self, batch: Batch) -> bool:
        """Whether any machine that the keys met was ever breached."""
        names = {(Where.KME, batch.sender), (Where.KME, batch.receiver)}
        names.update((Where.HUB, hub) for hub in batch.hubs)
        return any((breach.where, breach.name) in names for breach in self._breaches)

    def _concerns_unnamed(self, batch: Batch) -> bool:
        """The same where nobody knows which hubs a batch went through: it may be any."""
        ends = {batch.sender, batch.receiver}
        return any(breach.where is Where.HUB or breach.name in ends for breach in self._breaches)


def _nth(items: Sequence[str], at: int) -> str:
    return items[at] if at < len(items) else ""
