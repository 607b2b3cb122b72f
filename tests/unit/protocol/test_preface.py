"""Both ends of a preface against each other, and against whatever a network or a liar can send."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType

import pytest

from simulation.link_pair import DIGEST, EPOCH, LINK, NO_MARKS, PARTIES, Joined, LinkPair
from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, PeerFault, Refused, StoreFault
from skex.base.ids import Direction, HubName, Incarnation, KmeName, LinkId, RealmName
from skex.base.secret import Secret
from skex.pad.kinds import PadKind
from skex.protocol import preface_hub, preface_kme
from skex.protocol.changes import LinkFrozen, MarkRaised, PeerSeen, PrefaceCounted
from skex.protocol.preface_hub import HubPreface, HubState
from skex.protocol.preface_kme import KmePreface, KmeState
from skex.protocol.session import (
    ClaimLink,
    ConnectionLost,
    Failed,
    GrantsFailed,
    GrantsTaken,
    LinkFound,
    LinkProfile,
    LookUpLink,
    Owned,
    PrefaceDone,
    PrefaceEffects,
    Received,
    RollbackNoted,
    Session,
    TakeGrant,
)
from skex.protocol.traffic import Tick
from skex.wire import messages
from skex.wire import preface as frames
from skex.wire.preface import Marks, Stretch
from tests.unit.protocol.link_support import KINDS, code_of, failure_of, proof, table_material

KEY = bytes(range(64))
UNITS = 8
PROFILE = LinkProfile(PARTIES, Secret(KEY), PadKind.TABLE, UNITS, UNITS)
KME_NONCE = b"k" * 32
HUB_NONCE = b"h" * 32
INCARNATION = Incarnation(b"i" * 16)
OWNED = Owned(NO_MARKS, EPOCH, DIGEST)
SILENT_KME = [KmeState.AWAITING_OWNERSHIP, KmeState.NOTING_ROLLBACK, KmeState.TAKING_GRANTS]
SILENT_HUB = [
    HubState.LOOKING_UP,
    HubState.AWAITING_OWNERSHIP,
    HubState.NOTING_ROLLBACK,
    HubState.TAKING_TO_HUB,
]


def only_send(effects: PrefaceEffects) -> bytes:
    (data,) = effects.send
    return data


@dataclass
class Ends:
    """Two machines and the frames so far; a test answers for the shells."""

    kme: KmePreface
    hub: HubPreface
    frames: list[bytes]
    kme_marks: Marks = NO_MARKS
    hub_marks: Marks = NO_MARKS

    @property
    def hub_input(self) -> bytes:
        return self.frames[-1]

    def earlier(self) -> list[bytes]:
        return list(self.frames)


def ends(kme_marks: Marks = NO_MARKS, hub_marks: Marks = NO_MARKS, profile: LinkProfile = PROFILE) -> Ends:
    kme = KmePreface(profile, KME_NONCE, INCARNATION, now=0.0)
    hub = HubPreface(HUB_NONCE, now=0.0)
    return Ends(kme, hub, [only_send(kme.start())], kme_marks, hub_marks)


def to_frame_2(state: Ends, hub_profile: LinkProfile = PROFILE) -> Ends:
    effects = state.hub.handle(Received(state.frames[0]), 0.0)
    assert effects.notify == (LookUpLink(LINK),)
    state.frames.append(only_send(state.hub.handle(LinkFound(hub_profile), 0.0)))
    return state


def to_frame_3(state: Ends) -> Ends:
    effects = to_frame_2(state).kme.handle(Received(state.frames[1]), 0.0)
    assert effects.notify == (ClaimLink(LINK),)
    state.frames.append(only_send(state.kme.handle(Owned(state.kme_marks, 9, b""), 0.0)))
    return state


def to_frame_4(state: Ends) -> Ends:
    effects = to_frame_3(state).hub.handle(Received(state.frames[2]), 0.0)
    assert effects.notify == (ClaimLink(LINK),)
    effects = state.hub.handle(Owned(state.hub_marks, EPOCH, DIGEST), 0.0)
    take = effects.persist[0]
    assert isinstance(take, TakeGrant)
    taken = GrantsTaken((table_material(take.direction, take.stretch.start),))
    state.frames.append(only_send(state.hub.handle(taken, 0.0)))
    return state


def to_frame_5(state: Ends) -> Ends:
    effects = to_frame_4(state).kme.handle(Received(state.frames[3]), 0.0)
    takes = [item for item in effects.persist if isinstance(item, TakeGrant)]
    taken = GrantsTaken(tuple(table_material(take.direction, take.stretch.start) for take in takes))
    state.frames.append(only_send(state.kme.handle(taken, 0.0)))
    return state


# ── what an undisturbed preface does ────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", KINDS)
def test_undisturbed_preface_leaves_both_ends_with_the_same_grants(kind: PadKind) -> None:
    pair = LinkPair(kind)
    joined = pair.connect()
    assert joined.kme.established is not None
    assert joined.hub.established is not None
    kme, hub = joined.kme.established.session, joined.hub.established.session
    assert (kme.outgoing, hub.outgoing) == (Direction.TO_HUB, Direction.TO_KME)
    assert (kme.kme_nonce, kme.hub_nonce) == (hub.kme_nonce, hub.hub_nonce)
    assert kme.send.r == hub.receive.r
    assert kme.receive.r == hub.send.r
    assert kme.incarnation == hub.incarnation == pair.kme.incarnation
    assert (kme.hub_epoch, kme.hub_realm_digest) == (EPOCH, DIGEST)
    assert pair.kme.marks == Marks(1, 1, 1, 1, 0, 0)
    assert pair.hub.marks == Marks(1, 1, 1, 1, 1, 1)


def test_hub_persists_its_grant_with_what_the_kme_proved_before_it_sends_frame_4() -> None:
    state = to_frame_3(ends(kme_marks=Marks(3, 2, 9, 0, 0, 0), hub_marks=Marks(2, 2, 4, 0, 0, 0)))
    state.hub.handle(Received(state.frames[2]), 0.0)
    effects = state.hub.handle(Owned(state.hub_marks, EPOCH, DIGEST), 0.0)
    assert effects.persist == (
        TakeGrant(LINK, Direction.TO_HUB, Stretch(3, 1), KME_NONCE, HUB_NONCE),
        PeerSeen(LINK, 3, 2, 9),
    )
    assert (effects.send, effects.notify) == ((), ())


def test_kme_persists_both_grants_and_its_count_in_one_set_before_it_sends_frame_5() -> None:
    state = to_frame_4(ends(kme_marks=Marks(3, 2, 9, 0, 0, 0), hub_marks=Marks(2, 5, 4, 0, 0, 0)))
    effects = state.kme.handle(Received(state.frames[3]), 0.0)
    assert effects.persist == (
        TakeGrant(LINK, Direction.TO_HUB, Stretch(3, 1), KME_NONCE, HUB_NONCE),
        TakeGrant(LINK, Direction.TO_KME, Stretch(5, 1), KME_NONCE, HUB_NONCE),
        PrefaceCounted(LINK, 10),
        PeerSeen(LINK, 4, 5, 4),
    )
    assert (effects.send, effects.notify) == ((), ())


def test_hub_persists_its_grant_and_its_count_before_the_preface_is_done() -> None:
    state = to_frame_5(ends(kme_marks=Marks(3, 2, 9, 0, 0, 0), hub_marks=Marks(2, 5, 4, 0, 0, 0)))
    effects = state.hub.handle(Received(state.frames[4]), 0.0)
    assert effects.persist == (
        TakeGrant(LINK, Direction.TO_KME, Stretch(5, 1), KME_NONCE, HUB_NONCE),
        PrefaceCounted(LINK, 5),
        PeerSeen(LINK, 4, 6, 10),
    )
    assert (effects.send, effects.notify) == ((), ())
    done = state.hub.handle(GrantsTaken((table_material(Direction.TO_KME, 5),)), 0.0)
    (notice,) = done.notify
    assert isinstance(notice, PrefaceDone)
    assert notice.session.marks == Marks(4, 6, 5, 4, 6, 10)
    assert notice.session.peer_count == 10
    assert state.hub.next_deadline is None


def test_frame_4_states_only_what_is_durable_then() -> None:
    state = to_frame_4(ends(kme_marks=Marks(3, 2, 9, 0, 0, 0), hub_marks=Marks(2, 5, 4, 1, 1, 1)))
    frame, _ = frames.parse_frame(state.frames[3], frames.HubState)
    assert frame.marks == Marks(4, 5, 4, 3, 2, 9)
    assert frame.grant == Stretch(3, 1)


def test_every_frame_arriving_byte_by_byte_makes_no_difference() -> None:
    whole, slow = LinkPair(PadKind.TABLE), LinkPair(PadKind.TABLE)
    whole.connect()
    joined = slow.dial()
    while any([side.run() for side in joined.sides] + [side.deliver(1) for side in joined.sides]):
        pass
    assert joined.hub.open
    assert slow.kme.marks == whole.kme.marks
    assert slow.hub.marks == whole.hub.marks


def test_records_behind_frame_5_are_opened_once_the_hub_has_its_grant() -> None:
    pair = LinkPair(PadKind.DERIVED)
    joined = pair.dial()
    joined.kme.run()
    while not joined.kme.open:
        joined.hub.deliver()
        joined.hub.run()
        joined.kme.deliver()
        joined.kme.run()
    joined.kme.send(messages.GetRealm())
    joined.kme.run()
    joined.hub.deliver(joined.cable.waiting(Direction.TO_HUB) - 1)
    assert joined.hub.connection.paused
    joined.hub.deliver()
    assert not joined.hub.open
    joined.hub.run()
    assert joined.hub.messages == [messages.GetRealm()]
    assert not joined.hub.connection.paused


def test_more_bytes_behind_frame_5_than_may_wait_end_the_connection_and_wipe_the_grant() -> None:
    state = to_frame_5(ends())
    state.hub.handle(Received(state.frames[4]), 0.0)
    assert state.hub.paused
    assert state.hub.handle(Received(bytes(limits.LINK_QUEUE_BYTES)), 0.0).empty
    error = failure_of(state.hub.handle(Received(b"x"), 0.0))
    assert error.code is codes.LINK_BUSY
    assert all(material.wiped for material in state.hub._held)


# ── frames that a network changes ───────────────────────────────────────────────────────────────
def frame_mutations() -> list[tuple[int, int]]:
    """Every byte of every frame."""
    return [(number, at) for number in range(1, 6) for at in range(frames.frame_bytes(number))]


def expected_codes(number: int, at: int) -> set[object]:
    """With which codes a changed byte may be noticed, by its place in the frame."""
    if at < 2:
        return {codes.FRAME_UNEXPECTED}
    if at < 4:
        return {codes.FRAME_LENGTH}
    body = {codes.PROOF_INVALID, codes.LINK_UNKNOWN}
    if number == 2 and at == 4:
        return {codes.VERSION_UNSUPPORTED}
    return body | {codes.FRAME_MALFORMED}


def test_any_changed_byte_of_any_frame_ends_the_preface_before_anything_is_used() -> None:
    for number, at in frame_mutations():
        pair = LinkPair(PadKind.TABLE, units=2)
        joined = pair.dial()
        way = Direction.TO_HUB if number % 2 else Direction.TO_KME
        receiver = joined.side(way.opposite)
        for _ in range(number - 1):
            run_one_frame(joined)
        joined.side(way).run()
        before = receiver.host.marks
        joined.cable.corrupt(way, at, mask=2)
        joined.run()
        # A frame 1 that was changed fails at the KME, whose proof it is part of, or is not answered.
        failed = [side for side in joined.sides if side.error is not None]
        assert failed, (number, at)
        codes_seen = {code_of(side) for side in failed}
        assert codes_seen <= expected_codes(number, at) | {codes.CONNECTION_CLOSED}, (number, at, codes_seen)
        assert not joined.hub.open
        assert receiver.host.marks == before
        assert not receiver.host.sides or receiver.error is None


def run_one_frame(joined: Joined) -> None:
    """Carry out and deliver until one frame has crossed."""
    for side in joined.sides:
        side.run()
    for side in joined.sides:
        side.deliver()


@pytest.mark.parametrize("state", SILENT_KME)
def test_bytes_before_the_hub_may_speak_end_the_connection_at_the_kme(state: KmeState) -> None:
    kme = kme_in(state)
    assert failure_of(kme.handle(Received(b"x"), 0.0)).code is codes.FRAME_UNEXPECTED
    assert kme.state is KmeState.CLOSED


@pytest.mark.parametrize("state", SILENT_HUB)
def test_bytes_before_the_kme_may_speak_end_the_connection_at_the_hub(state: HubState) -> None:
    hub = hub_in(state)
    assert failure_of(hub.handle(Received(b"x"), 0.0)).code is codes.FRAME_UNEXPECTED
    assert hub.state is HubState.CLOSED


ROLLED_BACK = Marks(0, 0, 0, 5, 5, 5)
"""Marks of an end that saw the other one further than it is."""


def kme_in(state: KmeState) -> KmePreface:
    """A KME's end that stands in the given state."""
    if state is KmeState.AWAITING_HUB_NONCE:
        return ends().kme
    if state is KmeState.AWAITING_OWNERSHIP:
        given = to_frame_2(ends())
        given.kme.handle(Received(given.frames[1]), 0.0)
    elif state is KmeState.AWAITING_HUB_STATE:
        given = to_frame_3(ends())
    else:
        given = to_frame_4(ends(hub_marks=ROLLED_BACK if state is KmeState.NOTING_ROLLBACK else NO_MARKS))
        given.kme.handle(Received(given.frames[3]), 0.0)
    assert given.kme.state is state
    return given.kme


