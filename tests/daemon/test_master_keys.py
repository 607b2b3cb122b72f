"""Daemons whose master keys are kept in three ways make keys together, and say no to a wrong passphrase."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.transcripts import PASSPHRASE, done, refused, skex
from tests.support.network import network, until


def test_keys_flow_between_homes_whose_master_keys_were_changed_and_are_kept_in_three_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passphrase, credentials = tmp_path / "passphrase", tmp_path / "credentials"
    passphrase.write_text(PASSPHRASE + "\n")
    credentials.mkdir()
    with network(tmp_path, hubs=3) as daemons:
        home = daemons.homes.home
        daemons.start(*daemons.homes.hub_names, *daemons.homes.kmes)
        daemons.new_key("north", "south")
        assert refused("store", "rekey", "--home", home("south")) == (4, "home-in-use")
        waiting = daemons.new_key("north", "south")
        daemons.stop(*daemons.running)
        sealed = done(
            "store", "rekey", "--home", home("south"), "--to", "passphrase", "--passphrase-file", passphrase
        )
        assert sealed["kept"] == "passphrase"
        out = credentials / "skex-master-key"
        said = skex("store", "rekey", "--home", home("hub-1"), "--to", "credential", "--key-out", out)
        assert said.code == 0
        assert "nowhere in the home" in said.stdout
        assert out.read_bytes().hex() not in said.stdout + said.stderr
        assert done("store", "rekey", "--home", home("hub-2"))["kept"] == "file"
        # Nobody at a terminal, no file: the KME says so and does not start; a wrong one changes nothing.
        assert refused("kme", "settle", "--home", home("south")) == (3, "master-passphrase-missing")
        wrong = tmp_path / "wrong"
        wrong.write_text("incorrect donkey battery staple")
        monkeypatch.setenv("SKEX_PASSPHRASE_FILE", str(wrong))
        assert refused("kme", "settle", "--home", home("south")) == (4, "master-passphrase-wrong")
        monkeypatch.setenv("SKEX_PASSPHRASE_FILE", str(passphrase))
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
        daemons.start(*daemons.homes.hub_names, *daemons.homes.kmes)
        fetched = until(lambda: daemons.key_by_id("south", "north", waiting[0])[1]["keys"], "the slave's key")
        assert fetched[0]["key"] == waiting[1]
        key_id, key = daemons.new_key("south", "north")
        assert daemons.key_by_id("north", "south", key_id)[1]["keys"][0]["key"] == key
        daemons.stop(*daemons.running)
        homes = [home(name) for name in (*daemons.homes.hub_names, *daemons.homes.kmes)]
        assert skex("pad", "verify", *homes).code == 0
        changed = [
            len(done("audit", "show", one, "--event", "master-key-changed")["records"]) for one in homes
        ]
        assert changed == [1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    "options",
    [
        ["--to", "credential"],
        ["--key-out", "key"],
        ["--passphrase-fd", "0"],
        ["--to", "credential", "--key-out", "key", "--passphrase-fd", "0"],
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_done(
    tmp_path: Path, options: list[str]
) -> None:
    answer = skex("store", "rekey", "--home", tmp_path, *options)
    assert answer.code == 2
    assert list(tmp_path.iterdir()) == []
