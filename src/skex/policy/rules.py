"""What a policy says, typed: every rule as it was written, before any question is asked.

Names stay patterns here, with groups unopened. ``id`` is ``TABLE.NAME`` for a rule that was given a
name, otherwise ``TABLE#DIGEST`` of what it says, so that moving a rule changes nothing; ``line`` is
for people and counts in no comparison. A limit or quota that is None is not stated by its rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from skex.base.ids import SaeId
from skex.protocol.hub import Stream
from skex.wire.claim import ClaimClass
from skex.wire.context import Purpose
from skex.wire.independence import Attribute


class Direction(Enum):
    """Which way keys are established, seen from this KME; its own SAEs are masters ``to-peer``."""

    TO_PEER = "to-peer"
    FROM_PEER = "from-peer"
    BOTH = "both"

    def covers(self, direction: Direction) -> bool:
        """Whether a rule for this direction is one for ``direction``, which is not both."""
        return self in {direction, Direction.BOTH}


class Role(Enum):
    """What the local SAE is: a master asks for new keys, a slave takes them by their ids."""

    MASTER = "master"
    SLAVE = "slave"
    BOTH = "both"

    def covers(self, role: Role) -> bool:
        """Whether a rule for this role is one for ``role``, which is not both."""
        return self in {role, Role.BOTH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What all rules have. ``name`` is empty for a rule that was given none."""

    table: str
    name: str
    id: str
    line: int = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRule(Rule):
    """``hub.allow`` and ``hub.deny``: who establishes with whom."""

    from_: frozenset[str]
    to: frozenset[str]
    both_ways: bool
    purposes: frozenset[Purpose]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota(Rule):
    """What both tables of quotas have; rates per second, bursts in bytes or requests."""

    to: frozenset[str]
    stream: Stream
    bytes_per_second: float | None
    bytes_burst: float | None
    requests_per_second: float | None
    requests_burst: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairQuota(Quota):
    """``hub.pair_quota``: how much each sender may draw on each receiver's pad."""

    from_: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalQuota(Quota):
    """``hub.total_quota``: how much all senders together may draw on each receiver's pad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KmeRule(Rule):
    """``kme.allow`` and ``kme.deny``: with which peers keys are established."""

    peers: frozenset[str]
    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class KmeLimit(Rule):
    """``kme.limit``: what a batch must be, and how much is kept, for each peer."""

    peers: frozenset[str]
    direction: Direction
    minimum_threshold: int | None
    minimum_effective_threshold: int | None
    independence: frozenset[Attribute] | None
    minimum_claim: ClaimClass | None
    key_bytes_min: int | None
    key_bytes_max: int | None
    batch_keys_max: int | None
    lifetime_seconds_max: int | None
    reserve_age_seconds_max: int | None
    stored_batches_max: int | None
    stored_bytes_max: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KmeBench(Rule):
    """``kme.bench``: when a hub is put on the bench, for batches with which peers."""

    hubs: frozenset[str]
    peers: frozenset[str]
    wrong_shares: int
    missing_in_a_row: int | None
    seconds: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeRule(Rule):
    """``sae.allow`` and ``sae.deny``: which local SAE shares keys with which remote one."""

    local: frozenset[str]
    remote: frozenset[str]
    role: Role
    purposes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeLimit(Rule):
    """``sae.limit``: how much a local SAE may ask for, for each remote one."""

    local: frozenset[str]
    remote: frozenset[str]
    role: Role
    key_bytes_min: int | None
    key_bytes_max: int | None
    keys_per_request_max: int | None
    slaves_max: int | None
    lifetime_seconds_max: int | None
    use_seconds_max: int | None
    uses_max: int | None


class OperatorCommand(Enum):
    """What operators ask of a daemon that runs, one word for each thing that is allowed or not."""

    STATUS = "status"
    PENDING = "pending"
    POLICY = "policy"
    APPROVE = "approve"
    RELOAD = "reload"
    RESERVE = "reserve"
    BLAME = "blame"
    BENCH = "bench"
    KIT_CREATE = "kit-create"
    KIT_IMPORT = "kit-import"
    REALM_UPDATE = "realm-update"
    KEY_READ = "key-read"
    KEY_SUSPEND = "key-suspend"
    KEY_REVOKE = "key-revoke"
    AUDIT = "audit"
    AUDIT_KEY = "audit-key"


EVERY_COMMAND = "*"
"""Stands for all commands, also those of later versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRole(Rule):
    """``operator.role``: commands under one name."""

    commands: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRule(Rule):
    """``operator.allow`` and ``operator.deny``: who may ask for what."""

    users: frozenset[str]
    unix_groups: frozenset[str]
    roles: frozenset[str]
    commands: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorDual(Rule):
    """``operator.dual``: commands that need two persons."""

    commands: frozenset[str]
    pending_seconds_max: int | None


@dataclass(frozen=True, slots=True)
class NamedGroup:
    """One group as it was written."""

    name: str
    members: frozenset[str]
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Alias:
    """An application's bare name for an SAE."""

    name: str
    sae: SaeId
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy file. Everything is sorted, so files that say the same are equal."""

    control_floor_bytes: int
    groups: tuple[NamedGroup, ...] = ()
    aliases: tuple[Alias, ...] = ()
    rules: tuple[Rule, ...] = ()
