from __future__ import annotations

import pytest

from skex.base import codes, limits
from skex.base.ids import RequestId
from skex.protocol.changes import ControlDone, ControlQueued, Role
from skex.protocol.outbox import (
    INITIAL,
    TABLE,
    ControlArrived,
    ControlGivenUp,
    ControlState,
    ControlToken,
    Outbox,
)
from skex.protocol.states import mermaid
from skex.protocol.ways import MustArrive
from skex.wire.peer import Revoke, RevokeReason, VoidKeys, encode_peer_message
from tests.unit.protocol.peer_support import ALICE, BOB, HUBS, MADE_BY, key_range, request_id


def _void(number: int) -> MustArrive:
    return MustArrive(Role.SENDER, BOB, VoidKeys(request_id(number), MADE_BY, (key_range(),)))


def _revoke(number: int, role: Role = Role.SENDER) -> MustArrive:
    return MustArrive(role, BOB, Revoke(request_id(number), RevokeReason.KEY_COMPROMISE, None))


def _outbox(*items: MustArrive) -> Outbox:
    outbox = Outbox((), 0)
    for item in items:
        outbox.put(item, 0)
    return outbox


def _due(outbox: Outbox, now: float) -> list[RequestId]:
    return [control.queued.request for control in outbox.due(now)]


def test_the_table_ends_in_done_or_given_up() -> None:
    assert {state for state, _ in TABLE} == {ControlState.AWAITING_TURN, ControlState.AWAITING_DONE}
    assert "AWAITING_DONE --> DONE: carried out" in mermaid(TABLE, INITIAL)


def test_a_message_is_queued_durably_before_it_is_due() -> None:
    outbox = Outbox((), 0)
    effects = outbox.put(_void(1), 0)
    assert effects.persist == (
        ControlQueued(Role.SENDER, BOB, request_id(1), encode_peer_message(_void(1).message)),
    )
    assert _due(outbox, 0) == [request_id(1)]


def test_the_same_message_is_queued_once() -> None:
    outbox = _outbox(_void(1))
    assert outbox.put(_void(1), 0).empty
    assert _due(outbox, 0) == [request_id(1)]


def test_repetitions_wait_longer_and_longer_up_to_a_bound() -> None:
    outbox = _outbox(_void(1))
    now, waits = 0.0, []
    for _ in range(9):
        assert _due(outbox, now) == [request_id(1)]
        assert outbox.next is not None
        waits.append(outbox.next - now)
        now = outbox.next
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert waits[-1] == limits.PEER_RESEND_SECONDS_MAX


def test_what_is_done_is_not_repeated() -> None:
    outbox = _outbox(_void(1))
    effects = outbox.done(Role.SENDER, BOB, request_id(1), 0)
    assert effects.persist == (ControlDone(BOB, request_id(1)),)
    assert effects.notify == (ControlArrived(BOB, request_id(1)),)
    assert outbox.next is None
    assert outbox.peers == ()
    assert outbox.done(Role.SENDER, BOB, request_id(1), 0).empty


def test_a_done_of_another_peer_or_role_does_not_count() -> None:
    outbox = _outbox(_void(1))
    assert outbox.done(Role.SENDER, ALICE, request_id(1), 0).empty
    assert outbox.done(Role.RECEIVER, BOB, request_id(1), 0).empty
    assert _due(outbox, 0) == [request_id(1)]


def test_only_a_window_is_under_way_and_moves_when_something_is_done() -> None:
    outbox = _outbox(*(_void(number) for number in range(limits.PEER_WINDOW + 2)))
    assert _due(outbox, 0) == [request_id(number) for number in range(limits.PEER_WINDOW)]
    outbox.done(Role.SENDER, BOB, request_id(3), 0)
    assert _due(outbox, 0) == [request_id(limits.PEER_WINDOW)]
    outbox.done(Role.SENDER, BOB, request_id(limits.PEER_WINDOW + 1), 0)
    assert _due(outbox, 0) == []