def hub_in(state: HubState) -> HubPreface:
    """A hub's end that stands in the given state."""
    given = ends(kme_marks=ROLLED_BACK if state is HubState.NOTING_ROLLBACK else NO_MARKS)
    if state is HubState.LOOKING_UP:
        given.hub.handle(Received(given.frames[0]), 0.0)
    elif state is HubState.AWAITING_KME_STATE:
        to_frame_2(given)
    elif state in {HubState.AWAITING_OWNERSHIP, HubState.NOTING_ROLLBACK, HubState.TAKING_TO_HUB}:
        to_frame_3(given).hub.handle(Received(given.frames[2]), 0.0)
        if state is not HubState.AWAITING_OWNERSHIP:
            given.hub.handle(OWNED, 0.0)
    elif state is HubState.AWAITING_KME_GRANT:
        to_frame_4(given)
    elif state is HubState.TAKING_TO_KME:
        to_frame_5(given).hub.handle(Received(given.frames[4]), 0.0)
    assert given.hub.state is state
    return given.hub


OPEN_KME = [state for state in KmeState if state not in {KmeState.DONE, KmeState.CLOSED}]
OPEN_HUB = [state for state in HubState if state not in {HubState.DONE, HubState.CLOSED}]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_byte_behind_a_frame_that_must_be_answered_ends_the_connection(number: int) -> None:
    state = to_frame_5(ends())
    whole = state.frames[number - 1] + b"x"
    machines: dict[int, KmePreface | HubPreface] = {
        1: ends().hub,
        2: ends().kme,
        3: hub_in(HubState.AWAITING_KME_STATE),
        4: kme_in(KmeState.AWAITING_HUB_STATE),
    }
    assert failure_of(machines[number].handle(Received(whole), 0.0)).code is codes.FRAME_UNEXPECTED


