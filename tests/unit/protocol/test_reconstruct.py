from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest

from skex.base import codes
from skex.base.errors import LocalBug
from skex.base.ids import Coordinate
from skex.base.secret import Secret
from skex.crypto import gf256, sharing
from skex.protocol import reconstruct as module
from skex.protocol.establishment import SharedSecret
from skex.protocol.reconstruct import Found, NothingYet, Search, TwoFound, reconstruct

CONTEXT = b"a context"
SECRET = bytes(range(100, 100 + 112))
COEFFICIENTS = bytes((7 * i + 3) % 256 for i in range(4 * 112))


def split(hubs: int, threshold: int, secret: bytes = SECRET) -> dict[Coordinate, bytes]:
    coordinates = [Coordinate(number) for number in range(1, hubs + 1)]
    coefficients = COEFFICIENTS[: (threshold - 1) * len(secret)]
    return dict(zip(coordinates, sharing.split(secret, threshold, coordinates, coefficients), strict=True))


def flipped(share: bytes, at: int = 100) -> bytes:
    changed = bytearray(share)
    changed[at] ^= 0x55
    return bytes(changed)


def search(
    shares: dict[Coordinate, bytes], threshold: int, newest: Sequence[int] | None = None, tag: bytes = b""
) -> Search:
    return Search(
        threshold=threshold,
        tag=tag or SharedSecret(Secret(SECRET)).tag(CONTEXT),
        context=CONTEXT,
        shares={coordinate: Secret(share) for coordinate, share in shares.items()},
        newest=frozenset(shares if newest is None else (Coordinate(number) for number in newest)),
    )


def found(outcome: module.Outcome) -> Found:
    assert isinstance(outcome, Found)
    assert outcome.secret.expose() == SECRET
    return outcome


def test_exactly_k_true_shares_give_the_secret() -> None:
    needed = search(dict(list(split(5, 3).items())[2:]), 3)
    assert needed.is_single
    assert found(reconstruct(needed)).deviating == frozenset()


def test_a_threshold_of_one_gives_the_only_share() -> None:
    assert found(reconstruct(search(split(1, 1), 1))).deviating == frozenset()


def test_a_changed_share_among_exactly_k_gives_nothing() -> None:
    shares = dict(list(split(5, 3).items())[:3])
    shares[Coordinate(2)] = flipped(shares[Coordinate(2)])
    assert reconstruct(search(shares, 3)) == NothingYet()


def test_consistent_shares_cost_one_tag_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = count_tags(monkeypatch)
    found(reconstruct(search(split(9, 3), 3)))
    assert len(tried) == 1


def test_consistent_shares_of_another_secret_cost_one_tag_and_give_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = count_tags(monkeypatch)
    assert reconstruct(search(split(9, 3, bytes(112)), 3)) == NothingYet()
    assert len(tried) == 1


@pytest.mark.parametrize("liars", list(combinations(range(1, 6), 2)))
def test_two_lying_hubs_of_five_are_named_wherever_they_are(liars: tuple[int, int]) -> None:
    shares = split(5, 3)
    for liar in liars:
        shares[Coordinate(liar)] = flipped(shares[Coordinate(liar)], at=liar)
    assert found(reconstruct(search(shares, 3))).deviating == frozenset(liars)


def test_fewer_true_shares_than_the_threshold_give_nothing() -> None:
    shares = split(5, 3)
    for liar in (1, 3, 5):
        shares[Coordinate(liar)] = flipped(shares[Coordinate(liar)], at=liar)
    assert reconstruct(search(shares, 3)) == NothingYet()


def test_sets_without_a_newest_share_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = split(5, 3)
    for liar in (1, 2, 3):
        shares[Coordinate(liar)] = flipped(shares[Coordinate(liar)], at=liar)
    tried = count_tags(monkeypatch)
    assert reconstruct(search(shares, 3, newest=[5])) == NothingYet()
    assert len(tried) == 6  # the sets of three out of five that hold the fifth


def test_the_newest_true_share_completes_the_set_that_verifies() -> None:
    shares = split(4, 3)
    shares[Coordinate(2)] = flipped(shares[Coordinate(2)])
    assert found(reconstruct(search(shares, 3, newest=[4]))).deviating == {2}


def test_sets_on_the_polynomial_already_found_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = split(5, 3)
    shares[Coordinate(5)] = flipped(shares[Coordinate(5)])
    tried = count_tags(monkeypatch)
    found(reconstruct(search(shares, 3)))
    assert len(tried) == 10 - 3  # 3 of the 4 sets of true shares add nothing to the first


