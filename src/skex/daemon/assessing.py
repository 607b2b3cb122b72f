"""What audit logs say about a compromise: which keys are exposed, and what must be done about it.

Reads logs and nothing else. What logs of other homes could have told is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skex.audit import events
from skex.audit.exposure import Attack, Batch, Breach, History, Reason, Verdict, Where
from skex.audit.history import Collected, Delivery, Owner
from skex.base import codes
from skex.base.errors import Refused
from skex.daemon.config import HubConfig
from skex.daemon.verifying import logs, whole
from skex.daemon.verifying.ends import settings_of
from skex.daemon.verifying.logs import Evidence, Log


@dataclass(frozen=True, slots=True)
class Exposed:
    """An SAE that got keys which are exposed."""

    sae: str
    kme: str
    keys: int
    first: float
    last: float
    uncertain: int
    """Keys of its requests that no record names: they may be exposed too."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A link that needs new material. ``known`` shares of its KME's batches the attacker reads already."""

    kme: str
    hub: str
    because: str
    known: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything that a report says. ``verdicts`` are of keys for traffic, ``roots`` of control batches."""

    breaches: tuple[Breach, ...]
    logs: tuple[Log, ...]
    owners: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    roots: tuple[Verdict, ...]
    consumers: tuple[Exposed, ...]
    renewals: tuple[Renewal, ...]
    revoke: tuple[tuple[str, str, int], ...]
    """Sender, receiver, and how many exposed keys no record says were delivered."""
    missing: tuple[str, ...]

    def count(self, *reasons: Reason) -> int:
        """How many keys for traffic have one of these verdicts."""
        return sum(one.count for one in self.verdicts if one.reason in reasons)

    @property
    def exposed(self) -> int:
        """How many keys count as exposed."""
        return sum(one.count for one in self.verdicts if one.reason.is_exposed)


def owner_in(home: Path, directory: Path) -> Owner:
    """Whose log it is: by its home, or by what it says. Raises ``Refused`` (audit-owner-unknown)."""
    if whole.is_home(home):
        settings = settings_of(home)
        return Owner(Where.HUB if isinstance(settings, HubConfig) else Where.KME, settings.name)
    for record, _ in logs.records_of(directory):
        if record.event in {events.DAEMON_STARTED.name, events.AUDIT_OPENED.name}:
            for where in Where:
                for name in record.subjects.get(where.value, ()):
                    return Owner(where, name)
    raise Refused(codes.AUDIT_OWNER_UNKNOWN, str(home))


def owner_of_log(home: Path, directory: Path) -> str:
    """The same in one word: ``kme:north``."""
    owner = owner_in(home, directory)
    return f"{owner.where.value}:{owner.name}"


def assess(homes: Sequence[Path], breaches: Sequence[Breach], slack: float, evidence: Evidence) -> Assessment:
    """Read the logs of homes and say what the breaches cost.

    Raises as ``logs.check`` does, and ``Refused`` (audit-owner-unknown).
    """
    checked = [logs.check(one, evidence) for one in dict.fromkeys(homes)]
    collected = Collected()
    for log in checked:
        owner = owner_in(log.home, log.directory)
        collected.owners.add(owner)
        for record, _ in logs.records_of(log.directory):
            collected.feed(owner, record)
    history = collected.history()
    attack = Attack(breaches, history, slack)
    found = [verdict for batch in history.batches for verdict in attack.assess(batch)]
    traffic = tuple(one for one in found if not one.batch.is_control)
    deliveries = tuple(collected.deliveries())
    return Assessment(
        breaches=tuple(breaches),
        logs=tuple(checked),
        owners=tuple(sorted(f"{one.where.value} {one.name}" for one in collected.owners)),
        verdicts=traffic,
        roots=tuple(one for one in found if one.batch.is_control),
        consumers=tuple(_consumers(traffic, deliveries)),
        renewals=tuple(_renewals(breaches, history, attack)),
        revoke=tuple(_undelivered(traffic, deliveries)),
        missing=tuple(_missing(breaches, history, collected.owners)),
    )


# ── who got exposed keys ────────────────────────────────────────────────────────────────────────
def _consumers(verdicts: Iterable[Verdict], deliveries: Sequence[Delivery]) -> Iterable[Exposed]:
    """Of each SAE the exposed keys that it got: every delivered key has a fate of its own."""
    exposed = [one for one in verdicts if one.reason.is_exposed]
    single = {(one.batch.batch, index) for one in exposed for index in one.single}
    ends = {(one.batch.sender, one.batch.receiver) for one in exposed}
    touched = {name for pair in ends for name in pair}
    grouped: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
    for delivery in deliveries:
        hit = sum(place in single for place in delivery.keys)
        if hit or (delivery.unnamed and delivery.kme in touched):
            key = (delivery.sae, delivery.kme)
            grouped.setdefault(key, []).append((hit, delivery.unnamed, delivery.at))
    for (sae, kme), rows in sorted(grouped.items()):
        times = [at for _, _, at in rows]
        yield Exposed(
            sae, kme, sum(hit for hit, _, _ in rows), min(times), max(times), sum(row[1] for row in rows)
        )


def _undelivered(
    verdicts: Iterable[Verdict], deliveries: Sequence[Delivery]
) -> Iterable[tuple[str, str, int]]:
    handed = {place for delivery in deliveries for place in delivery.keys}
    counts: Counter[tuple[str, str]] = Counter()
    for one in verdicts:
        if one.reason.is_exposed:
            batch = one.batch
            gone = sum((batch.batch, index) in handed for index in one.single)
            counts[batch.sender, batch.receiver] += one.count - gone
    return ((sender, receiver, left) for (sender, receiver), left in sorted(counts.items()) if left)


# ── what must be renewed ────────────────────────────────────────────────────────────────────────
def _renewals(breaches: Sequence[Breach], history: History, attack: Attack) -> list[Renewal]:
    """Every link of which an end was had; first those of KMEs with the fewest shares still unknown."""
    pairs = {(link.kme, link.hub) for link in history.links.values()}
    for batch in history.batches:
        pairs.update((kme, hub) for kme in (batch.sender, batch.receiver) for hub in batch.hubs)
    names = {(one.where, one.name) for one in breaches}
    known: Counter[str] = Counter()
    for batch in history.batches:
        count = len(attack.known_hubs(batch))
        for kme in (batch.sender, batch.receiver):
            known[kme] = max(known[kme], count)
    found = [
        Renewal(kme, hub, because, known[kme])
        for kme, hub in pairs
        if (because := _because(kme, hub, names)) is not None
    ]
    return sorted(found, key=lambda one: (-one.known, one.kme, one.hub))


def _because(kme: str, hub: str, names: set[tuple[Where, str]]) -> str | None:
    at_kme, at_hub = (Where.KME, kme) in names, (Where.HUB, hub) in names
    if at_kme and at_hub:
        return "both ends"
    if at_kme or at_hub:
        return kme if at_kme else hub
    return None


def _missing(breaches: Sequence[Breach], history: History, owners: set[Owner]) -> Iterable[str]:
    """Whose logs would have said more, and about what."""
    kmes = {one for batch in history.batches for one in (batch.sender, batch.receiver)}
    kmes.update(link.kme for link in history.links.values())
    hubs = {hub for batch in history.batches for hub in batch.hubs}
    known = {(one.where, one.name) for one in owners}
    for one in breaches:
        (kmes if one.where is Where.KME else hubs).add(one.name)
    for name in sorted(kmes):
        if (Where.KME, name) not in known:
            yield f"kme {name}: its batches with others, and what it erased when"
    for name in sorted(hubs):
        if (Where.HUB, name) not in known:
            yield f"hub {name}: when its links were made anew, and which KMEs it serves"


def pairs_of(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    """Verdicts by sender and receiver."""
    found: dict[tuple[str, str], list[Verdict]] = {}
    for one in sorted(verdicts, key=lambda one: (one.batch.sender, one.batch.receiver, one.batch.begin)):
        found.setdefault((one.batch.sender, one.batch.receiver), []).append(one)
    return found


def batch_ids(verdicts: Iterable[Verdict]) -> list[str]:
    """The batches of verdicts, each once."""
    batches: dict[str, Batch] = {one.batch.batch: one.batch for one in verdicts}
    return sorted(batches)
