"""The gate of a running daemon: who may ask it for what, and what waits for a second person.

Users are told apart by what the kernel says of the other end of the admin socket, and decided about by
the policy in force. Whoever is refused gets one answer; the audit log gets who, what and which rule.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from skex.audit import events
from skex.audit.events import Event, Kind, Verdict
from skex.audit.fields import Actor
from skex.base import codes
from skex.base.errors import ErrorCode, Refused, SkexError
from skex.daemon.admin import Answer, Command, Incoming, Shared, UploadCommand, acting, asking, second_person
from skex.daemon.config import AdminConfig
from skex.daemon.enrolling import PassphraseWanted, text
from skex.daemon.evidence import operator
from skex.daemon.recording import Recording
from skex.daemon.spool import Spool, SpoolReader
from skex.daemon.waiting import Request, Waiting, Wanted
from skex.policy.decisions import Bound, Decision
from skex.policy.operators import Operator, group_names, user_names
from skex.policy.ports import ActivePolicy
from skex.policy.rules import OperatorCommand, OperatorRule, Policy
from skex.runtime import peers
from skex.runtime.peers import Peer

ResultT = TypeVar("ResultT")
_log = logging.getLogger("skex.admin")

Says: TypeAlias = Callable[[Mapping[str, Any], SpoolReader | None], Awaitable[Mapping[str, Any]]]
"""What a command would do, from its arguments and file, for people. Raises ``SkexError``."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command of the admin socket is to policies; ``acts`` whether, so asked, it does anything."""

    command: OperatorCommand
    acts: Callable[[Mapping[str, Any]], bool] = bool
    can_wait: bool = False


def _always(_: Mapping[str, Any]) -> bool:
    return True


_STATUS: Final = Asked(OperatorCommand.STATUS)
ASKED: Final[Mapping[str, Asked]] = {
    "health": _STATUS,
    "metrics": _STATUS,
    "status": _STATUS,
    "policy": Asked(OperatorCommand.POLICY),
    "reload": Asked(OperatorCommand.RELOAD, _always, can_wait=True),
    "reserve": Asked(OperatorCommand.RESERVE, can_wait=True),
    "kit-order": Asked(OperatorCommand.KIT_CREATE),
    "realm": Asked(OperatorCommand.REALM_UPDATE, _always, can_wait=True),
    "blame": Asked(OperatorCommand.BLAME),
    "bench": Asked(OperatorCommand.BENCH, _always, can_wait=True),
    "bring-back": Asked(OperatorCommand.BENCH, _always, can_wait=True),
    "keys": Asked(OperatorCommand.KEY_READ),
    "key": Asked(OperatorCommand.KEY_READ),
    "explain": Asked(OperatorCommand.KEY_READ),
    "suspend": Asked(OperatorCommand.KEY_SUSPEND),
    "resume": Asked(OperatorCommand.KEY_SUSPEND),
    "revoke": Asked(OperatorCommand.KEY_REVOKE, _always, can_wait=True),
    "audit": Asked(OperatorCommand.AUDIT),
    "audit-seal": Asked(OperatorCommand.AUDIT),
    "audit-key": Asked(OperatorCommand.AUDIT_KEY),
}
"""What others than the owner may ask for, if the policy lets them; a command that is not here is the
owner's. What a kit is depends on the daemon: made at a hub, imported at a KME."""
_KITS: Final = {"hub": OperatorCommand.KIT_CREATE, "kme": OperatorCommand.KIT_IMPORT}
_OF_ANYBODY: Final[Mapping[str, Asked]] = {
    "pending": Asked(OperatorCommand.PENDING),
    "approve": Asked(OperatorCommand.APPROVE),
    "reject": Asked(OperatorCommand.APPROVE),
}
"""Open to whoever may ask for anything at all; what they see and may do is decided request by request."""


class Unknown(Enum):
    """What was asked for, as audit records name it, where it is no command for others."""

    OTHER = "other"


