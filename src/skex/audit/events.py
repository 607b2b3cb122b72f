"""Every kind of event, in one table, and one event that happened.

Names are stable. Important kinds reach the medium before what they record takes effect; sampled ones
are those that others can cause as often as they like: a few are written, the rest are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from skex.audit.fields import SYSTEM, Actor, Detail, DetailKind, Subject, wrong
from skex.base import limits
from skex.base.errors import ErrorCode

_table: dict[str, Kind] = {}


class Area(Enum):
    """What an event is about."""

    KEYS = "keys and shares"
    ENROLMENT = "enrolment"
    PADS = "pads"
    POLICY = "policy and configuration"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of event. ``details`` says what else its records may hold."""

    name: str
    area: Area
    sentence: str
    details: Mapping[str, DetailKind] = field(default_factory=dict)
    important: bool = True
    sampled: bool = False


def all_kinds() -> tuple[Kind, ...]:
    """Every kind, in the order of the table."""
    return tuple(_table.values())


def kind_named(name: str) -> Kind | None:
    """The kind of a name, if there is one."""
    return _table.get(name)


class Verdict(Enum):
    """How something was decided."""

    ALLOWED = "allowed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``LocalBug`` (bug-argument) where a field is not of its type.

    ``second`` is the second person of dual control; ``rule`` the id of the policy's rule that decided;
    ``details`` only those that the kind names.
    """

    kind: Kind
    actor: Actor = SYSTEM
    subjects: tuple[Subject, ...] = ()
    second: Actor | None = None
    verdict: Verdict | None = None
    rule: str = ""
    cause: ErrorCode | None = None
    details: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.kind) is not Kind or type(self.actor) is not Actor:
            raise wrong("a kind or an actor of another type")
        if not all(type(subject) is Subject for subject in self.subjects):
            raise wrong("a subject of another type")
        if len(self.subjects) > limits.AUDIT_SUBJECTS:
            raise wrong("too many subjects")
        if type(self.second) not in {Actor, type(None)} or type(self.verdict) not in {Verdict, type(None)}:
            raise wrong("a second person or a verdict of another type")
        if type(self.cause) not in {ErrorCode, type(None)} or not _is_rule(self.rule):
            raise wrong("a cause or a rule of another type")
        self.read_details()

    def read_details(self) -> dict[str, Detail]:
        """The details as they stand in a record."""
        unknown = self.details.keys() - self.kind.details.keys()
        if unknown:
            raise wrong(f"a detail that {self.kind.name} does not have")
        return {name: self.kind.details[name].read(value) for name, value in self.details.items()}

    def subject_ids(self) -> dict[str, tuple[str, ...]]:
        """The ids of the subjects by their kinds, each once."""
        found: dict[str, dict[str, None]] = {}
        for subject in self.subjects:
            found.setdefault(subject.kind.value, {})[subject.id] = None
        return {kind: tuple(ids) for kind, ids in found.items()}


def _is_rule(rule: object) -> bool:
    """Ids of rules are ``default``, ``PLACE.TABLE.NAME`` and ``PLACE.TABLE#DIGEST``."""
    return (
        type(rule) is str
        and len(rule) <= 3 * limits.NAME_CHARACTERS
        and all(one.isascii() and (one.isalnum() or one in "._-#") for one in rule)
    )


# ── the table ───────────────────────────────────────────────────────────────────────────────────
COUNT, FLAG, WORD, TEXT, NAMES, DIGEST = DetailKind


def _kind(
    area: Area,
    name: str,
    sentence: str,
    details: Mapping[str, DetailKind] | None = None,
    *,
    important: bool = True,
    sampled: bool = False,
) -> Kind:
    if name in _table:
        raise ValueError(f"kind of event {name} is defined twice")
    kind = Kind(name, area, sentence, details or {}, important and not sampled, sampled)
    _table[name] = kind
    return kind