@pytest.mark.parametrize("number", [1, 3, 4, 5])
def test_another_frame_than_the_one_due_is_refused_by_the_kme(number: int) -> None:
    state = to_frame_5(ends())
    fault = failure_of(ends().kme.handle(Received(state.frames[number - 1]), 0.0))
    assert fault.code is codes.FRAME_UNEXPECTED


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_another_frame_than_the_one_due_is_refused_by_the_hub(number: int) -> None:
    state = to_frame_5(ends())
    fault = failure_of(ends().hub.handle(Received(state.frames[number - 1]), 0.0))
    assert fault.code is codes.FRAME_UNEXPECTED


# ── who proves what ─────────────────────────────────────────────────────────────────────────────
def test_proofs_are_those_of_the_specification() -> None:
    state = to_frame_5(ends())
    for number in range(2, 6):
        whole = state.frames[number - 1]
        unproved, given = whole[:-64], whole[-64:]
        assert given == proof(KEY, number, state.frames[: number - 1], unproved)


OTHER_PROFILES = [
    replace(PROFILE, key=Secret(bytes(64))),
    replace(PROFILE, parties=replace(PARTIES, kme=KmeName("mallory"))),
    replace(PROFILE, parties=replace(PARTIES, hub=HubName("south"))),
    replace(PROFILE, parties=replace(PARTIES, realm=RealmName("other"))),
    replace(PROFILE, parties=replace(PARTIES, kme=KmeName("north"), hub=HubName("alice"))),
]


