"""What daemons write into the audit log: the machines' notices and the key service's decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final, assert_never

from skex.audit import events
from skex.audit.events import Event, Verdict
from skex.audit.fields import NETWORK, SYSTEM, Actor, ActorKind, Digest, Subject
from skex.base import codes, limits
from skex.base.errors import ErrorCode, SkexError
from skex.base.ids import BatchId, HubName, KmeName, LinkId, SaeId
from skex.keys.explaining import reason_word
from skex.keys.filling import ReserveMarks
from skex.keys.health import Turn
from skex.keys.service import Delivery
from skex.policy.decisions import Decision
from skex.protocol import bench, hub, kme, peer, realm, receiver, rollback, sender
from skex.protocol.changes import Batch, BenchKept, EvidenceKept
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import Purpose
from skex.wire.realm import Realm

Emit = Callable[[Event], None]


class ClaimWord(Enum):
    """A claim's class as audit records name it."""

    INFORMATION_THEORETIC = "information-theoretic"
    HYBRID = "hybrid"
    COMPUTATIONAL = "computational"


class PurposeWord(Enum):
    """What a batch is for, as audit records name it."""

    CONTROL = "control"
    TRAFFIC = "traffic"


class RandomnessWord(Enum):
    """Where keys come from, as audit records name it."""

    SYSTEM_XOR_OTHER = "system-xor-other"
    SYSTEM = "system"


class EnrolmentWord(Enum):
    """How the weakest link's material travelled, as audit records name it."""

    COMPONENTS = "components"
    CARRIED_IN_CLEAR = "carried-in-clear"
    UNDER_PASSPHRASE = "under-passphrase"  # noqa: S105  # a word, not a password


class EndWord(Enum):
    """As which SAE somebody got keys."""

    MASTER = "master"
    SLAVE = "slave"


NO_LINK: Final = "none"
"""In a record's list of links: this end has none to that hub."""


class BlameWord(Enum):
    """What a hub did wrong, as audit records name it."""

    WRONG_SHARE = "wrong-share"
    TWO_SHARES = "two-shares"
    OTHER_CONTEXT = "other-context"


class Rejected(Enum):
    """Why shares came to nothing, as audit records name it."""

    REFUSED = "refused"
    NEVER_FITTED = "never-fitted"


class KeyRecord:
    """``KeyEvents`` of the key service: one record for each request."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def delivered(self, delivery: Delivery) -> None:
        """Keys go to an SAE."""
        details = {
            "keys": len(delivery.key_ids),
            "purpose": delivery.purpose,
            "as": EndWord.MASTER if delivery.new else EndWord.SLAVE,
            "others": delivery.others,
        }
        self._happened(events.KEYS_DELIVERED, delivery, details, Verdict.ALLOWED)

    def lost(self, delivery: Delivery) -> None:
        """A committed delivery whose caller had gone."""
        self._happened(events.KEYS_VOIDED, delivery, {"keys": len(delivery.key_ids)}, None)

    def _happened(
        self, kind: events.Kind, delivery: Delivery, details: Mapping[str, object], verdict: Verdict | None
    ) -> None:
        """Which keys of which batches; an id is a digest of its batch and index, so each is to be found."""
        batches = tuple(Subject.batch(one) for one in delivery.batches)
        room = limits.AUDIT_SUBJECTS - 1 - len(batches)
        shown = tuple(Subject.key(one) for one in delivery.key_ids[:room])
        self._emit(
            Event(
                kind,
                actor=Actor(ActorKind.SAE, delivery.caller),
                subjects=(Subject.kme(delivery.peer), *batches, *shown),
                verdict=verdict,
                details=details,
            )
        )

    def refused(
        self, caller: SaeId, others: Sequence[SaeId], code: ErrorCode, *, new: bool, why: Decision | None
    ) -> None:
        """A request was refused; where policy did it, by which rule and why."""
        self._emit(
            Event(
                events.KEYS_REFUSED,
                actor=Actor(ActorKind.SAE, caller),
                subjects=tuple(Subject.sae(one) for one in others),
                verdict=Verdict.REFUSED,
                rule="" if why is None else why.rule,
                cause=code,
                details={
                    "as": EndWord.MASTER if new else EndWord.SLAVE,
                    **({} if why is None else {"note": why.reason}),
                },
            )
        )

    def reserve_turned(self, marks: ReserveMarks, turn: Turn) -> None:
        """A reserve became starved, or is so no more."""
        kind = events.RESERVE_STARVED if turn.starved else events.RESERVE_RECOVERED
        self._emit(Event(kind, subjects=(Subject.kme(marks.peer),), details={"keys": turn.keys}))


class PeerAsked(Enum):
    """What a peer was refused, as audit records name it."""

    BATCH = "batch"
    ASSIGNMENT = "assignment"


def refused_peer(name: KmeName, what: PeerAsked, decision: Decision) -> Event:
    """A peer asked for what this KME's policy forbids; it learns no more than that."""
    return Event(
        events.AUTHORISATION_FAILED,
        actor=Actor(ActorKind.KME, name),
        verdict=Verdict.REFUSED,
        rule=decision.rule,
        details={"what": what, "note": decision.reason},
    )


