"""One connection's shell against a scripted machine: order, endings, and bounds on what may wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from skex.base import codes
from skex.base.errors import PeerFault, Refused, SkexError, StoreFault
from skex.base.ids import Direction, LinkId
from skex.protocol.connection import Connection
from skex.protocol.effects import Effects
from skex.protocol.link import Arrived
from skex.protocol.session import ClaimLink, ConnectionLost, GrantsTaken, Received, TakeGrant
from skex.runtime import connections
from skex.runtime.commit import Committer
from skex.runtime.connections import SLICE_BYTES, LinkShell
from skex.runtime.tasks import Tasks
from skex.wire import messages
from skex.wire.preface import Stretch

LINK = LinkId(bytes(16))
TAKE = TakeGrant(LINK, Direction.TO_HUB, Stretch(0, 1), bytes(16), bytes(16))
MESSAGE = messages.Want(1)


class Machine:
    """Answers each event with what the script says; hears every event."""

    next_deadline = None
    paused = False
    link = None

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.script: dict[type, Callable[[Any], Any]] = {}

    def start(self) -> Any:
        return Effects()

    def handle(self, event: object, now: float) -> Any:
        self.heard.append(event)
        answer = self.script.get(type(event))
        return Effects() if answer is None else answer(event)


class Transport:
    """Remembers what was done to it."""

    def __init__(self) -> None:
        self.written = b""
        self.waiting = 0
        self.calls: list[str] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return "abort" in self.calls

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)


class Pad:
    """Takes grants; says what became of them, in order."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def prepare(self, start: int, count: int, *_: bytes) -> Any:
        self.said.append("prepared")
        return type("Prepared", (), {"new_mark": start + count})()

    def finish(self, prepared: object) -> Any:
        self.said.append("finished")
        return type("Material", (), {"wipe": lambda self: None})()

    def abandon(self, prepared: object) -> None:
        self.said.append("abandoned")

    def close(self) -> None:
        self.said.append("closed")