@pytest.mark.parametrize("other", OTHER_PROFILES)
def test_hub_with_another_key_or_other_names_is_refused_at_frame_2(other: LinkProfile) -> None:
    state = to_frame_2(ends(), other)
    assert failure_of(state.kme.handle(Received(state.frames[1]), 0.0)).code is codes.PROOF_INVALID


@pytest.mark.parametrize("other", OTHER_PROFILES)
def test_kme_with_another_key_or_other_names_is_refused_at_frame_3(other: LinkProfile) -> None:
    state = to_frame_2(ends())
    frame = frames.KmeState(NO_MARKS, INCARNATION, 0)
    unproved = frames.unproved_bytes(frame)
    key = other.key.expose()
    whole = unproved + proof(key, 3, state.frames, unproved, parties=other.parties)
    assert failure_of(state.hub.handle(Received(whole), 0.0)).code is codes.PROOF_INVALID


def test_proof_of_one_frame_is_none_for_another() -> None:
    """A reflected or transplanted proof: the right key, the wrong label."""
    state = to_frame_2(ends())
    unproved = frames.unproved_bytes(frames.KmeState(NO_MARKS, INCARNATION, 0))
    for label in (2, 4, 5):
        hub = to_frame_2(ends()).hub
        whole = unproved + proof(KEY, label, state.frames, unproved)
        assert failure_of(hub.handle(Received(whole), 0.0)).code is codes.PROOF_INVALID


def test_proof_of_frame_2_sent_back_as_frame_3_is_refused() -> None:
    state = to_frame_2(ends())
    unproved = frames.unproved_bytes(frames.KmeState(NO_MARKS, INCARNATION, 0))
    fault = failure_of(state.hub.handle(Received(unproved + state.frames[1][-64:]), 0.0))
    assert fault.code is codes.PROOF_INVALID


def test_frames_of_an_older_connection_prove_nothing_on_a_newer_one() -> None:
    pair = LinkPair(PadKind.TABLE)
    old = pair.connect()
    sent = {way: list(old.cable.sent[way]) for way in Direction}
    old.cut()
    before = pair.hub.marks
    replayed = pair.dial()
    for frame in sent[Direction.TO_HUB]:
        replayed.cable.take(Direction.TO_HUB)
        replayed.kme.stop()
        replayed.cable.insert(Direction.TO_HUB, frame)
        replayed.hub.deliver()
        replayed.hub.run()
    assert code_of(replayed.hub) is codes.PROOF_INVALID
    assert pair.hub.marks == before


def test_frame_2_of_a_connection_that_runs_beside_is_refused() -> None:
    """Attacker: two connections of one link at once, the hub's frames exchanged."""
    pair = LinkPair(PadKind.TABLE)
    first, second = pair.dial(), pair.dial()
    for joined in (first, second):
        run_one_frame(joined)
        joined.hub.run()
    ones, others = (joined.cable.take(Direction.TO_KME) for joined in (first, second))
    first.cable.insert(Direction.TO_KME, others)
    second.cable.insert(Direction.TO_KME, ones)
    for joined in (first, second):
        joined.run()
        assert code_of(joined.kme) is codes.PROOF_INVALID


