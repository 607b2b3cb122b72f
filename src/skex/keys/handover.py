"""Work that ends even if whoever asked for it goes away: nothing is half done, or lost silently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from skex.base.errors import Refused

ResultT = TypeVar("ResultT")
Spawn = Callable[[Coroutine[Any, Any, None], str], None]
Wanted = Callable[[], bool]


async def hand_over(
    spawn: Spawn,
    name: str,
    work: Callable[[Wanted], Awaitable[ResultT]],
    orphan: Callable[[ResultT], None],
) -> ResultT:
    """Run ``work`` to its end in the background and return its result.

    ``work`` gets a question: does anybody still wait? If nobody does when there is a result, it goes to
    ``orphan``, once. Refusals go to who waits; any other failure also to whoever watches the background.
    """
    done: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        try:
            result = await work(lambda: not done.cancelled())
        except asyncio.CancelledError:
            done.cancel()
            raise
        except Exception as error:
            fail(done, error)
            if not isinstance(error, Refused):
                raise
        else:
            if done.cancelled():
                orphan(result)
            else:
                done.set_result(result)

    spawn(run(), name)
    try:
        return await done
    except asyncio.CancelledError:
        if done.done() and not done.cancelled() and done.exception() is None:
            orphan(done.result())
        raise


def fail(waiting: asyncio.Future[Any] | None, error: Exception) -> None:
    """End a wait, if anybody still waits."""
    if waiting is not None and not waiting.done():
        waiting.set_exception(error)


def abandon(waiting: asyncio.Future[Any]) -> None:
    """Nobody waits any more: whatever the future brings, or has brought, was heard."""
    if not waiting.cancel() and not waiting.cancelled():
        waiting.exception()
