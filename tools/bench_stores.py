"""How fast the production store of a KME is on this machine's disk: numbers to read, nothing is judged.

    python tools/bench_stores.py [DIRECTORY]

The directory (default: a temporary one) decides which disk is measured.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName, RealmName, RequestId, SaeId
from skex.base.secret import Secret
from skex.protocol.changes import (
    Batch,
    BatchAnswered,
    BatchReceived,
    BatchSent,
    Change,
    KeysDelivered,
    KeysOffered,
    Role,
)
from skex.runtime import clock, entropy
from skex.store.kme import KmeStore
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.messages import Confirmation
from skex.wire.peer import KeyRange

BOB = KmeName("bob")
INCARNATION = Incarnation(b"0123456789abcdef")
HUBS = tuple(HubName(f"hub-{number}") for number in range(1, 6))
CLAIM = Claim((Coordinate(1),), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)
STORED_BATCHES = 10_000


def batch(counter: int, keys: int) -> Batch:
    """A batch of 256-bit keys."""
    hubs = tuple(Coordinate(number) for number in range(1, 6))
    context = CompactContext(1, 3, hubs, keys, 32, Purpose.TRAFFIC, 86_400, None, CLAIM)
    secret = entropy.random_secret(32 * keys)
    return Batch(BOB, BatchId(INCARNATION, counter), context, HUBS, CLAIM, secret)


def received(counter: int, keys: int) -> list[Change]:
    """What a receiver commits for one batch, with its answer."""
    made = batch(counter, keys)
    confirmation = Confirmation(made.batch, 1, INCARNATION, CLAIM, b"m" * 16)
    return [BatchReceived(made, confirmation, HUBS), BatchAnswered(BOB, made.batch, ok=True)]


def measure(what: str, store: KmeStore, sets: Sequence[Sequence[Change]], group: int) -> None:
    """Commit ``sets`` so many at a time."""
    started = clock.now()
    for at in range(0, len(sets), group):
        store.commit(sets[at : at + group])
    seconds = clock.now() - started
    commits = -(-len(sets) // group)
    print(f"{what:42} g={group:<4} {len(sets) / seconds:9.0f} sets/s {commits / seconds:8.0f} commits/s")


def timed(what: str, started: float) -> None:
    """Say how long something took."""
    print(f"{what:42} {1000 * (clock.now() - started):9.0f} ms")


def run(directory: Path) -> None:
    """Everything that is measured, in one store."""
    path, master = str(directory / "store.sqlite"), entropy.random_secret(32)
    store = KmeStore.create(
        path,
        master,
        entropy.random_bytes,
        clock.unix_seconds,
        name=KmeName("alice"),
        realm=RealmName("bench"),
    )
    for keys in (1, 128):
        for group in (1, 128):
            number = 300 if group == 1 else 2048
            first = keys * 1_000_000 + group * 10_000
            sets = [received(first + at, keys) for at in range(number)]
            measure(f"accepted batches of {keys} keys", store, sets, group)
    deliveries(store)
    fill(store)
    reading(path, store, master)


def deliveries(store: KmeStore) -> None:
    """Single keys, offered and delivered, out of batches of 128."""
    store.commit([[BatchSent(batch(at, 128), INCARNATION, 1)] for at in range(16)])
    master, slaves = SaeId("web@alice"), (SaeId("db@bob"),)
    sets: list[list[Change]] = []
    for at in range(16 * 128):
        keys = (KeyRange(BatchId(INCARNATION, at // 128), at % 128, 1),)
        request = RequestId(at.to_bytes(16, "big"))
        sets += [
            [KeysOffered(BOB, request, keys, master, slaves, "any", 60)],
            [KeysDelivered(Role.SENDER, BOB, keys, master)],
        ]
    measure("offer, deliver one of 128 keys", store, sets[:512], 1)
    measure("offer, deliver one of 128 keys", store, sets[512:], 128)


def fill(store: KmeStore) -> None:
    """As many batches as a busy KME holds."""
    for at in range(0, STORED_BATCHES, 500):
        store.commit([received(2_000_000_000 + at + one, 32) for one in range(500)])


def reading(path: str, store: KmeStore, master: Secret) -> None:
    """Opening, loading and scrubbing."""
    started = clock.now()
    store.scrub()
    timed("scrub", started)
    store.close()
    print(f"{'size':42} {os.path.getsize(path) / 1e6:9.1f} MB")  # noqa: PTH202 - a name, not a Path
    started = clock.now()
    store = KmeStore.open(path, master, entropy.random_bytes, clock.unix_seconds)
    timed("open", started)
    started = clock.now()
    state = store.load(clock.now())
    timed(f"load, {len(state.received)} received batches", started)
    started = clock.now()
    timed(f"kept, {len(store.kept(clock.now()))} batches", started)
    store.close()


def main() -> None:
    """The command."""
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as directory:
            run(Path(directory))


if __name__ == "__main__":
    main()