def test_frame_3_of_a_connection_that_runs_beside_is_refused() -> None:
    pair = LinkPair(PadKind.TABLE)
    first, second = pair.dial(), pair.dial()
    for joined in (first, second):
        run_one_frame(joined)
        run_one_frame(joined)
    first.kme.run()
    stolen = first.cable.take(Direction.TO_HUB)
    second.cable.insert(Direction.TO_HUB, stolen)
    second.hub.deliver()
    second.hub.run()
    assert code_of(second.hub) is codes.PROOF_INVALID
    assert pair.hub.store.marks == NO_MARKS


def test_unknown_link_id_looks_like_a_known_one_until_the_bad_proof_ends_both() -> None:
    """Attacker: somebody without a key who wants to know which links exist."""
    seen = []
    for link_id in (LINK, LinkId(b"unknown!")):
        pair = LinkPair(PadKind.DERIVED)
        joined = pair.dial()
        joined.kme.stop()
        joined.kme.cable.take(Direction.TO_HUB)
        joined.cable.insert(Direction.TO_HUB, frames.unproved_bytes(frames.Hello(1, 1, link_id, KME_NONCE)))
        joined.hub.deliver()
        steps = joined.hub.run()
        answer = joined.cable.take(Direction.TO_KME)
        forged = frames.unproved_bytes(frames.KmeState(NO_MARKS, INCARNATION, 0)) + bytes(64)
        joined.cable.insert(Direction.TO_HUB, forged)
        joined.hub.deliver()
        steps_after = joined.hub.run()
        assert pair.hub.store.marks == NO_MARKS
        seen.append((steps, steps_after, answer[:40], len(answer), joined.cable.cut, joined.cable.sent))
        assert code_of(joined.hub) is (codes.PROOF_INVALID if link_id == LINK else codes.LINK_UNKNOWN)
    known, unknown = seen
    assert known[:5] == unknown[:5]


def test_decoy_is_proved_by_nobody_even_with_its_own_key() -> None:
    decoy = replace(PROFILE, decoy=True)
    state = to_frame_2(ends(profile=decoy), decoy)
    unproved = frames.unproved_bytes(frames.KmeState(NO_MARKS, INCARNATION, 0))
    whole = unproved + proof(KEY, 3, state.frames, unproved)
    assert failure_of(state.hub.handle(Received(whole), 0.0)).code is codes.LINK_UNKNOWN


# ── later versions of either end ────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("later", [preface_kme, preface_hub], ids=["KME", "hub"])
@pytest.mark.parametrize("kind", KINDS)
def test_end_that_speaks_later_versions_too_is_spoken_to_in_the_first(
    later: ModuleType, kind: PadKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "HIGHEST_VERSION", 3)
    joined = LinkPair(kind).connect()
    joined.kme.send(messages.GetRealm(), "one")
    joined.run()
    assert joined.hub.messages == [messages.GetRealm()]


@pytest.mark.parametrize("later", [preface_kme, preface_hub], ids=["KME", "hub"])
def test_end_that_speaks_later_versions_only_is_refused_with_one_code_at_both_ends(
    later: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "LOWEST_VERSION", 2)
    monkeypatch.setattr(later, "HIGHEST_VERSION", 3)
    pair = LinkPair(PadKind.TABLE)
    joined = pair.connect()
    joined.cut()
    assert (code_of(joined.kme), code_of(joined.hub)) == (codes.VERSION_UNSUPPORTED,) * 2
    assert pair.kme.marks == pair.hub.marks == NO_MARKS


# ── versions ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("lowest", "highest", "chosen"), [(1, 1, 1), (1, 9, 1), (2, 9, 1)])
def test_hub_answers_with_the_highest_shared_version_or_the_nearest(
    lowest: int, highest: int, chosen: int
) -> None:
    hub = HubPreface(HUB_NONCE, 0.0)
    hub.handle(Received(frames.unproved_bytes(frames.Hello(lowest, highest, LINK, KME_NONCE))), 0.0)
    whole = only_send(hub.handle(LinkFound(PROFILE), 0.0))
    frame, _ = frames.parse_frame(whole, frames.HubNonce)
    assert frame.version == chosen


def to_unshared_version(lowest: int = 2) -> HubPreface:
    """A hub that told a later KME which version it speaks."""
    hub = HubPreface(HUB_NONCE, 0.0)
    hub.handle(Received(frames.unproved_bytes(frames.Hello(lowest, 9, LINK, KME_NONCE))), 0.0)
    hub.handle(LinkFound(PROFILE), 0.0)
    return hub


@pytest.mark.parametrize(
    "event", [ConnectionLost(), Tick(), Received(b"\x03\x00"), Received(b"HTTP")], ids=repr
)
def test_hub_says_why_a_kme_without_a_shared_version_went_away(
    event: ConnectionLost | Tick | Received,
) -> None:
    hub = to_unshared_version()
    effects = hub.handle(event, limits.PREFACE_SECONDS)
    if event == Received(b"\x03\x00"):
        assert effects.empty
        effects = hub.handle(ConnectionLost(), 0.0)
    error = failure_of(effects)
    assert (error.code, error.detail) == (codes.VERSION_UNSUPPORTED, "the KME speaks 2 to 9")
    assert hub.finished