_K: Final = Area.KEYS
_BATCH: Final = {"keys": COUNT, "key_bytes": COUNT, "threshold": COUNT, "hubs": NAMES, "purpose": WORD}
_KEPT: Final = {
    **_BATCH,
    "epoch": COUNT,
    "lifetime": COUNT,
    "claim": WORD,
    "margin": COUNT,
    "computational": NAMES,
    "sender_computational": NAMES,
    "randomness": WORD,
    "enrolment": WORD,
    "links": NAMES,
}
_REQUEST: Final = {"keys": COUNT, "key_bytes": COUNT, "purpose": TEXT, "note": TEXT}
_NOTE: Final = {"note": TEXT}
BATCH_GENERATED: Final = _kind(_K, "batch-generated", "Keys were generated.", _BATCH, important=False)
BATCH_ESTABLISHED: Final = _kind(
    _K,
    "batch-established",
    "Keys of a peer were rebuilt, verified and kept.",
    {**_KEPT, "subsets_tried": COUNT},
    important=False,
)
BATCH_CONFIRMED: Final = _kind(
    _K,
    "batch-confirmed",
    "The peer has the keys: they may be delivered.",
    _KEPT,
    important=False,
)
BATCH_FAILED: Final = _kind(
    _K,
    "batch-failed",
    "Keys could not be established.",
    {**_BATCH, "missing_hubs": NAMES, "subsets_tried": COUNT},
    sampled=True,
)
SHARE_SENT: Final = _kind(_K, "share-sent", "Shares of a batch were sent.", {"hubs": NAMES}, important=False)
SHARE_RELAYED: Final = _kind(
    _K, "share-relayed", "A share was passed on.", {"pad_bytes": COUNT}, important=False
)
SHARE_RECEIVED: Final = _kind(
    _K, "share-received", "Shares of a batch came.", {"hubs": NAMES}, important=False
)
SHARE_REJECTED: Final = _kind(_K, "share-rejected", "A share was refused.", {"reason": WORD}, sampled=True)
HUB_BLAMED: Final = _kind(
    _K,
    "hub-blamed",
    "A hub brought a share that is wrong, or two.",
    {"blame": WORD, "certain": FLAG, "evidence": DIGEST},
    sampled=True,
)
TWO_CANDIDATES: Final = _kind(
    _K, "two-candidates", "Two batches under one id both verify: hubs collude, or the sender is broken."
)
KEYS_ASSIGNED: Final = _kind(
    _K, "keys-assigned", "Keys were assigned to SAEs.", {"keys": COUNT, "purpose": TEXT}, important=False
)
KEYS_DELIVERED: Final = _kind(
    _K, "keys-delivered", "Keys were handed to an SAE.", {**_REQUEST, "as": WORD, "others": NAMES}
)
KEYS_REFUSED: Final = _kind(
    _K, "keys-refused", "A request for keys was refused.", {**_REQUEST, "as": WORD}, sampled=True
)
KEYS_EXPIRED: Final = _kind(_K, "keys-expired", "Keys expired unused.", {"keys": COUNT}, important=False)
KEYS_REVOKED: Final = _kind(_K, "keys-revoked", "Keys were revoked.", {"keys": COUNT, "reason": TEXT})
KEYS_VOIDED: Final = _kind(_K, "keys-voided", "Keys were given up before delivery.", {"keys": COUNT})
RESERVE_STARVED: Final = _kind(
    _K, "reserve-starved", "A reserve stays below its low mark: too few keys are made.", {"keys": COUNT}
)
RESERVE_RECOVERED: Final = _kind(_K, "reserve-recovered", "A reserve keeps up again.", {"keys": COUNT})
KEYS_REVOKED_IN_USE: Final = _kind(
    _K,
    "keys-revoked-in-use",
    "Keys were revoked that applications here already have: they must stop using them.",
    {"keys": COUNT, "reason": TEXT, "holders": NAMES},
)
REVOCATION_ASKED: Final = _kind(
    _K, "revocation-asked", "An operator asked for keys to be revoked.", {"keys": COUNT, "reason": TEXT}
)
KEYS_SUSPENDED: Final = _kind(_K, "keys-suspended", "Keys were suspended.", {"keys": COUNT, "reason": TEXT})
KEYS_RESUMED: Final = _kind(_K, "keys-resumed", "A suspension of keys was ended.", {"keys": COUNT})
KEYS_DESTROYED: Final = _kind(_K, "keys-destroyed", "Keys were erased.", {"keys": COUNT}, important=False)
KEYS_EXPORTED: Final = _kind(_K, "keys-exported", "Keys left this machine.", {"keys": COUNT, "to": TEXT})
KEYS_IMPORTED: Final = _kind(_K, "keys-imported", "Keys came to this machine.", {"keys": COUNT, "from": TEXT})
KEYS_WRAPPED: Final = _kind(_K, "keys-wrapped", "Keys were encrypted under another key.", {"keys": COUNT})
KEYS_UNWRAPPED: Final = _kind(_K, "keys-unwrapped", "Keys were decrypted with another key.", {"keys": COUNT})

