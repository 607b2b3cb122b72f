"""Real daemons that are killed, restored, cloned or out of disk: nothing is used or delivered twice.

SKEX_KILLS says how many kills (20 unless told otherwise), SKEX_SEED which, and SKEX_KILLS_SECONDS for how
long at most (a few are always tried). What happened is printed.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from simulation.chance import Chance
from skex.pad.kinds import PadKind
from skex.pad.looking import look
from skex.runtime import clock
from skex.runtime.files import DiskFileSystem
from tests.cli.transcripts import Answer, done, refused, skex
from tests.support.load import Ledger, Pair
from tests.support.network import TABLE_UNITS, Network, network, until
from tests.support.witness import Witness

KILLS = int(os.environ.get("SKEX_KILLS", "20"))
SEED = int(os.environ.get("SKEX_SEED", "1"))
KILLS_SECONDS = float(os.environ.get("SKEX_KILLS_SECONDS", "inf"))
KILLS_LEAST = 3
UNITS_PER_KILL = 14
"""What a connection of a table link costs in the mean, with some to spare."""
POLL_SECONDS = 0.02
START_SECONDS = 120.0
ROOM_BYTES = 4 * 2**20


class Chaos:
    """A network whose links all pass the witness, and two pairs of applications that use it."""

    def __init__(self, daemons: Network) -> None:
        self.daemons = daemons
        homes = daemons.homes
        self.names = [*homes.hub_names, *homes.kmes]
        self.witness = Witness(homes.ports, homes.proxies)
        self.ledger = Ledger()
        self.pairs: list[Pair] = []
        self._tables: set[bytes] = set()
        self.may_end: set[str] = set()

    def start(self, *names: str) -> None:
        self._tables |= self._tables_now()
        self.daemons.launch(*names)
        for name in names:
            until(partial(self.tend, name), name)

    def tend(self, *names: str) -> bool:
        """Let the witness serve every hub that is up; whether all of ``names`` are."""
        up = {name for name in self.daemons.running.keys() - self.may_end if self.daemons.is_up(name)}
        for hub in up & set(self.daemons.homes.hub_names):
            self.witness.open(hub)
        return up >= set(names)

    def kill(self, name: str) -> None:
        self.witness.shut(name)
        self.daemons.kill(name)

    def load(self) -> None:
        self.pairs = [
            Pair(self.daemons, self.ledger, *names) for names in (("north", "south"), ("south", "north"))
        ]
        for pair in self.pairs:
            pair.start()

    def rest(self, seconds: float) -> None:
        end = clock.now() + seconds
        while clock.now() < end:
            self.tend()
            threading.Event().wait(POLL_SECONDS)

    def keys_flow(self) -> float:
        """Wait until everything is connected and both pairs get keys; how long that took, in seconds."""
        began = clock.now()
        until(partial(self.tend, *self.names), "every daemon")
        for master, slave in (("north", "south"), ("south", "north")):
            key_id, key = self.daemons.new_key(master, slave)
            self.ledger.taken(key_id, key)
            answer = until(partial(self._fetched, slave, master, key_id), "the slave's key")
            self.ledger.given(key_id, answer["keys"][0]["key"])
        return clock.now() - began

    def _fetched(self, slave: str, master: str, key_id: str) -> Any:
        status, answer = self.daemons.key_by_id(slave, master, key_id)
        return answer if status == 200 else None

    def work(self, seconds: float) -> None:
        """Let applications take keys for so long."""
        self.load()
        self.rest(seconds)
        self.unload()

    def unload(self) -> None:
        for pair in self.pairs:
            pair.stop()
        self.pairs = []

    def home(self, name: str) -> Path:
        return self.daemons.homes.home(name)

    def fetched_again(self, slave: str, master: str) -> list[str]:
        """The keys that a slave is given once more, of the last that it had."""
        ids = [one for one in self.ledger.keys if one in self.ledger.fetched][-20:]
        return [one for one in ids if self.daemons.key_by_id(slave, master, one)[0] == 200]

    def finish(self) -> None:
        """Stop the applications, then the daemons."""
        self.unload()
        ended = self.daemons.stop(*self.daemons.running)
        for hub in self.daemons.homes.hub_names:
            self.witness.shut(hub)
        assert ended == dict.fromkeys(ended, 0), {name: self.daemons.log(name)[-2000:] for name in ended}

    def verified(self, *more: str) -> tuple[Answer, Answer]:
        """What the two commands say over all homes."""
        homes = [self.home(name) for name in (*self.names, *more)]
        return skex("pad", "verify", *homes, "--json"), skex("audit", "verify", *homes, "--json")

    def prove(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Nothing is wrong that the commands, the applications or the witness would know of."""
        pads, logs = self.verified()
        chapters = [one["statements"] for one in (*pads.data["links"], *pads.data["keys"])]
        said = [*(one for found in chapters for one in found), *logs.data["together"]]
        assert [one for one in said if one["verdict"] == "wrong"] == []
        assert (pads.code, logs.code) == (0, 0), logs.data
        assert self.ledger.problems == []
        self.prove_on_the_wire()
        return pads.data, logs.data

    def prove_on_the_wire(self) -> None:
        assert self.witness.records > 0
        assert self.witness.repetitions(self._tables) == []

    def _tables_now(self) -> set[bytes]:
        found = set()
        for name in self.names:
            pads = self.home(name) / "pads"
            for path in pads.glob("*.pad"):
                identity = look(DiskFileSystem(pads), path.name).identity
                if identity.kind is PadKind.TABLE:
                    found.add(bytes(identity.link_id))
        return found


