"""Explanations against a real store under random lives of its keys: they never say what the store does not.

What is expected is kept in a model of its own, one small record for each key, and the class of a key is
computed from the specification's words. Every change of a key's state must be one of the table's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulation.chance import Chance
from skex.base.errors import LocalBug, Refused
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName, RealmName, RequestId, SaeId
from skex.base.secret import Secret
from skex.keys.claims import Claims
from skex.keys.explaining import Explanation, Facts, LinkEvidence, explain
from skex.keys.states import TABLE, KeyState
from skex.keys.uses import USES
from skex.protocol import changes as c
from skex.protocol.changes import Role, SuspendReason
from skex.store.database import IN_MEMORY
from skex.store.kme import KmeStore
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.messages import Confirmation
from skex.wire.peer import KeyRange, RevokeReason
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm

HERE, THERE = KmeName("here"), KmeName("there")
REALM = RealmName("realm")
KEYS = 3
HUBS = 5
SAES = [SaeId(f"{name}@here") for name in "ab"]
MASTER = SaeId("master@there")
FIRST = Incarnation(b"first start     ")
OPERATORS = ["one", "one", "two", "three", "three"]


def realm() -> Realm:
    hubs = tuple(
        Hub(
            HubName(f"hub-{place}"),
            Coordinate(place),
            HubStatus.ACTIVE,
            f"hub-{place}.example:7300",
            HubAttributes(operator, "land", "house", f"admin-{place}", "skex"),
        )
        for place, operator in enumerate(OPERATORS, 1)
    )
    return Realm(REALM, 1, 3, 1_700_000_000, 31_536_000, 86_400, hubs)


@dataclass
class Key:
    """What must be so of one key."""

    left: bool = True
    assigned: bool = False
    takers: set[SaeId] = field(default_factory=set)
    revoked: RevokeReason | None = None
    suspended: SuspendReason | None = None

    def revoke(self, reason: RevokeReason) -> None:
        nobody_has_it = not self.takers or reason is RevokeReason.ROLLBACK
        if self.revoked is None and not self.left and nobody_has_it:
            return
        if self.revoked is None or (reason.is_compromise and not self.revoked.is_compromise):
            self.revoked = reason
        self.erase()

    def erase(self) -> None:
        self.left, self.suspended = False, None


@dataclass
class Made:
    batch: c.Batch
    role: Role
    keys: list[Key]
    before: list[KeyState]


coordinates = st.sets(st.integers(1, HUBS)).map(lambda found: tuple(map(Coordinate, sorted(found))))
claims = st.builds(Claim, coordinates, st.sampled_from(Randomness), st.sampled_from(Enrolment))
roles = st.sampled_from(Role)
bits = st.integers(1, (1 << KEYS) - 1)
reasons = st.sampled_from(RevokeReason)


def ranges(batch: BatchId, wanted: int) -> tuple[KeyRange, ...]:
    return tuple(KeyRange(batch, index, 1) for index in range(KEYS) if wanted >> index & 1)


class Explanations(RuleBasedStateMachine):
    """One KME's store."""

    @initialize()
    def begin(self) -> None:
        self.store = KmeStore.create(
            IN_MEMORY, Secret(bytes(32)), Chance(1).randbytes, lambda: 1_700_000_000, name=HERE, realm=REALM
        )
        self.made: list[Made] = []
        self.requests = 0
        self.rests: dict[Role, SuspendReason] = {}
        self.claims = Claims(lambda: (realm(),))

    def commit(self, *changes: c.Change) -> None:
        self.store.commit([changes])

    # ── what happens ────────────────────────────────────────────────────────────────────────────
    @rule(role=roles, threshold=st.integers(2, HUBS), mine=claims, theirs=claims)
    def make(self, role: Role, threshold: int, mine: Claim, theirs: Claim) -> None:
        """A batch over five hubs, each of its paths of any kind at either end."""
        context = CompactContext(
            1,
            threshold,
            tuple(map(Coordinate, range(1, HUBS + 1))),
            KEYS,
            32,
            Purpose.TRAFFIC,
            3600,
            None,
            mine if role is Role.SENDER else theirs,
        )
        name = BatchId(FIRST, len(self.made) + 1)
        hubs = tuple(HubName(f"hub-{place}") for place in range(1, HUBS + 1))
        batch = c.Batch(THERE, name, context, hubs, mine.joined(theirs), Secret(b"k" * 32 * KEYS))
        if role is Role.SENDER:
            self.commit(c.BatchSent(batch, FIRST, 1))
        else:
            self.commit(c.BatchReceived(batch, Confirmation(name, 1, FIRST, mine, b"m" * 16), hubs[:3]))
        state = KeyState.RESERVED if role not in self.rests else KeyState.RESERVED_SUSPENDED
        self.made.append(Made(batch, role, [Key() for _ in range(KEYS)], [state] * KEYS))

    def _pick(self, data: st.DataObject) -> Made:
        return data.draw(st.sampled_from(self.made))

    def _each(self, made: Made, wanted: int, what: Callable[[Key], None]) -> None:
        for index, key in enumerate(made.keys):
            if wanted >> index & 1:
                what(key)

    @rule(data=st.data(), wanted=bits, both=st.booleans())
    @precondition(lambda self: self.made)
    def assign(self, data: st.DataObject, wanted: int, both: bool) -> None:
        made = self._pick(data)
        keys = ranges(made.batch.batch, wanted)
        chosen = [made.keys[one.first] for one in keys]
        if any(not key.left or key.assigned for key in chosen):
            return
        self.requests += 1
        request = RequestId(self.requests.to_bytes(16, "big"))
        slaves = tuple(SAES if both else SAES[:1])
        if made.role is Role.SENDER:
            self.commit(c.KeysOffered(THERE, request, keys, SAES[0], (MASTER,), "tls", 60))
        else:
            self.commit(c.KeysAssigned(THERE, request, FIRST, keys, MASTER, slaves, "tls", 60))
        for key in chosen:
            key.assigned = True

    @rule(data=st.data(), index=st.integers(0, KEYS - 1), sae=st.sampled_from(SAES))
    @precondition(lambda self: self.made)
    def deliver(self, data: st.DataObject, index: int, sae: SaeId) -> None:
        made = self._pick(data)
        key, keys = made.keys[index], ranges(made.batch.batch, 1 << index)
        rests = key.suspended is not None or made.role in self.rests
        if not key.left or not key.assigned or rests:
            return
        try:
            self.commit(c.KeysDelivered(made.role, THERE, keys, sae))
        except LocalBug:  # not for this SAE, or delivered to it before
            return
        key.takers.add(sae)
        if made.role is Role.SENDER or not self._is_left(made, index):
            key.erase()

    def _is_left(self, made: Made, index: int) -> bool:
        """Whether the store still has the bytes: asked of what doors read, not of the history."""
        with suppress(Refused):
            return bool(self.store.read_keys(made.role, THERE, ranges(made.batch.batch, 1 << index)))
        return False

    @rule(data=st.data(), wanted=bits)
    @precondition(lambda self: self.made)
    def void(self, data: st.DataObject, wanted: int) -> None:
        made = self._pick(data)
        self.commit(c.KeysVoided(made.role, THERE, ranges(made.batch.batch, wanted)))
        self._each(made, wanted, Key.erase)

    @rule(data=st.data(), wanted=bits, reason=reasons)
    @precondition(lambda self: self.made)
    def revoke(self, data: st.DataObject, wanted: int, reason: RevokeReason) -> None:
        made = self._pick(data)
        keys = ranges(made.batch.batch, wanted)
        role = made.role
        self.commit(c.KeysRevoked(role, THERE, keys, reason), c.KeysVoided(role, THERE, keys))
        self._each(made, wanted, lambda key: key.revoke(reason))

    @rule(role=roles, reason=reasons)
    def revoke_pair(self, role: Role, reason: RevokeReason) -> None:
        self.commit(c.KeysRevoked(role, THERE, None, reason), c.AllKeysVoided(role, THERE))
        for made in self._of(role):
            self._each(made, -1, lambda key: key.revoke(reason))

    @rule(data=st.data(), wanted=bits, reason=st.sampled_from(SuspendReason))
    @precondition(lambda self: self.made)
    def suspend(self, data: st.DataObject, wanted: int, reason: SuspendReason) -> None:
        made = self._pick(data)
        self.commit(c.KeysSuspended(made.role, THERE, ranges(made.batch.batch, wanted), reason))
        for index, key in enumerate(made.keys):
            if wanted >> index & 1 and key.left:
                key.suspended = reason

    @rule(data=st.data(), wanted=bits)
    @precondition(lambda self: self.made)
    def resume(self, data: st.DataObject, wanted: int) -> None:
        made = self._pick(data)
        self.commit(c.KeysResumed(made.role, THERE, ranges(made.batch.batch, wanted)))
        self._each(made, wanted, lambda key: setattr(key, "suspended", None))

    @rule(role=roles, reason=st.sampled_from(SuspendReason))
    def suspend_pair(self, role: Role, reason: SuspendReason) -> None:
        self.commit(c.KeysSuspended(role, THERE, None, reason))
        self.rests[role] = reason

    @rule(role=roles)
    def resume_pair(self, role: Role) -> None:
        self.commit(c.KeysResumed(role, THERE, None))
        self.rests.pop(role, None)
        for made in self._of(role):
            self._each(made, -1, lambda key: setattr(key, "suspended", None))

    def _of(self, role: Role) -> Iterable[Made]:
        return (made for made in self.made if made.role is role)

    # ── what is said of it ──────────────────────────────────────────────────────────────────────
    @invariant()
    def explanations_say_what_is_so(self) -> None:
        for made in getattr(self, "made", ()):
            (history,) = self.store.history(made.batch.batch)
            links = tuple(LinkEvidence(hub) for hub in made.batch.hubs)
            for index, key in enumerate(made.keys):
                batch = history.batch
                facts = Facts(
                    key_id=history.key_id(REALM, HERE, index),
                    here=HERE,
                    history=history,
                    index=index,
                    claim=self.claims.of(made.role, batch),
                    collusion=self.claims.collusion(made.role, batch),
                    counted=("operator",),
                    links=links,
                    handed=(),
                    doors=("etsi014",),
                )
                self._check_life(made, index, key, explain(facts))
                for use in USES.values():
                    check_claim(made, explain(facts, use))
                self._check_transition(made, index, facts.state)

    def _check_life(self, made: Made, index: int, key: Key, said: Explanation) -> None:
        data: Any = said.data
        assert data["copy_here"] == key.left == self._is_left(made, index)
        assert data["taken_by"] == sorted(key.takers)
        assert data["revoked"] == (None if key.revoked is None else word(key.revoked.name))
        rests = self.rests.get(made.role) if key.suspended is None else key.suspended
        rests = rests if key.left else None
        assert data["suspended"] == (None if rests is None else word(rests.name))
        assert (data["sender"], data["receiver"]) == (
            (HERE, THERE) if made.role is Role.SENDER else (THERE, HERE)
        )
        assert ("It was revoked" in said.paragraph) == (key.revoked is not None)
        assert ("It is suspended" in said.paragraph) == (rests is not None)

    def _check_transition(self, made: Made, index: int, after: KeyState) -> None:
        before, made.before[index] = made.before[index], after
        if before is not after:
            steps = {step for (state, step), later in TABLE.items() if state is before and later is after}
            assert steps, (before, after)