_E: Final = Area.ENROLMENT
_KIT: Final = {"kit": DIGEST, "medium": WORD, "note": TEXT}
ENROLMENT_REQUESTED: Final = _kind(_E, "enrolment-requested", "An enrolment was asked for.", _NOTE)
ENROLMENT_GENERATED: Final = _kind(
    _E,
    "enrolment-generated",
    "A link's initial material was made.",
    {**_KIT, "pad": WORD, "pad_bytes": COUNT},
)
ENROLMENT_APPROVED: Final = _kind(_E, "enrolment-approved", "An enrolment was approved.", _NOTE)
COMPONENT_EXPORTED: Final = _kind(_E, "component-exported", "A component was written out.", _KIT)
COMPONENT_ENTERED: Final = _kind(_E, "component-entered", "A component was entered.", _KIT)
COMPONENT_REFUSED: Final = _kind(_E, "component-refused", "A component was refused.", _KIT)
ENROLMENT_IMPORTED: Final = _kind(
    _E, "enrolment-imported", "A link's initial material was imported.", {**_KIT, "pad": WORD}
)
ENROLMENT_PROVEN: Final = _kind(_E, "enrolment-proven", "Both ends proved to have the same material.")
ENROLMENT_ACTIVATED: Final = _kind(_E, "enrolment-activated", "An enrolment took effect.", _NOTE)
LINK_FROZEN: Final = _kind(_E, "link-frozen", "A link was frozen: a copy is suspected.", _NOTE)
LINK_SUSPENDED: Final = _kind(_E, "link-suspended", "A link was suspended.", _NOTE)
LINK_REVOKED: Final = _kind(_E, "link-revoked", "A link was revoked.", _NOTE)
LINK_RETIRED: Final = _kind(_E, "link-retired", "A link was retired.", _NOTE)
LINK_REENROLLED: Final = _kind(_E, "link-reenrolled", "A link was enrolled again.", _NOTE)
LINK_REPLACED: Final = _kind(_E, "link-replaced", "A link took another one's place.", _NOTE)
PAD_REFILLED: Final = _kind(_E, "pad-refilled", "A pad got new material.", {"pad_bytes": COUNT, **_KIT})
ENROLMENT_DESTROYED: Final = _kind(_E, "enrolment-destroyed", "A link's material was destroyed.", _NOTE)

