"""Requests that wait for a second person, their files on the disk, and the socket they come through."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from skex.base import codes, limits
from skex.base.errors import ErrorCode, Refused, StoreFault
from skex.daemon.admin import AdminSocket, Shared
from skex.daemon.config import parse_hub
from skex.daemon.spool import Spool
from skex.daemon.waiting import Request, Waiting, Wanted
from skex.policy.rules import OperatorCommand
from skex.runtime.peers import Peer, peer_of

ANNA, BEN = Peer(41_001, frozenset({50})), Peer(41_002, frozenset())
CONTENT = bytes(range(256)) * 700  # more than two pieces, and not a whole number of them


def wanted(**parts: Any) -> Wanted:
    whole: dict[str, Any] = {
        "name": "realm",
        "command": OperatorCommand.REALM_UPDATE,
        "arguments": {"realm": "00"},
        "file": None,
        "says": {"epoch": 2},
    }
    return Wanted(**{**whole, **parts})


# ── files ───────────────────────────────────────────────────────────────────────────────────────
def test_spooled_file_reads_as_it_came_and_leaves_no_name_and_no_content_on_the_disk(tmp_path: Path) -> None:
    spool = Spool(io.BytesIO(CONTENT), tmp_path)
    assert list(tmp_path.iterdir()) == []
    for size in (1 << 20, 1000):
        reader, read = spool.opened(), b""
        while piece := reader.read(size):
            read += piece
        assert read == CONTENT
    with os.fdopen(os.dup(spool._file.fileno()), "rb") as raw:
        raw.seek(0)
        assert CONTENT[:64] not in raw.read()
    spool.discard()
    spool.discard()


def test_spooled_file_that_the_disk_changed_is_not_handed_on(tmp_path: Path) -> None:
    spool = Spool(io.BytesIO(CONTENT), tmp_path)
    os.pwrite(spool._file.fileno(), b"\xff", 70_000)
    reader = spool.opened()
    assert reader.read(70_000) == CONTENT[:65_536]
    with pytest.raises(OSError, match="damaged"):
        reader.read(1)
    spool.discard()


class _Breaks(io.BytesIO):
    def read(self, count: int | None = -1, /) -> bytes:
        if self.tell() > 100_000:
            raise OSError(32, "the sender has gone")
        return super().read(count)


def test_file_that_ends_before_its_end_or_is_too_large_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreFault) as broken:
        Spool(_Breaks(CONTENT), tmp_path)
    assert broken.value.code is codes.FILE_IO
    monkeypatch.setattr(limits, "PENDING_FILE_BYTES", len(CONTENT) - 1)
    with pytest.raises(Refused) as large:
        Spool(io.BytesIO(CONTENT), tmp_path)
    assert large.value.code is codes.DUAL_CONTROL_ROOM
    monkeypatch.setattr(limits, "PENDING_FILE_BYTES", len(CONTENT))
    Spool(io.BytesIO(CONTENT), tmp_path).discard()
    monkeypatch.setattr(limits, "PENDING_FREE_BYTES", 2**62)
    with pytest.raises(Refused) as full:
        Spool(io.BytesIO(CONTENT), tmp_path)
    assert full.value.code is codes.DUAL_CONTROL_ROOM


def test_reader_that_was_given_up_reads_nothing_more(tmp_path: Path) -> None:
    spool = Spool(io.BytesIO(CONTENT), tmp_path)
    reader = spool.opened()
    reader.abort()
    with pytest.raises(OSError, match="given up"):
        reader.read(1)
    spool.discard()


# ── requests ────────────────────────────────────────────────────────────────────────────────────
def test_digest_is_of_everything_but_the_stretched_passphrase(tmp_path: Path) -> None:
    one, spools = wanted(), [Spool(io.BytesIO(content), tmp_path) for content in (b"one", b"two")]
    digests = {
        other.digest(other.says).hex
        for other in (
            one,
            wanted(name="kit"),
            wanted(arguments={"realm": "01"}),
            wanted(says={"epoch": 3}),
            *(wanted(file=spool) for spool in spools),
        )
    }
    for spool in spools:
        spool.discard()
    assert len(digests) == 6
    secretly = wanted(arguments={"realm": "00", "stretched": "ff" * 64})
    assert secretly.digest(secretly.says) == one.digest(one.says)
    assert one.digest({"epoch": 9}) != one.digest(one.says)


def code_of(waiting: Waiting, request_id: str) -> ErrorCode:
    with pytest.raises(Refused) as error:
        waiting.find(request_id)
    return error.value.code


def test_request_is_found_until_it_is_taken_or_its_time_is_over() -> None:
    async def scene() -> None:
        heard: list[Request] = []
        told = asyncio.Event()

        def expired(request: Request) -> None:
            heard.append(request)
            told.set()

        waiting = Waiting(expired)
        kept = waiting.keep(wanted(), ANNA, 3600, "operator.dual.r")
        assert waiting.find(kept.id) is kept
        assert kept.until - kept.since == 3600
        waiting.take(kept)
        waiting.end(kept, "done")
        assert code_of(waiting, kept.id) is codes.DUAL_CONTROL_UNKNOWN
        late = waiting.keep(wanted(), ANNA, 0, "operator.dual.r")
        assert code_of(waiting, late.id) is codes.DUAL_CONTROL_EXPIRED
        assert code_of(waiting, late.id) is codes.DUAL_CONTROL_EXPIRED
        told.clear()
        by_itself = waiting.keep(wanted(), ANNA, 0.01, "operator.dual.r")
        await told.wait()
        assert heard == [late, by_itself]
        assert list(waiting) == []
        assert [one.outcome for one in waiting.ended] == ["done", "expired", "expired"]

    asyncio.run(scene())


def test_places_are_bounded_for_one_person_and_for_all() -> None:
    async def scene() -> None:
        waiting = Waiting(lambda _: None)
        for _ in range(limits.PENDING_REQUESTS_PER_USER - 1):
            waiting.keep(wanted(), ANNA, 3600, "r")
        with waiting.coming(ANNA), pytest.raises(Refused) as mine:
            waiting.coming(ANNA)
        assert mine.value.code is codes.DUAL_CONTROL_FULL
        for user in range(limits.PENDING_REQUESTS - limits.PENDING_REQUESTS_PER_USER + 1):
            waiting.keep(wanted(), Peer(50_000 + user, frozenset()), 3600, "r")
        with pytest.raises(Refused) as everybody:
            waiting.coming(BEN)
        assert everybody.value.code is codes.DUAL_CONTROL_FULL
        for one in waiting:
            waiting.take(one)

    asyncio.run(scene())


# ── the socket for others ───────────────────────────────────────────────────────────────────────
def start(tmp_path: Path, shared: Shared) -> None:
    async def scene() -> None:
        admin = AdminSocket(tmp_path / "own.sock", {}, lambda: True, CollectorRegistry(), shared=shared)
        try:
            await admin.start()
            assert stat.S_IMODE(shared.path.stat().st_mode) == 0o660
        finally:
            await admin.stop()
        assert not shared.path.exists()

    asyncio.run(scene())


def test_shared_socket_takes_the_place_of_what_a_killed_daemon_left(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    start(tmp_path, Shared(path))


def test_shared_socket_never_takes_the_place_of_something_else(tmp_path: Path) -> None:
    file, used = tmp_path / "file", tmp_path / "used.sock"
    file.write_text("precious")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(used))
        listening.listen()
        for shared in (Shared(file), Shared(used), Shared(tmp_path / "n", "no-such-group-here")):
            with pytest.raises(StoreFault) as error:
                start(tmp_path, shared)
            assert error.value.code is codes.LISTEN_ADDRESS
    assert file.read_text() == "precious"
    assert used.exists()


def test_kernel_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        peer = peer_of(one)
    assert peer == Peer(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))
    assert peer.is_owner


def test_group_without_a_socket_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    text = 'name = "hub-1"\n[admin]\ngroup = "staff"\n'
    with pytest.raises(Refused) as error:
        parse_hub(text.encode(), "hub.toml", tmp_path)
    assert error.value.detail == "hub.toml: line 3: admin.group is for admin.socket, which is not stated"
    stated = parse_hub(text.replace("group", 'socket = "a.sock"\ngroup').encode(), "hub.toml", tmp_path)
    assert (stated.admin.socket, stated.admin.group) == (tmp_path / "a.sock", "staff")