class World:
    """A shell, what it stands on, and the host that hears it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failure: StoreFault | None = None
        self.crowded = False
        self.claiming = asyncio.Event()
        self.committer: Committer[Any] = Committer(self)
        self.tasks = Tasks(lambda error: None)
        self.tasks.start(self.committer.run(), "commit")
        self.threads = ThreadPoolExecutor(1)
        self.machine = Machine()
        self.errors: list[SkexError] = []
        self.shell = self.new_shell()
        self.transport = Transport()
        self.shell.connection_made(cast("asyncio.Transport", self.transport))

    def new_shell(self) -> LinkShell:
        machine = cast("Connection", self.machine)
        shell = LinkShell(machine, cast("Any", self), self.committer, self.threads)
        shell.pads = {Direction.TO_HUB: cast("Any", Pad(self.said))}
        return shell

    # the store
    def commit(self, sets: Sequence[Sequence[Any]]) -> None:
        assert self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        self.said.append("committed")

    # the host
    def connected(self, shell: LinkShell) -> None:
        if self.crowded:
            shell.close(PeerFault(codes.CONNECTION_CLOSED, "too many"))

    def arrived(self, shell: LinkShell, ordinal: int, message: object) -> None:
        self.said.append(f"arrived {ordinal}")

    def answered(self, shell: LinkShell, token: Hashable, refusal: int | None) -> None:
        self.said.append("answered")

    async def claim(self, shell: LinkShell, link_id: LinkId) -> Any:
        await self.claiming.wait()
        raise PeerFault(codes.LINK_UNKNOWN)

    def ended(self, shell: LinkShell, error: SkexError) -> None:
        self.said.append("ended")
        self.errors.append(error)

    async def close(self) -> None:
        self.gate.set()
        self.shell.close(PeerFault(codes.CONNECTION_CLOSED))
        await self.shell.settled()
        await self.tasks.stop()
        self.committer.close()
        self.threads.shutdown()


def play(scene: Callable[[World], Awaitable[None]]) -> World:
    worlds: list[World] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: worlds[0].said.append(str(context["message"]))
        )
        world = World()
        worlds.append(world)
        try:
            await asyncio.wait_for(scene(world), 10)
        finally:
            await world.close()

    asyncio.run(run())
    return worlds[0]


def takes_a_grant(ordinal: int = 1) -> Callable[[Any], Any]:
    return lambda _: Effects((TAKE,), (b"sent",), (Arrived(ordinal, MESSAGE),))


async def until(done: Callable[[], bool]) -> None:
    while not done():  # noqa: ASYNC110  # threads set what is waited for
        await asyncio.sleep(0.005)


def test_a_set_is_durable_before_anything_of_it_is_sent_or_told() -> None:
    async def scene(world: World) -> None:
        world.machine.script[Received] = takes_a_grant()
        world.gate.clear()
        world.shell.data_received(b"x")
        await until(lambda: world.said == ["prepared"])
        assert world.transport.written == b""
        world.gate.set()
        await world.shell.finished()
        assert world.said == ["prepared", "committed", "finished", "arrived 1"]
        assert world.transport.written == b"sent"
        assert isinstance(world.machine.heard[-1], GrantsTaken)

    play(scene)


def test_a_connection_that_ends_while_a_grant_is_committed_still_erases_it_and_tells_nothing_more() -> None:
    async def scene(world: World) -> None:
        world.machine.script[Received] = takes_a_grant()
        world.gate.clear()
        world.shell.data_received(b"x")
        world.shell.data_received(b"y")
        await until(lambda: "prepared" in world.said)
        world.shell.close(PeerFault(codes.LINK_REPLACED))
        world.gate.set()
        await world.shell.settled()
        assert world.said == ["prepared", "ended", "committed", "finished", "closed"]
        assert world.transport.written == b""
        assert isinstance(world.machine.heard[-1], GrantsTaken)  # which the machine wipes

    play(scene)


def test_a_store_that_fails_ends_the_connection_and_gives_up_the_grant() -> None:
    async def scene(world: World) -> None:
        world.machine.script[Received] = takes_a_grant()
        world.failure = StoreFault(codes.STORE_FULL)
        world.shell.data_received(b"x")
        await until(lambda: bool(world.errors))
        await world.shell.settled()
        assert world.said == ["prepared", "abandoned", "ended", "closed"]
        assert world.errors == [world.failure]

    play(scene)


def test_a_slow_peer_is_sent_nothing_new_and_ends_when_answers_alone_pile_up() -> None:
    async def scene(world: World) -> None:
        world.shell.pause_writing()
        with pytest.raises(Refused) as caught:
            world.shell.send(MESSAGE)
        assert caught.value.code is codes.LINK_BUSY
        assert world.machine.heard == []
        world.shell.resume_writing()
        world.shell.send(MESSAGE)
        world.machine.script[Received] = lambda _: Effects((), (b"answer",), (Arrived(1, MESSAGE),))
        world.transport.waiting = connections.WRITE_BYTES_MAX + 1
        world.shell.data_received(b"x")
        assert world.said == ["ended", "closed"]
        assert world.errors[0].code is codes.PEER_SLOW
        assert "abort" in world.transport.calls
        with pytest.raises(Refused) as caught:
            world.shell.send(MESSAGE)
        assert caught.value.code is codes.LINK_DOWN

    play(scene)


def test_a_slow_disk_stops_the_reading_until_it_has_caught_up() -> None:
    async def scene(world: World) -> None:
        world.machine.script[Received] = takes_a_grant()
        world.gate.clear()
        for _ in range(connections.PENDING_SETS + 5):
            world.shell.data_received(b"x")
        assert world.transport.calls == ["pause_reading"]
        with pytest.raises(Refused):
            world.shell.send(MESSAGE)
        world.gate.set()
        await world.shell.finished()
        assert world.transport.calls == ["pause_reading", "resume_reading"]

    play(scene)


def test_a_store_that_is_behind_lets_connections_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BACKLOG_SETS", 2)

    async def scene(world: World) -> None:
        world.gate.clear()
        for _ in range(4):
            world.committer.submit((1,), lambda: None)
        world.shell.data_received(b"x")
        assert world.transport.calls == ["pause_reading"]
        world.gate.set()
        await until(lambda: world.transport.calls[-1] == "resume_reading")

    play(scene)


def received(world: World) -> list[int]:
    return [len(event.data) for event in world.machine.heard if isinstance(event, Received)]


def test_much_that_came_at_once_is_worked_on_in_slices_and_others_have_their_turn_between() -> None:
    async def scene(world: World) -> None:
        turns: list[int] = []

        def turn() -> None:
            turns.append(sum(received(world)))
            if turns[-1] < 3 * SLICE_BYTES + 5:
                asyncio.get_running_loop().call_soon(turn)

        world.shell.data_received(bytes(3 * SLICE_BYTES))
        world.shell.data_received(b"after")
        assert world.transport.calls == ["pause_reading"]
        turn()
        await until(lambda: sum(received(world)) == 3 * SLICE_BYTES + 5)
        assert received(world) == [SLICE_BYTES, SLICE_BYTES, SLICE_BYTES, 5]
        assert turns[:3] == [0, SLICE_BYTES, 2 * SLICE_BYTES]
        assert world.transport.calls == ["pause_reading", "resume_reading"]

    play(scene)


def test_a_peer_that_asks_too_much_is_not_read_for_a_while_not_even_what_has_come() -> None:
    async def scene(world: World) -> None:
        assert world.shell.slow_down(0.05)
        assert not world.shell.slow_down(10.0)  # one at a time
        world.shell.data_received(bytes(2 * SLICE_BYTES))
        for _ in range(5):
            await asyncio.sleep(0)
        assert received(world) == []
        await until(lambda: len(received(world)) == 2)
        assert world.transport.calls == ["pause_reading", "resume_reading"]
        assert world.shell.slow_down(10.0)
        world.shell.close(PeerFault(codes.CONNECTION_CLOSED))
        assert not world.shell.slow_down(0.01)

    play(scene)


def test_a_connection_that_is_one_too_many_reads_nothing_and_ends_once() -> None:
    async def scene(world: World) -> None:
        world.crowded = True
        shell, transport = world.new_shell(), Transport()
        shell.connection_made(cast("asyncio.Transport", transport))
        shell.data_received(b"x")
        assert "abort" in transport.calls
        assert len(world.errors) == 1

    play(scene)


def test_a_connection_closed_while_it_is_dialled_is_aborted_when_it_opens() -> None:
    async def scene(world: World) -> None:
        shell = world.new_shell()
        shell.close(Refused(codes.LINK_DOWN))
        late = Transport()
        shell.connection_made(cast("asyncio.Transport", late))
        assert late.calls == ["abort"]
        assert len(world.errors) == 1

    play(scene)


def test_a_connection_that_ends_while_its_link_is_claimed_ends_once() -> None:
    async def scene(world: World) -> None:
        world.machine.script[Received] = lambda _: Effects((), (), (ClaimLink(LINK),))
        world.shell.data_received(b"x")
        await asyncio.sleep(0)
        world.shell.close(PeerFault(codes.PEER_SILENT))
        world.claiming.set()
        await world.shell.settled()
        assert [error.code for error in world.errors] == [codes.PEER_SILENT]

    play(scene)


def test_a_bug_met_while_bytes_are_handled_is_reported_and_ends_this_connection_only() -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    async def scene(world: World) -> None:
        world.machine.script[Received] = broken
        world.shell.data_received(b"x")
        assert world.said == ["a link failed", "ended", "closed"]
        assert isinstance(world.machine.heard[-1], ConnectionLost)

    play(scene)