def test_kme_that_goes_on_in_a_version_it_did_not_offer_is_refused() -> None:
    """Its proof would be right; what it offered says that it cannot mean it."""
    hub = to_unshared_version()
    hello = frames.unproved_bytes(frames.Hello(2, 9, LINK, KME_NONCE))
    unproved = frames.unproved_bytes(frames.HubNonce(1, HUB_NONCE))
    earlier = [hello, unproved + proof(KEY, 2, [hello], unproved)]
    state = frames.unproved_bytes(frames.KmeState(NO_MARKS, INCARNATION, 0))
    effects = hub.handle(Received(state + proof(KEY, 3, earlier, state)), 0.0)
    assert failure_of(effects).code is codes.VERSION_UNSUPPORTED


def test_kme_of_a_shared_version_that_goes_away_just_went() -> None:
    hub = to_unshared_version(lowest=1)
    assert failure_of(hub.handle(ConnectionLost(), 0.0)).code is codes.CONNECTION_CLOSED


def test_defect_at_the_hub_is_no_question_of_versions() -> None:
    error = failure_of(to_unshared_version().handle(RollbackNoted(), 0.0))
    assert error.code is codes.BAD_STATE


def test_version_that_the_kme_did_not_offer_ends_the_preface() -> None:
    state = ends()
    unproved = frames.unproved_bytes(frames.HubNonce(2, HUB_NONCE))
    whole = unproved + proof(KEY, 2, state.frames, unproved, version=2)
    assert failure_of(state.kme.handle(Received(whole), 0.0)).code is codes.VERSION_UNSUPPORTED


def test_offer_that_was_changed_on_the_way_is_noticed_by_the_kme() -> None:
    """Attacker: somebody on the path who wants an older version to be used."""
    state = ends()
    state.frames[0] = frames.unproved_bytes(frames.Hello(1, 7, LINK, KME_NONCE))
    to_frame_2(state)
    assert failure_of(state.kme.handle(Received(state.frames[1]), 0.0)).code is codes.PROOF_INVALID


# ── lies of an end that has the key ─────────────────────────────────────────────────────────────
def lying_hub_state(**lies: object) -> tuple[KmePreface, bytes]:
    """A KME with marks 2 and 2 that awaits frame 4, and the frame of a hub that lies."""
    state = to_frame_3(ends(kme_marks=Marks(2, 2, 2, 0, 0, 0)))
    honest = frames.HubState(Marks(3, 2, 2, 2, 2, 2), EPOCH, DIGEST, Stretch(2, 1), 0)
    frame = replace(honest, **lies)  # type: ignore[arg-type]  # a table of changes
    unproved = frames.unproved_bytes(frame)
    return state.kme, unproved + proof(KEY, 4, state.frames, unproved)


@pytest.mark.parametrize(
    ("lies", "code"),
    [
        ({"grant": Stretch(1, 1), "marks": Marks(2, 2, 2, 2, 2, 2)}, codes.GRANT_INVALID),  # below the mark
        ({"grant": Stretch(UNITS, 1), "marks": Marks(UNITS + 1, 2, 2, 2, 2, 2)}, codes.GRANT_INVALID),
        ({"grant": Stretch(2, UNITS), "marks": Marks(UNITS + 2, 2, 2, 2, 2, 2)}, codes.GRANT_INVALID),
        ({"marks": Marks(4, 2, 2, 2, 2, 2)}, codes.GRANT_INVALID),  # the mark is not the grant's end
        ({"marks": Marks(3, UNITS, 2, 2, 2, 2)}, codes.PAD_EXHAUSTED),
    ],
)
def test_grant_or_mark_of_a_lying_hub_is_refused_with_nothing_taken(
    lies: dict[str, object], code: object
) -> None:
    kme, frame = lying_hub_state(**lies)
    effects = kme.handle(Received(frame), 0.0)
    assert effects.persist == ()
    assert failure_of(effects).code is code


def test_kme_takes_its_own_grant_above_its_own_mark_whatever_the_hub_says() -> None:
    kme, frame = lying_hub_state(marks=Marks(3, 0, 0, 0, 0, 0))
    take = kme.handle(Received(frame), 0.0).persist[1]
    assert isinstance(take, TakeGrant)
    assert (take.direction, take.stretch) == (Direction.TO_KME, Stretch(2, 1))


def test_grant_larger_than_any_is_refused() -> None:
    profile = replace(PROFILE, to_hub_capacity=1000, to_kme_capacity=1000)
    state = to_frame_3(ends(profile=profile))
    frame = frames.HubState(Marks(257, 0, 0, 0, 0, 0), EPOCH, DIGEST, Stretch(0, 257), 0)
    unproved = frames.unproved_bytes(frame)
    whole = unproved + proof(KEY, 4, state.frames, unproved)
    assert failure_of(state.kme.handle(Received(whole), 0.0)).code is codes.GRANT_INVALID