def of_kme(
    notice: kme.KmeNotice,
    links: Mapping[HubName, LinkId],
    rule_against: Callable[[sender.NotEstablished], str] = lambda _notice: "",
) -> Event | None:
    """The record of a notice of a KME's machines, if it is of consequence.

    ``links`` are this KME's own, by their hubs; ``rule_against`` is the rule by which it made no batch.
    """
    event: Event | None = None
    match notice:
        case sender.Established(batch=batch):
            event = _batch(events.BATCH_CONFIRMED, batch, links)
        case receiver.BatchAccepted(batch):
            event = _batch(events.BATCH_ESTABLISHED, batch, links)
        case sender.NotEstablished(peer=name, code=code):
            rule = rule_against(notice)
            event = Event(events.BATCH_FAILED, subjects=(Subject.kme(name),), rule=rule, cause=code)
        case receiver.HubBlamed() | bench.HubBenched() | bench.HubBroughtBack():
            event = _conduct(notice)
        case receiver.GroupExpired() | receiver.ShareRefused():
            event = _share_rejected(notice)
        case receiver.TwoCandidates(sender=name, batch=batch_id):
            subjects = (Subject.kme(name), Subject.batch(batch_id))
            event = Event(events.TWO_CANDIDATES, subjects=subjects, cause=codes.TWO_CANDIDATES)
        case realm.RealmExpired(epoch):
            event = Event(events.REALM_EXPIRED, cause=codes.REALM_EXPIRED, details={"epoch": epoch})
        case peer.Revoked():
            event = _revoked(notice)
        case realm.RealmInForce(realm=later):
            event = realm_changed(later)
        case rollback.RevokeEverything(hubs=hubs):
            event = Event(events.ROLLBACK_NOTICED, subjects=tuple(Subject.hub(name) for name in hubs))
        case rollback.FreezeLink(hub=name):
            event = Event(events.ROLLBACK_NOTICED, subjects=(Subject.hub(name),))
        case _:
            event = _of_end(notice)
    return event


def _revoked(notice: peer.Revoked) -> Event:
    """Keys of these batches, or of the whole pair; by the peer, or for a reason of this KME."""
    keys = notice.keys or ()
    batches = tuple(dict.fromkeys(one.batch for one in keys))[: limits.AUDIT_SUBJECTS - 1]
    counted = {"keys": sum(one.count for one in keys)} if notice.keys is not None else {}
    return Event(
        events.KEYS_REVOKED,
        actor=Actor(ActorKind.KME, notice.peer) if notice.by_peer else SYSTEM,
        subjects=(Subject.kme(notice.peer), *(Subject.batch(one) for one in batches)),
        details={**counted, "reason": reason_word(notice.reason.name)},
    )


def _of_end(notice: kme.KmeNotice) -> Event | None:
    """The record of keys that ended by themselves."""
    match notice:
        case receiver.BatchExpired(sender=name, batch=batch_id):
            return batch_expired(name, batch_id)
        case _:
            return None


def batch_expired(peer_name: KmeName, batch: BatchId) -> Event:
    """What was left of a batch is erased at this end."""
    return Event(events.KEYS_EXPIRED, subjects=(Subject.kme(peer_name), Subject.batch(batch)))


def _conduct(notice: receiver.HubBlamed | bench.HubBenched | bench.HubBroughtBack) -> Event:
    """What a hub did, and what follows from it."""
    match notice:
        case receiver.HubBlamed():
            return _blamed(notice)
        case bench.HubBenched(kept):
            return _benched(kept)
        case bench.HubBroughtBack(hub=name, peer=peer_name, why=why, by=by):
            subjects = _hub_for(name, peer_name)
            return Event(events.HUB_BROUGHT_BACK, _operator(by), subjects, details={"why": why})
        case _:
            assert_never(notice)


def _blamed(notice: receiver.HubBlamed) -> Event:
    kept = EvidenceKept(
        notice.hub, notice.sender, notice.batch, notice.blame, notice.certain, notice.evidence
    )
    return Event(
        events.HUB_BLAMED,
        subjects=(Subject.hub(notice.hub), Subject.kme(notice.sender), Subject.batch(notice.batch)),
        details={
            "blame": BlameWord[notice.blame.name],
            "certain": notice.certain,
            "evidence": Digest(kept.to_bytes()),
        },
    )


