"""What audit records say of links, batches and keys: the facts that exposure is computed from.

Takes the records of many logs, each in its own order, in any order of logs. What a record does not say,
because it is older than the field, stays unknown, and unknown counts against the key. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from skex.audit import events
from skex.audit.chain import Record
from skex.audit.exposure import NEVER, Batch, Fate, History, Life, Link, Where
from skex.base import codes
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, Incarnation, KmeName, RealmName
from skex.protocol.establishment import key_id

TRAVEL_SECONDS: Final = 60.0
"""A batch is confirmed, or a share of it comes late, so long after its shares were sent at most."""
SEED_SECONDS: Final = 60.0
"""The seeds of a derived pad may be so much older than the record of their making."""
TABLE_SECONDS: Final = 3600.0
"""The same of a table: a large one takes its time."""
_BATCHES: Final = {events.BATCH_CONFIRMED.name: "sender", events.BATCH_ESTABLISHED.name: "receiver"}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose log it is."""

    where: Where
    name: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request that was answered with keys. ``keys`` are those it names, by batch and index;
    ``unnamed`` how many more there were.
    """

    kme: str
    sae: str
    as_master: bool
    others: tuple[str, ...]
    at: float
    keys: tuple[tuple[str, int], ...]
    unnamed: int


@dataclass(slots=True)
class _Raw:
    """A delivery, or a loss of keys that were to be delivered, before its keys' places are known."""

    owner: Owner
    record: Record
    at: float


@dataclass(slots=True)
class Collected:
    """Takes records; ``history`` is everything that they say together."""

    owners: set[Owner] = field(default_factory=set)
    realms: set[str] = field(default_factory=set)
    _batches: dict[str, Batch] = field(default_factory=dict)
    _links: dict[str, Link] = field(default_factory=dict)
    _current: dict[tuple[Where, str, str], str] = field(default_factory=dict)
    _taken: list[_Raw] = field(default_factory=list)
    _expired: dict[tuple[str, str], float] = field(default_factory=dict)
    _places: dict[str, tuple[str, int]] = field(default_factory=dict)
    _placed: set[str] = field(default_factory=set)

    def feed(self, owner: Owner, record: Record) -> None:
        """The next record of a log."""
        self.owners.add(owner)
        at = seconds(record.time)
        self.realms.update(record.subjects.get("realm", ()))
        if record.event in _BATCHES and owner.where is Where.KME:
            self._batch(owner.name, record, at, _BATCHES[record.event])
        elif record.event in {events.ENROLMENT_GENERATED.name, events.ENROLMENT_IMPORTED.name}:
            self._enrolled(record, at)
        elif record.event in {events.KEYS_DELIVERED.name, events.KEYS_VOIDED.name}:
            self._taken.append(_Raw(owner, record, at))
        elif record.event == events.KEYS_EXPIRED.name:
            for batch in record.subjects.get("batch", ()):
                self._expired[batch, owner.name] = at

    # ── links ───────────────────────────────────────────────────────────────────────────────────
    def _enrolled(self, record: Record, at: float) -> None:
        subjects = record.subjects
        if record.verdict != events.Verdict.ALLOWED.value or not subjects.get("link"):
            return
        (link_id,), (hub,), (kme,) = subjects["link"], subjects["hub"], subjects["kme"]
        where = Where.HUB if record.event == events.ENROLMENT_GENERATED.name else Where.KME
        before = self._links.get(self._current.get((where, hub, kme), ""))
        if before is not None:
            self._links[before.link] = _ended(before, where, at)
        self._current[where, hub, kme] = link_id
        link = self._links.get(link_id, Link(link_id, hub, kme))
        link = replace(link, is_table=record.details.get("pad") == "table")
        if where is Where.HUB:
            # The KME cannot have had it before it was made.
            begin = at - (TABLE_SECONDS if link.is_table else SEED_SECONDS)
            link = replace(
                link, at_hub=replace(link.at_hub, begin=begin), at_kme=replace(link.at_kme, begin=begin)
            )
        self._links[link_id] = link

    # ── batches ─────────────────────────────────────────────────────────────────────────────────
    def _batch(self, owner: str, record: Record, at: float, role: str) -> None:
        (peer,), (batch_id,) = record.subjects["kme"], record.subjects["batch"]
        sender, receiver = (owner, peer) if role == "sender" else (peer, owner)
        links = tuple("" if one == "none" else one for one in _names(record, "links"))
        found = Batch(
            sender=sender,
            receiver=receiver,
            batch=batch_id,
            keys=_number(record, "keys"),
            threshold=_number(record, "threshold"),
            hubs=_names(record, "hubs"),
            begin=at - TRAVEL_SECONDS,
            end=at + TRAVEL_SECONDS,  # shares beyond the threshold still come
            is_control=record.details.get("purpose") == "control",
            sender_links=links if role == "sender" else (),
            receiver_links=links if role == "receiver" else (),
        )
        self._batches[batch_id] = _joined(self._batches.get(batch_id), found)

    # ── keys ────────────────────────────────────────────────────────────────────────────────────
    def history(self) -> History:
        """Everything together."""
        at_sender: dict[tuple[str, int], float] = {}
        took: dict[tuple[str, int], dict[str, float]] = {}
        entitled: dict[tuple[str, int], frozenset[str]] = {}
        for one in self.deliveries():
            for place in one.keys:
                if one.kme != self._end(place[0], at_sender=one.as_master):
                    continue  # whose keys are gone is for that end's own log to say
                if one.as_master:
                    at_sender[place] = max(one.at, at_sender.get(place, one.at))
                    entitled[place] = frozenset(one.others)
                else:
                    took.setdefault(place, {})[one.sae] = one.at
        for raw in self._lost():
            for place in self._named(raw.record)[0]:
                if self._batches[place[0]].sender == raw.owner.name:
                    at_sender[place] = raw.at
        fates: dict[str, dict[int, Fate]] = {}
        for place in {*at_sender, *took}:
            # Erased at the receiver only once every slave has it; who they are, the sender recorded.
            slaves, takers = entitled.get(place), took.get(place, {})
            all_took = slaves is not None and slaves <= takers.keys()
            gone = max(takers.values(), default=NEVER) if all_took else NEVER
            fates.setdefault(place[0], {})[place[1]] = self._at_the_latest(
                place[0], Fate(at_sender.get(place, NEVER), gone)
            )
        batch_fates = {name: self._at_the_latest(name, Fate()) for name in self._batches}
        return History(tuple(self._batches.values()), self._links, fates, batch_fates)

    def _end(self, batch_id: str, *, at_sender: bool) -> str:
        batch = self._batches[batch_id]
        return batch.sender if at_sender else batch.receiver

    def _at_the_latest(self, batch_id: str, fate: Fate) -> Fate:
        """What is left of a batch is erased when it expires."""
        batch = self._batches[batch_id]
        return Fate(
            min(fate.at_sender, self._expired.get((batch_id, batch.sender), NEVER)),
            min(fate.at_receiver, self._expired.get((batch_id, batch.receiver), NEVER)),
        )

    def deliveries(self) -> Iterator[Delivery]:
        """Every request that was answered with keys, as far as its batches are recorded."""
        for raw in self._taken:
            record = raw.record
            if record.event == events.KEYS_DELIVERED.name:
                places, unnamed = self._named(record)
                yield Delivery(
                    kme=raw.owner.name,
                    sae=record.actor.partition(":")[2],
                    as_master=record.details.get("as") == "master",
                    others=_names(record, "others"),
                    at=raw.at,
                    keys=places,
                    unnamed=unnamed,
                )

    def _lost(self) -> Iterator[_Raw]:
        return (one for one in self._taken if one.record.event == events.KEYS_VOIDED.name)

    def _named(self, record: Record) -> tuple[tuple[tuple[str, int], ...], int]:
        """The keys that a record names, found in the batches that it names; how many are not found."""
        for batch in record.subjects.get("batch", ()):
            self._place(batch)
        found = (self._places.get(one) for one in record.subjects.get("key", ()))
        places = tuple(place for place in found if place is not None)
        return places, max(0, _number(record, "keys") - len(places))

    def _place(self, batch_id: str) -> None:
        """Compute the ids of a batch's keys: what records name keys by."""
        batch = self._batches.get(batch_id)
        if batch is None or batch_id in self._placed:
            return
        self._placed.add(batch_id)
        for realm in self.realms:
            for index in range(batch.keys):
                name = key_id(
                    RealmName(realm),
                    KmeName(batch.sender),
                    KmeName(batch.receiver),
                    _batch_id(batch_id),
                    index,
                )
                self._places[str(name)] = (batch_id, index)


