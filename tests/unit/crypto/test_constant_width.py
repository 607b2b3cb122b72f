"""The work done on secrets is the same whatever they are: same operations, same operand lengths.

CPython's integers cost time by their number of digits, and drop leading zeros. Here the integers of
the modules under test are replaced by ones that write down every operation with the bit lengths of
both operands and of the result; two secrets of equal length must leave the same record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import shake_256
from typing import ClassVar, Literal, SupportsIndex, TypeAlias

import pytest

from skex.crypto import gf256, ghash, sharing

Trace: TypeAlias = list[tuple[str, int, int, int]]


class Traced(int):
    """An integer that records what is done with it, and whose results do so too."""

    trace: ClassVar[Trace] = []

    @classmethod
    def from_bytes(  # type: ignore[override]  # only the forms in use
        cls, data: bytes, byteorder: Literal["big", "little"]
    ) -> Traced:
        value = cls(int.from_bytes(data, byteorder))
        cls.trace.append(("from_bytes", 8 * len(data), 0, value.bit_length()))
        return value

    def _record(self, name: str, other: int, result: int) -> Traced:
        self.trace.append((name, self.bit_length(), other.bit_length(), result.bit_length()))
        return Traced(result)

    def __and__(self, other: int) -> Traced:
        return self._record("and", other, int(self) & int(other))

    def __or__(self, other: int) -> Traced:
        return self._record("or", other, int(self) | int(other))

    def __xor__(self, other: int) -> Traced:
        return self._record("xor", other, int(self) ^ int(other))

    def __mul__(self, other: int) -> Traced:
        return self._record("mul", other, int(self) * int(other))

    def __lshift__(self, other: int) -> Traced:
        return self._record("lshift", other, int(self) << int(other))

    def __rshift__(self, other: int) -> Traced:
        return self._record("rshift", other, int(self) >> int(other))

    __rand__ = __and__
    __ror__ = __or__
    __rxor__ = __xor__
    __rmul__ = __mul__

    def to_bytes(  # type: ignore[override]  # only the form in use
        self, length: SupportsIndex, byteorder: Literal["big", "little"]
    ) -> bytes:
        self.trace.append(("to_bytes", self.bit_length(), int(length), 0))
        return int(self).to_bytes(length, byteorder)


def trace_of(call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Trace:
    call()  # masks are made once for each length; they are not part of the record
    Traced.trace.clear()
    with monkeypatch.context() as patch:
        patch.setattr(gf256, "int", Traced, raising=False)
        patch.setattr(ghash, "int", Traced, raising=False)
        call()
    assert Traced.trace, "nothing was recorded"
    return list(Traced.trace)


def secrets_of(length: int) -> list[bytes]:
    """All bits clear, all set, only the first, only the last, and two without a pattern."""
    return [
        bytes(length),
        b"\xff" * length,
        b"\x80" + bytes(length - 1),
        bytes(length - 1) + b"\x01",
        shake_256(b"one").digest(length),
        shake_256(b"two").digest(length),
    ]


def assert_same_work(call: Callable[[bytes], object], length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = [trace_of(partial(call, secret), monkeypatch) for secret in secrets_of(length)]
    assert all(trace == traces[0] for trace in traces)


def test_tracing_tells_secrets_of_different_width_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def naive(secret: bytes) -> bytes:
        return (Traced.from_bytes(secret, "big") << 1).to_bytes(17, "big")

    with pytest.raises(AssertionError):
        assert_same_work(naive, 16, monkeypatch)


@pytest.mark.parametrize("factor", [1, 2, 3, 0x80, 0xFF])
def test_scaling_works_alike_on_all_data(factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same_work(lambda secret: gf256.scale(secret, factor), 50, monkeypatch)


def test_adding_works_alike_on_all_data(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = shake_256(b"fixed").digest(50)
    assert_same_work(lambda secret: gf256.add(secret, fixed), 50, monkeypatch)
    assert_same_work(lambda secret: gf256.add(secret, secret), 50, monkeypatch)


def test_splitting_works_alike_on_all_secrets_and_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same_work(
        lambda secret: sharing.split(secret[:48], 3, [1, 2, 3, 77, 255], secret[48:]), 144, monkeypatch
    )


@pytest.mark.parametrize("at", [0, 4])
def test_rebuilding_works_alike_on_all_shares(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same_work(
        lambda secret: sharing.interpolate({1: secret[:48], 2: secret[48:96], 9: secret[96:]}, at),
        144,
        monkeypatch,
    )


def test_hashing_works_alike_on_all_keys_and_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several rounds, so that the running state is covered as well as key and data."""
    assert_same_work(lambda secret: ghash.ghash(secret[:16], secret[16:]), 16 + 16 * 66, monkeypatch)
    fixed = shake_256(b"fixed").digest(48)
    assert_same_work(lambda secret: ghash.ghash(secret, fixed), 16, monkeypatch)
    assert_same_work(lambda secret: ghash.ghash(fixed[:16], secret), 48, monkeypatch)
