"""What daemons write into the audit log: the machines' notices and the key service's decisions."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from enum import Enum

from skex.audit import events
from skex.audit.events import Event, Verdict
from skex.audit.fields import Actor, ActorKind, Subject
from skex.base import limits
from skex.base.errors import ErrorCode
from skex.base.ids import HubName, KmeName, LinkId, SaeId
from skex.protocol import hub, kme, peer, receiver, rollback, sender
from skex.protocol.changes import Batch

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
        case receiver.TwoCandidates(sender=name, batch=batch_id):
            event = Event(events.TWO_CANDIDATES, subjects=(Subject.kme(name), Subject.batch(batch_id)))
        case peer.Revoked(peer=name):
            event = Event(events.KEYS_REVOKED, subjects=(Subject.kme(name),))
        case rollback.RevokeEverything() | rollback.FreezeLink():
            event = Event(events.ROLLBACK_NOTICED)
        case _:
            pass
    return event


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


def rollback_of(link_id: LinkId, code: ErrorCode | None = None) -> Event:
    """An end of a link was seen further than it is."""
    return Event(events.ROLLBACK_NOTICED, subjects=(Subject.link(link_id),), cause=code)


def pad_exhausted(name: HubName | None = None, kme_name: KmeName | None = None) -> Event:
    """No pad is left towards a hub or a KME."""
    subject = Subject.hub(name) if name is not None else Subject.kme(kme_name or KmeName("unknown"))
    return Event(events.PAD_EXHAUSTED, subjects=(subject,))