_P: Final = Area.PADS
PAD_LOW: Final = _kind(_P, "pad-low", "A pad is running low.", {"left_bytes": COUNT, "days_left": COUNT})
PAD_FLOOR_REACHED: Final = _kind(
    _P, "pad-floor-reached", "A pad is kept for control traffic from now on.", {"left_bytes": COUNT}
)
PAD_EXHAUSTED: Final = _kind(_P, "pad-exhausted", "A pad has no material left.", sampled=True)
ROLLBACK_NOTICED: Final = _kind(
    _P,
    "rollback-noticed",
    "An end of a link was seen further than it is now: a restore or a clone.",
    {"from": WORD, "note": TEXT},
)
ROLLBACK_SETTLED: Final = _kind(
    _P, "rollback-settled", "An operator has dealt with a rollback: keys are delivered again."
)
PAD_JUMPED: Final = _kind(
    _P, "pad-jumped", "A pad was taken up further on than it was left.", {"from": WORD, "note": TEXT}
)
RECORD_REPEATED: Final = _kind(
    _P,
    "record-repeated",
    "A record came that had come before, or out of its order.",
    {"address": TEXT},
    sampled=True,
)
FORGERY_ATTEMPTED: Final = _kind(
    _P,
    "forgery-attempted",
    "Something came that did not verify.",
    {"what": WORD, "address": TEXT},
    sampled=True,
)
PAD_ERASED: Final = _kind(
    _P, "pad-erased", "Used material of a pad was erased.", {"erased_bytes": COUNT}, important=False
)

_C: Final = Area.POLICY
_CHANGE: Final = {"before": DIGEST, "after": DIGEST, "note": TEXT}
POLICY_LOADED: Final = _kind(_C, "policy-loaded", "A policy took effect.", {"rules": COUNT, "file": DIGEST})
POLICY_REJECTED: Final = _kind(
    _C, "policy-rejected", "A policy was refused; the one in force stays.", {"problems": COUNT, "note": TEXT}
)
POLICY_CHANGED: Final = _kind(
    _C, "policy-changed", "A policy took another one's place.", {**_CHANGE, "difference": DIGEST}
)
CONFIGURATION_CHANGED: Final = _kind(
    _C, "configuration-changed", "The configuration was changed.", {**_CHANGE, "difference": DIGEST}
)
REALM_CHANGED: Final = _kind(
    _C, "realm-changed", "Another epoch of the realm took effect.", {"epoch": COUNT, "threshold": COUNT}
)
REALM_EXPIRED: Final = _kind(
    _C, "realm-expired", "The realm file has reached its maximum age: no keys are made.", {"epoch": COUNT}
)
THRESHOLD_CHANGED: Final = _kind(
    _C, "threshold-changed", "The threshold was changed.", {"before": COUNT, "after": COUNT}
)
HUB_ADDED: Final = _kind(_C, "hub-added", "A hub joined the realm.", _NOTE)
HUB_BENCHED: Final = _kind(
    _C,
    "hub-benched",
    "A hub is not used for the time being, or last: for all peers, or for the one that is named.",
    {**_NOTE, "why": WORD, "seconds": COUNT},
)
HUB_BROUGHT_BACK: Final = _kind(_C, "hub-brought-back", "A hub is used again.", {**_NOTE, "why": WORD})
HUB_RETIRED: Final = _kind(_C, "hub-retired", "A hub left the realm for good.", _NOTE)
_GRANT: Final = {"users": TEXT, "groups": TEXT, "roles": TEXT, "commands": TEXT}
ROLE_GRANTED: Final = _kind(_C, "role-granted", "A rule gives operators what they may ask for.", _GRANT)
ROLE_WITHDRAWN: Final = _kind(
    _C, "role-withdrawn", "A rule that gave operators what they may ask for is gone.", _GRANT
)
_DUAL: Final = {"command": WORD, "request": TEXT, "content": DIGEST, "note": TEXT}
DUAL_CONTROL_REQUESTED: Final = _kind(
    _C, "dual-control-requested", "A command is kept until a second person approves it.", _DUAL
)
DUAL_CONTROL_APPROVED: Final = _kind(
    _C, "dual-control-approved", "A second person approved a command: it is carried out now.", _DUAL
)
DUAL_CONTROL_ENDED: Final = _kind(
    _C, "dual-control-ended", "A command that was kept will not be carried out any more.", _DUAL
)
DUAL_CONTROL_REFUSED: Final = _kind(
    _C, "dual-control-refused", "A command needs a second person, and there was none.", _DUAL
)
GLASS_BROKEN: Final = _kind(
    _C, "glass-broken", "One person alone did what needs two, and said why.", {"command": WORD, "note": TEXT}
)
AUTHORISATION_FAILED: Final = _kind(
    _C,
    "authorisation-failed",
    "Something was asked for that is not allowed.",
    {"what": WORD, "note": TEXT},
    sampled=True,
)
AUTHENTICATION_FAILED: Final = _kind(
    _C,
    "authentication-failed",
    "Somebody did not prove who they are.",
    {"what": WORD, "address": TEXT},
    sampled=True,
)

