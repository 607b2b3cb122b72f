"""``skex realm assess``: of a file, of a home, for people and for machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from skex.base.ids import HubName, KmeName, RealmName
from skex.daemon import homes
from skex.enrol.realm import HubDescription, new_realm
from skex.wire.realm import HubAttributes
from tests.cli.transcripts import done, refused, skex


@pytest.fixture
def realm(tmp_path: Path) -> Path:
    hubs = [
        HubDescription(
            HubName(f"hub-{n}"), f"127.0.0.1:{n}", HubAttributes(by, "se", f"h{n}", f"of {by}", "skex")
        )
        for n, by in enumerate("aaabc", 1)
    ]
    made = new_realm(RealmName("test"), 3, hubs, issued=1_700_000_000)
    (tmp_path / "realm.cbor").write_bytes(made.to_bytes())
    return tmp_path / "realm.cbor"


def test_a_file_is_assessed_for_machines(realm: Path) -> None:
    found = done("realm", "assess", realm)
    assert found["effective_threshold"] == {
        "parties": 1,
        "exact": True,
        "such_as": [{"attribute": "operator", "value": "a"}],
    }
    assert found["by_attribute"]["hosting"]["parties"] == 3
    assert found["failing"]["stopped_by"] == 3
    assert found["counted"] == ["operator", "administrator"]
    assert found["subsets_tried"] == 10
    assert {one["section"] for one in found["bounds"]} == {"14.2", "14.3", "14.5", "14.6"}


def test_a_file_is_assessed_for_people(realm: Path) -> None:
    text = skex("realm", "assess", realm).stdout
    assert "any 3 of 5 hubs can learn a key" in text
    assert "Effective threshold: 1, counted by operator and administrator." in text
    assert "such as operator a." in text
    assert "Enough hubs run one implementation" in text
    assert "Alone able to stop keys: operator a" in text
    assert "2^-91.0" in text


def test_what_counts_and_how_large_batches_are_can_be_said(realm: Path) -> None:
    found = done(
        "realm", "assess", realm, "--count", "hosting", "--batch-keys", "1024", "--key-bytes", "1024"
    )
    assert found["effective_threshold"]["parties"] == 3
    assert found["counted"] == ["hosting"]
    # No more keys of this length fit into a batch.
    assert found["tag_blocks"] < 4096
    assert found["tag_blocks"] > done("realm", "assess", realm)["tag_blocks"]


def test_a_home_is_assessed_by_its_own_realm(realm: Path, tmp_path: Path) -> None:
    hub, kme = tmp_path / "hub", tmp_path / "north"
    homes.init_hub(hub, HubName("hub-1"), realm.read_bytes(), {})
    assert done("realm", "assess", "--home", hub)["realm"] == "test"
    homes.init_kme(kme, KmeName("north"), {})
    assert refused("realm", "assess", "--home", kme) == (3, "not-enrolled")