class Operators:
    """The gate of one daemon, of which ``kind`` says whether it is a hub or a KME."""

    def __init__(self, kind: str, policy: ActivePolicy, recording: Recording, home: Path) -> None:
        self._policy = policy
        self._recording = recording
        self._home = home
        self._asked = {**ASKED, "kit": Asked(_KITS[kind], _always, can_wait=True)}
        self._waiting = Waiting(lambda request: self._ended(request, codes.DUAL_CONTROL_EXPIRED))
        self._commands: Mapping[str, Command] = {}
        self._uploads: Mapping[str, UploadCommand] = {}
        self._says: Mapping[str, Says] = {}

    def serve(
        self,
        commands: Mapping[str, Command],
        uploads: Mapping[str, UploadCommand],
        says: Mapping[str, Says],
    ) -> Mapping[str, Command]:
        """``commands``, and those of this gate; what can wait is carried out through them later."""
        self._commands, self._uploads, self._says = commands, uploads, says
        return {
            **commands,
            "pending": self._pending,
            "approve": self._approve,
            "reject": self._reject,
        }

    def granted(self, before: Policy | None) -> None:
        """Record what operators may ask for from now on, and what not any more."""
        old = _grants(before)
        new = _grants(self._policy.current.policy)
        for kind, rules in ((events.ROLE_WITHDRAWN, old - new), (events.ROLE_GRANTED, new - old)):
            for rule in sorted(rules, key=lambda one: one.id):
                self._recording.emit(_grant(kind, rule))

    def close(self) -> None:
        """Forget what waits: the daemon stops."""
        for request in self._waiting:
            self._waiting.take(request)
            self._waiting.end(request, "forgotten")
            self._ended(request, codes.DUAL_CONTROL_UNKNOWN)

    # ── the gate ────────────────────────────────────────────────────────────────────────────────
    async def admits(self, peer: Peer, name: str) -> bool:
        """See ``Gate``. Refusals are recorded."""
        if peer.is_owner:
            return True
        who = await known(peer)
        place = self._policy.current.operator
        if name in _OF_ANYBODY and place.may_anything(who):
            return True
        asked = self._asked.get(name) or _OF_ANYBODY.get(name)
        decision = None if asked is None else place.may(who, asked.command)
        if decision:
            return True
        word: Enum = Unknown.OTHER if asked is None else asked.command
        self._refused(peer, word, decision)
        return False

    def _refused(self, peer: Peer, word: Enum, decision: Decision | None) -> None:
        rule = "" if decision is None else decision.rule
        _log.warning("an operator was refused", extra={"user": peer.user, "what": word.value, "rule": rule})
        self._recording.emit(
            Event(
                events.AUTHORISATION_FAILED,
                operator(peer.user),
                verdict=Verdict.REFUSED,
                rule=rule,
                cause=codes.NOT_AUTHORISED,
                details={"what": word},
            )
        )

    async def keeps(self, name: str, arguments: Mapping[str, Any], file: Incoming | None) -> Answer | None:
        """See ``Gate``."""
        asked = self._asked.get(name)
        if asked is None or not asked.can_wait or not asked.acts(arguments):
            return None
        bound = self._policy.current.operator.dual(asked.command)
        if bound is None:
            return None
        async with self._recording.on_medium():
            try:
                request = await self._kept(name, asked.command, arguments, file)
            except PassphraseWanted:
                return {"passphrase_wanted": True}
            except SkexError as error:
                self._not_kept(asked.command, error.code, bound.rule)
                raise
        return {"pending": self._as_data(request)}

    async def _kept(
        self, name: str, command: OperatorCommand, arguments: Mapping[str, Any], file: Incoming | None
    ) -> Request:
        peer = asking()
        if peer.is_owner:
            raise Refused(codes.DUAL_CONTROL_PERSON)
        with self._waiting.coming(peer):
            spool = None if file is None else await _in_thread(partial(Spool, file, self._home))
            try:
                says = await self._said(name, arguments, spool)
                bound = self._still_dual(command)
            except BaseException:
                if spool is not None:
                    spool.discard()
                raise
        wanted = Wanted(name, command, dict(arguments), spool, says)
        request = self._waiting.keep(wanted, peer, bound.value, bound.rule)
        self._happened(events.DUAL_CONTROL_REQUESTED, request)
        return request

    def _still_dual(self, command: OperatorCommand) -> Bound:
        """Asked again: whatever was waited for, the policy may be another one by now."""
        bound = self._policy.current.operator.dual(command)
        if bound is None:
            raise Refused(codes.DUAL_CONTROL_CHANGED, "the policy changed meanwhile: ask again")
        return bound

    async def _said(self, name: str, arguments: Mapping[str, Any], spool: Spool | None) -> Mapping[str, Any]:
        says = self._says.get(name)
        return (
            dict(arguments)
            if says is None
            else await says(arguments, None if spool is None else spool.opened())
        )

    # ── what operators ask of the gate itself ───────────────────────────────────────────────────
    async def _pending(self, _: Mapping[str, Any]) -> Answer:
        peer = asking()
        who = await known(peer)
        may_see = self._policy.current.operator.may(who, OperatorCommand.PENDING)
        shown = [
            one
            for one in self._waiting
            if may_see or one.by.user == peer.user or self._may_approve(who, one.wanted.command)
        ]
        ended = [
            {"id": one.id, "command": one.command, "outcome": one.outcome, "at": one.at}
            for one in (self._waiting.ended if may_see else ())
        ]
        return {"pending": [self._as_data(one) for one in shown], "ended": ended}

    async def _approve(self, arguments: Mapping[str, Any]) -> Answer:
        """Carry out what somebody else asked for, exactly as they asked for it, once."""
        peer = asking()
        request: Request | None = None
        async with self._recording.on_medium():
            try:
                request = self._waiting.find(text(arguments, "id"))
                await self._require_second(request, peer)
                if text(arguments, "digest") != request.digest.hex:
                    raise Refused(codes.DUAL_CONTROL_CHANGED, "the digest is not that of the request")
                # Nothing is awaited from here until it is taken: of two at once, one finds it.
                if not self._is_waiting(request):
                    raise Refused(codes.DUAL_CONTROL_UNKNOWN)
            except SkexError as error:
                self._refuse(request, peer, error.code)
                raise
            self._waiting.take(request)
            return await self._carry_out(request, peer)

    def _may_approve(self, who: Operator, command: OperatorCommand) -> bool:
        place = self._policy.current.operator
        return bool(place.may(who, OperatorCommand.APPROVE)) and bool(place.may(who, command))

    def _is_waiting(self, request: Request) -> bool:
        return any(one is request for one in self._waiting)

    async def _require_second(self, request: Request, peer: Peer) -> None:
        """Raises ``Refused`` unless ``peer`` may be the second person of ``request``."""
        if peer.is_owner:
            raise Refused(codes.DUAL_CONTROL_PERSON)
        if peer.user == request.by.user:
            raise Refused(codes.DUAL_CONTROL_SAME)
        who, first = await known(peer), await known(request.by)
        place, command = self._policy.current.operator, request.wanted.command
        for needed in (OperatorCommand.APPROVE, command):
            decision = place.may(who, needed)
            if not decision:
                self._refused(peer, needed, decision)
                raise Refused(codes.NOT_AUTHORISED)
        if not place.may(first, command):
            raise Refused(codes.DUAL_CONTROL_WITHDRAWN)

    async def _carry_out(self, request: Request, peer: Peer) -> Answer:
        wanted, outcome = request.wanted, "failed"
        try:
            now = await self._said(wanted.name, wanted.arguments, wanted.file)
            if wanted.digest(now) != request.digest:
                raise Refused(codes.DUAL_CONTROL_CHANGED, "it changed since it was asked for: ask again")
            self._happened(events.DUAL_CONTROL_APPROVED, request, peer)
            await self._recording.durable()
            with acting(request.by, peer):
                answer = await self._done(wanted)
            outcome = "done"
        except SkexError as error:
            outcome = error.code.name
            self._ended(request, error.code, peer)
            raise
        finally:
            self._waiting.end(request, outcome)
        return {"done": wanted.command.value, "id": request.id, "answer": dict(answer)}

    async def _done(self, wanted: Wanted) -> Answer:
        if wanted.file is None:
            return await self._commands[wanted.name](wanted.arguments)
        return await self._uploads[wanted.name](wanted.arguments, wanted.file.opened())

    async def _reject(self, arguments: Mapping[str, Any]) -> Answer:
        """Drop a request: its own, or, for who could approve it, anybody's."""
        peer = asking()
        request: Request | None = None
        async with self._recording.on_medium():
            try:
                request = self._waiting.find(text(arguments, "id"))
                is_second = self._may_approve(await known(peer), request.wanted.command)
                if peer.user != request.by.user and not is_second:
                    raise Refused(codes.NOT_AUTHORISED)
                if not self._is_waiting(request):
                    raise Refused(codes.DUAL_CONTROL_UNKNOWN)
            except SkexError as error:
                self._refuse(request, peer, error.code)
                raise
            self._waiting.take(request)
            self._waiting.end(request, "rejected")
            self._ended(request, None, peer)
        return {"rejected": request.id}

    # ── records and answers ─────────────────────────────────────────────────────────────────────
    def _happened(self, kind: Kind, request: Request, second: Peer | None = None) -> None:
        self._recording.emit(_of_request(kind, request, second, request.rule, None))

    def _ended(self, request: Request, cause: ErrorCode | None, second: Peer | None = None) -> None:
        self._recording.emit(_of_request(events.DUAL_CONTROL_ENDED, request, second, request.rule, cause))

    def _refuse(self, request: Request | None, peer: Peer, cause: ErrorCode) -> None:
        """Somebody wanted to be the second person and is not."""
        if request is None:
            self._recording.emit(
                Event(events.DUAL_CONTROL_REFUSED, operator(peer.user), verdict=Verdict.REFUSED, cause=cause)
            )
            return
        self._recording.emit(_of_request(events.DUAL_CONTROL_REFUSED, request, peer, request.rule, cause))

    def _not_kept(self, command: OperatorCommand, cause: ErrorCode, rule: str) -> None:
        self._recording.emit(
            Event(
                events.DUAL_CONTROL_REFUSED,
                operator(asking().user),
                verdict=Verdict.REFUSED,
                rule=rule,
                cause=cause,
                details={"command": command},
            )
        )

    @staticmethod
    def _as_data(request: Request) -> Mapping[str, Any]:
        return {
            "id": request.id,
            "command": request.wanted.command.value,
            "digest": request.digest.hex,
            "by": operator(request.by.user).name,
            "since": request.since,
            "until": request.until,
            "rule": request.rule,
            "says": dict(request.wanted.says),
        }


