"""What daemons write into the audit log: the machines' notices and the key service's decisions."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final

from skex.audit import events
from skex.audit.events import Event, Verdict
from skex.audit.fields import NETWORK, SYSTEM, Actor, ActorKind, Subject
from skex.base import codes, limits
from skex.base.errors import ErrorCode, SkexError
from skex.base.ids import HubName, KmeName, LinkId, SaeId
from skex.protocol import hub, kme, peer, realm, receiver, rollback, sender
from skex.protocol.changes import Batch
from skex.wire.realm import Realm

Emit = Callable[[Event], None]


class ClaimWord(Enum):
    """A claim's class as audit records name it."""

    INFORMATION_THEORETIC = "information-theoretic"
    HYBRID = "hybrid"
    COMPUTATIONAL = "computational"


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

    def delivered(self, caller: SaeId, peer: KmeName, key_ids: Sequence[uuid.UUID], *, new: bool) -> None:
        """Keys go to ``caller``."""
        del new
        shown = tuple(Subject.key(one) for one in key_ids[: limits.AUDIT_SUBJECTS - 1])
        self._emit(
            Event(
                events.KEYS_DELIVERED,
                actor=Actor(ActorKind.SAE, caller),
                subjects=(Subject.kme(peer), *shown),
                verdict=Verdict.ALLOWED,
                details={"keys": len(key_ids)},
            )
        )

    def lost(self, caller: SaeId, peer: KmeName, key_ids: Sequence[uuid.UUID], *, new: bool) -> None:
        """A committed delivery whose caller had gone."""
        del new
        shown = tuple(Subject.key(one) for one in key_ids[: limits.AUDIT_SUBJECTS - 1])
        self._emit(
            Event(
                events.KEYS_VOIDED,
                actor=Actor(ActorKind.SAE, caller),
                subjects=(Subject.kme(peer), *shown),
                details={"keys": len(key_ids)},
            )
        )

    def refused(self, caller: SaeId, other: str, code: ErrorCode, *, new: bool) -> None:
        """A request was refused."""
        del other, new
        self._emit(
            Event(
                events.KEYS_REFUSED,
                actor=Actor(ActorKind.SAE, caller),
                verdict=Verdict.REFUSED,
                cause=code,
            )
        )


def of_kme(notice: kme.KmeNotice) -> Event | None:
    """The record of a notice of a KME's machines, if it is of consequence."""
    event: Event | None = None
    match notice:
        case sender.Established(batch=batch):
            event = _batch(events.BATCH_CONFIRMED, batch)
        case receiver.BatchAccepted(batch):
            event = _batch(events.BATCH_ESTABLISHED, batch)
        case sender.NotEstablished(peer=name, code=code):
            event = Event(events.BATCH_FAILED, subjects=(Subject.kme(name),), cause=code)
        case receiver.HubBlamed(hub=name, batch=batch_id):
            subjects = (Subject.hub(name), Subject.batch(batch_id))
            details = {"blame": BlameWord[notice.blame.name]}
            event = Event(events.HUB_BLAMED, subjects=subjects, details=details)
        case receiver.GroupExpired() | receiver.ShareRefused():
            event = _share_rejected(notice)
        case receiver.TwoCandidates(sender=name, batch=batch_id):
            subjects = (Subject.kme(name), Subject.batch(batch_id))
            event = Event(events.TWO_CANDIDATES, subjects=subjects, cause=codes.TWO_CANDIDATES)
        case realm.RealmExpired(epoch):
            event = Event(events.REALM_EXPIRED, cause=codes.REALM_EXPIRED, details={"epoch": epoch})
        case peer.Revoked(peer=name):
            event = Event(events.KEYS_REVOKED, subjects=(Subject.kme(name),))
        case realm.RealmInForce(realm=later):
            event = realm_changed(later)
        case rollback.RevokeEverything(hubs=hubs):
            event = Event(events.ROLLBACK_NOTICED, subjects=tuple(Subject.hub(name) for name in hubs))
        case rollback.FreezeLink(hub=name):
            event = Event(events.ROLLBACK_NOTICED, subjects=(Subject.hub(name),))
        case _:
            pass
    return event


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


def _batch(kind: events.Kind, batch: Batch) -> Event:
    context = batch.context
    return Event(
        kind,
        subjects=(Subject.kme(batch.peer), Subject.batch(batch.batch)),
        details={
            "keys": context.keys,
            "threshold": context.threshold,
            "claim": ClaimWord[batch.claim.claim_class(context.threshold).name],
            "margin": batch.claim.margin(context.threshold),
        },
    )


def realm_changed(later: Realm, actor: Actor = SYSTEM) -> Event:
    """Another epoch took effect: because hubs voted for it, or because an operator said so."""
    details = {"epoch": later.epoch, "threshold": later.threshold}
    return Event(events.REALM_CHANGED, actor, (Subject.realm(later.name),), details=details)


def of_hub(notice: hub.HubNotice) -> Event | None:
    """The record of a notice of a hub's relay, if it is of consequence."""
    match notice:
        case hub.RefusedRequest(sender=name, code=code):
            return Event(
                events.AUTHORISATION_FAILED,
                actor=Actor(ActorKind.KME, name),
                verdict=Verdict.REFUSED,
                cause=code,
                details={"what": notice.request},
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


def pad_exhausted(name: HubName | None = None, kme_name: KmeName | None = None) -> Event:
    """No pad is left towards a hub or a KME."""
    subject = Subject.hub(name) if name is not None else Subject.kme(kme_name or KmeName("unknown"))
    return Event(events.PAD_EXHAUSTED, subjects=(subject,))