@pytest.mark.parametrize("grant", [Stretch(1, 1), Stretch(UNITS, 1), Stretch(2, UNITS - 1)])
def test_grant_of_a_lying_kme_is_refused_and_the_hubs_other_grant_wiped(grant: Stretch) -> None:
    state = to_frame_4(ends(hub_marks=Marks(2, 2, 2, 0, 0, 0)))
    unproved = frames.unproved_bytes(frames.KmeGrant(grant))
    effects = state.hub.handle(Received(unproved + proof(KEY, 5, state.frames, unproved)), 0.0)
    assert effects.persist == ()
    assert failure_of(effects).code is codes.GRANT_INVALID
    assert all(material.wiped for material in state.hub._held)


def test_chain_index_too_far_ahead_freezes_the_link() -> None:
    pair = LinkPair(PadKind.DERIVED)
    pair.hub.store.marks = replace(NO_MARKS, to_kme=limits.DERIVED_JUMP_STEPS + 1)
    joined = pair.connect()
    assert code_of(joined.kme) is codes.PAD_JUMP
    assert pair.kme.store.frozen == codes.PAD_JUMP.name
    assert pair.kme.store.marks == NO_MARKS


def test_jump_is_the_only_failure_that_freezes() -> None:
    hub = hub_in(HubState.TAKING_TO_HUB)
    jump = hub.handle(GrantsFailed(StoreFault(codes.PAD_JUMP)), 0.0)
    assert jump.persist == (LinkFrozen(LINK, codes.PAD_JUMP.name),)
    hole = hub_in(HubState.TAKING_TO_HUB).handle(GrantsFailed(StoreFault(codes.PAD_HOLE)), 0.0)
    assert hole.persist == ()


def test_frozen_link_is_answered_like_an_unknown_one() -> None:
    pair = LinkPair(PadKind.DERIVED)
    pair.hub.store.frozen = codes.PAD_JUMP.name
    joined = pair.connect()
    assert code_of(joined.kme) is codes.PROOF_INVALID


# ── pads that are used up ───────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("marks", [Marks(UNITS, 0, 0, 0, 0, 0), Marks(0, UNITS, 0, 0, 0, 0)])
def test_kme_whose_pad_is_used_up_stops_before_it_costs_the_hub_anything(marks: Marks) -> None:
    state = to_frame_2(ends())
    state.kme.handle(Received(state.frames[1]), 0.0)
    assert failure_of(state.kme.handle(Owned(marks, 0, b""), 0.0)).code is codes.PAD_EXHAUSTED


def test_hub_whose_pad_is_used_up_ends_the_preface() -> None:
    state = to_frame_3(ends(hub_marks=Marks(UNITS, 0, 0, 0, 0, 0)))
    state.hub.handle(Received(state.frames[2]), 0.0)
    effects = state.hub.handle(Owned(state.hub_marks, EPOCH, DIGEST), 0.0)
    assert failure_of(effects).code is codes.PAD_EXHAUSTED


def test_table_link_works_to_its_last_unit_and_then_says_why_not() -> None:
    pair = LinkPair(PadKind.TABLE, units=3)
    for _ in range(3):
        joined = pair.connect()
        assert joined.hub.open
        joined.cut()
    assert code_of(pair.connect().kme) is codes.PAD_EXHAUSTED


# ── endings ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("state", OPEN_KME)
def test_kme_ends_in_any_state_when_its_connection_is_lost_or_replaced(state: KmeState) -> None:
    assert failure_of(kme_in(state).handle(ConnectionLost(), 0.0)).code is codes.CONNECTION_CLOSED
    kme = kme_in(state)
    assert failure_of(kme.handle(ConnectionLost(codes.LINK_REPLACED), 0.0)).code is codes.LINK_REPLACED
    assert kme.finished
    assert kme.handle(ConnectionLost(), 0.0).empty


@pytest.mark.parametrize("state", OPEN_HUB)
def test_hub_ends_in_any_state_when_its_connection_is_lost_and_wipes_its_grant(state: HubState) -> None:
    hub = hub_in(state) if state is not HubState.AWAITING_HELLO else HubPreface(HUB_NONCE, 0.0)
    assert failure_of(hub.handle(ConnectionLost(), 0.0)).code is codes.CONNECTION_CLOSED
    assert all(material.wiped for material in hub._held)
    assert hub.handle(Received(b"x"), 0.0).empty


@pytest.mark.parametrize("state", OPEN_KME)
def test_preface_that_takes_too_long_ends_at_the_kme(state: KmeState) -> None:
    kme = kme_in(state)
    assert kme.next_deadline == limits.PREFACE_SECONDS
    assert kme.handle(Tick(), limits.PREFACE_SECONDS - 0.1).empty
    assert failure_of(kme.handle(Tick(), limits.PREFACE_SECONDS)).code is codes.PEER_SILENT
    assert kme.next_deadline is None


@pytest.mark.parametrize("state", OPEN_HUB)
def test_preface_that_takes_too_long_ends_at_the_hub(state: HubState) -> None:
    hub = hub_in(state) if state is not HubState.AWAITING_HELLO else HubPreface(HUB_NONCE, 0.0)
    assert failure_of(hub.handle(Tick(), limits.PREFACE_SECONDS)).code is codes.PEER_SILENT
    assert all(material.wiped for material in hub._held)


