"""What an operator asks a running KME about keys, over its admin socket, and what the audit log has of it.

Arguments come from a command line and are read here, each with one stable code if it cannot be; what
is done is ``KeyControl``'s. It must not know the socket.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, TypeVar

from skex.audit import events
from skex.audit.events import Event, Kind
from skex.audit.fields import Actor, Subject
from skex.base import codes, ids, limits
from skex.base.errors import Refused
from skex.base.ids import BatchId, KmeName, RealmName
from skex.daemon.keyfinding import KeyFinder, batch_named
from skex.daemon.record import Emit
from skex.keys.api import InUse, Target
from skex.keys.claims import Claims
from skex.keys.control import Control, in_use
from skex.keys.explaining import class_word, moment, reason_word
from skex.keys.history import BatchHistory
from skex.keys.states import PHASES
from skex.protocol import peer
from skex.protocol.changes import SuspendReason
from skex.wire.peer import RevokeReason

Answer = Mapping[str, Any]
ReasonT = TypeVar("ReasonT", bound=IntEnum)
_BATCH: Final = re.compile(r"[0-9a-f]{32}:[0-9]{1,20}")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")


class KeyCommands:
    """The commands ``keys``, ``key``, ``explain``, ``revoke``, ``suspend`` and ``resume``.

    ``actor`` names who sent the command that is being carried out; ``durable`` waits for the audit log.
    """

    def __init__(
        self,
        *,
        realm: RealmName,
        name: KmeName,
        control: Control,
        finder: KeyFinder,
        claims: Claims,
        emit: Emit,
        actor: Callable[[], Actor],
        durable: Callable[[], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self._realm = realm
        self._name = name
        self._control = control
        self._finder = finder
        self._claims = claims
        self._emit = emit
        self._actor = actor
        self._durable = durable
        self._spawn = spawn

    def commands(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[Answer]]]:
        """By the names that the admin socket has."""
        return {
            "keys": self.list,
            "key": self.show,
            "explain": self.explain,
            "revoke": self.revoke,
            "suspend": self.suspend,
            "resume": self.resume,
        }

    # ── looking ─────────────────────────────────────────────────────────────────────────────────
    async def list(self, arguments: Mapping[str, Any]) -> Answer:
        """Batches, newest first, with how many keys are in which state."""
        stated = arguments.get("peer")
        histories = await (self._finder.all() if stated is None else self._finder.pair(_peer(stated)))
        if not arguments.get("all"):
            histories = tuple(one for one in histories if one.left)
        shown = histories[: limits.KEYS_LISTED]
        return {
            "kme": self._name,
            "batches": [self._batch(one) for one in shown],
            "left_out": len(histories) - len(shown),
        }

    async def show(self, arguments: Mapping[str, Any]) -> Answer:
        """One key, or one batch with the ids of its keys."""
        target = _target(arguments)
        if len(target.key_ids) + len(target.batches) != 1:
            raise Refused(codes.KEY_TARGET, "one id")
        if target.batches:
            history = await self._finder.batch(target.batches[0])
            if history is None:
                raise Refused(codes.KEY_UNKNOWN, str(target.batches[0]))
            keys = [
                {"key_id": str(history.key_id(self._realm, self._name, index)), **_state(history, index)}
                for index in range(history.keys)
            ]
            return {**self._batch(history), "keys_by_id": keys}
        return dict((await self._control.explain(target.key_ids[0])).data)

    async def explain(self, arguments: Mapping[str, Any]) -> Answer:
        """What one key rests on, as sentences and as data."""
        target, use = _target(arguments), arguments.get("used_with")
        if len(target.key_ids) != 1 or not isinstance(use, str | None):
            raise Refused(codes.KEY_TARGET, "the id of one key")
        explanation = await self._control.explain(target.key_ids[0], use)
        return {"paragraph": explanation.paragraph, **explanation.data}

    def _batch(self, history: BatchHistory) -> dict[str, Any]:
        claim = self._claims.of(history.role, history.batch)
        rests = history.pair_rests
        return {
            "batch": str(history.name),
            "peer": history.batch.peer,
            "role": history.role.value,
            "key_bytes": history.batch.context.key_bytes,
            "keys": history.keys,
            "left": history.left.bit_count(),
            "states": {state.value: count for state, count in history.counts().items()},
            "made_at": moment(history.made_at),
            "expires_at": moment(history.expires_at),
            "class": class_word(claim.claim_class),
            "threshold": claim.threshold,
            "effective_threshold": claim.effective_threshold,
            "peer_suspended": None if rests is None else reason_word(rests.name),
        }

    # ── doing ───────────────────────────────────────────────────────────────────────────────────
    async def revoke(self, arguments: Mapping[str, Any]) -> Answer:
        """Nobody gets these keys any more; who has one already is named."""
        target, reason = _target(arguments), _reason(arguments, RevokeReason)
        await self._asked(events.REVOCATION_ASKED, target, reason)
        done = await self._control.revoke(target, reason)
        return {
            "revoked": done.keys,
            "reason": reason_word(reason.name),
            "in_use": [
                {"sae": one.sae, "keys": one.keys, "key_ids": [str(name) for name in one.key_ids]}
                for one in done.in_use
            ],
        }

    async def suspend(self, arguments: Mapping[str, Any]) -> Answer:
        """Nobody gets these keys here until they are resumed."""
        target, reason = _target(arguments), _reason(arguments, SuspendReason)
        await self._asked(events.KEYS_SUSPENDED, target, reason)
        return {"suspended": await self._control.suspend(target, reason), "reason": reason_word(reason.name)}

    async def resume(self, arguments: Mapping[str, Any]) -> Answer:
        """The suspension is over."""
        target = _target(arguments)
        await self._asked(events.KEYS_RESUMED, target, None)
        return {"resumed": await self._control.resume(target)}

    async def _asked(self, kind: Kind, target: Target, reason: IntEnum | None) -> None:
        """Who asked for what is on the medium before it is done."""
        subjects: list[Subject] = [] if target.peer is None else [Subject.kme(target.peer)]
        subjects += [Subject.batch(one) for one in target.batches]
        subjects += [Subject.key(one) for one in target.key_ids]
        details: dict[str, object] = {} if target.peer is not None else {"keys": len(target.key_ids)}
        if reason is not None:
            details["reason"] = reason_word(reason.name)
        self._emit(Event(kind, self._actor(), tuple(subjects[: limits.AUDIT_SUBJECTS]), details=details))
        await self._durable()

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────
    def hear(self, notice: object) -> None:
        """Keys were revoked, by whomever: applications here may have some of them."""
        if isinstance(notice, peer.Revoked) and notice.reason is not RevokeReason.ROLLBACK:
            self._spawn(self._warn(notice), "keys that were revoked in use")

    async def _warn(self, notice: peer.Revoked) -> None:
        """Tell the audit log who must stop using what."""
        histories = await self._finder.pair(notice.peer)
        mine = [one for one in histories if one.role is notice.role]
        for one in in_use(self._realm, self._name, mine, notice.keys):
            self._emit(_in_use(notice, one))


def _in_use(notice: peer.Revoked, one: InUse) -> Event:
    return Event(
        events.KEYS_REVOKED_IN_USE,
        subjects=(Subject.kme(notice.peer), *(Subject.key(name) for name in one.key_ids)),
        details={"keys": one.keys, "reason": reason_word(notice.reason.name), "holders": (one.sae,)},
    )


def _state(history: BatchHistory, index: int) -> dict[str, Any]:
    state = history.state(index)
    return {
        "state": state.value,
        "nist_state": PHASES[state].value,
        "taken_by": list(history.takers(index)),
    }


# ── arguments ───────────────────────────────────────────────────────────────────────────────────
def _target(arguments: Mapping[str, Any]) -> Target:
    """Ids of keys and batches, or a peer. Raises ``Refused`` (key-target, name-invalid)."""
    stated, peer_name = arguments.get("ids", []), arguments.get("peer")
    if not isinstance(stated, list) or len(stated) > limits.KEYS_NAMED or (stated and peer_name is not None):
        raise Refused(codes.KEY_TARGET)
    if peer_name is not None:
        return Target(peer=_peer(peer_name))
    keys, batches = [], []
    for text in stated:
        if isinstance(text, str) and _UUID.fullmatch(text):
            keys.append(uuid.UUID(text))
        else:
            batches.append(_batch_id(text))
    return Target(tuple(dict.fromkeys(keys)), tuple(dict.fromkeys(batches)))


def _batch_id(text: object) -> BatchId:
    if not isinstance(text, str) or not _BATCH.fullmatch(text) or int(text.partition(":")[2]) >= 2**64:
        raise Refused(codes.KEY_TARGET, ascii(text)[: limits.NAME_CHARACTERS])
    return batch_named(text)


def _peer(stated: object) -> KmeName:
    if not isinstance(stated, str):
        raise Refused(codes.NAME_INVALID, "a peer's name is expected")
    return ids.parse_kme_name(stated)


def _reason(arguments: Mapping[str, Any], reasons: type[ReasonT]) -> ReasonT:
    """A reason by its word; none stated is unspecified. Raises ``Refused`` (key-reason)."""
    stated = arguments.get("reason", "unspecified")
    for one in reasons:
        if stated == reason_word(one.name):
            return one
    raise Refused(codes.KEY_REASON, f"there are {', '.join(words_of(reasons))}")


def words_of(reasons: type[IntEnum]) -> Sequence[str]:
    """The reasons that may be stated."""
    return [reason_word(one.name) for one in reasons if one is not RevokeReason.ROLLBACK]
