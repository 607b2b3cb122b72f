"""What a running hub asks of a kit that somebody brings it as its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skex.base.errors import Refused
from skex.base.ids import HubName
from skex.daemon.enrolling import HubRealms
from tests.unit.enrol import kit_support as support


def test_a_hub_takes_kits_of_its_own_and_of_the_realm_file_that_it_serves_only() -> None:
    realm = support.make_realm()
    header = support.header_of(support.create(support.order(realm=realm)))
    assert HubRealms(header.hub, realm).judge(header).is_in_force
    for hub, served in ((HubName("hub-2"), realm), (header.hub, replace(realm, epoch=realm.epoch + 1))):
        with pytest.raises(Refused, match="realm-mismatch"):
            HubRealms(hub, served).judge(header)