def test_material_that_comes_after_the_end_is_wiped_at_either_end() -> None:
    for machine in (kme_in(KmeState.TAKING_GRANTS), hub_in(HubState.TAKING_TO_HUB)):
        machine.handle(ConnectionLost(), 0.0)
        materials = (table_material(), table_material(Direction.TO_KME))
        assert machine.handle(GrantsTaken(materials), 0.0).empty
        assert all(material.wiped for material in materials)


@pytest.mark.parametrize("code", [codes.PAD_HOLE, codes.PAD_SHORT_READ, codes.PAD_CORRUPT, codes.PAD_IO])
def test_pad_that_fails_ends_the_preface_with_the_pads_own_code(code: ErrorCode) -> None:
    for machine in (
        kme_in(KmeState.TAKING_GRANTS),
        hub_in(HubState.TAKING_TO_HUB),
        hub_in(HubState.TAKING_TO_KME),
    ):
        assert failure_of(machine.handle(GrantsFailed(StoreFault(code)), 0.0)).code is code


@pytest.mark.parametrize("state", OPEN_KME)
def test_answer_that_the_kme_did_not_ask_for_is_a_bug_that_ends_it(state: KmeState) -> None:
    materials = (table_material(), table_material(Direction.TO_KME), table_material(start=2))
    for event in (LinkFound(PROFILE), GrantsTaken(materials)):
        error = failure_of(kme_in(state).handle(event, 0.0))
        assert isinstance(error, LocalBug)
        assert error.code is codes.BAD_STATE
    assert all(material.wiped for material in materials)
    if state is not KmeState.AWAITING_OWNERSHIP:
        assert isinstance(failure_of(kme_in(state).handle(OWNED, 0.0)), LocalBug)
    if state is not KmeState.NOTING_ROLLBACK:
        assert isinstance(failure_of(kme_in(state).handle(RollbackNoted(), 0.0)), LocalBug)


@pytest.mark.parametrize("state", OPEN_HUB[1:])
def test_answer_that_the_hub_did_not_ask_for_is_a_bug_that_ends_it(state: HubState) -> None:
    materials = (table_material(), table_material(Direction.TO_KME))
    assert isinstance(failure_of(hub_in(state).handle(GrantsTaken(materials), 0.0)), LocalBug)
    assert all(material.wiped for material in materials)
    if state is not HubState.LOOKING_UP:
        assert isinstance(failure_of(hub_in(state).handle(LinkFound(PROFILE), 0.0)), LocalBug)
    if state is not HubState.AWAITING_OWNERSHIP:
        assert isinstance(failure_of(hub_in(state).handle(OWNED, 0.0)), LocalBug)
    if state is not HubState.NOTING_ROLLBACK:
        assert isinstance(failure_of(hub_in(state).handle(RollbackNoted(), 0.0)), LocalBug)


# ── counts ──────────────────────────────────────────────────────────────────────────────────────
def test_count_at_its_bound_stays_there_and_raises_no_alarm() -> None:
    top = limits.PREFACE_COUNT_MAX
    pair = LinkPair(PadKind.TABLE)
    for host in pair.hosts:
        host.store.marks = replace(NO_MARKS, count=top, seen_count=top)
    for _ in range(2):
        joined = pair.connect()
        assert joined.hub.open
        joined.cut()
    assert pair.kme.marks.count == pair.hub.marks.count == top
    assert not pair.kme.store.alarms + pair.hub.store.alarms


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────
def test_nothing_that_a_preface_hands_out_shows_the_link_key_or_material() -> None:
    pair = LinkPair(PadKind.TABLE)
    joined = pair.connect()
    assert joined.kme.established is not None
    session: Session = joined.kme.established.session
    shown = repr(session) + repr(pair.profile) + repr(Failed(PeerFault(codes.PROOF_INVALID)))
    for secret in (pair.profile.key.expose(), session.send.r, session.receive.r):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_refusal_of_an_exhausted_pad_is_no_fault_of_the_peer() -> None:
    state = to_frame_2(ends())
    state.kme.handle(Received(state.frames[1]), 0.0)
    error = failure_of(state.kme.handle(Owned(Marks(UNITS, 0, 0, 0, 0, 0), 0, b""), 0.0))
    assert isinstance(error, Refused)


def test_marks_raised_by_a_preface_are_those_of_its_grants() -> None:
    pair = LinkPair(PadKind.TABLE)
    pair.kme.store.marks = replace(NO_MARKS, to_hub=5)
    pair.hub.store.marks = replace(NO_MARKS, to_kme=7)
    pair.kme.crash()
    pair.hub.crash()
    joined = pair.connect()
    assert joined.hub.open
    for host in pair.hosts:
        assert (host.marks.to_hub, host.marks.to_kme) == (6, 8)
    assert MarkRaised(LINK, Direction.TO_HUB, 6).mark == pair.hub.marks.to_hub
