"""A secret's bytes leave it through ``expose`` and through nothing else."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import operator
import pickle  # noqa: TID251 - to prove that secrets refuse it
import traceback
from collections.abc import Callable

import pytest

from skex.base import codes
from skex.base.errors import LocalBug
from skex.base.secret import Secret

BYTES = b"\xde\xad\xbe\xefnobody-sees-me\x00"
TRACES = ("nobody", "dead", "beef", "xde", "222", "3735928559", "3q2+7")


def shows_nothing(text: str) -> bool:
    """Whether no usual rendering of BYTES (text, hex, escapes, numbers, base64) is in the text."""
    return not any(trace in text.lower() for trace in TRACES)


@pytest.mark.parametrize(
    "render",
    [
        repr,
        str,
        ascii,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r:>60}",
        lambda secret: f"{secret:x}",
        lambda secret: format(secret, "s"),
        lambda secret: f"{secret!s}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the old form is what is tested
        "{0} {0!r} {0:>40}".format,
        lambda secret: repr({"key": [secret]}),
    ],
)
def test_no_rendering_shows_the_bytes(render: Callable[[Secret], str]) -> None:
    text = render(Secret(BYTES))
    assert shows_nothing(text)
    assert f"<Secret of {len(BYTES)} bytes>" in text


def test_the_renderings_above_would_be_noticed() -> None:
    assert not any(shows_nothing(text) for text in (repr(BYTES), BYTES.hex(), str(list(BYTES))))


def test_log_record_with_a_secret_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("skex.test").warning("key %s and %r", Secret(BYTES), Secret(BYTES))
    assert "<Secret of" in caplog.text
    assert shows_nothing(caplog.text)


def test_traceback_with_locals_shows_nothing() -> None:
    secret = Secret(BYTES)
    secret.wipe()
    with pytest.raises(LocalBug) as caught:
        secret.expose()
    lines = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert shows_nothing("".join(lines))


def test_dataclass_that_holds_a_secret_shows_nothing() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Holder:
        key: Secret

    assert shows_nothing(repr(Holder(Secret(BYTES))))
    with pytest.raises(LocalBug):
        dataclasses.asdict(Holder(Secret(BYTES)))


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, pickle.dumps, lambda secret: copy.deepcopy({"key": [secret]})]
    + [lambda secret, version=version: pickle.dumps(secret, version) for version in range(6)],
)
def test_copy_or_pickle_is_a_bug_and_says_so(duplicate: Callable[[Secret], object]) -> None:
    with pytest.raises(LocalBug) as caught:
        duplicate(Secret(BYTES))
    assert caught.value.code is codes.BAD_STATE
    assert shows_nothing(str(caught.value))


@pytest.mark.parametrize(
    "leak",
    [
        bytes,
        bytearray,
        memoryview,
        list,
        iter,
        hash,
        vars,
        json.dumps,
        int,
        lambda secret: secret[0],
        lambda s: s + b"",
    ],
)
def test_no_implicit_way_out(leak: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as caught:
        leak(Secret(BYTES))
    assert shows_nothing(str(caught.value))


def test_exposed_bytes_are_those_put_in() -> None:
    assert Secret(BYTES).expose() == BYTES
    assert Secret(bytearray(BYTES)).expose() == BYTES
    assert Secret(memoryview(BYTES)[4:]).expose() == BYTES[4:]
    assert len(Secret(BYTES)) == len(BYTES)


@pytest.mark.parametrize("wrong", [32, "text", None, [1, 2], 1.0])
def test_anything_but_bytes_is_refused_so_that_a_length_makes_no_zero_key(wrong: object) -> None:
    with pytest.raises(TypeError):
        Secret(wrong)  # type: ignore[arg-type]  # the mistake under test


def test_secret_keeps_its_own_copy_when_the_source_changes() -> None:
    source = bytearray(BYTES)
    secret = Secret(source)
    source[:] = bytes(len(source))
    assert secret.expose() == BYTES


def test_equality_is_by_bytes_and_only_among_secrets() -> None:
    assert Secret(BYTES) == Secret(BYTES)
    assert Secret(BYTES) != Secret(BYTES[:-1] + b"\x01")
    assert Secret(BYTES) != Secret(BYTES[:-1])
    # An oracle that takes guesses as plain bytes does not exist: such a comparison is never equal.
    assert Secret(BYTES) != BYTES
    assert operator.ne(BYTES, Secret(BYTES))
    assert Secret(BYTES).__eq__(BYTES) is NotImplemented


def test_wiping_clears_the_buffer_and_can_be_repeated() -> None:
    secret = Secret(BYTES)
    before = secret.wiped
    secret.wipe()
    secret.wipe()
    assert (before, secret.wiped) == (False, True)
    assert secret._buffer == bytes(len(BYTES))
    assert len(secret) == len(BYTES)
    assert repr(secret) == f"<Secret of {len(BYTES)} bytes>"


@pytest.mark.parametrize(
    "use", [Secret.expose, lambda secret: secret == Secret(BYTES), lambda secret: Secret(BYTES) == secret]
)
def test_use_after_wiping_is_a_bug_and_no_zero_key(use: Callable[[Secret], object]) -> None:
    secret = Secret(BYTES)
    secret.wipe()
    with pytest.raises(LocalBug) as caught:
        use(secret)
    assert caught.value.code is codes.SECRET_WIPED