def copy_of(home: Path, copy: Path) -> None:
    """A copy of a home whose daemon does not run; what is only a socket stays behind."""
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("*.sock"), dirs_exist_ok=True)


def put_back(older: Path, home: Path) -> None:
    shutil.rmtree(home)
    copy_of(older, home)


def events_of(home: Path, name: str) -> list[dict[str, Any]]:
    found = done("audit", "show", home, "--event", name, "--all")["records"]
    assert isinstance(found, list)
    return found


@contextmanager
def chaos(base: Path, **options: Any) -> Iterator[Chaos]:
    with network(base, proxied=True, **options) as daemons:
        made = Chaos(daemons)
        try:
            yield made
        finally:
            daemons.close()
            made.witness.close()


def test_daemons_killed_at_random_under_load_resume_and_nothing_is_used_or_delivered_twice(
    tmp_path: Path,
) -> None:
    chance = Chance(f"kills/{SEED}")
    killed: Counter[str] = Counter()
    began = clock.now()
    with chaos(tmp_path, table_units=TABLE_UNITS + UNITS_PER_KILL * KILLS) as world:
        world.start(*world.names)
        world.keys_flow()
        world.load()
        name = ""
        while killed.total() < KILLS and (
            killed.total() < KILLS_LEAST or clock.now() - began < KILLS_SECONDS
        ):
            # On a busy machine a start takes long: at most two daemons are away, whatever it is.
            others = [one for one in world.names if one != name]
            until(partial(world.tend, *others), "all but the one that was killed last", START_SECONDS)
            world.rest(chance.uniform(0.1, 1.3))
            kme = chance.random() < 0.3
            name = chance.choice(list(world.daemons.homes.kmes) if kme else world.daemons.homes.hub_names)
            world.kill(name)
            killed["kme" if kme else "hub"] += 1
            world.rest(chance.choice([0.0, 0.3]))
            world.daemons.launch(name)
        resumed = world.keys_flow()
        world.finish()
        pads, logs = world.prove()
        ledger = world.ledger
        records = world.witness.records
    assert ledger.fetched
    print(  # noqa: T201  # what was measured; shown by pytest -s and -rP
        json.dumps(
            {
                "seed": SEED,
                "kills": dict(killed),
                "seconds": round(clock.now() - began, 1),
                "keys_delivered_to_masters": len(ledger.keys),
                "keys_delivered_to_slaves": len(ledger.fetched),
                "keys_lost_on_broken_connections": ledger.lost,
                "requests_refused_meanwhile": ledger.refused,
                "longest_seconds_without_a_key": round(ledger.longest, 1),
                "seconds_until_both_ways_flow": round(resumed, 1),
                "connections": len(world.witness.taps),
                "records_on_the_wire": records,
                "pad_verify": pads["counts"],
                "audit_records": sum(log["records"] for log in logs["logs"]),
                "torn_ends_recovered": sum(len(log["recoveries"]) for log in logs["logs"]),
            }
        )
    )


