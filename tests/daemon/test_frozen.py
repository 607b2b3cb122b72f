"""A link whose pads are not where they were left: frozen, said once, and not tried again."""

from __future__ import annotations

from pathlib import Path

from skex.base.ids import Direction
from skex.daemon.config import load_hub
from skex.daemon.enrolment import open_hub
from skex.daemon.master import read_master_key
from skex.protocol.changes import MarkRaised
from skex.runtime import entropy
from skex.store.hub import HubStore
from tests.cli.transcripts import done
from tests.support.network import network, until

FAR = 200_000
"""More steps of a chain than are made at once."""


def test_chain_that_would_have_to_jump_too_far_freezes_its_link_once_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    with network(tmp_path, hubs=4) as daemons:
        home = daemons.homes.home("hub-1")
        with open_hub(load_hub(home)) as opened:
            (link,) = (one.link for one in opened.links() if one.link.kme == "north")
        store = HubStore.open(str(home / "store.sqlite"), read_master_key(home), entropy.random_bytes)
        store.commit([[MarkRaised(link.link_id, Direction.TO_HUB, FAR)]])
        store.close()
        daemons.start(*daemons.homes.hub_names, *daemons.homes.kmes)

        def frozen() -> object:
            answer = daemons.ask("hub-1", "status")[1]
            return [one["frozen"] for one in answer["kmes"] if one["kme"] == "north"] == [["pad-jump"]]

        until(frozen, "the link to rest")
        key_id, key = daemons.new_key("north", "south")
        assert daemons.key_by_id("south", "north", key_id)[1]["keys"][0]["key"] == key
        tried = daemons.log("hub-1").count("preface failed")
        until(lambda: daemons.log("hub-1").count("preface failed") > tried, "north to try again")
        daemons.stop(*daemons.running)
        said = done("audit", "show", home, "--event", "link-frozen")["records"]
        assert [(one["cause"], one["subjects"]) for one in said] == [
            ("pad-jump", {"link": [link.link_id.hex()]})
        ]
