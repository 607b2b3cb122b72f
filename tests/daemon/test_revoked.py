"""Revocation lists at the door of a running KME: made by OpenSSL's own tools, met by a real client."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from skex.enrol.ca import Revocation, revocation_list, write_private
from skex.pad.kinds import PadKind
from skex.runtime import clock
from tests.cli.transcripts import done, refused
from tests.support.door import Pki
from tests.support.network import Homes, Network, until

CONFIGURATION = """
[ca]
default_ca = door
[door]
database = index.txt
crlnumber = number
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_crl_days = 1
"""


class Authority:
    """The certificate authority of a site that has nothing of skex but its CA's two files."""

    def __init__(self, made: Homes) -> None:
        self.directory = made.pki.directory
        if (self.directory / "index.txt").exists():
            return
        write_private(self.directory / "ca.key", made.pki.authority.key)
        (self.directory / "ca.cnf").write_text(CONFIGURATION)
        (self.directory / "index.txt").touch()
        (self.directory / "number").write_text("01\n")

    def _openssl(self, *arguments: str) -> None:
        argv = ["openssl", "ca", "-config", "ca.cnf", *arguments]
        subprocess.run(argv, cwd=self.directory, check=True, capture_output=True, timeout=60)

    def revoke(self, stem: str) -> None:
        self._openssl("-revoke", f"{stem}.pem")

    def publish(self, file: Path) -> None:
        self._openssl("-gencrl", "-out", "crl.pem")
        shutil.copyfile(self.directory / "crl.pem", file)


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A KME whose door uses revocation lists; its hubs rest."""
    made = Homes(
        tmp_path_factory.mktemp("net"), hubs=3, kmes={"north": PadKind.DERIVED, "south": PadKind.DERIVED}
    )
    made.enrol()
    configuration = made.home("north") / "kme.toml"
    text = configuration.read_text()
    assert text.count('#revoked = ""\n') == 1
    configuration.write_text(text.replace('#revoked = ""', 'revoked = "tls/crl.pem"'))
    Authority(made).publish(made.home("north") / "tls" / "crl.pem")
    running = Network(made)
    try:
        running.start("north")
        yield running
    finally:
        running.close()


def is_let_in(daemons: Network) -> bool:
    """Whether the application's certificate gets through the handshake, whatever the door says then."""
    return daemons.keys("north", "app@south/status")[0] != 0


def test_a_revoked_certificate_is_refused_from_the_next_reload_on(daemons: Network) -> None:
    made = daemons.homes
    home, file = made.home("north"), made.home("north") / "tls" / "crl.pem"
    authority, nobody = Authority(made), file.read_bytes()
    assert is_let_in(daemons)
    authority.revoke("app-north")
    authority.publish(file)
    assert is_let_in(daemons)
    done("kme", "reload", "--home", home)
    assert not is_let_in(daemons)
    until(lambda: "certificate revoked" in daemons.log("north"), "the reason in the log")

    now = clock.wall()
    expired = revocation_list(made.pki.authority, [], 9, 1, now=now - timedelta(days=3))
    future = revocation_list(made.pki.authority, [], 9, 1, now=now + timedelta(days=3))
    others = revocation_list(
        Pki(made.base / "others", "test CA").authority, [Revocation(1, now)], 9, 1, now=now
    )
    for wrong in (
        b"no list",
        expired,
        future,
        others,
        made.pki.ca.read_bytes(),
        nobody + made.pki.ca.read_bytes(),
    ):
        file.write_bytes(wrong)
        assert refused("kme", "reload", "--home", home) == (6, "door-certificates")
        assert not is_let_in(daemons), "the list before is in force"
    file.unlink()
    assert refused("kme", "reload", "--home", home) == (6, "door-certificates")

    file.write_bytes(nobody)
    done("kme", "reload", "--home", home)
    assert is_let_in(daemons)
