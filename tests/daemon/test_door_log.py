"""What the door leaves in a KME's log: everything about a request, and of strangers not more than a bit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from skex.audit.events import Event
from skex.daemon.run_kme import HANDSHAKES_A_MINUTE, _DoorLog
from skex.delivery.etsi014.server import Access


@contextmanager
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "skex.kme"):
        yield caplog.records


def test_a_request_is_logged_with_everything_that_is_known_of_it(caplog: pytest.LogCaptureFixture) -> None:
    access = Access(
        address="192.0.2.1",
        caller="vpn@a",
        operation="enc_keys",
        method="POST",
        other="vpn@b",
        status=400,
        code="door-request",
        detail="9 keys",
        ignored=("extension_optional.x",),
    )
    with logged(caplog) as records:
        _DoorLog(lambda _: None).request_answered(access)
    (record,) = records
    stated = {name: getattr(record, name) for name in ("method", "detail", "ignored", "code", "sae", "other")}
    assert stated == {
        "method": "POST",
        "detail": "9 keys",
        "ignored": ["extension_optional.x"],
        "code": "door-request",
        "sae": "vpn@a",
        "other": "vpn@b",
    }


def test_failed_handshakes_are_a_few_lines_a_minute_and_all_of_them_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now, events = [1000.0], list[Event]()
    log = _DoorLog(events.append, lambda: now[0])
    flood = 500
    with logged(caplog) as records:
        for _ in range(flood):
            log.handshake_failed("192.0.2.9", "no certificate")
        assert len(records) == HANDSHAKES_A_MINUTE
        now[0] += 60
        log.handshake_failed("192.0.2.9", "no certificate")
        assert records[-1].left_out == flood - HANDSHAKES_A_MINUTE  # type: ignore[attr-defined]  # an extra field
    # The audit log has a sampler of its own, which counts what it leaves out.
    assert len(events) == flood + 1
    assert all(event.kind.sampled for event in events)