def _benched(kept: BenchKept) -> Event:
    details: dict[str, object] = {"why": kept.cause, "note": kept.reason}
    if kept.seconds is not None:
        details["seconds"] = round(kept.seconds)
    return Event(
        events.HUB_BENCHED,
        _operator(kept.by),
        _hub_for(kept.hub, kept.peer),
        rule=kept.rule,
        details=details,
    )


def _operator(by: str) -> Actor:
    return Actor(ActorKind.OPERATOR, by) if by else SYSTEM


def _hub_for(name: HubName, peer_name: KmeName | None) -> tuple[Subject, ...]:
    """A hub, and the peer for whose batches something holds; none for all."""
    return (Subject.hub(name),) if peer_name is None else (Subject.hub(name), Subject.kme(peer_name))


def _share_rejected(notice: receiver.GroupExpired | receiver.ShareRefused) -> Event:
    """Shares of this sender's batches came to nothing: hubs spoil them, or it sends what never fits."""
    expired = isinstance(notice, receiver.GroupExpired)
    reason = Rejected.NEVER_FITTED if expired else Rejected.REFUSED
    return Event(
        events.SHARE_REJECTED,
        actor=Actor(ActorKind.KME, notice.sender),
        verdict=Verdict.REFUSED,
        details={"reason": reason},
    )


def _batch(kind: events.Kind, batch: Batch, links: Mapping[HubName, LinkId]) -> Event:
    """Everything that the claim of a batch rests on: what is known of it when the store has dropped it."""
    context, claim = batch.context, batch.claim
    used = tuple(links[name] for name in batch.hubs if name in links)
    return Event(
        kind,
        subjects=(
            Subject.kme(batch.peer),
            Subject.batch(batch.batch),
            *(Subject.link(link) for link in used),
        ),
        details={
            "keys": context.keys,
            "key_bytes": context.key_bytes,
            "threshold": context.threshold,
            "hubs": batch.hubs,
            "purpose": _PURPOSES[context.purpose],
            "epoch": context.epoch,
            "lifetime": context.lifetime,
            "claim": ClaimWord[claim.claim_class(context.threshold).name],
            "margin": claim.margin(context.threshold),
            "computational": computational_hubs(batch, claim),
            "sender_computational": computational_hubs(batch, context.claim),
            "randomness": _RANDOMNESS[claim.randomness],
            "enrolment": _ENROLMENTS[claim.enrolment],
            "links": tuple(links[name].hex() if name in links else NO_LINK for name in batch.hubs),
        },
    )


_PURPOSES: Final = {one: PurposeWord[one.name] for one in Purpose}
_RANDOMNESS: Final = {one: RandomnessWord[one.name] for one in Randomness}
_ENROLMENTS: Final = {one: EnrolmentWord[one.name] for one in Enrolment}


def computational_hubs(batch: Batch, claim: Claim) -> tuple[HubName, ...]:
    """The hubs of a batch whose path an unbounded attacker breaks, as a claim says."""
    named = zip(batch.context.hubs, batch.hubs, strict=True)
    return tuple(name for coordinate, name in named if coordinate in claim.computational)


def realm_changed(later: Realm, actor: Actor = SYSTEM) -> Event:
    """Another epoch took effect: because hubs voted for it, or because an operator said so."""
    details = {"epoch": later.epoch, "threshold": later.threshold}
    return Event(events.REALM_CHANGED, actor, (Subject.realm(later.name),), details=details)


def of_hub(
    notice: hub.HubNotice, why: Callable[[hub.RefusedRequest], Decision | None] = lambda _notice: None
) -> Event | None:
    """The record of a notice of a hub's relay, if it is of consequence. ``why`` is what policy decided."""
    match notice:
        case hub.RefusedRequest(sender=name, code=code, receiver=receiver_name):
            decision = why(notice)
            return Event(
                events.AUTHORISATION_FAILED,
                actor=Actor(ActorKind.KME, name),
                subjects=() if receiver_name is None else (Subject.kme(receiver_name),),
                verdict=Verdict.REFUSED,
                rule="" if decision is None else decision.rule,
                cause=code,
                details={
                    "what": notice.request,
                    "note": notice.reason.value if decision is None else decision.reason,
                },
            )
        case _:
            return None


# ── connections ─────────────────────────────────────────────────────────────────────────────────
class Overload(Enum):
    """What there was too much of, as audit records name it."""

    PREFACES = "prefaces"
    CONNECTIONS = "connections"
    REFUSALS = "refusals"