def approver() -> Actor | None:
    """Who approved what is being carried out, for its records."""
    user = second_person()
    return None if user is None else operator(user)


def with_approver(emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """``emit`` for what operators ask for: records name the second person, where there is one."""

    def told(event: Event) -> None:
        second = approver()
        emit(event if second is None else replace(event, second=second))

    return told


def _of_request(
    kind: Kind, request: Request, second: Peer | None, rule: str, cause: ErrorCode | None
) -> Event:
    return Event(
        kind,
        operator(request.by.user),
        second=None if second is None else operator(second.user),
        verdict=None if cause is None else Verdict.REFUSED,
        rule=rule,
        cause=cause,
        details={
            "command": request.wanted.command,
            "request": request.id,
            "content": request.digest,
        },
    )


def _grants(policy: Policy | None) -> set[OperatorRule]:
    rules = () if policy is None else policy.rules
    return {one for one in rules if isinstance(one, OperatorRule) and one.table == "operator.allow"}


def _grant(kind: Kind, rule: OperatorRule) -> Event:
    details = {
        "users": " ".join(sorted(rule.users)),
        "groups": " ".join(sorted(rule.unix_groups)),
        "roles": " ".join(sorted(rule.roles)),
        "commands": " ".join(sorted(rule.commands)),
    }
    return Event(kind, rule=rule.id, details={name: value for name, value in details.items() if value})


def shared_socket(config: AdminConfig) -> Shared | None:
    """The socket for others than the owner, if there is to be one."""
    return None if config.socket is None else Shared(config.socket, config.group)


async def known(peer: Peer) -> Operator:
    """``peer`` as policies name people; the system may have to ask a network for it."""
    return await _in_thread(lambda: described(peer))


def described(peer: Peer) -> Operator:
    """The same, here and now."""
    groups = (group_names(one, peers.group_name(one)) for one in peer.groups)
    names = user_names(peer.user, peers.user_name(peer.user))
    return Operator(names, frozenset().union(*groups), is_owner=peer.is_owner)


async def _in_thread(work: Callable[[], ResultT]) -> ResultT:
    return await asyncio.get_running_loop().run_in_executor(None, work)