@pytest.mark.parametrize("liars", list(combinations(range(1, 6), 2)))
def test_two_hubs_that_collude_to_keep_the_value_at_zero_do_not_frame_three(liars: tuple[int, int]) -> None:
    """They move to another polynomial with the same secret; more shares are on the true one."""
    shares = split(5, 2)
    for liar in liars:  # add coordinate * delta: zero at zero
        honest = shares[Coordinate(liar)]
        shares[Coordinate(liar)] = bytes(gf256.multiply(liar, 0x42) ^ byte for byte in honest)
    assert found(reconstruct(search(shares, 2))).deviating == frozenset(liars)


@pytest.mark.parametrize(
    ("agreeing", "threshold", "certain"),
    [(1, 1, True), (2, 2, True), (3, 3, False), (4, 3, True), (5, 4, False), (6, 4, True)],
)
def test_names_are_certain_where_k_minus_1_colluders_could_not_make_the_polynomial_up(
    agreeing: int, threshold: int, *, certain: bool
) -> None:
    assert module.is_certain(agreeing, threshold) is certain


def test_names_are_not_certain_where_two_colluders_of_five_frame_the_two_others() -> None:
    """With k = 3 they keep the secret and one honest share on their polynomial: three against three."""
    shares = split(5, 3)
    for liar in (1, 2):  # delta(x) = x * (x + 3): zero at zero and at the third hub
        delta = gf256.multiply(liar, liar ^ 3)
        shares[Coordinate(liar)] = bytes(delta ^ byte for byte in shares[Coordinate(liar)])
    outcome = found(reconstruct(search(shares, 3)))
    assert outcome.deviating in ({1, 2}, {4, 5})
    assert not module.is_certain(5 - len(outcome.deviating), 3)


def test_two_secrets_that_both_verify_are_told_apart_by_nobody() -> None:
    """k colluding hubs know the tag's key, so they can make a second secret with the same tag."""
    tag = SharedSecret(Secret(SECRET)).tag(CONTEXT)
    other = bytearray(SECRET)
    other[-1] ^= 1
    # d only shifts the tag: set it so that the other secret verifies as well.
    shift = bytes(a ^ b for a, b in zip(SharedSecret(Secret(bytes(other))).tag(CONTEXT), tag, strict=True))
    other[16:32] = bytes(a ^ b for a, b in zip(other[16:32], shift, strict=True))
    assert SharedSecret(Secret(bytes(other))).verifies(CONTEXT, tag)
    shares = split(4, 2)
    forged = split(4, 2, bytes(other))
    for coordinate in (Coordinate(3), Coordinate(4)):
        shares[coordinate] = forged[coordinate]
    assert reconstruct(search(shares, 2)) == TwoFound()


def test_additive_changes_by_k_minus_1_colluding_hubs_never_pass() -> None:
    """They shift the rebuilt secret by any chosen difference, the tag's own key included."""
    shares = split(3, 3)
    for at in (0, 15, 16, 31, 32, 47, 48, 80, 111):
        for difference in (1, 0x80, 0xFF):
            shifted = dict(shares)
            # Different places: at these three coordinates equal changes would cancel out at zero.
            for liar, place in ((Coordinate(1), at), (Coordinate(2), (at + 16) % 112)):
                changed = bytearray(shifted[liar])
                changed[place] ^= difference
                shifted[liar] = bytes(changed)
            assert reconstruct(search(shifted, 3)) == NothingYet()


def test_another_tag_gives_nothing() -> None:
    assert reconstruct(search(split(5, 3), 3, tag=bytes(16))) == NothingYet()


@pytest.mark.parametrize(("hubs", "given", "threshold"), [(5, 2, 3), (24, 24, 3)])
def test_too_few_shares_or_too_many_subsets_are_a_bug(hubs: int, given: int, threshold: int) -> None:
    shares = dict(list(split(hubs, threshold).items())[:given])
    with pytest.raises(LocalBug) as caught:
        reconstruct(search(shares, threshold))
    assert caught.value.code is codes.BAD_ARGUMENT


def test_a_search_shows_no_share_and_forgets_them() -> None:
    needed = search(split(3, 3), 3)
    assert split(3, 3)[Coordinate(1)].hex() not in repr(needed)
    needed.wipe()
    assert all(share.wiped for share in needed.shares.values())


def count_tags(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note each tag that is computed."""
    tried: list[bytes] = []
    real = SharedSecret.verifies

    def counting(self: SharedSecret, context: bytes, tag: bytes) -> bool:
        tried.append(tag)
        return real(self, context, tag)

    monkeypatch.setattr(SharedSecret, "verifies", counting)
    return tried