class Unproved(Enum):
    """What did not verify, as audit records name it."""

    PREFACE = "preface"
    RECORD = "record"


_NOT_OURS: Final = frozenset({codes.CONNECTION_CLOSED, codes.LINK_REPLACED, codes.LINK_DOWN})
"""How connections end when nothing is wrong but the connection."""
_FORGED: Final = frozenset({codes.RECORD_TAG, codes.RECORD_HEADER, codes.RECORD_VERSION})
_REPEATED: Final = frozenset({codes.RECORD_POSITION, codes.RECORD_LENGTH})


def of_stranger(error: SkexError, link_id: LinkId | None, address: str) -> Event | None:
    """Somebody opened a connection to a hub and proved nothing. None for one that just went away."""
    if error.code in _NOT_OURS:
        return None
    if error.code is codes.VERSION_UNSUPPORTED:
        subjects = () if link_id is None else (Subject.link(link_id),)
        return _version_refused(NETWORK, subjects, {"address": address})
    return Event(
        events.AUTHENTICATION_FAILED,
        actor=NETWORK,
        subjects=() if link_id is None else (Subject.link(link_id),),
        verdict=Verdict.REFUSED,
        cause=error.code,
        details={"what": Unproved.PREFACE, "address": address},
    )


def of_kme_connection(kme_name: KmeName, error: SkexError, address: str) -> Event:
    """The connection of an enrolled KME ended."""
    return _of_connection(Actor(ActorKind.KME, kme_name), Subject.kme(kme_name), error, {"address": address})


def of_hub_connection(hub_name: HubName, error: SkexError) -> Event | None:
    """The connection with a hub ended, or never came about. None where it could not be dialled."""
    if error.code is codes.LINK_DOWN:
        return None
    if error.code in {codes.PROOF_INVALID, codes.FRAME_MALFORMED, codes.FRAME_LENGTH, codes.FRAME_UNEXPECTED}:
        return Event(
            events.AUTHENTICATION_FAILED,
            actor=NETWORK,
            subjects=(Subject.hub(hub_name),),
            cause=error.code,
            details={"what": Unproved.PREFACE},
        )
    actor, subject = Actor(ActorKind.HUB, hub_name), Subject.hub(hub_name)
    if error.code is codes.VERSION_UNSUPPORTED:
        return _version_refused(actor, (subject,), {})
    return _of_connection(actor, subject, error, {})


def _version_refused(actor: Actor, subjects: tuple[Subject, ...], details: Mapping[str, object]) -> Event:
    """The other end speaks no version that this one does; at a hub it has not proved who it is."""
    return Event(
        events.VERSION_REFUSED,
        actor,
        subjects,
        verdict=Verdict.REFUSED,
        cause=codes.VERSION_UNSUPPORTED,
        details=details,
    )


def _of_connection(who: Actor, with_whom: Subject, error: SkexError, details: Mapping[str, object]) -> Event:
    """Spoilt records come from whoever spoilt them, so their actor is the network."""
    if error.code in _FORGED:
        found = {**details, "what": Unproved.RECORD}
        return Event(events.FORGERY_ATTEMPTED, NETWORK, (with_whom,), cause=error.code, details=found)
    if error.code in _REPEATED:
        return Event(events.RECORD_REPEATED, NETWORK, (with_whom,), cause=error.code, details=details)
    return Event(events.CONNECTION_LOST, who, (with_whom,), cause=error.code, details=details)


def crowded(address: str) -> Event:
    """So many strangers that one was sent away unheard."""
    details = {"what": Overload.PREFACES, "address": address}
    return Event(events.OVERLOAD_SHED, actor=NETWORK, details=details)


def slowed(kme_name: KmeName, what: Overload) -> Event:
    """A KME asks for more than it may, so often that it is read more slowly."""
    return Event(events.OVERLOAD_SHED, actor=Actor(ActorKind.KME, kme_name), details={"what": what})


def rollback_of(link_id: LinkId, code: ErrorCode | None = None) -> Event:
    """An end of a link was seen further than it is."""
    return Event(events.ROLLBACK_NOTICED, subjects=(Subject.link(link_id),), cause=code)


def link_frozen(link_id: LinkId, code: ErrorCode) -> Event:
    """A link may not be used again, because its pads are not where they were left."""
    return Event(events.LINK_FROZEN, subjects=(Subject.link(link_id),), cause=code)


def pad_exhausted(name: HubName | None = None, kme_name: KmeName | None = None) -> Event:
    """No pad is left towards a hub or a KME."""
    subject = Subject.hub(name) if name is not None else Subject.kme(kme_name or KmeName("unknown"))
    return Event(events.PAD_EXHAUSTED, subjects=(subject,))
