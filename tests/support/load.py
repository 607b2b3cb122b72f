"""Applications that take keys as fast as they are given, and remember every one of them."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from dataclasses import dataclass, field
from typing import Any

from skex.runtime import clock
from tests.support.network import SECONDS, Network

ANSWER_SECONDS = 20.0
PAUSE_SECONDS = 0.03
FETCH_SECONDS = 4 * SECONDS
"""A slave's KME may be killed again and again meanwhile."""


class Sae:
    """One application: its own TLS connection to its KME, opened again whenever it breaks."""

    def __init__(self, network: Network, kme: str) -> None:
        self._network = network
        self.kme = kme
        pki = network.homes.pki.directory
        self._context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        self._context.load_cert_chain(pki / f"app-{kme}.pem", pki / f"app-{kme}.key")
        self._connection: http.client.HTTPSConnection | None = None

    def ask(self, path: str, body: object) -> tuple[int, Any]:
        """Status and answer; 0 where none came whole."""
        try:
            connection = self._connection or self._connect()
            content = {"Content-Type": "application/json"}
            connection.request("POST", f"/api/v1/keys/{path}", json.dumps(body), content)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, ValueError, LookupError, http.client.HTTPException):
            self.close()
            return 0, None

    def _connect(self) -> http.client.HTTPSConnection:
        port = json.loads((self._network.homes.home(self.kme) / "ports.json").read_text())["etsi014"]
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=ANSWER_SECONDS, context=self._context
        )
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Ledger:
    """What was delivered to both ends. ``problems`` must stay empty."""

    keys: dict[str, str] = field(default_factory=dict)
    """Key ids that masters got, with their bytes."""
    fetched: set[str] = field(default_factory=set)
    """Those that slaves got, with the same bytes."""
    lost: int = 0
    """Keys that a slave's KME gave out while the connection broke: nobody has them."""
    refused: int = 0
    longest: float = 0.0
    """The longest time in which one pair of applications got no key, in seconds."""
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def taken(self, key_id: str, key: str) -> None:
        with self.lock:
            if key_id in self.keys or key in self.keys.values():
                self.problems.append(f"{key_id} was delivered to a master before")
            self.keys[key_id] = key

    def given(self, key_id: str, key: str) -> None:
        with self.lock:
            if key_id in self.fetched:
                self.problems.append(f"{key_id} was delivered to a slave twice")
            if self.keys.get(key_id) != key:
                self.problems.append(f"{key_id} is another key at the slave")
            self.fetched.add(key_id)


class Pair(threading.Thread):
    """A master at one KME and a slave at another; runs until it is told to stop and has nothing left."""

    def __init__(self, network: Network, ledger: Ledger, master: str, slave: str) -> None:
        super().__init__(daemon=True)
        self._ledger = ledger
        self._master, self._slave = Sae(network, master), Sae(network, slave)
        self._stopping = threading.Event()
        self.failure: BaseException | None = None

    def stop(self) -> None:
        """Let it fetch what it has ids of; raises what went wrong in it."""
        self._stopping.set()
        self.join(FETCH_SECONDS + 2 * SECONDS)
        assert not self.is_alive()
        if self.failure is not None:
            raise self.failure

    def run(self) -> None:
        try:
            self._run()
        except BaseException as failure:  # noqa: BLE001  # told to whoever stops this thread
            self.failure = failure
        finally:
            self._master.close()
            self._slave.close()

    def _run(self) -> None:
        since = clock.now()
        number = 0
        while not self._stopping.is_set():
            number = number % 5 + 1
            status, answer = self._master.ask(f"app@{self._slave.kme}/enc_keys", {"number": number})
            if status == 200:
                keys = {one["key_ID"]: one["key"] for one in answer["keys"]}
                for key_id, key in keys.items():
                    self._ledger.taken(key_id, key)
                self._fetch(list(keys))
                self._ledger.longest = max(self._ledger.longest, clock.now() - since)
                since = clock.now()
            else:
                self._ledger.refused += 1
            self._stopping.wait(PAUSE_SECONDS)

    def _fetch(self, ids: list[str]) -> None:
        """Fetch by id until it is given or known to be gone; then ask for one of them again."""
        path, broken = f"app@{self._master.kme}/dec_keys", False
        deadline = clock.now() + FETCH_SECONDS
        while clock.now() < deadline:
            status, answer = self._slave.ask(path, _by_id(ids))
            if status == 200:
                for one in answer["keys"]:
                    self._ledger.given(one["key_ID"], one["key"])
                self._ask_again(path, ids[:1])
                return
            if status == 400:
                if not broken:
                    self._ledger.problems.append(f"{ids} are unknown to the slave: {answer}")
                self._ledger.lost += len(ids)
                return
            broken = broken or status == 0
            threading.Event().wait(PAUSE_SECONDS)
        self._ledger.problems.append(f"{ids} could not be fetched in {FETCH_SECONDS:g} s")

    def _ask_again(self, path: str, ids: list[str]) -> None:
        if self._slave.ask(path, _by_id(ids))[0] == 200:
            self._ledger.problems.append(f"{ids} were given to the slave twice")


def _by_id(ids: list[str]) -> object:
    return {"key_IDs": [{"key_ID": one} for one in ids]}