def seconds(time: str) -> float:
    """A record's time as UNIX seconds."""
    return datetime.fromisoformat(time).timestamp()


def _batch_id(text: str) -> BatchId:
    incarnation, _, counter = text.partition(":")
    try:
        return BatchId(Incarnation(bytes.fromhex(incarnation)), int(counter))
    except ValueError as error:
        raise LocalBug(codes.BAD_ARGUMENT, "a batch's id of another form") from error


def _ended(link: Link, where: Where, at: float) -> Link:
    if where is Where.HUB:
        return replace(link, at_hub=Life(link.at_hub.begin, at))
    return replace(link, at_kme=Life(link.at_kme.begin, at))


def _joined(one: Batch | None, other: Batch) -> Batch:
    """What both ends recorded of a batch; where they differ, what lets more be read."""
    if one is None:
        return other
    return replace(
        one,
        keys=max(one.keys, other.keys),
        threshold=min(one.threshold, other.threshold),
        hubs=one.hubs or other.hubs,
        begin=min(one.begin, other.begin),
        end=max(one.end, other.end),
        sender_links=one.sender_links or other.sender_links,
        receiver_links=one.receiver_links or other.receiver_links,
    )


def _names(record: Record, name: str) -> tuple[str, ...]:
    value = record.details.get(name, ())
    return value if isinstance(value, tuple) else ()


def _number(record: Record, name: str) -> int:
    value: Mapping[str, object] | object = record.details.get(name, 0)
    return value if isinstance(value, int) else 0