def test_what_was_queued_before_a_restart_is_due_after_it() -> None:
    queued = [
        ControlQueued(item.role, BOB, item.message.request, encode_peer_message(item.message))
        for item in (_void(1), _revoke(2, Role.RECEIVER))
    ]
    assert _due(Outbox(queued, 7), 7) == [request_id(1), request_id(2)]


def test_beyond_the_bound_the_oldest_void_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_QUEUE", 3)
    outbox = _outbox(_revoke(1), _void(2), _void(3))
    effects = outbox.put(_revoke(4), 0)
    assert effects.notify == (ControlGivenUp(BOB, request_id(2), codes.PEER_QUEUE_FULL),)
    assert effects.persist[0] == ControlDone(BOB, request_id(2))
    assert _due(outbox, 0) == [request_id(1), request_id(3), request_id(4)]


def test_a_revocation_is_never_displaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_QUEUE", 1)
    outbox = _outbox(_revoke(1))
    effects = outbox.put(_void(2), 0)
    assert effects.notify == (ControlGivenUp(BOB, request_id(2), codes.PEER_QUEUE_FULL),)
    assert effects.persist == ()
    assert _due(outbox, 0) == [request_id(1)]


def test_a_queue_of_one_void_makes_room_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_QUEUE", 1)
    outbox = _outbox(_void(1))
    outbox.put(_void(2), 0)
    assert _due(outbox, 0) == [request_id(2)]


def test_a_refused_attempt_goes_to_each_other_hub_once() -> None:
    outbox = _outbox(_void(1))
    (control,) = outbox.due(0)
    token = ControlToken(BOB, request_id(1))
    assert control.token == token
    for hub in HUBS[:2]:
        outbox.left(control, hub)
        assert outbox.refused(token, hub, 3) is control
    outbox.left(control, HUBS[2])
    assert outbox.refused(token, HUBS[2], 3) is None
    outbox.due(1e9)
    outbox.left(control, HUBS[0])
    assert outbox.refused(token, HUBS[0], 3) is control


def test_a_stale_refusal_sends_nothing() -> None:
    outbox = _outbox(_void(1))
    (control,) = outbox.due(0)
    outbox.left(control, HUBS[1])
    assert outbox.refused(control.token, HUBS[0], 3) is None
    assert outbox.refused(ControlToken(BOB, request_id(9)), HUBS[1], 3) is None


def test_once_the_way_is_free_what_waited_is_due_at_once() -> None:
    outbox = _outbox(_void(1))
    for now in (0, 1, 3, 7):
        outbox.due(now)
    outbox.hurry(BOB, 8)
    assert _due(outbox, 8) == [request_id(1)]
    assert outbox.next == 9
    outbox.hurry(ALICE, 8)
    assert outbox.next == 9


def test_a_revocation_of_all_keys_is_under_way_until_the_peer_has_carried_it_out() -> None:
    outbox = _outbox(_void(1), _revoke(2, Role.RECEIVER))
    assert outbox.is_revoking_all(Role.RECEIVER, BOB)
    assert not outbox.is_revoking_all(Role.SENDER, BOB)
    some = Revoke(request_id(3), RevokeReason.SUPERSEDED, (key_range(),))
    outbox.put(MustArrive(Role.SENDER, BOB, some), 0)
    assert not outbox.is_revoking_all(Role.SENDER, BOB)
    queued = outbox.put(_revoke(4), 0).persist
    assert outbox.is_revoking_all(Role.SENDER, BOB)
    assert not outbox.is_revoking_all(Role.SENDER, ALICE)
    anew = Outbox([one for one in queued if isinstance(one, ControlQueued)], 0)  # another start
    assert anew.is_revoking_all(Role.SENDER, BOB)
    anew.done(Role.SENDER, BOB, request_id(4), 1)
    assert not anew.is_revoking_all(Role.SENDER, BOB)