def test_a_hub_put_back_from_an_older_copy_says_so_and_goes_on_by_itself(tmp_path: Path) -> None:
    with chaos(tmp_path, hubs=3) as world:
        world.start(*world.names)
        world.keys_flow()
        world.kill("hub-1")
        copy_of(world.home("hub-1"), tmp_path / "older")
        world.start("hub-1")
        world.keys_flow()
        world.work(2)
        world.kill("hub-1")
        put_back(tmp_path / "older", world.home("hub-1"))
        world.start("hub-1")
        for kme in world.daemons.homes.kmes:
            until(partial(sees_all, world, kme), f"every hub at {kme}")
        world.keys_flow()
        world.finish()
        pads, _ = world.prove()
        said = [one for link in pads["links"] for one in link["statements"] if one["verdict"] == "unseen"]
        assert {one["check"] for one in said} == {"marks"}
        assert len(events_of(world.home("hub-1"), "rollback-noticed")) == 2


def test_a_kme_put_back_from_an_older_copy_delivers_nothing_until_it_is_enrolled_again(
    tmp_path: Path,
) -> None:
    with chaos(tmp_path, hubs=3) as world:
        world.start(*world.names)
        world.keys_flow()
        waiting = world.daemons.new_key("north", "south")
        world.kill("south")
        copy_of(world.home("south"), tmp_path / "older")
        world.start("south")
        world.keys_flow()
        assert world.daemons.key_by_id("south", "north", waiting[0])[0] == 200
        world.work(2)
        world.kill("south")
        put_back(tmp_path / "older", world.home("south"))
        world.start("south")
        until(partial(frozen, world, "south"), "word of the hubs")
        # Its store says that this key was never fetched.
        assert world.daemons.key_by_id("south", "north", waiting[0])[0] in {400, 503}
        assert world.fetched_again("south", "north") == []
        assert world.daemons.keys("south", "app@north/enc_keys")[0] == 503
        world.finish()
        world.prove()
        assert events_of(world.home("south"), "rollback-noticed")
        assert refused("kme", "settle", "--home", world.home("south")) == (3, "rollback-unsettled")
        world.daemons.homes.enrol(kmes=["south"], replace=True)
        assert done("kme", "settle", "--home", world.home("south"))["settled"]
        assert refused("kme", "settle", "--home", world.home("south")) == (3, "rollback-none")
        world.start(*world.names)
        world.keys_flow()
        assert world.fetched_again("south", "north") == []
        world.finish()
        world.prove()


def sees_all(world: Chaos, kme: str) -> bool:
    return world.daemons.hubs_up(kme) == world.daemons.homes.hubs


def frozen(world: Chaos, *copies: str) -> bool:
    """Whether every link of a KME is frozen, at one of its copies or another."""
    hubs: set[str] = set()
    for name in copies:
        status, answer = world.daemons.ask(name, "status")
        hubs |= {hub["hub"] for hub in answer["hubs"] if hub["frozen"]} if status == 200 else set()
    return hubs == set(world.daemons.homes.hub_names)


