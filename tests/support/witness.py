"""Stands between KMEs and hubs and remembers which pad positions every record was sealed with.

It sees what anybody on the network sees: nonces in the first frames, links, grants, offsets and lengths
in the headers of records. It asks no daemon and no store whether a pad byte was used twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, TypeVar

from skex.wire.preface import FRAME_HEADER_BYTES, Hello, HubNonce, frame_bytes, parse_frame

ResultT = TypeVar("ResultT")

UNIT_BYTES: Final = 4096
_HEADER: Final = struct.Struct(">BBHL8sLL")
_TAG_BYTES: Final = 16
_FRAMES: Final = {"up": (1, 3, 5), "down": (2, 4)}


@dataclass(frozen=True, slots=True)
class Record:
    """What the header of one record says."""

    link: bytes
    direction: int
    grant: int
    offset: int
    length: int


@dataclass
class Stream:
    """One direction of one connection, read as it passes: frames first, records behind them."""

    frames: list[int]
    nonce: bytes = b""
    records: list[Record] = field(default_factory=list)
    _buffer: bytearray = field(default_factory=bytearray)
    _skip: int = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        skipped = min(self._skip, len(self._buffer))
        del self._buffer[:skipped]
        self._skip -= skipped
        if self.frames:
            return self._frame()
        if self._skip or len(self._buffer) < _HEADER.size:
            return False
        _, direction, _, length, link, grant, offset = _HEADER.unpack(self._buffer[: _HEADER.size])
        self.records.append(Record(link, direction, grant, offset, length))
        self._skip = _HEADER.size + length + _TAG_BYTES
        return True

    def _frame(self) -> bool:
        size = frame_bytes(self.frames[0])
        if len(self._buffer) < size:
            return False
        whole = bytes(self._buffer[:size])
        assert whole[0] == self.frames[0]
        assert size > FRAME_HEADER_BYTES
        kinds: Mapping[int, type[Hello | HubNonce]] = {1: Hello, 2: HubNonce}
        if self.frames[0] in kinds:
            frame: Hello | HubNonce = parse_frame(whole, kinds[self.frames[0]])[0]  # type: ignore[type-var]  # either has a nonce
            self.nonce = frame.nonce
        del self._buffer[:size]
        self.frames.pop(0)
        return True


@dataclass
class Tap:
    """One connection."""

    up: Stream = field(default_factory=lambda: Stream(list(_FRAMES["up"])))
    down: Stream = field(default_factory=lambda: Stream(list(_FRAMES["down"])))


class Witness:
    """Proxies in front of hubs, in a thread of its own. ``ports`` are the hubs' own ports.

    A proxy listens only while its hub does (``open``, ``shut``): to a KME a dead hub is a refused dial.
    """

    def __init__(self, ports: Mapping[str, int], own: Mapping[str, int]) -> None:
        self._ports = ports
        self._own = own
        self._servers: dict[str, asyncio.Server] = {}
        self.taps: list[Tap] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self, hub: str) -> None:
        if hub not in self._servers:
            self._servers[hub] = self._do(self._open(hub))

    def shut(self, hub: str) -> None:
        server = self._servers.pop(hub, None)
        if server is not None:
            self._loop.call_soon_threadsafe(server.close)

    def close(self) -> None:
        for hub in tuple(self._servers):
            self.shut(hub)
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _open(self, hub: str) -> asyncio.Server:
        return await asyncio.start_server(
            lambda reader, writer: self._pass(hub, reader, writer), "127.0.0.1", self._own[hub]
        )

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _pass(self, hub: str, kme: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            answers, onwards = await asyncio.open_connection("127.0.0.1", self._ports[hub])
        except OSError:
            back.transport.abort()
            return
        tap = Tap()
        self.taps.append(tap)
        writers = (back, onwards)
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(_pump(kme, onwards, tap.up, writers))
            pumps.create_task(_pump(answers, back, tap.down, writers))

    # ── what was seen ───────────────────────────────────────────────────────────────────────────
    @property
    def records(self) -> int:
        return sum(len(stream.records) for tap in self.taps for stream in (tap.up, tap.down))

    def repetitions(self, tables: set[bytes]) -> list[str]:
        """Pad bytes that were used for two records. ``tables``: the links whose pads are tables."""
        found: list[str] = []
        grants: dict[tuple[object, ...], int] = {}
        used: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        for number, tap in enumerate(self.taps):
            for record in (*tap.up.records, *tap.down.records):
                of: tuple[object, ...] = (record.link, record.direction)
                start = 0
                if record.link in tables:
                    start = record.grant * UNIT_BYTES
                else:
                    of += (record.grant, tap.up.nonce, tap.down.nonce)
                if grants.setdefault((*of, record.grant), number) != number:
                    found.append(f"grant {record.grant} of {record.link.hex()} on two connections")
                at = start + record.offset
                used.setdefault(of, []).append((at, at + _TAG_BYTES + record.length))
        for of, stretches in used.items():
            stretches.sort()
            pairs = pairwise(stretches)
            found += [f"{of}: {one} and {other}" for one, other in pairs if one[1] > other[0]]
        return found


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    stream: Stream,
    both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
) -> None:
    """Pass on what comes; when one end is gone, the other hears of it at once."""
    try:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                stream.feed(data)
                writer.write(data)
                await writer.drain()
    finally:
        for one in both:
            one.transport.abort()