_S: Final = Area.SYSTEM
VERSION_REFUSED: Final = _kind(
    _S,
    "version-refused",
    "The other end of a link speaks no version that this end does.",
    {"address": TEXT},
    sampled=True,
)
DAEMON_STARTED: Final = _kind(_S, "daemon-started", "The daemon started.", {"version": TEXT, "roles": NAMES})
DAEMON_STOPPED: Final = _kind(_S, "daemon-stopped", "The daemon stopped as it was asked to.", _NOTE)
CRASH_RECOVERED: Final = _kind(
    _S, "crash-recovered", "The daemon had ended without stopping.", {"keys_voided": COUNT, "note": TEXT}
)
SELF_TEST_FAILED: Final = _kind(_S, "self-test-failed", "A self-test failed.", {"test": WORD})
RANDOMNESS_FAILED: Final = _kind(_S, "randomness-failed", "A test of randomness failed.", {"test": WORD})
CLOCK_ANOMALY: Final = _kind(
    _S, "clock-anomaly", "The wall clock jumped, or is wrong.", {"seconds": COUNT, "forward": FLAG}
)
BACKUP_MADE: Final = _kind(_S, "backup-made", "A backup was made.", {"backup": DIGEST, "note": TEXT})
BACKUP_RESTORED: Final = _kind(
    _S, "backup-restored", "A backup was restored.", {"backup": DIGEST, "note": TEXT}
)
MASTER_KEY_CHANGED: Final = _kind(_S, "master-key-changed", "The key that seals the store was changed.")
STORE_MIGRATED: Final = _kind(
    _S, "store-migrated", "The store was brought to another version.", {"before": COUNT, "after": COUNT}
)
DISK_FULL: Final = _kind(_S, "disk-full", "There was no room on the disk.", _NOTE)
OVERLOAD_SHED: Final = _kind(
    _S,
    "overload-shed",
    "There was too much of something: it was refused, or slowed down.",
    {"what": WORD, "address": TEXT},
    sampled=True,
)
CONNECTION_LOST: Final = _kind(
    _S, "connection-lost", "A connection ended by itself.", {"address": TEXT}, sampled=True
)
AUDIT_OPENED: Final = _kind(_S, "audit-opened", "This log begins.")
AUDIT_RECOVERED: Final = _kind(
    _S,
    "audit-recovered",
    "What stands between this record and the last whole one was not written to its end.",
    {"torn_bytes": COUNT, "torn_lines": COUNT, "torn_digest": DIGEST},
)
AUDIT_SEALED: Final = _kind(
    _S,
    "audit-sealed",
    "Everything up to here is sealed.",
    {"records": COUNT, "series": DIGEST, "next_series": DIGEST},
)
AUDIT_KEY_TAKEN: Final = _kind(
    _S, "audit-key-taken", "An auditor took the key that proves this log's seals.", {"series": DIGEST}
)
AUDIT_CONTRADICTED: Final = _kind(
    _S,
    "audit-contradicted",
    "A start found another log than the home remembers.",
    {"what": WORD, "remembered": COUNT, "found": COUNT},
)
EVENTS_COUNTED: Final = _kind(
    _S,
    "events-counted",
    "Events of one kind and actor that came too often to be written one by one.",
    {"of": WORD, "counted": COUNT, "written": COUNT, "seconds": COUNT},
    important=False,
)

KindWord: Final = Enum("KindWord", [(name.upper().replace("-", "_"), name) for name in _table])  # type: ignore[misc]  # the names are data
