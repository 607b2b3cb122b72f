from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from simulation.lying_hub import altered
from skex.base.ids import BatchId, KmeName
from skex.protocol.traffic import SendToKme
from skex.wire import messages
from tests.unit.protocol import hub_support

NORTH, SOUTH = KmeName("north"), KmeName("south")
ROOT = Path(__file__).resolve().parents[3]


def shared() -> messages.Shared:
    """A share as a hub hands it on."""
    asked = hub_support.share(SOUTH)
    batch = BatchId(hub_support.incarnation_of(NORTH), asked.counter)
    return messages.Shared(NORTH, batch, asked.context, asked.tag, asked.share)


def test_liar_changes_one_byte_of_a_share_and_nothing_else() -> None:
    honest = shared()
    lied = altered(SendToKme(SOUTH, honest, "token"))
    assert isinstance(lied.message, messages.Shared)
    assert lied.message.share != honest.share
    assert lied.message.share[:-1] == honest.share[:-1]
    assert (lied.message.context, lied.message.tag) == (honest.context, honest.tag)
    assert (lied.kme, lied.token) == (SOUTH, "token")


def test_liar_passes_on_everything_else_as_it_is() -> None:
    send = SendToKme(SOUTH, messages.RealmFile(b"realm"))
    assert altered(send) is send


def test_liar_without_a_home_says_so_as_an_honest_hub_does(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "simulation.lying_hub", "--home", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert b"config-missing" in ended.stderr
