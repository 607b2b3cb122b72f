"""The life of a key at one KME: its states, what moves it, and what NIST SP 800-57 part 1 calls that.

The table is the complete description: the diagram in ``docs/keys.md`` is made from it, and what a store
says of a key before and after a change must be one of its transitions. It must not know how a state is
stored, or who asked for a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from skex.protocol.states import Table


class Phase(Enum):
    """The states of NIST SP 800-57 part 1 revision 5, section 7."""

    PRE_ACTIVATION = "pre-activation"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DEACTIVATED = "deactivated"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"


class KeyState(Enum):
    """Where a key is, as one KME knows. A delivered key lives on with its users; the KME has no copy."""

    ESTABLISHING = "establishing"
    RESERVED = "reserved"
    RESERVED_SUSPENDED = "reserved, suspended"
    ASSIGNED = "assigned"
    ASSIGNED_SUSPENDED = "assigned, suspended"
    PARTLY_DELIVERED = "delivered to some"
    PARTLY_DELIVERED_SUSPENDED = "delivered to some, suspended"
    DELIVERED = "delivered"
    REVOKED_IN_USE = "revoked after delivery"
    COMPROMISED_IN_USE = "revoked after delivery as compromised"
    ERASED = "erased before delivery"


class KeyStep(Enum):
    """What happens to a key."""

    CONFIRMED = "confirmed"
    GIVEN_UP = "given up"
    ASSIGNED = "assigned"
    TAKEN_BY_SOME = "taken by some"
    TAKEN_BY_ALL = "taken by all"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    VOIDED = "voided"
    EXPIRED = "expired"
    AGED = "aged"
    REVOKED = "revoked"
    REVOKED_AS_COMPROMISED = "revoked as compromised"


_ENDS: Final = (
    KeyStep.VOIDED,
    KeyStep.EXPIRED,
    KeyStep.REVOKED,
    KeyStep.REVOKED_AS_COMPROMISED,
)
_WAITING: Final = (
    KeyState.RESERVED,
    KeyState.RESERVED_SUSPENDED,
    KeyState.ASSIGNED,
    KeyState.ASSIGNED_SUSPENDED,
)
_RESTING: Final = {
    KeyState.RESERVED: KeyState.RESERVED_SUSPENDED,
    KeyState.ASSIGNED: KeyState.ASSIGNED_SUSPENDED,
    KeyState.PARTLY_DELIVERED: KeyState.PARTLY_DELIVERED_SUSPENDED,
}
_SHARED: Final = (KeyState.PARTLY_DELIVERED, KeyState.PARTLY_DELIVERED_SUSPENDED)

TABLE: Final[Table[KeyState, KeyStep]] = {
    (KeyState.ESTABLISHING, KeyStep.CONFIRMED): KeyState.RESERVED,
    (KeyState.ESTABLISHING, KeyStep.GIVEN_UP): KeyState.ERASED,
    (KeyState.RESERVED, KeyStep.ASSIGNED): KeyState.ASSIGNED,
    # The peer assigns what it made; it does not know that keys rest here.
    (KeyState.RESERVED_SUSPENDED, KeyStep.ASSIGNED): KeyState.ASSIGNED_SUSPENDED,
    (KeyState.ASSIGNED, KeyStep.TAKEN_BY_SOME): KeyState.PARTLY_DELIVERED,
    (KeyState.ASSIGNED, KeyStep.TAKEN_BY_ALL): KeyState.DELIVERED,
    (KeyState.PARTLY_DELIVERED, KeyStep.TAKEN_BY_SOME): KeyState.PARTLY_DELIVERED,
    (KeyState.PARTLY_DELIVERED, KeyStep.TAKEN_BY_ALL): KeyState.DELIVERED,
    **{(state, KeyStep.SUSPENDED): rest for state, rest in _RESTING.items()},
    **{(rest, KeyStep.RESUMED): state for state, rest in _RESTING.items()},
    **{(state, KeyStep.AGED): KeyState.ERASED for state in (KeyState.RESERVED, KeyState.RESERVED_SUSPENDED)},
    **{(state, end): KeyState.ERASED for state in _WAITING for end in _ENDS},
    # Who did not take it never will; who did has it.
    **{(state, end): KeyState.DELIVERED for state in _SHARED for end in (KeyStep.VOIDED, KeyStep.EXPIRED)},
    **{(state, KeyStep.REVOKED): KeyState.REVOKED_IN_USE for state in (*_SHARED, KeyState.DELIVERED)},
    **{
        (state, KeyStep.REVOKED_AS_COMPROMISED): KeyState.COMPROMISED_IN_USE
        for state in (*_SHARED, KeyState.DELIVERED, KeyState.REVOKED_IN_USE)
    },
}
INITIAL: Final = KeyState.ESTABLISHING

PHASES: Final[Mapping[KeyState, Phase]] = {
    KeyState.ESTABLISHING: Phase.PRE_ACTIVATION,
    KeyState.RESERVED: Phase.PRE_ACTIVATION,
    KeyState.RESERVED_SUSPENDED: Phase.SUSPENDED,
    KeyState.ASSIGNED: Phase.PRE_ACTIVATION,
    KeyState.ASSIGNED_SUSPENDED: Phase.SUSPENDED,
    KeyState.PARTLY_DELIVERED: Phase.ACTIVE,
    KeyState.PARTLY_DELIVERED_SUSPENDED: Phase.SUSPENDED,
    KeyState.DELIVERED: Phase.ACTIVE,
    KeyState.REVOKED_IN_USE: Phase.DEACTIVATED,
    KeyState.COMPROMISED_IN_USE: Phase.COMPROMISED,
    KeyState.ERASED: Phase.DESTROYED,
}
"""What the standard calls each state."""

MEANINGS: Final[Mapping[KeyState, str]] = {
    KeyState.ESTABLISHING: "Made by the sender, not yet confirmed; in its memory only.",
    KeyState.RESERVED: "At both ends, promised to nobody.",
    KeyState.RESERVED_SUSPENDED: "The same, and not handed out or assigned from here.",
    KeyState.ASSIGNED: "Promised to a master and its slaves; nobody has it yet.",
    KeyState.ASSIGNED_SUSPENDED: "The same, and not handed out here.",
    KeyState.PARTLY_DELIVERED: "Some of the slaves have it; a copy waits for the others.",
    KeyState.PARTLY_DELIVERED_SUSPENDED: "The same, and the others do not get it.",
    KeyState.DELIVERED: "Who was to have it here has it; the copy here is erased.",
    KeyState.REVOKED_IN_USE: "Users have it and are not to protect anything new with it.",
    KeyState.COMPROMISED_IN_USE: "Users have it, and somebody else may: what it protected is not safe.",
    KeyState.ERASED: "Revoked, voided, aged or expired before anybody here got it.",
}
"""What each state means here."""
