"""A hub that cannot prove itself gets nothing of a KME, and the KME's audit log says so."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

from skex.pad.kinds import PadKind
from skex.wire.preface import PROOF_BYTES, Hello, HubNonce, frame_bytes, parse_frame, unproved_bytes
from tests.cli.transcripts import done
from tests.support.network import Homes, Network, until

HUB = "hub-1"


class Impostor(threading.Thread):
    """Listens where a hub should, and answers with a proof that it made up."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.said_after_it: list[bytes] = []

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, connection.makefile("rb") as stream:
                    hello, _ = parse_frame(stream.read(frame_bytes(1)), Hello)
                    answer = unproved_bytes(HubNonce(hello.highest, bytes(32)))
                    connection.sendall(answer + bytes(PROOF_BYTES))
                    self.said_after_it.append(stream.read())

    def close(self) -> None:
        self._listener.close()


def failures(home: Path) -> list[dict[str, Any]]:
    found = done("audit", "show", home, "--event", "authentication-failed", "--all")["records"]
    assert isinstance(found, list)
    return [one for one in found if one["cause"] == "proof-invalid"]


def test_a_hubs_bad_proof_is_audited_at_the_kme_and_answered_with_nothing(tmp_path: Path) -> None:
    made = Homes(tmp_path, hubs=3, kmes={"north": PadKind.TABLE}, door=False)
    made.enrol()
    network = Network(made)
    impostor = Impostor(made.ports[HUB])
    impostor.start()
    try:
        network.start("north")
        records = until(lambda: failures(made.home("north")), "the audit record")
        until(lambda: impostor.said_after_it, "the end of the connection")
    finally:
        network.close()
        impostor.close()
    assert records[0]["actor"] == "network"
    assert records[0]["subjects"] == {"hub": [HUB]}
    assert set(impostor.said_after_it) == {b""}