def check_claim(made: Made, said: Explanation) -> None:
    """Sections 1.3 and 1.5, in other words: count the paths that fall by themselves."""
    context, claim = made.batch.context, made.batch.claim
    fallen = [hub for place, hub in enumerate(made.batch.hubs, 1) if place in claim.computational]
    data: Any = said.data
    stated = data["claim"]
    assert stated["threshold"] == context.threshold
    assert stated["computational_hubs"] == fallen
    assert stated["margin"] == max(0, context.threshold - len(fallen))
    strong = len(fallen) < context.threshold
    assert stated["class"] == ("information-theoretic" if strong else "computational")
    assert ("So the key's class is information-theoretic" in said.paragraph) == strong
    assert ("So the key's class is computational" in said.paragraph) == (not strong)
    assert 1 <= stated["effective_threshold"] <= context.threshold
    assert stated["randomness"] == word(claim.randomness.name)
    assert stated["enrolment"] == word(claim.enrolment.name)
    used = data["used_with"]
    if used["class"] == "information-theoretic":
        assert strong
        assert used["use"] == "one-time-pad"
    if claim.enrolment is Enrolment.UNDER_PASSPHRASE:
        assert "under a passphrase" in said.paragraph
    for hub in fallen:
        assert hub in said.paragraph


def word(name: str) -> str:
    return name.lower().replace("_", "-")


TestExplanations = Explanations.TestCase
TestExplanations.settings = settings(stateful_step_count=12)
