"""Limits that depend on each other stay consistent when one of them is changed."""

from __future__ import annotations

from skex.base import limits


def test_each_minimum_is_below_its_maximum() -> None:
    values = vars(limits)
    lows = [name for name in values if name.endswith("_MIN")]
    assert lows
    for name in lows:
        assert values[name] < values[name.removesuffix("_MIN") + "_MAX"], name
    assert limits.CONFIRM_RESEND_SECONDS < limits.CONFIRM_RESEND_SECONDS_MAX
    assert limits.PEER_RESEND_SECONDS < limits.PEER_RESEND_SECONDS_MAX


def test_forging_a_longest_record_succeeds_with_at_most_2_to_the_minus_91() -> None:
    # Poly1305: 8 * ceil(length / 16) / 2^106 (Bernstein 2005, theorem 3.3, one attempt).
    blocks = -(-limits.RECORD_BYTES // 16)
    assert 8 * blocks <= 2 ** (106 - 91)


def test_everything_that_travels_in_a_record_fits_its_body() -> None:
    assert limits.RECORD_HEADER_BYTES + limits.BODY_BYTES == limits.RECORD_BYTES
    assert limits.REALM_FILE_BYTES < limits.BODY_BYTES
    assert limits.PEER_ENVELOPE_BYTES < limits.BODY_BYTES
    assert limits.BATCH_SECRET_BYTES < limits.BODY_BYTES


def test_a_share_of_the_largest_batch_leaves_room_for_its_context() -> None:
    # Compact context: names, ids and numbers; every hub of a full realm costs at most a few bytes.
    assert (
        limits.BODY_BYTES - limits.BATCH_SECRET_BYTES >= 16 * limits.REALM_HUBS + 16 * limits.NAME_CHARACTERS
    )


def test_the_longest_key_and_the_shortest_keys_fit_a_batch() -> None:
    overhead = 48 + 32  # u and v
    assert overhead + limits.KEY_BYTES_MAX <= limits.BATCH_SECRET_BYTES
    assert overhead + limits.BATCH_KEYS * limits.KEY_BYTES_MIN <= limits.BATCH_SECRET_BYTES


def test_one_table_unit_carries_a_grant_and_the_later_ones_a_longest_record() -> None:
    assert limits.TABLE_UNIT_BYTES > limits.GRANT_TAIL_BYTES
    assert limits.TABLE_GRANT_UNITS_MIN * limits.TABLE_UNIT_BYTES == 128 * 1024
    assert limits.TABLE_GRANT_UNITS_MIN * limits.TABLE_UNIT_BYTES > (
        16 + 16 + limits.RECORD_BYTES + limits.GRANT_TAIL_BYTES
    )


def test_offsets_in_a_grant_fit_their_header_field() -> None:
    assert limits.TABLE_GRANT_UNITS_MAX * limits.TABLE_UNIT_BYTES < 2**32
    assert limits.DERIVED_GRANT_BYTES < 2**32


def test_receiver_is_more_patient_than_the_sender() -> None:
    assert limits.GROUP_SECONDS > limits.ESTABLISH_SECONDS
    assert limits.LIFETIME_MARGIN_SECONDS > limits.GROUP_SECONDS
    assert limits.ASSIGN_SECONDS < limits.ASSIGN_HOLD_SECONDS
    assert limits.RELAY_SECONDS > limits.CONFIRM_RESEND_SECONDS_MAX
