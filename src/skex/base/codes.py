"""Every stable error code, in one table (the error book is generated from it).

Names are kebab-case, area first. Adding one is easy; changing what one means is not allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from skex.base.errors import ErrorCode, Family

_table: dict[str, ErrorCode] = {}


_EFFECTS: Final[Mapping[Family, str]] = {
    Family.BUG: "The operation ends with nothing of it kept. A daemon ends; its next start goes on from what"
    " is durable.",
    Family.PEER: "The connection ends and its grants are dropped; nothing of what came is used."
    " A KME dials again.",
    Family.STORE: "Nothing of the step is kept. A running daemon ends rather than be ahead of its disk.",
    Family.REFUSED: "Nothing was done or changed; whoever asked is told.",
    Family.DELIVERY: "The application gets an error; no key is delivered, and none is lost.",
}
"""What follows from a code that says nothing of its own."""


def _code(family: Family, name: str, sentence: str, hint: str, effect: str) -> ErrorCode:
    if name in _table:
        raise ValueError(f"error code {name} is defined twice")
    code = ErrorCode(name, family, sentence, hint, effect or _EFFECTS[family])
    _table[name] = code
    return code


def all_codes() -> tuple[ErrorCode, ...]:
    """Every code, sorted by name."""
    return tuple(_table[name] for name in sorted(_table))


def _bug(name: str, sentence: str, effect: str = "") -> ErrorCode:
    return _code(Family.BUG, name, sentence, "This is a defect in skex; report it with the log.", effect)


def _peer(name: str, sentence: str, hint: str, effect: str = "") -> ErrorCode:
    return _code(Family.PEER, name, sentence, hint, effect)


def _store(name: str, sentence: str, hint: str, effect: str = "") -> ErrorCode:
    return _code(Family.STORE, name, sentence, hint, effect)


def _refused(name: str, sentence: str, hint: str, effect: str = "") -> ErrorCode:
    return _code(Family.REFUSED, name, sentence, hint, effect)


def _delivery(name: str, sentence: str, hint: str, effect: str = "") -> ErrorCode:
    return _code(Family.DELIVERY, name, sentence, hint, effect)


_CORRUPT = "The connection was closed; it is retried by itself. Repeated, someone is tampering."
_UPGRADE = "Compare the versions of both ends; the older one needs the upgrade."
_REENROL = "Stop the daemon that was copied or restored, then re-enrol the link."

# What follows, where a family's own effect says too little.
_CLOSED = "The connection is closed before anything was used, and nothing was told to the other end."
_LINK_RESTS = "The link is frozen: it is not used any more until it is enrolled again. Other links go on."
_PAD_USELESS = (
    "The pad gives nothing, so its link has no connection until it is enrolled again. Others go on."
)
_NO_START = "The daemon does not start, or the command ends; nothing was changed."
_REALM_STAYS = "The file is not used; the one in force stays."
_NO_BATCHES = "No keys are made or accepted until a realm file is in force again."
_POLICY_STAYS = "The policy in force stays; a daemon that starts does not."
_NOT_IMPORTED = "Nothing is imported, and no pad is left behind."
_NOT_RESTORED = "Nothing is restored; there is no home then."
_NO_BACKUP = "No backup is written."
_SHARE_MISSING = "The share of this hub counts as missing; those of the others may suffice."
_NOT_ACCEPTED = "The batch is not accepted; its sender gives it up once enough hubs say the same."
_NO_KEYS = "No key is made and nothing is delivered, at either end."
_VOID = "The keys of the request are void at both ends; none of them is ever delivered."
_DROPPED = "The message is dropped; the connection goes on."

# ── base ────────────────────────────────────────────────────────────────────────────────────────
BAD_ARGUMENT: Final = _bug("bug-argument", "A value outside its documented range was passed.")
BAD_STATE: Final = _bug("bug-state", "An operation was called in a state that does not allow it.")
SECRET_WIPED: Final = _bug("bug-secret-wiped", "A secret was used after it had been wiped.")
NAME_INVALID: Final = _refused(
    "name-invalid",
    "A name is not of the allowed form.",
    "Names are lower-case letters, digits, '.', '_' and '-', at most 63 characters; SAE ids are name@kme.",
)

# ── wire ────────────────────────────────────────────────────────────────────────────────────────
FRAME_LENGTH: Final = _peer(
    "frame-length",
    "A preface frame has a length that its number does not allow.",
    _CORRUPT,
    effect=_CLOSED,
)
FRAME_MALFORMED: Final = _peer(
    "frame-malformed",
    "A preface frame has a field that the protocol forbids.",
    _CORRUPT,
    effect=_CLOSED,
)
FRAME_UNEXPECTED: Final = _peer(
    "frame-unexpected",
    "A preface frame arrived out of its order.",
    _CORRUPT,
    effect=_CLOSED,
)
RECORD_HEADER: Final = _peer(
    "record-header", "A record's header names another link, direction or layout.", _CORRUPT
)
RECORD_VERSION: Final = _peer(
    "record-version", "A record has a version that this end does not speak.", _UPGRADE
)
RECORD_LENGTH: Final = _peer(
    "record-length", "A record is longer than the protocol or its grant allows.", _CORRUPT
)
RECORD_POSITION: Final = _peer(
    "record-position", "A record does not continue where the last one ended.", _CORRUPT
)
RECORD_TAG: Final = _peer(
    "record-tag", "A record did not verify.", "The connection was closed. Repeated, someone is forging."
)
BODY_MALFORMED: Final = _peer(
    "body-malformed", "A message is not deterministic CBOR of a known shape.", _CORRUPT
)
BODY_RANGE: Final = _peer("body-range", "A message has a field outside its allowed range.", _CORRUPT)
BODY_WRONG_WAY: Final = _peer(
    "body-wrong-way", "A message came from an end that may not send its type.", _CORRUPT
)
REALM_MALFORMED: Final = _refused(
    "realm-malformed",
    "The realm file is not a canonical realm file.",
    "Fetch it again from the realm's operators and compare the fingerprint.",
    effect=_REALM_STAYS,
)
REALM_FORMAT: Final = _refused(
    "realm-format",
    "The realm file has a format that this end does not know.",
    _UPGRADE,
    effect=_REALM_STAYS,
)
REALM_INCONSISTENT: Final = _refused(
    "realm-inconsistent",
    "The realm file contradicts itself.",
    "Coordinates and names must be distinct and the threshold between 2 and the number of hubs.",
    effect=_REALM_STAYS,
)
REALM_MISMATCH: Final = _refused(
    "realm-mismatch",
    "A realm file differs from the one already trusted.",
    "Compare fingerprint words with every operator before going on.",
    effect=_REALM_STAYS,
)
REALM_CHANGED_COORDINATE: Final = _refused(
    "realm-coordinate-changed",
    "A later epoch gives a hub another coordinate.",
    "Coordinates are fixed for ever; ask the realm's operators.",
    effect=_REALM_STAYS,
)
REALM_BELOW_FLOOR: Final = _refused(
    "realm-below-floor",
    "The realm's threshold is below the local floor.",
    "Lower the floor in the policy only if the lower threshold was agreed.",
    effect=_REALM_STAYS,
)
HUBS_NOT_INDEPENDENT: Final = _refused(
    "hubs-not-independent",
    "Too few independent parties are behind the hubs that would be used.",
    "See skex realm assess: add hubs of other parties, revoke some of those that one party has, or lower"
    " minimum_effective_threshold in the policy only if that was agreed.",
    effect="No key is made with these hubs; keys that exist stay.",
)
REALM_HUB_FOREIGN: Final = _refused(
    "realm-hub-foreign",
    "A hub that is not an active hub of the realm brought a realm file.",
    "Nothing to do if the hub was revoked; otherwise compare the realm file with its operator.",
    effect=_REALM_STAYS,
)
REALM_OUTDATED: Final = _refused(
    "realm-outdated",
    "A realm file is older than the one already trusted.",
    "Nothing to do while an epoch spreads; a hub that stays behind needs its operator.",
    effect=_REALM_STAYS,
)
REALM_HUB_DROPPED: Final = _refused(
    "realm-hub-dropped",
    "A later epoch leaves out a hub that an earlier one lists.",
    "Mark the hub as revoked instead: its name and coordinate stay taken for ever.",
    effect=_REALM_STAYS,
)
REALM_EXPIRED: Final = _refused(
    "realm-expired",
    "The realm file has reached its maximum age.",
    "Import new kits from at least the threshold of hubs.",
    effect=_NO_BATCHES,
)
REALM_NOT_IN_FORCE: Final = _refused(
    "realm-not-in-force",
    "No realm file is in force that could vouch for a later one.",
    "Import kits from at least the threshold of hubs.",
    effect=_NO_BATCHES,
)

# ── pad ─────────────────────────────────────────────────────────────────────────────────────────
PAD_REUSE: Final = _bug(
    "pad-reuse",
    "A pad position below the mark was asked for again.",
    effect="Nothing is sealed; the connection ends. The pad itself refuses, whatever went wrong above it.",
)
PAD_EXHAUSTED: Final = _refused(
    "pad-exhausted",
    "The pad has no material left.",
    "Refill the pad or re-enrol the link.",
    effect="Nothing more is sealed in this direction; other links go on.",
)
PAD_SHORT_READ: Final = _store(
    "pad-short-read",
    "The pad file ends before its stated size.",
    _REENROL,
    effect=_PAD_USELESS,
)
PAD_HOLE: Final = _store(
    "pad-hole",
    "The pad file holds zeros where fresh material must be.",
    _REENROL,
    effect=_PAD_USELESS,
)
PAD_MARK_CONTRADICTS: Final = _store(
    "pad-mark-contradicts",
    "The pad's own mark and the store's mark disagree.",
    _REENROL,
    effect="The higher mark counts, so that nothing is used twice. To a KME it proves a rollback of its own:"
    " every undelivered key is revoked at both ends.",
)
PAD_CORRUPT: Final = _store(
    "pad-corrupt",
    "The pad file's header does not verify.",
    _REENROL,
    effect=_PAD_USELESS,
)
PAD_JUMP: Final = _store(
    "pad-jump",
    "The other end's mark is further ahead than the chain may be advanced.",
    _REENROL,
    effect=_LINK_RESTS,
)
PAD_IO: Final = _store(
    "pad-io",
    "The pad file could not be read, written or synced.",
    "Check the disk and its free space.",
    effect="The grant is not taken; the connection ends and is tried again.",
)

# ── protocol: preface, link ─────────────────────────────────────────────────────────────────────
PROOF_INVALID: Final = _peer(
    "proof-invalid",
    "The other end did not prove that it shares this link.",
    _CORRUPT,
    effect=_CLOSED,
)
VERSION_UNSUPPORTED: Final = _peer(
    "version-unsupported",
    "The two ends share no protocol version.",
    _UPGRADE,
    effect="The connection is closed before anything is used. The KME tries again, slower and slower.",
)
LINK_UNKNOWN: Final = _peer(
    "link-unknown",
    "No link with this id is enrolled here.",
    "Check that the kit was imported at both ends.",
    effect=_CLOSED,
)
LINK_REPLACED: Final = _peer(
    "link-replaced",
    "A newer connection of the same link took over.",
    "Nothing to do, unless it repeats: then look for a clone.",
    effect="The older connection ends; the newer one goes on.",
)
GRANT_INVALID: Final = _peer(
    "grant-invalid", "A grant starts below this end's mark or beyond its pad.", _REENROL
)
ROLLBACK_FOUND: Final = _store(
    "rollback-found",
    "This end's marks are older than what the other end has seen of it.",
    _REENROL,
    effect="The link is frozen. Where this end's own files prove it, or as many hubs as the threshold say so,"
    " every undelivered key is revoked at both ends.",
)
ROLLBACK_NONE: Final = _refused(
    "rollback-none", "No rollback of this KME was found.", "There is nothing to settle; nothing was changed."
)
ROLLBACK_UNSETTLED: Final = _refused(
    "rollback-unsettled",
    "A link of this KME is still the one that was rolled back.",
    "Enrol each of these links again with a new kit of its hub (skex kit import --replace), then settle.",
)
LINK_BUSY: Final = _refused(
    "link-busy",
    "The link's queue is full.",
    "Slow down; the link is slower than its requests.",
    effect="What was to be sent is dropped; whoever waits for the answer asks again.",
)
LINK_DOWN: Final = _refused(
    "link-down",
    "The link has no connection.",
    "Check the hub's address and whether it runs.",
    effect="What was to be sent is dropped; whoever waits for the answer asks again.",
)
PEER_SILENT: Final = _peer(
    "peer-silent", "The other end did not answer in time.", "Check the network between the two ends."
)
PEER_SLOW: Final = _peer(
    "peer-slow", "The other end does not take what is sent to it.", "Check the network and the load there."
)
CONNECTION_CLOSED: Final = _peer(
    "connection-closed",
    "The other end closed the connection.",
    "It is retried by itself.",
    effect="The connection is over; a KME dials again, slower each time.",
)

# ── protocol: establishment ─────────────────────────────────────────────────────────────────────
NOT_AUTHORISED: Final = _refused(
    "not-authorised",
    "This is not allowed.",
    "Ask the operator: the audit log there says what was refused, docs/policy.md how rules decide.",
)
REQUEST_UNKNOWN: Final = _refused(
    "request-unknown",
    "The other end does not know this kind of request.",
    _UPGRADE,
    effect=_DROPPED,
)
RECEIVER_ABSENT: Final = _refused(
    "receiver-absent",
    "The receiver is not connected to this hub.",
    "Check that the peer's KME runs.",
    effect=_SHARE_MISSING,
)
QUOTA_EXCEEDED: Final = _refused(
    "quota-exceeded",
    "The pair or the sender has used up its quota.",
    "Wait, or ask the hub's operator.",
    effect=_SHARE_MISSING,
)
PAD_FLOOR: Final = _refused(
    "pad-floor",
    "The receiver's pad is reserved for control traffic.",
    "Refill the receiver's pad.",
    effect=_SHARE_MISSING,
)
BATCH_UNKNOWN: Final = _refused(
    "batch-unknown",
    "This end does not know the batch.",
    "Nothing to do: it expired or was given up.",
    effect=_DROPPED,
)
BATCH_REPEATED: Final = _refused(
    "batch-repeated",
    "A batch with this id was accepted before.",
    "Nothing to do, unless it repeats.",
    effect=_DROPPED,
)
CONTEXT_DISAGREES: Final = _refused(
    "context-disagrees",
    "The batch was made for another realm epoch, threshold or set of hubs than this end uses.",
    "Compare the realm fingerprints of both KMEs.",
    effect=_NOT_ACCEPTED,
)
RECEIVER_FULL: Final = _refused(
    "receiver-full",
    "The receiver holds as many batches as it may.",
    "Wait, or raise its limits.",
    effect=_NOT_ACCEPTED,
)
BUSY: Final = _refused(
    "busy",
    "The other end is too busy.",
    "Wait and try again.",
    effect=_SHARE_MISSING,
)
REVOCATION_PENDING: Final = _refused(
    "revocation-pending",
    "The peer has not heard yet that all earlier keys are revoked.",
    "Wait until the peer is reached: it is told again and again by itself.",
    effect="No keys are made for this peer; they would be erased there with the revoked ones.",
)
PENDING_FULL: Final = _refused(
    "pending-full", "As many batches as allowed are under way to this peer.", "Wait for some to end."
)
NOT_ENOUGH_HUBS: Final = _refused(
    "not-enough-hubs",
    "Fewer hubs than the threshold are reachable.",
    "Check the hubs (skex kme status).",
    effect=_NO_KEYS,
)
DEADLINE_PASSED: Final = _refused(
    "deadline-passed",
    "The batch was not confirmed in time.",
    "Check the hubs and the peer (skex kme status).",
    effect=_NO_KEYS,
)
TWO_CANDIDATES: Final = _refused(
    "two-candidates",
    "Two different batches under one id both verify.",
    "At least the threshold of hubs collude, or the sender is broken: stop and investigate.",
    effect="Neither is accepted; if one was already, it stays, and there is an alarm.",
)
NO_COMMON_ROOT: Final = _refused(
    "no-common-root",
    "The two KMEs share no root for peer messages yet.",
    "It is established by itself; wait.",
    effect="Nothing is answered until the sender has established a root.",
)
PEER_MESSAGE_INVALID: Final = _peer(
    "peer-message-invalid",
    "A message from the peer KME did not verify.",
    "Repeated, a hub is forging.",
    effect=_DROPPED,
)
PEER_QUEUE_FULL: Final = _refused(
    "peer-queue-full",
    "As many control messages as allowed wait for this peer.",
    "Check why the peer does not answer (skex kme status); keys it still holds expire by themselves.",
)
ASSIGN_UNANSWERED: Final = _refused(
    "assign-unanswered",
    "The peer did not answer an assignment of keys in time.",
    "Check the hubs and the peer (skex kme status), then ask again.",
    effect=_VOID,
)
ASSIGN_HOLD_ENDED: Final = _refused(
    "assign-hold-ended",
    "The keys were not taken while the peer held them for this request.",
    "Ask again: other keys are assigned.",
    effect=_VOID,
)
ASSIGN_RELEASED: Final = _refused(
    "assign-released",
    "The request gave these keys up.",
    "Nothing to do.",
    effect=_VOID,
)
KEY_REVOKED: Final = _refused("key-revoked", "The key was revoked.", "Ask for other keys.")
KEY_UNKNOWN: Final = _refused(
    "key-unknown",
    "Nothing is known here of this key or batch.",
    "Compare the id (skex key list); the other KME may know it. Reserves change all the time.",
)
KEY_TARGET: Final = _refused(
    "key-target",
    "It is not said which keys are meant, or not in a way that can be read.",
    "Name ids of keys, ids of batches (INCARNATION:COUNTER), or one peer (--peer NAME).",
)
KEY_REASON: Final = _refused(
    "key-reason",
    "There is no such reason.",
    "The reasons are listed by skex key revoke --help and skex key suspend --help.",
)
KEYS_SUSPENDED: Final = _refused(
    "keys-suspended",
    "Keys with this KME are suspended.",
    "An operator of this KME suspended them; skex key resume ends it.",
)
KEY_ASSIGNED: Final = _refused("key-assigned", "The key is assigned to someone else.", "Ask for other keys.")
KEY_NOT_HELD: Final = _refused(
    "key-not-held", "The key is not held here.", "It expired, was revoked, or was delivered."
)
INCARNATION_CHANGED: Final = _refused(
    "incarnation-changed",
    "The peer KME was restarted meanwhile.",
    "It is repeated by itself.",
    effect="What was agreed with the peer before is void; it is agreed anew.",
)

# ── policy and audit ────────────────────────────────────────────────────────────────────────────
POLICY_SYNTAX: Final = _refused(
    "policy-syntax",
    "The policy file is not readable TOML.",
    "Mend the named line; until then the policy in force stays, and a daemon that starts refuses.",
    effect=_POLICY_STAYS,
)
POLICY_INVALID: Final = _refused(
    "policy-invalid",
    "The policy file has rules that do not make sense.",
    "Mend what is named, with the spelling that is proposed; docs/policy.md lists every key.",
    effect=_POLICY_STAYS,
)
_KEPT_NOTHING = "Nothing was done. The attempt is in the audit log."
DUAL_CONTROL_PERSON: Final = _refused(
    "dual-control-person",
    "This needs two persons, and root and the daemon's own user are none.",
    "Log in as yourself and ask through the operators' socket (--socket); docs/operators.md.",
    effect=_KEPT_NOTHING,
)
DUAL_CONTROL_SAME: Final = _refused(
    "dual-control-same",
    "The second person must be another one than the first.",
    "Let somebody else approve it (skex operator pending).",
    effect="Nothing was done; the request still waits. The attempt is in the audit log.",
)
DUAL_CONTROL_UNKNOWN: Final = _refused(
    "dual-control-unknown",
    "No such request waits for a second person.",
    "It was approved or rejected, or the daemon was started again: look with skex operator pending.",
    effect=_KEPT_NOTHING,
)
DUAL_CONTROL_EXPIRED: Final = _refused(
    "dual-control-expired",
    "The request waited longer than the policy lets it.",
    "Let the first person ask again.",
    effect=_KEPT_NOTHING,
)
DUAL_CONTROL_CHANGED: Final = _refused(
    "dual-control-changed",
    "What would be done is not what was asked for, or not what was looked at.",
    "Look at it with skex operator pending; what was changed meanwhile must be asked for again.",
    effect=_KEPT_NOTHING,
)
DUAL_CONTROL_WITHDRAWN: Final = _refused(
    "dual-control-withdrawn",
    "The first person may not ask for this any more.",
    "Somebody who may must ask again (skex operator test says which rule decides).",
    effect=_KEPT_NOTHING,
)
DUAL_CONTROL_FULL: Final = _refused(
    "dual-control-full",
    "As many requests as allowed wait for a second person.",
    "Approve or reject some first (skex operator pending).",
    effect=_KEPT_NOTHING,
)
DUAL_CONTROL_ROOM: Final = _refused(
    "dual-control-room",
    "The file is too large to wait for a second person, or the disk too full.",
    "Make the tables smaller, or free some space.",
    effect=_KEPT_NOTHING,
)
DUAL_CONTROL_OFFLINE: Final = _refused(
    "dual-control-offline",
    "This needs two persons, and only a running daemon can tell them apart.",
    "Start the daemon and ask it. In an emergency --break-glass REASON does it alone, and is recorded.",
    effect=_KEPT_NOTHING,
)
AUDIT_LOCKED: Final = _store(
    "audit-locked",
    "Another process writes this audit log.",
    "One daemon per home: stop the other one first.",
    effect=_NO_START,
)
AUDIT_IO: Final = _store(
    "audit-io",
    "The audit log could not be written, so what it should record does not happen.",
    "Check the disk and its free space, then start the daemon again.",
    effect="The daemon ends, and keys whose delivery could not be recorded are not handed out.",
)
AUDIT_DAMAGED: Final = _store(
    "audit-damaged",
    "The audit log does not verify.",
    "Keep a copy of the log as it is, then find out who or what changed it (skex audit verify).",
    effect="The log is left as it is. A daemon writes on behind the damage, and says so in the log.",
)
AUDIT_KEY_GONE: Final = _refused(
    "audit-key-gone",
    "The key that proves the seals of this audit log was taken already, and is erased here.",
    "Use the file that was made then. If it is lost, begin a new series of seals: skex audit key --renew.",
)
AUDIT_OWNER_UNKNOWN: Final = _refused(
    "audit-owner-unknown",
    "Nothing says whose audit log this is.",
    "Give the home itself, or a directory with the segment in which its daemon started.",
)
AUDIT_RECORDS_ELSEWHERE: Final = _refused(
    "audit-records-elsewhere",
    "The audit log does not begin early enough: its first segments are elsewhere.",
    "Export those segments first, from the directory they were moved to, or begin with a later record.",
)
AUDIT_KEY_UNTAKEN: Final = _refused(
    "audit-key-untaken",
    "This audit log is not sealed: nobody took the key that would prove its seals.",
    "Take it, and keep it off this machine: skex audit key --out FILE.",
)
AUDIT_KEY_INVALID: Final = _refused(
    "audit-key-invalid",
    "This is no key of an audit log, or it was changed on the way.",
    "Give the file that skex audit key wrote, whole; keys of other logs do not fit.",
)

# ── store ───────────────────────────────────────────────────────────────────────────────────────
STORE_IO: Final = _store(
    "store-io",
    "The store could not be read, written or synced.",
    "Check the disk, then start the daemon again: it goes on from what is durable.",
)
STORE_FULL: Final = _store(
    "store-full",
    "The disk has no room left for the store.",
    "Free some space, then start the daemon again: nothing that was acknowledged is lost.",
)
STORE_READ_ONLY: Final = _store(
    "store-read-only",
    "The store may be read but not written.",
    "Check the owner and mode of the home and how its file system is mounted.",
    effect=_NO_START,
)
STORE_LOCKED: Final = _store(
    "store-locked",
    "Another process has the store open.",
    "One daemon per home: stop the other one first.",
    effect=_NO_START,
)
STORE_CORRUPT: Final = _store(
    "store-corrupt",
    "The store is damaged: it is not a database, or not what skex wrote.",
    "Keep a copy of it and check the disk, then restore a backup elsewhere, or enrol anew: either way every"
    " link needs a new kit.",
    effect=_NO_START,
)
STORE_FOREIGN: Final = _store(
    "store-foreign",
    "The file is a database, but not this daemon's store.",
    "Check that the home is the right one, and that a hub's is not used for a KME.",
    effect=_NO_START,
)
STORE_NEWER: Final = _store(
    "store-newer",
    "The store was written by a later version of skex.",
    "Install that version again; a store is never changed back.",
    effect=_NO_START,
)
STORE_OUTDATED: Final = _store(
    "store-outdated",
    "The store was written by an earlier version of skex, and only its daemon upgrades it.",
    "Start the daemon of that home once, then stop it and try again.",
)
STORE_WRONG_KEY: Final = _store(
    "store-wrong-key",
    "The master key is not the one that this store was sealed with.",
    "Put the right master key in place (file, passphrase or credential); nothing was changed.",
    effect=_NO_START,
)
STORE_EXISTS: Final = _refused(
    "store-exists", "There is a store already.", "Use another home, or remove the old one on purpose."
)
KEY_DELIVERED_TWICE: Final = _bug(
    "bug-key-delivered-twice",
    "A key was about to be delivered to someone who has had it or may not have it.",
    effect="The delivery is not committed and no key goes out; the daemon ends.",
)
LINK_KNOWN: Final = _refused(
    "link-known",
    "A link with this id was enrolled here before.",
    "A kit is imported once: ask the hub's operator for a new one.",
    effect=_NOT_IMPORTED,
)
LINK_EXISTS: Final = _refused(
    "link-exists",
    "There is an enrolled link between these two already.",
    "Remove or replace the old link first.",
    effect=_NOT_IMPORTED,
)
LINK_NOT_ENROLLED: Final = _refused(
    "link-not-enrolled", "No such link is enrolled here.", "List the links and compare the id."
)

# ── keys ────────────────────────────────────────────────────────────────────────────────────────
NOT_READY: Final = _refused(
    "not-ready",
    "After its start this KME has not yet shown to enough hubs that it was not rolled back.",
    "Wait until as many hubs as the threshold are connected (skex kme status).",
    effect="No key is delivered yet; none is lost.",
)
SIZE_UNSUPPORTED: Final = _refused(
    "size-unsupported", "Keys of this length are not made here.", "Ask for a length within the stated bounds."
)
NUMBER_UNSUPPORTED: Final = _refused(
    "number-unsupported", "So many keys are not given at once.", "Ask for fewer keys per request."
)
REQUIREMENTS_UNMET: Final = _refused(
    "requirements-unmet",
    "No key can be made here that meets the requirements.",
    "Compare the requirements with the realm's threshold and the links' pads (skex kme status).",
)
QUEUE_FULL: Final = _refused(
    "queue-full",
    "As many requests for keys as allowed wait for this peer.",
    "Wait; if it repeats, raise the marks of this peer's reserve.",
)
SLAVES_UNSUPPORTED: Final = _refused(
    "slaves-unsupported",
    "The slaves of one request must all be at one other KME.",
    "Ask once for each KME; a key for several KMEs is a group key.",
)

# ── homes ───────────────────────────────────────────────────────────────────────────────────────
HOME_IN_USE: Final = _store(
    "home-in-use",
    "Another process uses this home.",
    "Stop the daemon that runs on it, or talk to it through its admin socket.",
    effect=_NO_START,
)
HOME_MISSING: Final = _store(
    "home-missing",
    "The home directory is missing or not readable.",
    "Create it with the init command.",
    effect=_NO_START,
)

# ── enrolment ───────────────────────────────────────────────────────────────────────────────────
_NEW_KIT = "Nothing was imported. Ask the hub's operator for another copy, or for a new kit."
KIT_MALFORMED: Final = _refused(
    "kit-malformed",
    "The file is not a kit.",
    "Check that it is the right file.",
    effect=_NOT_IMPORTED,
)
KIT_VERSION: Final = _refused(
    "kit-version",
    "The kit has a format that this skex does not know.",
    _UPGRADE,
    effect=_NOT_IMPORTED,
)
KIT_TRUNCATED: Final = _refused(
    "kit-truncated",
    "The kit ends too early.",
    _NEW_KIT,
    effect=_NOT_IMPORTED,
)
KIT_ALTERED: Final = _refused(
    "kit-altered",
    "The kit was altered or damaged.",
    _NEW_KIT,
    effect=_NOT_IMPORTED,
)
KIT_PASSPHRASE: Final = _refused(
    "kit-passphrase",
    "The passphrase does not open the kit.",
    "Type it again as it was agreed; if it is right, the kit was altered. Nothing was imported.",
    effect=_NOT_IMPORTED,
)
KIT_PASSPHRASE_MISSING: Final = _refused(
    "kit-passphrase-missing",
    "The kit is under a passphrase and none was given.",
    "Run this in a terminal, or give it with --passphrase-file or --passphrase-fd.",
)
KIT_PASSPHRASE_WEAK: Final = _refused(
    "kit-passphrase-weak",
    "The passphrase is too short or too long, or holds characters that cannot be typed.",
    "Take some words at random: at least 12 characters.",
)
KIT_OTHER_KME: Final = _refused(
    "kit-other-kme",
    "The kit is for another KME.",
    "Take it to the machine that it names (skex kit show).",
    effect=_NOT_IMPORTED,
)
KIT_EXPIRED: Final = _refused(
    "kit-expired",
    "The kit has expired.",
    "Check this machine's clock; if it is right, ask the hub's operator for a new kit.",
    effect=_NOT_IMPORTED,
)
KIT_IO: Final = _store(
    "kit-io",
    "The kit could not be read or written.",
    "Check the medium and its free space, then try again: nothing was enrolled.",
    effect=_NOT_IMPORTED,
)
HUB_NOT_IN_REALM: Final = _refused(
    "hub-not-in-realm",
    "The realm file lists no active hub of this name.",
    "Compare with 'skex realm show'; names are compared exactly.",
)

BENCH_INVALID: Final = _refused(
    "bench-invalid",
    "A hub cannot be taken out of use like this.",
    "The detail says what is wrong: seconds are whole and positive, a reason is one short line.",
)
HUB_NOT_BENCHED: Final = _refused(
    "hub-not-benched",
    "This hub is not on the bench.",
    "Look at 'skex kme status': it says which hubs are, and for whose batches.",
)

# ── backups ─────────────────────────────────────────────────────────────────────────────────────
BACKUP_MALFORMED: Final = _refused(
    "backup-malformed",
    "The file is not a backup.",
    "Check that it is the right file.",
    effect=_NOT_RESTORED,
)
BACKUP_VERSION: Final = _refused(
    "backup-version",
    "The backup has a format that this skex does not know.",
    "Install the version that made it, or a later one.",
    effect=_NOT_RESTORED,
)
BACKUP_DAMAGED: Final = _refused(
    "backup-damaged",
    "The backup was altered, damaged or cut off.",
    "Nothing was restored. Take another copy of it, or an older backup.",
    effect=_NOT_RESTORED,
)
BACKUP_PASSPHRASE: Final = _refused(
    "backup-passphrase",
    "The passphrase does not open the backup.",
    "Type it as it was when the backup was made; if it is right, the backup was altered.",
    effect=_NOT_RESTORED,
)
BACKUP_PASSPHRASE_MISSING: Final = _refused(
    "backup-passphrase-missing",
    "A backup is under a passphrase and none was given.",
    "Run this in a terminal, or give it with --passphrase-file or --passphrase-fd.",
)
BACKUP_TOO_LARGE: Final = _refused(
    "backup-too-large",
    "The home holds more than fits into a backup.",
    "Move old segments of the audit log to an archive, and what else is named; then try again.",
    effect=_NO_BACKUP,
)
BACKUP_PATH: Final = _refused(
    "backup-path",
    "A file of the home has a path that no backup can hold.",
    "Rename it: ASCII letters, digits and a few signs, no dots at the beginning of a part.",
    effect=_NO_BACKUP,
)

# ── homes, configuration, command line ──────────────────────────────────────────────────────────
HOME_EXISTS: Final = _refused(
    "home-exists", "The home exists already.", "Use another --home, or remove the old one on purpose."
)
HOME_FOREIGN: Final = _refused(
    "home-foreign",
    "The home is not of the kind that this command works on.",
    "Check --home: a hub's home holds hub.toml, a KME's kme.toml.",
    effect=_NO_START,
)
HOME_IO: Final = _store(
    "home-io", "A file of the home could not be read or written.", "Check its owner, its mode and the disk."
)
MASTER_KEY_INVALID: Final = _store(
    "master-key-invalid",
    "The master key is missing, readable by others, or not 32 bytes.",
    "Put master.key, master.sealed or the credential back as it was; a file with mode 0600 and the daemon's"
    " owner. Without it the store is lost.",
    effect=_NO_START,
)
MASTER_PASSPHRASE_WRONG: Final = _store(
    "master-passphrase-wrong",
    "The passphrase does not open the master key.",
    "Type it again; look at keyboard layout and caps lock. Nothing was changed.",
    effect=_NO_START,
)
MASTER_PASSPHRASE_MISSING: Final = _refused(
    "master-passphrase-missing",
    "The master key is under a passphrase, and nobody can be asked for it.",
    "Run this in a terminal, name a file with SKEX_PASSPHRASE_FILE, or give the credential skex-passphrase.",
    effect=_NO_START,
)
CONFIG_MISSING: Final = _refused(
    "config-missing",
    "There is no configuration file.",
    "Make a home with 'skex hub init' or 'skex kme init'.",
    effect=_NO_START,
)
CONFIG_SYNTAX: Final = _refused(
    "config-syntax",
    "The configuration file is not readable TOML.",
    "Mend the named line.",
    effect=_NO_START,
)
CONFIG_INVALID: Final = _refused(
    "config-invalid",
    "The configuration file has settings that do not make sense.",
    "Mend what is named; docs/configuration.md lists every option.",
    effect=_NO_START,
)
FILE_EXISTS: Final = _refused(
    "file-exists", "The file to be written exists already.", "Choose another name, or remove it on purpose."
)
FILE_IO: Final = _store("file-io", "A file could not be read or written.", "Check its path, owner and mode.")
ROOT_REFUSED: Final = _refused(
    "root-refused",
    "This daemon does not run as root.",
    "Run it as its own user, or say --allow-root.",
    effect=_NO_START,
)

# ── delivery: doors ─────────────────────────────────────────────────────────────────────────────
DOOR_REQUEST: Final = _delivery(
    "door-request",
    "A request does not have the form that the door's standard asks for.",
    "Correct the application; the answer says what is wrong.",
)
DOOR_SIZE_BITS: Final = _delivery(
    "door-size-bits",
    "A size in bits is not a multiple of 8.",
    "Sizes are bits: ask for 256, not for 32.",
)
DOOR_EXTENSION_UNKNOWN: Final = _delivery(
    "door-extension-unknown",
    "A request demands an extension that this door does not have.",
    "Make it optional, or leave it out.",
)
DOOR_EXTENSION_UNMET: Final = _delivery(
    "door-extension-unmet",
    "A request demands of an extension what this door cannot give.",
    "Compare the demand with what the pair's keys can be.",
)
DOOR_IDENTITY: Final = _delivery(
    "door-identity",
    "The client's certificate names no SAE, or more than one, or is not valid now.",
    "Issue one with the name in the field that the door reads (skex ca issue), and compare the clocks.",
)
DOOR_TIMEOUT: Final = _delivery(
    "door-timeout", "A request took too long.", "Look at the KME's health (skex kme status), then ask again."
)
DOOR_CERTIFICATES: Final = _delivery(
    "door-certificates",
    "The door's certificate, key, CA or revocation list cannot be used.",
    "Check that the files exist, belong together, are readable by the daemon and have no passphrase.",
    effect="The daemon does not start; at a reload the certificates that were in use stay.",
)
DOOR_ADDRESS: Final = _delivery(
    "door-address",
    "The door cannot listen on its address.",
    "Another process may have the port: change it.",
    effect="The daemon does not start.",
)

# ── certificates of the local hop ───────────────────────────────────────────────────────────────
CA_INVALID: Final = _refused(
    "ca-invalid",
    "The certificate authority's certificate and key cannot be used.",
    "Both must be PEM, belong together, and be what 'skex ca init' wrote.",
)
CA_REQUEST: Final = _refused(
    "ca-request",
    "A certificate with these names or days cannot be issued.",
    "Names are DNS names or IP addresses; an end lies within the authority's own.",
)
CA_REVOCATION: Final = _refused(
    "ca-revocation",
    "This authority cannot revoke that.",
    "Name certificates that it issued; the list so far must be what 'skex ca revoke' wrote.",
)

# ── demonstration ───────────────────────────────────────────────────────────────────────────────
TOOL_MISSING: Final = _refused(
    "tool-missing",
    "A program that this command starts is not installed.",
    "On Debian and its like: sudo apt-get install curl openssl.",
)
DEMO_FAILED: Final = _refused(
    "demo-failed",
    "The demonstration did not show what it is there to show.",
    "Run it again with --keep: every home and log is then left for you to look at.",
)
NOT_ENROLLED: Final = _refused(
    "not-enrolled",
    "Fewer kits were imported than the realm's threshold.",
    "Import kits of more hubs (skex kit import); any order will do.",
    effect=_NO_START,
)
DAEMON_REFUSED: Final = _refused(
    "daemon-refused", "The daemon did not carry out the command.", "Its log says more."
)
LISTEN_ADDRESS: Final = _store(
    "listen-address",
    "The address to listen on cannot be used.",
    "Another process may have it; check with 'ss -ltnp', or use port 0.",
    effect=_NO_START,
)
LINK_FROZEN: Final = _peer(
    "link-frozen",
    "The link may not be used until it is enrolled again.",
    _REENROL,
    effect=_LINK_RESTS,
)
