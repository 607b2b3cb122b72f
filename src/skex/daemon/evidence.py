"""What enrolment leaves in the audit log of its home: who made or imported which kit, what was refused."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Final

from skex.audit import events
from skex.audit.events import Event, Kind, Verdict
from skex.audit.fields import SYSTEM, Actor, ActorKind, Digest, Subject, SubjectKind
from skex.base import codes
from skex.base.errors import LocalBug, SkexError
from skex.base.ids import Direction, RealmName
from skex.enrol.kit import KitHeader
from skex.pad.kinds import PadKind
from skex.policy import language
from skex.policy.evaluate import PolicySet
from skex.policy.rules import OperatorCommand
from skex.wire.realm import Realm


class PadWord(Enum):
    """A kind of pad as audit records name it."""

    DERIVED = "derived"
    TABLE = "table"


_PADS: Final = {PadKind.DERIVED: PadWord.DERIVED, PadKind.TABLE: PadWord.TABLE}


def operator(user: int | None = None) -> Actor:
    """Who runs this command, by the name of the system's user where a record can hold it.

    ``user`` is the user id of whoever asked a daemon for it; without, it is this process.
    """
    number = os.geteuid() if user is None else user
    try:
        return Actor(ActorKind.OPERATOR, pwd.getpwuid(number).pw_name)
    except (KeyError, LocalBug):
        return Actor(ActorKind.OPERATOR, f"uid-{number}")


def backup_made(backup_id: bytes, actor: Actor) -> Event:
    """The record of a backup, which is known by the digest of its id."""
    return Event(events.BACKUP_MADE, actor, details={"backup": Digest(backup_id)})


def store_migrated(before: int, after: int) -> Event:
    """The store has another schema from now on."""
    return Event(events.STORE_MIGRATED, details={"before": before, "after": after})


_MISTAKES: Final = frozenset({codes.POLICY_SYNTAX, codes.POLICY_INVALID})


def _digest(policy: PolicySet) -> Digest:
    """The policy's version, as records have it."""
    return Digest(language.render(policy.policy).encode())


def realm_differences(before: Realm | None, later: Realm, actor: Actor = SYSTEM) -> tuple[Event, ...]:
    """What an epoch changed: the threshold, hubs that joined, hubs that left."""
    if before is None:
        return ()
    found = []
    if before.threshold != later.threshold:
        details = {"before": before.threshold, "after": later.threshold}
        subjects: tuple[Subject, ...] = (Subject.realm(later.name),)
        found.append(Event(events.THRESHOLD_CHANGED, actor, subjects, details=details))
    then, now = ({hub.name for hub in realm.active_hubs} for realm in (before, later))
    for kind, names in ((events.HUB_ADDED, now - then), (events.HUB_RETIRED, then - now)):
        found += [
            Event(kind, actor, (Subject.hub(name), Subject.realm(later.name))) for name in sorted(names)
        ]
    return tuple(found)


class Evidence:
    """Writes enrolment's events into one home's audit log; raises what ``emit`` raises (audit-io)."""

    def __init__(
        self, emit: Callable[[Event], object], actor: Actor | None = None, second: Actor | None = None
    ) -> None:
        """``actor`` is who asked for what is done; without, it is whoever runs this process.

        ``second`` is who approved it, where that was needed.
        """
        self._emit = emit if second is None else lambda event: emit(replace(event, second=second))
        self._actor = operator() if actor is None else actor

    def generated(self, header: KitHeader, fingerprint: bytes) -> None:
        """A hub made a kit, and the link exists."""
        size = sum(header.material_bytes(direction) for direction in Direction)
        details = {"pad": _PADS[header.kind], "pad_bytes": size}
        self._happened(events.ENROLMENT_GENERATED, header, fingerprint, details)

    def imported(self, header: KitHeader, fingerprint: bytes) -> None:
        """A KME imported a kit, and the link exists."""
        self._happened(events.ENROLMENT_IMPORTED, header, fingerprint, {"pad": _PADS[header.kind]})

    def activated(self, realm: RealmName) -> None:
        """Kits of enough hubs agree: the realm is in force."""
        self._emit(Event(events.ENROLMENT_ACTIVATED, self._actor, (Subject.realm(realm),)))

    def realm_changed(self, before: Realm, realm: Realm) -> None:
        """A hub serves another epoch of its realm."""
        details = {"epoch": realm.epoch, "threshold": realm.threshold}
        self._emit(Event(events.REALM_CHANGED, self._actor, (Subject.realm(realm.name),), details=details))
        for difference in realm_differences(before, realm, self._actor):
            self._emit(difference)

    def glass_broken(self, command: OperatorCommand, rule: str, reason: str) -> None:
        """One person alone does what needs two, and says why."""
        details = {"command": command, "note": reason}
        self._emit(
            Event(events.GLASS_BROKEN, self._actor, verdict=Verdict.ALLOWED, rule=rule, details=details)
        )

    def nobody_second(self, command: OperatorCommand, rule: str) -> None:
        """One person alone wanted to do what needs two, with the daemon stopped."""
        self._emit(
            Event(
                events.DUAL_CONTROL_REFUSED,
                self._actor,
                verdict=Verdict.REFUSED,
                rule=rule,
                cause=codes.DUAL_CONTROL_OFFLINE,
                details={"command": command},
            )
        )

    def settled(self) -> None:
        """Somebody says that a rollback was dealt with."""
        self._emit(Event(events.ROLLBACK_SETTLED, self._actor))

    def master_key_changed(self) -> None:
        """The store is about to be sealed under another master key."""
        self._emit(Event(events.MASTER_KEY_CHANGED, self._actor))

    def backed_up(self, backup_id: bytes) -> None:
        """A backup is about to be written: state leaves this home."""
        self._emit(backup_made(backup_id, self._actor))

    def policy_changed(self, before: PolicySet, after: PolicySet) -> None:
        """Another policy is in force, everywhere at once."""
        digests = {"before": _digest(before), "after": _digest(after)}
        self._emit(Event(events.POLICY_CHANGED, self._actor, details=digests))

    @contextmanager
    def of_refused_policies(self) -> Iterator[None]:
        """Record that a policy is refused meanwhile, and for which mistakes."""
        try:
            yield
        except SkexError as error:
            note = {"note": error.detail} if error.code in _MISTAKES else {}
            self._emit(
                Event(
                    events.POLICY_REJECTED,
                    self._actor,
                    verdict=Verdict.REFUSED,
                    cause=error.code,
                    details=note,
                )
            )
            raise

    @contextmanager
    def of_refusals(self, kind: Kind, *subjects: Subject) -> Iterator[None]:
        """Record what is refused, or fails, meanwhile."""
        try:
            yield
        except SkexError as error:
            self._emit(Event(kind, self._actor, subjects, verdict=Verdict.REFUSED, cause=error.code))
            raise

    def _happened(
        self, kind: Kind, header: KitHeader, fingerprint: bytes, details: dict[str, object]
    ) -> None:
        subjects = (
            Subject.hub(header.hub),
            Subject.kme(header.kme),
            Subject.link(header.link_id),
            Subject(SubjectKind.KIT, fingerprint.hex()),
        )
        self._emit(Event(kind, self._actor, subjects, verdict=Verdict.ALLOWED, details=details))