def test_two_copies_of_a_kme_are_found_out_and_no_key_is_delivered_by_both(tmp_path: Path) -> None:
    with chaos(tmp_path, hubs=3) as world:
        world.start(*world.names)
        world.keys_flow()
        waiting = [world.daemons.new_key("north", "south")[0] for _ in range(3)]
        world.daemons.stop("south")
        copy_of(world.home("south"), world.home("clone"))
        both = ("south", "clone")
        for kind in ("pem", "key"):
            pki = world.daemons.homes.pki.directory
            shutil.copy(pki / f"app-south.{kind}", pki / f"app-clone.{kind}")
        world.daemons.launch(*both)
        given: Counter[str] = Counter()

        def ask_both() -> bool:
            for name in both:
                for key_id in waiting:
                    given[key_id] += world.daemons.key_by_id(name, "north", key_id)[0] == 200
            # Each hub accuses the copy that comes to it second: all of them one, or some each.
            return frozen(world, *both)

        until(ask_both, "word of every hub at one of the copies")
        for _ in range(5):
            ask_both()
        assert max(given.values()) <= 1
        world.finish()
        world.prove()
        pads, logs = world.verified("clone")
        wrongs = {
            one["check"]
            for link in pads.data["links"]
            for one in link["statements"]
            if one["verdict"] == "wrong"
        }
        assert (pads.code, wrongs) == (4, {"copies"})
        together = {one["check"]: one["verdict"] for one in logs.data["together"]}
        assert (logs.code, together) == (4, {"delivered": "proved", "copies": "wrong"})


class Tmpfs:
    """A home on a small file system of its own."""

    def __init__(self, home: Path) -> None:
        self._ballast = home / "ballast"

    def fill(self, pid: int) -> None:
        del pid
        with suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def make_room(self) -> None:
        self._ballast.unlink()


class Bounded:
    """Where nothing may be mounted: a process whose files cannot grow, which to it is the same."""

    def fill(self, pid: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (32 * 1024, resource.RLIM_INFINITY))

    def make_room(self) -> None:
        """The next process is not bounded."""


@contextmanager
def small_disk(home: Path) -> Iterator[Tmpfs | Bounded]:
    size = sum(path.stat().st_size for path in home.rglob("*")) + ROOM_BYTES
    stash = home.with_name(f"{home.name}-stash")
    home.rename(stash)
    home.mkdir()
    options = f"size={size},mode=700"
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", options, "none", str(home)], capture_output=True, check=False
    )
    try:
        copy_of(stash, home)
        yield Tmpfs(home) if mounted.returncode == 0 else Bounded()
    finally:
        if mounted.returncode == 0:
            subprocess.run(["/bin/umount", "-l", str(home)], check=True)


def test_a_full_disk_ends_a_daemon_and_with_room_it_goes_on(tmp_path: Path) -> None:
    victims = ("hub-1", "south")
    with chaos(tmp_path, hubs=3) as world, ExitStack() as stack:
        disks = {name: stack.enter_context(small_disk(world.home(name))) for name in victims}
        world.start(*world.names)
        world.keys_flow()
        world.load()
        for victim, disk in disks.items():
            until_full(world, victim, disk)
            disk.make_room()
            world.start(victim)
            world.keys_flow()
        world.finish()
        world.prove()


def until_full(world: Chaos, victim: str, disk: Tmpfs | Bounded) -> None:
    """Leave no room until the daemon ends; it says why."""
    world.may_end.add(victim)
    process = world.daemons.running[victim]
    while process.poll() is None:
        disk.fill(process.pid)
        world.kill("north")  # its next connection makes hubs write
        world.daemons.launch("north")
        world.rest(1)
    del world.daemons.running[victim]
    world.witness.shut(victim)
    world.may_end.clear()
    said = world.daemons.log(victim)[-2000:]
    assert process.returncode == 4, said
    assert re.search(r"code: (audit-io|store-io|store-full|home-io) \(exit 4\)", said), said
    assert "Traceback" not in said
